"""A folder for each person: how its crops become train, query and gallery, and what is no such folder."""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest
from helpers.drawn_layouts import paint_crops, touch_crops
from helpers.tiny_onnx import write_tiny_model
from rich.console import Console

from reid_edge.data.datasets import Dataset, mixed, open_dataset, require
from reid_edge.data.identities import known_identities, same_identity
from reid_edge.data.inspection import inspect_dataset, inspection_table
from reid_edge.data.records import Crop
from reid_edge.errors import DatasetError
from reid_edge.gallery.search import rank_files, ranking_table
from reid_edge.scoring.evaluation import evaluate
from reid_edge.scoring.test_set import TestSet

SPLIT = {
    "train/anna/1.jpg": 10,
    "train/anna/2.jpg": 20,
    "train/bert/1.jpg": 30,
    "test/carla/1.png": 90,
    "test/carla/2.png": 60,
    "test/dora/1.png": 200,
    "test/dora/2.png": 200,
    "test/emil/1.png": 90,
}


def _named(dataset: Dataset, crops: tuple[Crop, ...]) -> list[str]:
    """Each crop as NAME/FILE, by the name that the data set gives its person."""
    return [f"{dataset.name_of(crop.pid)}/{crop.path.name}" for crop in crops]


def test_train_and_test_folders_are_read_with_the_persons_names(tmp_path: Path) -> None:
    dataset = open_dataset(touch_crops(tmp_path / "own", SPLIT))
    split = dataset.split
    assert (dataset.layout, dataset.name, dataset.same_camera_filter) == ("person-folders", "own", False)
    assert _named(dataset, split.train) == ["anna/1.jpg", "anna/2.jpg", "bert/1.jpg"]
    assert _named(dataset, split.query) == ["carla/1.png", "dora/1.png"], "the first crop of each who has two"
    assert _named(dataset, split.gallery) == ["carla/2.png", "dora/2.png", "emil/1.png"]
    crops = (*split.train, *split.query, *split.gallery)
    assert [crop.pid for crop in crops] == [0, 0, 1, 2, 3, 2, 3, 4] and len({crop.camid for crop in crops}) == 8
    assert all(crop.path.is_file() for crop in crops) and not dataset.listing.unparsed and not dataset.notices


def test_persons_with_folders_are_scored(tmp_path: Path) -> None:
    """Emil looks like carla's query more than carla does: her match is second. Dora's match is the same picture."""
    model = write_tiny_model(tmp_path / "tiny.onnx", input_hw=(32, 16))
    with TestSet.open(paint_crops(tmp_path / "own", SPLIT)) as data:
        metrics = evaluate(model, data).metrics
    assert (metrics.valid_queries, metrics.gallery) == (2, 3)
    assert (metrics.rank(1), metrics.rank(2), metrics.mAP) == (0.5, 1.0, 0.75)


def test_queries_and_gallery_may_have_folders_of_their_own(tmp_path: Path) -> None:
    names = ["query/anna/1.jpg", "query/anna/2.jpg", "gallery/anna/3.jpg", "gallery/zoe/4.jpg"]
    dataset = open_dataset(touch_crops(tmp_path, names))
    assert _named(dataset, dataset.split.query) == ["anna/1.jpg", "anna/2.jpg"]
    assert _named(dataset, dataset.split.gallery) == ["anna/3.jpg", "zoe/4.jpg"]
    with pytest.raises(DatasetError, match=r"has no train crops: see what was found with  reid-edge data inspect"):
        require(dataset, "train")


def test_two_test_sets_in_one_folder_are_refused(tmp_path: Path) -> None:
    """One of them would be left unread in silence."""
    touch_crops(
        tmp_path, ["query/anna/1.jpg", "gallery/anna/3.jpg", "test/bert/1.jpg", "val/ida/1.jpg", "val/ida/2.jpg"]
    )
    with pytest.raises(DatasetError, match="has a test folder beside query and gallery, .*: move that folder"):
        open_dataset(tmp_path)
    assert len(open_dataset(tmp_path, part="val").split.query) == 1


def test_a_validation_part_is_read_where_it_is_asked_for(tmp_path: Path) -> None:
    dataset = open_dataset(touch_crops(tmp_path, (*SPLIT, "val/ida/1.jpg", "val/ida/2.jpg")), part="val")
    assert _named(dataset, dataset.split.query) == ["ida/1.jpg"]
    assert _named(dataset, dataset.split.gallery) == ["ida/2.jpg"]


