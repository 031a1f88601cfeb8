"""The built-in set: its layout, that the seed decides every byte, and that views and cameras change what is seen."""

from __future__ import annotations

import json
import re
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from reid_edge import synthetic
from reid_edge.datasets import open_dataset
from reid_edge.errors import InputError
from reid_edge.images import decode, read
from reid_edge.synthetic import synthesize
from reid_edge.synthetic_camera import draw_cameras
from reid_edge.synthetic_figure import Image, Pose, draw_person
from reid_edge.synthetic_person import Colour, Garment, Person, dressed_people

SMALL: dict[str, Any] = {"people": 4, "test_people": 8, "cameras": 4, "images_per_camera": 3, "progress": False}
NAME = re.compile(r"(-1|\d{4})_c(\d)s1_(\d{6})_00\.jpg")
GREEN, RED, BLUE, GREY = (0, 200, 0), (220, 0, 0), (0, 0, 220), (90, 90, 90)
PLAIN = Person(
    height=1.0,
    girth=1.0,
    head=1.0,
    skin=GREY,
    hair=GREY,
    hair_style="short",
    hat=None,
    upper=Garment(GREY, GREY),
    sleeves="long",
    lower=Garment(GREY, GREY),
    legwear="trousers",
    shoes=GREY,
    bag="none",
    bag_colour=RED,
    side=1,
)
MIDDLE = 79.5  # of 160 columns: a drawing and its mirror image meet there
FRONT, RIGHT, BACK, LEFT = 0.0, 0.5 * np.pi, np.pi, 1.5 * np.pi


