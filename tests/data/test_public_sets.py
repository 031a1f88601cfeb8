"""CUHK03-NP and Occluded-Duke, by the names and the protocol that their authors published."""

from __future__ import annotations

from pathlib import Path

import pytest
from helpers.drawn_layouts import paint_crops, touch_crops
from helpers.tiny_onnx import write_tiny_model

from reid_edge.data.datasets import open_dataset, require
from reid_edge.data.inspection import inspect_dataset
from reid_edge.errors import DatasetError
from reid_edge.scoring.evaluation import evaluate
from reid_edge.scoring.test_set import TestSet

CUHK03 = {
    "bounding_box_train/0001_c1_1.png": 10,
    "bounding_box_train/0001_c2_6.png": 20,
    "query/0003_c1_22.png": 90,
    "query/0003_c2_27.png": 60,
    "bounding_box_test/0003_c1_21.png": 90,
    "bounding_box_test/0003_c2_26.png": 60,
    "bounding_box_test/0006_c2_52.png": 95,
}

DUKE = {
    "bounding_box_train/0001_c2_f0046182.jpg": 10,
    "bounding_box_train/0001_c3_f0046302.jpg": 10,
    "query/0019_c1_f0051230.jpg": 90,
    "bounding_box_test/0019_c1_f0051350.jpg": 90,
    "bounding_box_test/0019_c2_f0051230.jpg": 60,
    "bounding_box_test/0002_c1_f0044158.jpg": 90,
}


@pytest.mark.parametrize(
    ("boxes", "published"), [("labeled", (7_368, 1_400, 5_328)), ("detected", (7_365, 1_400, 5_332))]
)
def test_cuhk03_is_one_set_for_each_kind_of_boxes(tmp_path: Path, boxes: str, published: tuple[int, int, int]) -> None:
    home = touch_crops(tmp_path / "cuhk03-np" / boxes, CUHK03)
    for path in (home, home.parent, tmp_path):
        dataset = open_dataset(path)
        assert (dataset.layout, dataset.name) == (f"cuhk03-{boxes}", f"CUHK03-NP ({boxes})")
        assert dataset.root == home and dataset.is_public and dataset.published == published
    split = dataset.split
    assert [(crop.pid, crop.camid) for crop in split.train] == [(1, 1), (1, 2)]
    assert [(crop.pid, crop.camid) for crop in split.query] == [(3, 1), (3, 2)]
    assert [(crop.pid, crop.camid) for crop in split.gallery] == [(3, 1), (3, 2), (6, 2)]
    assert dataset.distractor is None and dataset.same_camera_filter
    assert inspect_dataset(home).kinds == {"not the published counts": 1}


def test_the_two_kinds_of_boxes_are_told_apart_by_the_user(tmp_path: Path) -> None:
    for boxes in ("labeled", "detected"):
        touch_crops(tmp_path / "cuhk03-np" / boxes, CUHK03)
    with pytest.raises(DatasetError, match=r"labeled \(cuhk03-labeled\), .*detected \(cuhk03-detected\)$"):
        open_dataset(tmp_path)
    assert open_dataset(tmp_path, layout="cuhk03-detected").root == tmp_path / "cuhk03-np" / "detected"


def test_in_cuhk03_matches_by_the_querys_camera_are_junk(tmp_path: Path) -> None:
    """Both queries have a twin by their own camera, which is dropped.

    Query 22 (level 90) then meets person 6 (95) before its match (60): AP 1/2. Query 27 (60) meets its match first.
    """
    model = write_tiny_model(tmp_path / "tiny.onnx", input_hw=(32, 16))
    with TestSet.open(paint_crops(tmp_path / "cuhk03-np" / "labeled", CUHK03)) as data:
        result = evaluate(model, data)
    assert (result.dataset, result.metrics.valid_queries, result.metrics.gallery) == ("CUHK03-NP (labeled)", 2, 3)
    assert (result.metrics.rank(1), result.metrics.rank(2), result.metrics.mAP) == (0.5, 1.0, 0.75)


