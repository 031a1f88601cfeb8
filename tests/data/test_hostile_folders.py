"""Folders as anybody may hand them over: odd names, loops of links, folders that cannot be read."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest
from helpers.drawn_layouts import touch_crops

from reid_edge.cli import main
from reid_edge.data.datasets import crops_in, open_dataset
from reid_edge.data.inspection import inspect_dataset
from reid_edge.errors import DatasetError

SOUND = (
    "query/0001_c1s1_001051_00.jpg",
    "bounding_box_test/0001_c3s1_001051_02.jpg",
    "bounding_box_train/0002_c1s1_000451_03.jpg",
)


@pytest.mark.parametrize(
    "name", ["٣_c1s1_1.jpg", "0003_c٣s1_1.jpg", "²_c1s1_1.jpg", "1-2_c1s1_1.jpg", "9" * 30 + "_c1.jpg"]
)
def test_odd_digits_are_no_identity(tmp_path: Path, name: str) -> None:
    """`int` reads digits of every alphabet; file names have 0 to 9."""
    listing = open_dataset(touch_crops(tmp_path, (*SOUND, f"query/{name}"))).listing
    assert [path.name for path in listing.unparsed] == [name] and len(listing.split.query) == 1


def test_brackets_are_a_name_like_any_other(tmp_path: Path) -> None:
    crop = touch_crops(tmp_path, ["[a]/0001_c1 [*].jpg"]) / "[a]" / "0001_c1 [*].jpg"
    assert crops_in(tmp_path) == crops_in(crop.parent) == [crop]


def test_loops_of_links_end(tmp_path: Path) -> None:
    touch_crops(tmp_path, SOUND)
    (tmp_path / "query" / "again").symlink_to(tmp_path, target_is_directory=True)
    (tmp_path / "query" / "0004_c1s1_1.jpg").symlink_to("0004_c1s1_1.jpg")
    assert len(crops_in(tmp_path)) == 4
    assert inspect_dataset(tmp_path).kinds["unreadable crops"] == 1
    (tmp_path / "loop").symlink_to("loop")
    with pytest.raises(SystemExit) as ended:
        main(["data", "inspect", str(tmp_path / "loop")])
    assert ended.value.code == 2


@pytest.mark.parametrize(("hidden", "call"), [("query", open_dataset), ("query", crops_in), ("", crops_in)])
def test_a_folder_that_cannot_be_listed_is_refused(tmp_path: Path, hidden: str, call: Callable[[Path], object]) -> None:
    folder = touch_crops(tmp_path, SOUND) / hidden
    folder.chmod(0o300)
    try:
        if os.access(folder, os.R_OK):
            pytest.skip("root reads everything")
        with pytest.raises(DatasetError, match="cannot be listed .*: check its permissions$"):
            call(tmp_path)
    finally:
        folder.chmod(0o700)


def test_a_list_names_files_that_are_not_utf8(tmp_path: Path) -> None:
    for name, camera in (("train", 1), ("query", 2), ("gallery", 3)):
        folder = tmp_path / ("train" if name == "train" else "test") / "0000"
        folder.mkdir(parents=True, exist_ok=True)
        file = b"caf\xe9_000_%02d_x.jpg" % camera
        (folder / os.fsdecode(file)).touch()
        (tmp_path / f"list_{name}.txt").write_bytes(b"0000/" + file + b" 7\n")
    split = open_dataset(tmp_path).split
    assert [crop.camid for part in (split.train, split.query, split.gallery) for crop in part] == [1, 2, 3]
    assert all(crop.path.exists() for crop in (*split.train, *split.query, *split.gallery))


def test_a_line_without_an_identity_is_refused_on_one_line(tmp_path: Path) -> None:
    for folder in ("train", "test"):
        (tmp_path / folder).mkdir()
    for name in ("train", "query", "gallery"):
        (tmp_path / f"list_{name}.txt").write_bytes(b"a\x85b\xff\x1b.jpg \xd9\xa3\n")
    with pytest.raises(DatasetError, match=r"list_train.txt, line 1: .* is not 'path pid'") as caught:
        open_dataset(tmp_path)
    assert str(caught.value).isprintable()