@pytest.fixture(scope="module")
def people(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return synthesize(tmp_path_factory.mktemp("drawn") / "set", **SMALL)


def contents(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


def drawn(person: Person, yaw: float, phase: float = 0.0) -> Image:
    image = np.full((256, 160, 3), 255, dtype=np.uint8)
    draw_person(image, person, Pose(x=MIDDLE, ground=250, scale=240, yaw=yaw, phase=phase))
    return image


def amount(image: Image, colour: Colour) -> int:
    """Pixels of a pure hue, however shaded: the channel that ``colour`` has, and little of the others."""
    channel = int(np.argmax(colour))
    others = np.delete(image, channel, axis=2).max(axis=2)
    return int(((image[..., channel] > 60) & (others < 30)).sum())


def middle(image: Image) -> float:
    """The mean column of what is red."""
    return float(np.nonzero((image[..., 0] > 60) & (image[..., 1:].max(axis=2) < 30))[1].mean())


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
    out = synthesize(tmp_path / "set", **{**SMALL, "people": 1, "test_people": 1}, size_hw=size_hw)
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
    with pytest.raises(InputError, match=r"made otherwise \(seed 0 not 7\): delete it or name another"):
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
        ({"people": 0}, "at least 1 person"),
        ({"test_people": 0}, "at least 1 person"),
        ({"people": 9999}, "at most 9999 people"),
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


# The people


def test_a_backpack_is_seen_best_from_behind() -> None:
    person = replace(PLAIN, bag="backpack")
    front, side, back = (amount(drawn(person, yaw), RED) for yaw in (FRONT, RIGHT, BACK))
    assert 0 < front < side < back, "straps, a bulge, all of it"


def test_a_backpack_is_on_the_left_of_who_walks_to_the_right() -> None:
    for yaw, side in ((RIGHT, -1), (LEFT, 1)):
        assert np.sign(middle(drawn(replace(PLAIN, bag="backpack"), yaw)) - MIDDLE) == side


def test_a_handbag_is_seen_whole_in_the_nearer_hand() -> None:
    near, far = (drawn(replace(PLAIN, bag="hand", side=side), RIGHT, phase=0.0) for side in (-1, 1))
    assert amount(near, RED) > 1.2 * amount(far, RED), "the legs hide a part of the other"


def test_a_logo_and_an_open_jacket_show_from_the_front_only() -> None:
    for pattern in ("logo", "open"):
        person = replace(PLAIN, upper=Garment(GREY, GREEN, pattern))
        assert amount(drawn(person, FRONT), GREEN) > 200
        assert amount(drawn(person, BACK), GREEN) == 0


def test_a_handbag_hangs_on_its_own_side_of_the_person() -> None:
    person = replace(PLAIN, bag="hand", side=1)
    for yaw, side in ((FRONT, 1), (BACK, -1)):
        assert np.sign(middle(drawn(person, yaw)) - MIDDLE) == side, (
            "x is to the person's left: the viewer's right from the front"
        )


def test_hair_hides_the_face_from_behind() -> None:
    person = replace(PLAIN, skin=RED, hair=BLUE, hair_style="long")
    head = slice(0, 60)
    assert amount(drawn(person, FRONT)[head], RED) > 2 * amount(drawn(person, BACK)[head], RED)
    assert amount(drawn(person, BACK)[head], BLUE) > amount(drawn(person, FRONT)[head], BLUE)


def test_walking_to_the_left_mirrors_walking_to_the_right() -> None:
    right, left = (drawn(PLAIN, yaw, phase) for yaw, phase in ((RIGHT, 1.0), (LEFT, 1.0 + np.pi)))
    differing = (right != left[:, ::-1]).any(axis=2).mean()
    assert differing < 0.02, "but for the rounding of corners to whole pixels"


def test_a_stride_opens_the_legs_seen_from_the_side() -> None:
    standing, striding = (drawn(PLAIN, RIGHT, phase)[200:] for phase in (0.0, 0.5 * np.pi))

    def width(image: Image) -> int:
        columns = np.nonzero((image < 255).any(axis=(0, 2)))[0]
        return int(np.ptp(columns))

    assert width(striding) > 1.4 * width(standing)


@pytest.mark.parametrize(
    ("change", "rows"),
    [
        ({"legwear": "shorts"}, slice(190, 225)),
        ({"legwear": "skirt"}, slice(190, 225)),
        ({"sleeves": "short"}, slice(95, 135)),
    ],
)
def test_what_clothes_leave_bare_is_skin(change: dict[str, Any], rows: slice) -> None:
    covered, bare = (drawn(replace(PLAIN, skin=RED, **more), FRONT)[rows] for more in ({}, change))
    assert amount(bare, RED) > amount(covered, RED) + 100


def test_each_pattern_is_its_own_picture() -> None:
    patterns = ("plain", "rows", "columns", "checks", "block", "open", "logo")
    seen = [drawn(replace(PLAIN, upper=Garment(BLUE, GREEN, pattern)), FRONT) for pattern in patterns]
    for index, image in enumerate(seen):
        assert all((image != other).any(axis=2).sum() > 200 for other in seen[:index])


def test_rows_run_across_and_columns_run_down() -> None:
    rows, columns = (
        drawn(replace(PLAIN, upper=Garment(BLUE, GREEN, pattern)), FRONT)[80:125, 66:95, 1] > 60
        for pattern in ("rows", "columns")
    )
    assert (rows == rows[:, :1]).all() and not (rows == rows[:1]).all()
    assert (columns == columns[:1]).all() and not (columns == columns[:, :1]).all()


def test_a_few_people_are_dressed_in_the_same_colours() -> None:
    tops = np.array([person.upper.colour for person in dressed_people(8, np.random.default_rng(3))])
    assert np.abs(tops[:4] - tops[0]).max() < 60 and np.abs(tops[4:] - tops[4]).max() < 60
    assert len(np.unique(tops, axis=0)) == 8, "though no two dyed quite alike"
    assert np.abs(tops[4] - tops[0]).max() > 60


def test_a_person_outside_of_the_picture_leaves_it_as_it_is() -> None:
    image = np.full((64, 32, 3), 200, dtype=np.uint8)
    draw_person(image, PLAIN, Pose(x=500, ground=60, scale=60, yaw=0.3, phase=1.0))
    assert (image == 200).all()


# The cameras


def test_cameras_differ_in_what_they_make_of_one_drawing() -> None:
    cameras = draw_cameras(4, (256, 128), np.random.default_rng(0))
    drawing = drawn(replace(PLAIN, upper=Garment(GREEN, GREEN)), FRONT)[:, 16:144]
    photos = []
    for camera in cameras:
        data = camera.photograph(drawing, (128, 64), np.random.default_rng(1))
        photos.append(decode(data, "photo").astype(float))
    means = np.array([photo.mean(axis=(0, 1)) for photo in photos])
    apart = [np.abs(means[a] - means[b]).max() for a in range(4) for b in range(a)]
    assert min(apart) > 3, "levels of 255, in at least one channel"


def test_a_photograph_keeps_the_order_of_the_channels() -> None:
    (camera, _) = draw_cameras(2, (64, 64), np.random.default_rng(0))
    for channel in range(3):
        drawing = np.full((64, 64, 3), 40, dtype=np.uint8)
        drawing[..., channel] = 230
        data = camera.photograph(drawing, (32, 32), np.random.default_rng(1))
        assert decode(data, "photo").mean(axis=(0, 1)).argmax() == channel
