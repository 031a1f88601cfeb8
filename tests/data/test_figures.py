"""Drawn persons and cameras: views, clothes and bags look as they should, and cameras differ."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from reid_edge.data.decoding import decode
from reid_edge.data.synthetic.camera import draw_cameras
from reid_edge.data.synthetic.figure import Image, Pose, draw_person
from reid_edge.data.synthetic.person import Colour, Garment, Person, dressed_people

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