def test_persons_without_a_split_are_split_by_their_names(tmp_path: Path) -> None:
    """The SHA-256 of these names begin with 02 (lea), 03 (gina), 04 (hugo), 06 (emil), 26 (kim), 32 (bert)."""
    several = [f"{name}/{i}.jpg" for name in ("bert", "emil", "gina", "hugo", "kim") for i in (1, 2)]
    dataset = open_dataset(touch_crops(tmp_path / "own", (*several, "lea/1.jpg")))
    assert (
        dataset.layout == "person-folders-unsplit" and "move their folders into train/ and test/" in dataset.notices[0]
    )
    assert _named(dataset, dataset.split.query) == ["gina/1.jpg", "hugo/1.jpg"], "lea has one crop: nothing would match"
    assert _named(dataset, dataset.split.gallery) == ["gina/2.jpg", "hugo/2.jpg"]
    assert {dataset.name_of(crop.pid) for crop in dataset.split.train} == {"bert", "emil", "kim", "lea"}
    touch_crops(tmp_path / "own", [f"anna{i}/{j}.jpg" for i in range(9) for j in (1, 2)])
    more = open_dataset(tmp_path / "own").split
    assert len(more.query) == 3, "15 persons, one in five of them"


def test_two_persons_are_both_tested_on(tmp_path: Path) -> None:
    dataset = open_dataset(touch_crops(tmp_path, ["anna/1.jpg", "anna/2.jpg", "bert/1.jpg", "bert/2.jpg"]))
    assert len(dataset.split.query) == 2 and not dataset.split.train
    assert inspect_dataset(tmp_path).kinds == {}


@pytest.mark.parametrize(
    "names",
    [
        ["photos/a.jpg"],
        ["a.jpg", "b.jpg"],
        ["deep/anna/1.jpg", "deep/bert/1.jpg"],
        ["bounding_box_train/0001_c1s1_1.jpg", "query/0002_c1s1_1.jpg"],
        ["train/1.jpg", "test/1.jpg"],
        ["query/cam1/1.jpg", "gallery/cam2/1.jpg"],
        [".cache/1.jpg", ".trash/1.jpg", "anna/1.jpg"],
    ],
    ids=["one folder", "no folder", "a folder below", "half of Market's", "no persons", "cameras", "hidden"],
)
def test_what_is_no_folder_per_person_is_refused(tmp_path: Path, names: list[str]) -> None:
    with pytest.raises(DatasetError, match=r"no known layout: .*train/PERSON/ \+ test/PERSON/ \(a folder per person\)"):
        open_dataset(touch_crops(tmp_path, names))


def test_other_layouts_come_first(tmp_path: Path) -> None:
    """MSMT17 and LaST have a folder per person too, below folders called train and test."""
    names = ["train/0000/0000_000_01_a_0.jpg", "train/0001/0001_000_01_a_0.jpg", "test/0000/0000_000_03_a_0.jpg"]
    touch_crops(tmp_path / "MSMT17_V1", names)
    for name in ("query", "gallery"):
        (tmp_path / "MSMT17_V1" / f"list_{name}.txt").write_text("0000/0000_000_03_a_0.jpg 0\n")
    assert open_dataset(tmp_path / "MSMT17_V1").layout == "msmt17"
    last = ["train/000000/000000_1_20_0_2.jpg", "test/query/000009_x.jpg", "test/gallery/000009/000009_y.jpg"]
    assert open_dataset(touch_crops(tmp_path / "LaST", (*last, "train/000001/000001_1_20_0_2.jpg"))).layout == "last"


def test_what_lies_beside_or_below_a_persons_folder_is_reported(tmp_path: Path) -> None:
    dataset = open_dataset(touch_crops(tmp_path, (*SPLIT, "train/me.jpg", "test/dora/day/1.jpg", "train/.cache/1.jpg")))
    assert [path.name for path in dataset.listing.unparsed] == ["me.jpg", "1.jpg"] and len(dataset.split.train) == 3
    assert len(dataset.split.query) == 2
    messages = [problem.message for problem in inspect_dataset(tmp_path, check_images=False).problems]
    assert messages[1] == "test/dora/day/1.jpg: left out; rename or move it, or use a manifest"


