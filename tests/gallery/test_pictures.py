"""The picture of a ranked list: what is where, in which colour."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from reid_edge.errors import ImageError, InputError
from reid_edge.gallery.pictures import ranking_picture, save_picture

BLUE, GREEN, RED, WHITE = (36, 99, 200), (31, 157, 77), (210, 59, 51), (255, 255, 255)
# Crop colours that nothing else in the picture has.
COLOURS = [(250, 200, 0), (0, 250, 200), (200, 0, 250), (120, 60, 10), (10, 60, 120)]


@pytest.fixture(scope="module")
def crops(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    folder = tmp_path_factory.mktemp("crops")
    paths = [folder / f"000{number}_c1s1_001051_00.png" for number in range(len(COLOURS))]
    for path, colour in zip(paths, COLOURS, strict=True):
        Image.new("RGB", (20, 50), colour).save(path)
    return paths


def _box(picture: Image.Image, colour: tuple[int, int, int]) -> tuple[int, int, int, int]:
    """(left, top, right, bottom) around every pixel of one colour, the last two exclusive."""
    rows, columns = np.nonzero((np.asarray(picture) == colour).all(axis=2))
    assert len(rows), f"nothing is {colour}"
    return int(columns.min()), int(rows.min()), int(columns.max()) + 1, int(rows.max()) + 1


def _around(picture: Image.Image, colour: tuple[int, int, int]) -> tuple[int, ...]:
    """The colour just outside a crop, the same on its four sides."""
    left, top, right, bottom = _box(picture, colour)
    points = [(left - 1, top), (right, top), (left, top - 1), (left, bottom), (left - 5, top - 5)]
    (found,) = {picture.getpixel(point) for point in points}
    assert isinstance(found, tuple)
    return found


def test_rows_and_columns_are_queries_and_ranks(crops: list[Path]) -> None:
    picture = ranking_picture(crops[:2], [[crops[2], crops[3]], [crops[4]]], crop_hw=(128, 64))
    boxes = [_box(picture, colour) for colour in COLOURS]
    assert all((right - left, bottom - top) == (64, 128) for left, top, right, bottom in boxes)
    first, second, first_found, second_found, of_second = boxes
    assert first[1] == first_found[1] == second_found[1]  # one row
    assert first[2] < first_found[0] < first_found[2] < second_found[0]
    assert second[1] == of_second[1] > first[3]  # the row below
    assert (second[0], of_second[0]) == (first[0], first_found[0])
    assert second_found[2] + 10 < picture.width and second[3] + 10 < picture.height


def test_frames_say_what_was_found(crops: list[Path]) -> None:
    picture = ranking_picture(crops[:1], [crops[1:4]], matches=[[True, False, None]])
    assert [_around(picture, colour) for colour in COLOURS[:4]] == [BLUE, GREEN, RED, WHITE]
    plain = ranking_picture(crops[:1], [crops[1:4]])
    assert [_around(plain, colour) for colour in COLOURS[:4]] == [BLUE, WHITE, WHITE, WHITE]


def _ink_under(picture: Image.Image, colour: tuple[int, int, int]) -> NDArray[np.bool_]:
    """Where something is written in the caption under a crop."""
    left, _, right, bottom = _box(picture, colour)
    caption = np.asarray(picture)[bottom + 6 : bottom + 30, left:right]
    return np.asarray((caption != WHITE).any(axis=2))


def test_captions_are_written(crops: list[Path]) -> None:
    without = ranking_picture(crops[:1], [crops[1:3]])
    distances = ranking_picture(crops[:1], [crops[1:3]], distances=[[0.25, 0.5]])
    others = ranking_picture(crops[:1], [crops[1:3]], distances=[[0.25, 0.75]])
    assert _ink_under(without, COLOURS[0]).any()  # the query's name
    ranks = [_ink_under(without, colour) for colour in COLOURS[1:3]]
    widths = [int(rank.any(axis=0).sum()) for rank in ranks]
    assert 0 < widths[0] < widths[1]  # a 1 is narrower than a 2
    assert not ranks[0][:, 64:].any() and _ink_under(distances, COLOURS[1])[:, 64:].any()
    same, different = ((_ink_under(distances, colour) == _ink_under(others, colour)).all() for colour in COLOURS[1:3])
    assert same and not different


def test_a_long_name_is_shortened_to_its_column(tmp_path: Path) -> None:
    path = tmp_path / f"{'w' * 120}.png"
    Image.new("RGB", (4, 8), COLOURS[0]).save(path)
    picture = ranking_picture([path], [[path]])
    pixels = np.asarray(picture)
    assert (pixels[:, :20] == 255).all() and (pixels[:, -20:] == 255).all()
    assert picture.width < 6 * 128


def test_a_query_without_finds_is_still_drawn(crops: list[Path]) -> None:
    picture = ranking_picture(crops[:2], [[], []])
    assert _around(picture, COLOURS[1]) == BLUE
    assert _box(picture, COLOURS[1])[2] + 5 < picture.width


def test_lists_that_do_not_fit_are_refused(crops: list[Path]) -> None:
    with pytest.raises(InputError, match="there are no queries to draw"):
        ranking_picture([], [])
    with pytest.raises(InputError, match="2 queries and 1 ranked lists"):
        ranking_picture(crops[:2], [crops])
    with pytest.raises(InputError, match="the distances and the ranked lists differ in length"):
        ranking_picture(crops[:1], [crops[:2]], distances=[[0.1]])
    with pytest.raises(InputError, match="the matches and the ranked lists differ in length"):
        ranking_picture(crops[:1], [crops[:2]], matches=[[True, True], [True]])
    with pytest.raises(InputError, match=r"1000 queries would make a picture of \d+x\d+ pixels: give fewer"):
        ranking_picture(crops[:1] * 1000, [crops] * 1000)
    with pytest.raises(ImageError, match="does not exist"):
        ranking_picture(crops[:1], [[crops[0].with_name("none.jpg")]])


@pytest.mark.parametrize("suffix", [".png", ".JPG", ".webp"])
def test_a_picture_is_saved_as_its_suffix_says(crops: list[Path], tmp_path: Path, suffix: str) -> None:
    picture = ranking_picture(crops[:1], [crops[1:3]])
    save_picture(picture, tmp_path / "new" / f"ranks{suffix}")
    with Image.open(tmp_path / "new" / f"ranks{suffix}") as saved:
        assert (saved.format, saved.size) == ({".JPG": "JPEG"}.get(suffix, suffix[1:].upper()), picture.size)


def test_a_picture_that_cannot_be_saved_leaves_nothing(crops: list[Path], tmp_path: Path) -> None:
    picture = ranking_picture(crops[:1], [crops[1:3]])
    with pytest.raises(InputError, match=r"ranks\.txt is not a picture file name: end it in one of \.png"):
        save_picture(picture, tmp_path / "ranks.txt")
    (tmp_path / "ranks.jpg").write_text("old")
    with pytest.raises(OSError, match="RGBA"):
        save_picture(picture.convert("RGBA"), tmp_path / "ranks.jpg")
    assert [path.name for path in tmp_path.iterdir()] == ["ranks.jpg"]
    assert (tmp_path / "ranks.jpg").read_text() == "old"
