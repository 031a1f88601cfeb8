"""CUHK01, CUHK03 (classic), VIPeR and GRID: the folders, names and trials that torchreid reads, drawn small."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers.drawn_layouts import touch_crops

from reid_edge.data.datasets import open_dataset
from reid_edge.data.inspection import inspect_dataset
from reid_edge.data.readers.listing import Crop
from reid_edge.data.readers.trials import half_to_test, read_splits
from reid_edge.errors import DatasetError

VIPER = [
    f"{camera}/{pid:03}_{angle}.bmp" for pid in (0, 3, 5, 8, 9) for camera, angle in (("cam_a", 45), ("cam_b", 90))
]
CUHK01 = [f"campus/{pid:04}{number:03}.png" for pid in (1, 2, 3) for number in (1, 2, 3, 4)]
GRID = [
    f"{folder}/{pid:04}_{camera}_25004_107_32_106_221.jpeg"
    for pid in (1, 2, 4)
    for folder, camera in (("probe", 1), ("gallery", 5))
]
GRID += ["gallery/0000_6_25008_1_2_3_4.jpeg", "gallery/0000_2_25009_1_2_3_4.jpeg"]
CUHK03 = [
    f"images_labeled/{pair}_{pid:03}_{view}_{number:02}.png"
    for pair in (1, 2)
    for pid in (1, 2)
    for view, number in ((1, 1), (1, 2), (2, 6))
]


def ids(crops: Sequence[Crop]) -> list[tuple[int, int]]:
    return [(crop.pid, crop.camid) for crop in crops]


def torchreid_split(home: Path, train: list[str], query: list[str], gallery: list[str]) -> dict[str, Any]:
    """An entry as torchreid writes it: paths of the machine that wrote it, train persons relabelled from 0."""
    return {
        name: [[f"/elsewhere/data/{path}", number, 0] for number, path in enumerate(paths)]
        for name, paths in (("train", train), ("query", query), ("gallery", gallery))
    } | {"num_train_pids": len(train)}


def matlab_partitions(path: Path, trained: Sequence[Sequence[int]]) -> None:
    """``trainIdxAll`` nested as torchreid indexes it: cell [1, 10] of struct [1, 1], whose third field is a row."""
    savemat = pytest.importorskip("scipy.io").savemat
    cells = np.empty((1, len(trained)), object)
    for column, persons in enumerate(trained):
        cell = np.zeros((1, 1), [("first", object), ("second", object), ("third", object)])
        cell[0, 0] = (np.zeros((1, 1)), np.zeros((1, 1)), np.array([persons], np.uint16))
        cells[0, column] = cell
    savemat(path, {"trainIdxAll": cells, "features": np.zeros((2, 2))})


@pytest.mark.parametrize(
    ("layout", "below", "names"),
    [("viper", "viper/VIPeR", VIPER), ("cuhk01", "cuhk01", CUHK01)],
    ids=["viper", "cuhk01"],
)
def test_ten_halves_are_tested_both_ways(tmp_path: Path, layout: str, below: str, names: list[str]) -> None:
    home = touch_crops(tmp_path / below, names)
    for path in (home, tmp_path):
        dataset = open_dataset(path)
        assert (dataset.layout, dataset.root, dataset.is_public) == (layout, home, True)
    trials = dataset.listing.trials
    assert len(trials) == 20 and dataset.split == trials[0] and not dataset.single_gallery_shot
    persons = {crop.pid for crop in (*dataset.split.train, *dataset.split.query)}
    for there, back in zip(trials[::2], trials[1::2], strict=True):
        assert there.train == back.train and there.query == back.gallery and there.gallery == back.query
        tested = {crop.pid for crop in there.query}
        assert len(tested) == len(persons) - len(persons) // 2
        assert tested == {crop.pid for crop in there.gallery} == persons - {crop.pid for crop in there.train}
        assert {crop.camid for crop in there.query} == {1} and {crop.camid for crop in there.gallery} == {2}
        assert len(there.train) + len(there.query) + len(there.gallery) == len(names)
    assert len({trial.train for trial in trials}) > 2, "the halves differ"
    assert "20 trials, drawn here" in dataset.notices[0]


def test_the_halves_are_the_same_on_every_machine() -> None:
    """SHA-256 of "0 0" to "0 3" begins with 93, 5c, 54 and dc (``sha256sum``): persons 0 and 3 come last."""
    assert half_to_test([3, 1, 0, 2], 0) == {0, 3}
    assert len({half_to_test(range(100), trial) for trial in range(10)}) == 10


def test_cuhk01_has_two_crops_of_each_of_two_cameras(tmp_path: Path) -> None:
    split = open_dataset(touch_crops(tmp_path, [*CUHK01, "campus/readme.png"])).split
    every = sorted(ids((*split.train, *split.query, *split.gallery)))
    assert every == [(pid, camera) for pid in (1, 2, 3) for camera in (1, 1, 2, 2)]
    assert inspect_dataset(tmp_path).kinds == {"names that do not parse": 1, "not the published counts": 1}


def test_grid_has_its_authors_partitions_and_nobody_in_the_gallery(tmp_path: Path) -> None:
    home = touch_crops(tmp_path / "underground_reid", GRID)
    with pytest.raises(DatasetError, match="features_and_partitions.mat is missing"):
        open_dataset(tmp_path)
    matlab_partitions(home / "features_and_partitions.mat", [[1, 4], [2]])
    dataset = open_dataset(tmp_path)
    assert (dataset.layout, dataset.root, dataset.distractor) == ("grid", home, 0)
    first, second = dataset.listing.trials
    assert (ids(first.query), ids(first.gallery)) == ([(2, 1)], [(0, 2), (0, 6), (2, 5)])
    assert ids(first.train) == [(1, 1), (4, 1), (1, 5), (4, 5)]
    assert (ids(second.query), ids(second.train)) == ([(1, 1), (4, 1)], [(2, 1), (2, 5)])
    assert inspect_dataset(home).splits["gallery"].distractors == 2


@pytest.mark.parametrize("content", [b"", b"MATLAB 5.0 MAT-file" + b"\0" * 200, b"no matrix at all"])
def test_a_damaged_partition_file_is_one_error(tmp_path: Path, content: bytes) -> None:
    pytest.importorskip("scipy")
    home = touch_crops(tmp_path, GRID)
    (home / "features_and_partitions.mat").write_bytes(content)
    with pytest.raises(DatasetError, match="holds no trainIdxAll"):
        open_dataset(home)


def test_cuhk03_classic_is_read_as_torchreid_extracts_it(tmp_path: Path) -> None:
    home = touch_crops(tmp_path / "cuhk03", CUHK03)
    test = [name for name in CUHK03 if "1_002" in name]
    train = [name for name in CUHK03 if name not in test]
    (home / "splits_classic_labeled.json").write_text(json.dumps([torchreid_split(home, train, test, test)] * 2))
    dataset = open_dataset(tmp_path)
    assert (dataset.layout, dataset.single_gallery_shot) == ("cuhk03-classic-labeled", True)
    assert ids(dataset.split.query) == ids(dataset.split.gallery) == [(10_002, 1), (10_002, 1), (10_002, 2)]
    assert set(ids(dataset.split.train)) == {
        (10_001, 1),
        (10_001, 2),
        (20_001, 3),
        (20_001, 4),
        (20_002, 3),
        (20_002, 4),
    }
    assert len(dataset.listing.trials) == 2 and "splits_classic_labeled.json lists them" in dataset.notices[0]
    assert not inspect_dataset(tmp_path).kinds, "queries that are all of the gallery are listed once"


def test_a_list_of_torchreid_beside_the_crops_decides(tmp_path: Path) -> None:
    home = touch_crops(tmp_path / "viper" / "VIPeR", VIPER)
    entry = torchreid_split(
        home,
        ["viper/VIPeR/cam_a/000_45.bmp"],
        ["C:\\data\\cam_b\\005_90.bmp"],
        ["x/cam_a/005_45.bmp", "x/cam_a/009_45.bmp"],
    )
    (home.parent / "splits.json").write_text(json.dumps([entry]))
    (trial,) = open_dataset(tmp_path).listing.trials
    assert (ids(trial.train), ids(trial.query), ids(trial.gallery)) == ([(0, 1)], [(5, 2)], [(5, 1), (9, 1)])
    assert all(crop.path.is_file() for crop in (*trial.train, *trial.query, *trial.gallery))


@pytest.mark.parametrize(
    ("content", "what"),
    [
        ("{}", "is no list of splits"),
        ("[" * 100_000, "is no list of splits"),
        ("\xff", "is no list of splits"),
        ("[]", "has no trials"),
        ('[{"train": [], "query": [], "gallery": []}]', "has no trials"),
        ('[{"train": [], "query": []}]', "without 'gallery'"),
        ("[7]", "without 'train'"),
        ('[{"train": [[1, 2, 3]], "query": [], "gallery": []}]', "is not .path, pid, camid."),
        (
            '[{"train": [["../../etc/passwd", 1, 1]], "query": [], "gallery": []}]',
            "names 'etc/passwd', which is not there",
        ),
    ],
)
def test_a_damaged_list_is_one_error(tmp_path: Path, content: str, what: str) -> None:
    path = tmp_path / "splits.json"
    path.write_bytes(content.encode("latin-1"))
    with pytest.raises(DatasetError, match=rf"splits.json .*{what}.*: let torchreid write it again"):
        read_splits(path, [Crop(tmp_path / "a" / "b.png", 1, 1)])


@pytest.mark.parametrize(
    "names", [["cam_a/anna.png", "cam_b/anna.png"], ["campus/hall.png"], ["probe/1.jpg", "gallery/1.jpg"]], ids=str
)
def test_folders_of_these_names_alone_are_no_such_set(tmp_path: Path, names: list[str]) -> None:
    home = touch_crops(tmp_path, names)
    if names[0].startswith("cam_a"):
        assert open_dataset(home).layout == "person-folders-unsplit"
        return
    with pytest.raises(DatasetError, match="is in no known layout"):
        open_dataset(home)


def test_no_crops_is_an_error_and_no_trial(tmp_path: Path) -> None:
    for folder in ("cam_a", "cam_b"):
        (tmp_path / folder).mkdir()
    with pytest.raises(DatasetError, match="holds no crops"):
        open_dataset(tmp_path, layout="viper")
