"""The built-in set: its layout, that the seed decides every byte, and what becomes of its folder."""

from __future__ import annotations

import json
import re
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from reid_edge.data.datasets import open_dataset
from reid_edge.data.decoding import read
from reid_edge.data.synthetic import dataset as synthetic
from reid_edge.data.synthetic.dataset import synthesize
from reid_edge.data.synthetic.figure import Image
from reid_edge.errors import InputError

SMALL: dict[str, Any] = {"identities": 4, "test_identities": 8, "cameras": 4, "images_per_camera": 3, "progress": False}
NAME = re.compile(r"(-1|\d{4})_c(\d)s1_(\d{6})_00\.jpg")


@pytest.fixture(scope="module")
def people(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return synthesize(tmp_path_factory.mktemp("drawn") / "set", **SMALL)


def contents(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


# The set


def test_every_name_is_market1501s_and_every_frame_is_its_own(people: Path) -> None:
    parsed = [NAME.fullmatch(path.name) for path in people.glob("*/*.jpg")]
    assert parsed and all(parsed)
    frames = [match[3] for match in parsed if match]
    assert len(set(frames)) == len(frames)


def test_the_reader_opens_it(people: Path) -> None:
    split = open_dataset(people).split
    train, query, gallery = ({crop.pid for crop in part} for part in (split.train, split.query, split.gallery))
    assert train == {1, 2, 3, 4} and query == set(range(5, 13)) and gallery == query | {0}


def test_each_test_person_has_one_query_per_camera_and_a_match_in_another(people: Path) -> None:
    split = open_dataset(people).split
    seen = {(crop.pid, crop.camid) for crop in split.query}
    assert len(seen) == len(split.query)
    assert seen == {(crop.pid, crop.camid) for crop in split.gallery if crop.pid > 0}
    cameras_of = Counter(pid for pid, _ in seen)
    assert set(cameras_of) == set(range(5, 13)) and min(cameras_of.values()) >= 2


def test_each_camera_keeps_so_many_crops_of_who_passes(people: Path) -> None:
    per_pass = Counter((crop.pid, crop.camid) for crop in open_dataset(people).split.train)
    assert set(per_pass.values()) == {3}


def test_the_gallery_has_strangers_and_junk(people: Path) -> None:
    pids = Counter(path.name.split("_")[0] for path in (people / "bounding_box_test").iterdir())
    assert pids["0000"] == 2 * 8 and pids["-1"] == 8


@pytest.mark.parametrize("size_hw", [(128, 64), (97, 40)])
def test_crops_are_colour_jpegs_of_the_size_asked_for(tmp_path: Path, size_hw: tuple[int, int]) -> None:
    out = synthesize(tmp_path / "set", **{**SMALL, "identities": 1, "test_identities": 1}, size_hw=size_hw)
    for path in out.glob("*/*.jpg"):
        assert path.read_bytes()[:2] == b"\xff\xd8"
        assert read(path).shape == (*size_hw, 3)


def test_the_seed_decides_every_byte(people: Path, tmp_path: Path) -> None:
    again = synthesize(tmp_path / "again", **SMALL)
    assert contents(again) == contents(people)
    other = contents(synthesize(tmp_path / "other", **SMALL, seed=1))
    shared = set(contents(people)) & set(other) - {"synthetic.json"}
    assert shared and all(contents(people)[name] != other[name] for name in shared)


# The folder


def test_a_set_that_is_there_is_left_as_it_is(people: Path) -> None:
    before = {path: path.stat().st_mtime_ns for path in people.rglob("*")}
    assert synthesize(people, **SMALL) == people
    assert before == {path: path.stat().st_mtime_ns for path in people.rglob("*")}


def test_an_empty_folder_is_filled(tmp_path: Path) -> None:
    (tmp_path / "set").mkdir()
    assert open_dataset(synthesize(tmp_path / "set", **SMALL)).split.query
    assert [path.name for path in tmp_path.iterdir()] == ["set"]


def test_a_set_made_otherwise_is_refused(people: Path) -> None:
    with pytest.raises(InputError, match=r"with other settings \(seed 0 not 7\): delete it or name another"):
        synthesize(people, **SMALL, seed=7)


@pytest.mark.parametrize("text", [None, "{", "[]", "{}", '{"images": 3}'])
def test_a_folder_of_other_things_is_refused_and_kept(tmp_path: Path, text: str | None) -> None:
    (tmp_path / "holiday.jpg").write_bytes(b"dear")
    if text is not None:
        (tmp_path / "synthetic.json").write_text(text)
    before = contents(tmp_path)
    with pytest.raises(InputError, match="name another folder"):
        synthesize(tmp_path, **SMALL)
    assert contents(tmp_path) == before


def test_a_file_in_the_way_is_refused(tmp_path: Path) -> None:
    (tmp_path / "set").write_text("")
    with pytest.raises(InputError, match="is a file: name a folder"):
        synthesize(tmp_path / "set", **SMALL)


def test_a_set_that_lost_crops_is_refused(tmp_path: Path) -> None:
    out = synthesize(tmp_path / "set", **SMALL)
    images = json.loads((out / "synthetic.json").read_text())["images"]
    next(out.glob("query/*.jpg")).unlink()
    with pytest.raises(InputError, match=f"{images - 1} of its {images} crops: delete it"):
        synthesize(out, **SMALL)


def test_nothing_is_left_of_a_set_that_was_interrupted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    drawing, calls = synthetic._drawing, iter(range(5))

    def interrupted(*arguments: Any) -> Image:
        if next(calls) == 4:
            raise KeyboardInterrupt
        return drawing(*arguments)

    monkeypatch.setattr(synthetic, "_drawing", interrupted)
    with pytest.raises(KeyboardInterrupt):
        synthesize(tmp_path / "set", **SMALL)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("wrong", "remedy"),
    [
        ({"identities": 0}, "at least 1 identity"),
        ({"test_identities": 0}, "at least 1 identity"),
        ({"identities": 9999}, "at most 9999 identities"),
        ({"cameras": 1}, "2 to 9 cameras"),
        ({"cameras": 10}, "2 to 9 cameras"),
        ({"images_per_camera": 1}, "at least 2 images"),
        ({"seed": -1}, "seed of 0 or more"),
        ({"size_hw": (128, 16)}, "at least 32 x 32"),
    ],
)
def test_numbers_that_make_no_set_are_refused(tmp_path: Path, wrong: dict[str, Any], remedy: str) -> None:
    with pytest.raises(InputError, match=remedy):
        synthesize(tmp_path / "set", **{**SMALL, **wrong})
    assert list(tmp_path.iterdir()) == []