def test_loops_of_links_end_and_a_linked_person_is_one(tmp_path: Path) -> None:
    touch_crops(tmp_path / "own", SPLIT)
    touch_crops(tmp_path / "elsewhere", ["1.jpg"])
    (tmp_path / "own/train/zoe").symlink_to(tmp_path / "elsewhere", target_is_directory=True)
    (tmp_path / "own/train/again").symlink_to(tmp_path / "own/train", target_is_directory=True)
    dataset = open_dataset(tmp_path / "own")
    assert _named(dataset, dataset.split.train)[-1] == "zoe/1.jpg" and len(dataset.split.train) == 4


def test_names_of_persons_cannot_drive_the_terminal(tmp_path: Path) -> None:
    for name in (b"[bold]a\nb\x1b[2J", b"caf\xe9"):
        for i in (1, 2):
            touch_crops(tmp_path, [f"test/{os.fsdecode(name)}/{i}.jpg", f"train/{os.fsdecode(name)}/{i}.jpg"])
    console = Console(record=True, width=80)
    console.print(inspection_table(inspect_dataset(tmp_path)))
    shown = console.export_text()
    assert r"persons  [bold]a\nb\x1b[2J, caf\udce9" in shown
    assert r"person caf\udce9 is in both train and test" in shown


def test_the_inspector_names_the_persons_and_knows_no_cameras(tmp_path: Path) -> None:
    inspection = inspect_dataset(touch_crops(tmp_path, (*SPLIT, "train/dora/3.jpg")))
    assert inspection.names == ("anna", "bert", "carla", "dora", "emil") and inspection.splits["train"].cameras is None
    assert [problem.message for problem in inspection.problems] == [
        "person dora is in both train and test: the score will be too high"
    ]
    touch_crops(tmp_path, [f"train/guest{i}/1.jpg" for i in range(3)])
    console = Console(record=True, width=80)
    console.print(inspection_table(inspect_dataset(tmp_path)))
    assert "persons  anna, bert, carla, dora, emil and 3 more" in console.export_text()


def test_ranked_crops_of_one_folder_show_one_person(tmp_path: Path) -> None:
    home = touch_crops(tmp_path, SPLIT)
    query, match, other = (home / "test" / name for name in ("carla/1.png", "carla/2.png", "emil/1.png"))
    known = known_identities([query, match, other])
    assert known[other].name == "emil"
    assert same_identity(known[query], known[match]) is True and same_identity(known[query], known[other]) is False


def test_a_ranked_list_says_who_it_is(tmp_path: Path) -> None:
    home = paint_crops(tmp_path / "own", SPLIT)
    model = write_tiny_model(tmp_path / "tiny.onnx", input_hw=(32, 16))
    found = rank_files([home / "test/carla/1.png"], home / "test", model, top=4)
    console = Console(record=True, width=300)
    console.print(ranking_table(found))
    rows = [line for line in console.export_text().splitlines() if ".png" in line]
    assert [re.findall(r"yes|no, \w+", row) for row in rows] == [["yes"], ["no, emil"], ["yes"], ["no, dora"]]


def test_any_two_folders_of_images_say_nothing_of_persons(tmp_path: Path) -> None:
    """They may be two cameras: a data set for who gives the path, and no verdict on a ranked list."""
    home = touch_crops(tmp_path / "frames", ["door/1.jpg", "door/2.jpg", "gate/1.jpg", "gate/2.jpg"])
    assert open_dataset(home).layout == "person-folders-unsplit"
    assert known_identities([home / "door/1.jpg", home / "gate/1.jpg"]) == {}


def test_names_stay_with_their_persons_when_sets_are_mixed(tmp_path: Path) -> None:
    market = ["query/0009_c1s1_1.jpg", "bounding_box_test/0009_c2s1_1.jpg", "bounding_box_train/0002_c1s1_1.jpg"]
    public = open_dataset(touch_crops(tmp_path / "market", market))
    own = open_dataset(touch_crops(tmp_path / "own", SPLIT))
    both = mixed([public, own, open_dataset(touch_crops(tmp_path / "more", ["train/zoe/1.jpg", "train/yan/1.jpg"]))])
    assert _named(both, both.split.train) == [
        "2/0002_c1s1_1.jpg",
        *_named(own, own.split.train),
        "yan/1.jpg",
        "zoe/1.jpg",
    ]
    assert _named(both, both.split.query) == ["9/0009_c1s1_1.jpg"], "no person of another set has its number"
    first = mixed([own, public])
    assert _named(first, first.split.query) == ["carla/1.png", "dora/1.png"]
