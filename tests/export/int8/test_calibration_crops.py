"""Which crops calibrate."""

from __future__ import annotations

from pathlib import Path

import pytest
from helpers.small_network import CARD, Array, network

from reid_edge.data.datasets import Dataset, open_dataset
from reid_edge.data.records import Crop, Listing, Split
from reid_edge.errors import DatasetError, InputError
from reid_edge.export.int8.calibrate import calibrated_ranges
from reid_edge.export.int8.crops import CalibrationCrops, calibration_crops
from reid_edge.export.int8.plan import Int8Options, plan_int8


def dataset_of(crops: list[Crop]) -> Dataset:
    return Dataset("made", "manifest", Path("made.csv"), Listing(Split(train=tuple(crops))))


def test_crops_are_balanced_over_people_and_cameras() -> None:
    """Person 0 has 100 crops of camera 0; five others have 4 of each of three cameras."""
    crops = [Crop(Path(f"0_{i}"), 0, 0) for i in range(100)]
    crops += [Crop(Path(f"{p}_{c}_{i}"), p, c) for p in range(1, 6) for c in range(3) for i in range(4)]
    chosen = calibration_crops(dataset_of(crops), count=24)
    assert [sum(crop.pid == pid for crop in chosen) for pid in range(6)] == [4] * 6
    assert [sum(crop.camid == camera for crop in chosen) for camera in range(3)] == [8] * 3
    assert len(set(chosen)) == 24


def test_crops_are_chosen_by_seed_and_all_are_taken_when_they_are_few() -> None:
    crops = [Crop(Path(f"{p}_{i}"), p, i % 2) for p in range(10) for i in range(6)]
    chosen = calibration_crops(dataset_of(crops), 20, seed=1)
    assert chosen == calibration_crops(dataset_of(crops), 20, seed=1) != calibration_crops(dataset_of(crops), 20, 2)
    assert sorted(map(str, calibration_crops(dataset_of(crops), 512))) == sorted(map(str, crops))


def test_only_training_crops_are_taken(people: Path) -> None:
    split = open_dataset(people).split
    assert set(calibration_crops(open_dataset(people))) == set(split.train)


def test_without_crops_there_is_no_calibration(weights: dict[str, Array], people: Path, tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match=r"no training crops: calibrate INT8 on training crops: give --calibrate"):
        calibration_crops(dataset_of([]))
    with pytest.raises(DatasetError, match="no crops were given: calibrate INT8"):
        calibrated_ranges(
            network(weights), CalibrationCrops((), "none", 0, CARD.input_hw, CARD.resize), folder=tmp_path
        )
    with pytest.raises(InputError, match="0 calibration crops show no activation range"):
        calibration_crops(open_dataset(people), 0)
    with pytest.raises(
        InputError, match="INT8 needs training crops to find its activation ranges: add --calibrate DATASET"
    ):
        plan_int8(network(weights), CARD, Int8Options())
