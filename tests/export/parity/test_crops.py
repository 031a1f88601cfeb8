"""The crops that files are compared on: real ones spread over a data set, or drawn ones."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from reid_edge.card import ModelCard
from reid_edge.errors import DatasetError, InputError
from reid_edge.export.parity.crops import ParityCrops, parity_crops


def test_crops_are_drawn_when_there_are_none() -> None:
    crops = parity_crops(ModelCard("x", 8, input_hw=(64, 32)), count=12)
    assert crops.shape == (12, 64, 32, 3) and crops.dtype == np.uint8
    assert len({crop.tobytes() for crop in crops}) == 12


def test_crops_of_a_data_set_are_spread_over_it_and_all_are_taken_when_few(tmp_path: Path) -> None:
    for number, part in enumerate(("query", "bounding_box_test", "bounding_box_train")):
        (tmp_path / part).mkdir()
        for frame in (1, 2):
            name = f"000{number + 1}_c1s1_00000{frame}_00.png"
            Image.new("RGB", (16, 32), (80 * number, 0, 0)).save(tmp_path / part / name)
    for count, reds in ((3, [0, 80, 160]), (6, [0, 0, 80, 80, 160, 160]), (9, [0, 0, 80, 80, 160, 160])):
        crops = parity_crops(ModelCard("x", 8, input_hw=(32, 16)), tmp_path, count=count)
        assert crops[:, 0, 0, 0].tolist() == reds


def test_a_missing_data_set_is_refused(tmp_path: Path) -> None:
    with pytest.raises((DatasetError, InputError), match="nowhere"):
        parity_crops(ModelCard("x", 8), tmp_path / "nowhere")


def test_crops_are_drawn_once_for_a_size_and_resize() -> None:
    crops = ParityCrops(count=4)
    card = ModelCard("x", 8, input_hw=(64, 32))
    first = crops.of(card)
    assert crops.of(card.with_(architecture="y", precision="fp16")) is first
    assert np.array_equal(first, parity_crops(card, count=4))
    assert crops.of(card.with_(input_hw=(32, 32))).shape == (4, 32, 32, 3)
    assert not np.array_equal(crops.of(card.with_(resize="pillow-bilinear")), first)
