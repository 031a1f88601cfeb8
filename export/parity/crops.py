"""The crops that an export is compared on: real ones where a data set is given, else drawn ones."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from reid_edge.card import ModelCard
from reid_edge.core.files import scratch_folder
from reid_edge.data.datasets import Dataset, crops_in
from reid_edge.data.images import read_crops
from reid_edge.data.synthetic.dataset import synthesize
from reid_edge.errors import DatasetError
from reid_edge.scoring.test_set import TestSet

from .limits import PARITY_CROPS

__all__ = ["ParityCrops", "parity_crops"]

Crops = NDArray[np.uint8]


class ParityCrops:
    """``count`` crops of a data set as a model takes them, read (or drawn) once for each input size and resize.

    They are evenly spread over its query, gallery and training crops; all of them where there are fewer. Without a data
    set they are drawn people.
    """

    def __init__(self, data: TestSet | None = None, count: int = PARITY_CROPS) -> None:
        self._data = data
        self._count = count
        self._known: dict[tuple[tuple[int, int], str], Crops] = {}

    def of(self, card: ModelCard) -> Crops:
        """For a model of this ``card``: uint8 [N, H, W, 3] RGB. Raises DatasetError for an empty data set."""
        key = card.input_hw, card.resize
        if key not in self._known:
            self._known[key] = self._drawn(card) if self._data is None else self._real(self._data, card)
        return self._known[key]

    def _real(self, data: TestSet, card: ModelCard) -> Crops:
        split = data.dataset.split
        paths = [crop.path for part in (split.query, split.gallery, split.train) for crop in part]
        return data.batch(_spread(paths, self._count), card.input_hw, card.resize, progress=True)

    def _drawn(self, card: ModelCard) -> Crops:
        with scratch_folder() as scratch:
            identities = max(2, self._count // 4)
            people = synthesize(scratch / "people", identities=1, test_identities=identities, cameras=2)
            return read_crops(_spread(crops_in(people), self._count), card.input_hw, card.resize)


def parity_crops(
    card: ModelCard, data: Path | str | Dataset | None = None, layout: str | None = None, count: int = PARITY_CROPS
) -> Crops:
    """The crops of `ParityCrops` for one model: uint8 [N, H, W, 3] RGB, N at most ``count``.

    Raises DatasetError for a data set that cannot be read or is empty.
    """
    if data is None:
        return ParityCrops(None, count).of(card)
    with TestSet.open(data, layout) as opened:
        return ParityCrops(opened, count).of(card)


def _spread(paths: Sequence[Path], count: int) -> list[Path]:
    if not paths:
        raise DatasetError(
            "this data set has no crops to compare an export on: leave --data (data=) out for drawn ones"
        )
    count = min(count, len(paths))
    return [paths[i * len(paths) // count] for i in range(count)]
