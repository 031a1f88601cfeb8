"""The inspector: what it counts, and each thing that it should find wrong."""

from __future__ import annotations

import json
import os
from pathlib import Path

from helpers.drawn_layouts import touch_crops
from rich.console import Console

from reid_edge.data.inspection import inspect_dataset, inspection_table

SOUND = (
    "bounding_box_train/0002_c1s1_000451_03.jpg",
    "bounding_box_train/0002_c2s1_000301_01.jpg",
    "query/0001_c1s1_001051_00.jpg",
    "bounding_box_test/0001_c3s1_001051_02.jpg",
    "bounding_box_test/0000_c6s1_001051_02.jpg",
    "bounding_box_test/-1_c6s4_001051_02.jpg",
)


def _kinds(path: Path) -> dict[str, int]:
    return inspect_dataset(path).kinds


def test_a_sound_set_is_counted(tmp_path: Path) -> None:
    inspection = inspect_dataset(touch_crops(tmp_path, SOUND))
    train, gallery = inspection.splits["train"], inspection.splits["gallery"]
    assert (train.crops, train.identities, train.cameras, train.distractors) == (2, 1, 2, 0)
    assert (gallery.crops, gallery.identities, gallery.cameras, gallery.distractors) == (2, 1, 2, 1)
    assert inspection.junk == 1 and inspection.layout == "market1501"
    assert _kinds(tmp_path) == {}


def test_unreadable_files_are_found(tmp_path: Path) -> None:
    touch_crops(tmp_path, SOUND)
    whole = (tmp_path / SOUND[0]).read_bytes()
    (tmp_path / SOUND[0]).write_bytes(whole[: len(whole) // 2])
    (tmp_path / SOUND[2]).write_text("no picture")
    assert _kinds(tmp_path) == {"unreadable crops": 2}
    assert inspect_dataset(tmp_path, check_images=False).kinds == {}


def test_a_crop_without_pixels_is_found(tmp_path: Path) -> None:
    touch_crops(tmp_path, SOUND)
    (tmp_path / "query/0001_c1s1_001052_00.ppm").write_bytes(b"P6 0 0 255\n")
    (tmp_path / "query/0001_c1s1_001053_00.jpg").write_bytes(b"")
    assert _kinds(tmp_path) == {"unreadable crops": 2}


def test_an_empty_split_is_found(tmp_path: Path) -> None:
    touch_crops(tmp_path, [name for name in SOUND if "query" not in name])
    (tmp_path / "query").mkdir()
    inspection = inspect_dataset(tmp_path)
    assert inspection.kinds == {"empty splits": 1} and "no query crops" in inspection.problems[0].message


def test_only_the_public_set_is_held_to_the_published_counts(tmp_path: Path) -> None:
    touch_crops(tmp_path / "drawn", SOUND)
    assert _kinds(tmp_path / "drawn") == {}
    touch_crops(tmp_path / "Market-1501-v15.09.15", SOUND)
    inspection = inspect_dataset(tmp_path / "Market-1501-v15.09.15")
    assert inspection.kinds == {"not the published counts": 1}
    assert "(2, 1, 2)" in inspection.problems[0].message and "(12936, 3368, 15913)" in inspection.problems[0].message


def test_people_numbered_independently_do_not_overlap(tmp_path: Path) -> None:
    lists = {"train": ("train", 1), "query": ("test", 2), "gallery": ("test", 3)}
    for name, (folder, camera) in lists.items():
        touch_crops(tmp_path, [f"{folder}/0000/0000_000_{camera:02}_0303noon_{camera}.jpg"])
        (tmp_path / f"list_{name}.txt").write_text(f"0000/0000_000_{camera:02}_0303noon_{camera}.jpg 0\n")
    kinds = _kinds(tmp_path)
    assert kinds == {"training identities in one camera only": 1, "not the published counts": 1}


def test_file_names_cannot_drive_the_terminal(tmp_path: Path) -> None:
    touch_crops(tmp_path, SOUND)
    os.close(os.open(os.fsencode(tmp_path) + b"/query/[bold]a\nb\x1b[2J\xff.jpg", os.O_CREAT))
    inspection = inspect_dataset(tmp_path)
    console = Console(record=True, width=200)
    console.print(inspection_table(inspection))
    assert r"[bold]a\nb\x1b[2J\udcff.jpg: left out" in console.export_text()


def test_names_that_do_not_parse_are_found(tmp_path: Path) -> None:
    assert _kinds(touch_crops(tmp_path, (*SOUND, "query/me.jpg"))) == {"names that do not parse": 1}


def test_people_in_one_camera_are_found(tmp_path: Path) -> None:
    touch_crops(tmp_path, (*SOUND, "bounding_box_train/0008_c4s1_000451_03.jpg", "query/0001_c3s1_001052_00.jpg"))
    assert _kinds(tmp_path) == {"training identities in one camera only": 1, "queries without a match": 1}


def test_people_in_train_and_test_are_found(tmp_path: Path) -> None:
    touch_crops(tmp_path, (*SOUND, "bounding_box_train/0001_c1s1_000451_03.jpg", "bounding_box_train/0001_c2s1_0.jpg"))
    assert _kinds(tmp_path) == {"identities in train and test": 1}


def test_a_crop_in_two_splits_is_found(tmp_path: Path) -> None:
    touch_crops(tmp_path, ["a.jpg", "b.jpg", "c.jpg", "d.jpg"])
    rows = "c.jpg,2,1,train\nd.jpg,2,2,train\na.jpg,1,1,query\nb.jpg,1,2,gallery\na.jpg,1,1,gallery\n"
    (tmp_path / "m.csv").write_text("path,pid,camid,split\n" + rows)
    assert inspect_dataset(tmp_path / "m.csv").kinds == {"crops listed twice": 1}


def test_many_problems_are_counted_and_a_few_are_listed(tmp_path: Path) -> None:
    touch_crops(tmp_path, (*SOUND, *(f"query/odd{i}.jpg" for i in range(30))))
    inspection = inspect_dataset(tmp_path)
    assert inspection.kinds["names that do not parse"] == 30
    assert len([p for p in inspection.problems if p.kind == "names that do not parse"]) == 5
    console = Console(record=True, width=200)
    console.print(inspection_table(inspection))
    assert "and 25 more" in console.export_text()
    json.dumps(inspection.to_dict())


def test_the_development_crops_have_nine_queries_without_a_match(dev_crops: Path) -> None:
    inspection = inspect_dataset(dev_crops)
    assert inspection.kinds == {"queries without a match": 9, "not the published counts": 1}