@pytest.mark.parametrize(("folder", "name"), [("labeled", "0001_c1s1_001051_00.jpg"), ("mine", "0001_c1_1.png")])
def test_only_folder_and_file_names_together_are_cuhk03(tmp_path: Path, folder: str, name: str) -> None:
    home = touch_crops(tmp_path / folder, [f"query/{name}", f"bounding_box_test/{name}"])
    assert open_dataset(home).layout == "market1501"


@pytest.mark.parametrize("below", ["", "Occluded_Duke", "Occluded-DukeMTMC-Dataset/Occluded_Duke"])
def test_occluded_duke_is_known_by_the_folder_that_its_script_makes(tmp_path: Path, below: str) -> None:
    home = touch_crops(tmp_path / (below or "Occluded_Duke"), DUKE)
    dataset = open_dataset(tmp_path if below else home)
    assert (dataset.layout, dataset.name, dataset.root) == ("occluded-duke", "Occluded-Duke", home)
    assert dataset.published == (15_618, 2_210, 17_661) and dataset.is_public and "withdrawn" in dataset.notices[0]
    assert [(crop.pid, crop.camid) for crop in dataset.split.query] == [(19, 1)]
    assert [(crop.pid, crop.camid) for crop in dataset.split.gallery] == [(2, 1), (19, 1), (19, 2)]


def test_file_names_alone_are_dukemtmc(tmp_path: Path) -> None:
    home = touch_crops(tmp_path / "duke-of-mine", DUKE)
    assert open_dataset(home).layout == "dukemtmc"
    assert open_dataset(home, layout="occluded-duke").published == (15_618, 2_210, 17_661)
    (home / "query.list").write_text("0019_c1_f0051230.jpg\n")  # beside the crops, where the authors' script runs
    assert open_dataset(home).layout == "occluded-duke"
    market = touch_crops(tmp_path / "occluded", ["query/0001_c1s1_1.jpg", "bounding_box_test/0001_c2s1_1.jpg"])
    assert open_dataset(market).layout == "market1501"


def test_occluded_duke_is_scored_by_dukes_protocol(tmp_path: Path) -> None:
    """Of person 19, the twin by the query's camera is dropped; person 2 (the same colour) then precedes the match."""
    model = write_tiny_model(tmp_path / "tiny.onnx", input_hw=(32, 16))
    with TestSet.open(paint_crops(tmp_path / "Occluded_Duke", DUKE)) as data:
        metrics = evaluate(model, data).metrics
    assert (metrics.valid_queries, metrics.rank(1), metrics.rank(2), metrics.mAP) == (1, 0.0, 1.0, 0.5)


@pytest.mark.parametrize(
    ("folder", "layout", "crops"),
    [
        ("cuhk03-np/detected", "cuhk03-detected", CUHK03),
        ("Occluded_Duke", "occluded-duke", DUKE),
        ("DukeMTMC-reID", "dukemtmc", DUKE),
        ("Market-1501-v15.09.15", "market1501", CUHK03),
    ],
)
def test_a_test_part_alone_is_scored_and_not_trained_on(
    tmp_path: Path, folder: str, layout: str, crops: dict[str, int]
) -> None:
    tested = {name: level for name, level in crops.items() if "train" not in name}
    home = paint_crops(tmp_path / folder, tested)
    dataset = open_dataset(home)
    assert dataset.layout == layout and not dataset.split.train
    whole = open_dataset(paint_crops(tmp_path / "whole" / folder, crops))
    model = write_tiny_model(tmp_path / "tiny.onnx", input_hw=(32, 16))
    assert evaluate(model, dataset).metrics.to_dict() == evaluate(model, whole).metrics.to_dict()
    inspection = inspect_dataset(home)
    assert inspection.use == "no train crops: this set can be scored, and not trained on"
    assert inspection.kinds == {"not the published counts": 1}
    with pytest.raises(DatasetError, match="has no train crops: "):
        require(dataset, "train")
