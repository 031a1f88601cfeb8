"""The crops that an export is compared on: real ones where there are some, else drawn ones."""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from reid_edge.card import ModelCard
from reid_edge.datasets import crops_in, open_dataset
from reid_edge.errors import DatasetError
from reid_edge.images import read_crops
from reid_edge.synthetic import synthesize

__all__ = ["parity_crops"]


def parity_crops(
    card: ModelCard, data: Path | str | None = None, layout: str | None = None, count: int = 64
) -> NDArray[np.uint8]:
    """``count`` crops as a model of this ``card`` takes them: uint8 [count, H, W, 3] RGB.

    Evenly spread over the query, gallery and training crops of the data set ``data``, repeated when there are fewer;
    drawn people when it is None. Raises DatasetError for a data set that cannot be read or is empty.
    """
    if data is not None:
        split = open_dataset(data, layout).split
        return _spread([crop.path for part in (split.query, split.gallery, split.train) for crop in part], card, count)
    with tempfile.TemporaryDirectory(prefix="reid-edge-") as scratch:
        people = synthesize(Path(scratch) / "people", people=1, test_people=count // 4, cameras=2, progress=False)
        return _spread(crops_in(people), card, count)


def _spread(paths: list[Path], card: ModelCard, count: int) -> NDArray[np.uint8]:
    if not paths:
        raise DatasetError("this data set has no crops to compare an export on: leave out --data for drawn ones")
    chosen = [paths[i * len(paths) // count] for i in range(count)]
    return read_crops(chosen, card.input_hw, card.resize)
