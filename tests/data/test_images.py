"""The image path: crops of the input size from files and arrays, by each resize method."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from reid_edge.data import colors, decoding, images
from reid_edge.errors import ImageError, InputError

RED, GREEN = (200, 40, 90), (20, 180, 60)


def _two_colours(height: int = 64, width: int = 32) -> NDArray[np.uint8]:
    """RED above GREEN: large flat areas, so that JPEG keeps the colours to a level or two."""
    image = np.empty((height, width, 3), np.uint8)
    image[: height // 2], image[height // 2 :] = RED, GREEN
    return image


def _noise(height: int, width: int, seed: int = 0) -> NDArray[np.uint8]:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)


def test_unknown_names_are_told_the_known_ones() -> None:
    with pytest.raises(InputError, match="give one of rgb, bgr"):
        colors.as_rgb(_noise(2, 2), color="rbg")
    with pytest.raises(InputError, match="opencv, pillow-bilinear"):
        images.resize(_noise(2, 2), (4, 4), "bicubic")
    with pytest.raises(InputError, match="opencv, pillow-bilinear"):
        images.read_crops([], method="bicubic")


@pytest.mark.parametrize("method", images.RESIZES)
def test_shrinking_is_antialiased(method: str) -> None:
    checks = np.indices((80, 80)).sum(0)[:, :, None] % 2 * np.full(3, 254)
    small = images.resize(checks.astype(np.uint8), (16, 16), method)
    # Each result pixel covers 12 or 13 white squares of 25; plain bilinear would see one square only.
    np.testing.assert_allclose(small, 127, atol=6)


def test_opencv_shrinks_to_the_mean_of_each_area() -> None:
    image = np.zeros((3, 3, 3), np.uint8)
    image[1, 1] = 90  # a ninth of the area
    assert images.resize(image, (1, 1)).tolist() == [[[10, 10, 10]]]


def test_opencv_chooses_by_the_number_of_pixels() -> None:
    step = np.zeros((8, 2, 3), np.uint8)
    step[1::2] = 200  # striped rows
    fewer = images.resize(step, (1, 8))[0, 0, 0]  # 16 -> 8 pixels
    more = images.resize(step, (2, 16))[0, 0, 0]  # 16 -> 32 pixels: bilinear between two rows of four
    assert (fewer, more) == (images.resize(step, (1, 8))[0, 7, 0], 100)


def test_both_resizes_agree_when_enlarging_and_pillow_is_pillow() -> None:
    image = _noise(128, 64)
    ours = images.resize(image, (256, 128), "pillow-bilinear")
    theirs = Image.fromarray(image).resize((128, 256), Image.Resampling.BILINEAR)
    np.testing.assert_array_equal(ours, np.asarray(theirs))
    difference = ours.astype(int) - images.resize(image, (256, 128), "opencv")
    assert np.abs(difference).max() <= 1


@pytest.mark.parametrize("method", images.RESIZES)
def test_no_result_shares_memory_with_what_the_caller_gave(method: str) -> None:
    right_size = _noise(16, 8)
    kept = right_size.copy()
    for result in (
        images.resize(right_size, (16, 8), method),
        colors.as_rgb(right_size),
        images.crops_of([right_size], (16, 8), method),
    ):
        assert not np.shares_memory(result, right_size)
        result[:] = 0
        np.testing.assert_array_equal(right_size, kept)


@pytest.mark.parametrize("method", images.RESIZES)
def test_crops_of_mixes_files_and_frames_in_order(method: str, tmp_path: Path) -> None:
    rgb = _two_colours(128, 64)
    path = tmp_path / "a.png"
    Image.fromarray(rgb).save(path)
    frame = rgb[:, :, ::-1]  # BGR: a file's colour order is its own, an array's is the caller's word
    crops = images.crops_of([path, frame, str(path)], (256, 128), method, "bgr")
    assert crops.shape == (3, 256, 128, 3) and crops.dtype == np.uint8
    for crop in crops:
        np.testing.assert_array_equal(crop, images.resize(rgb, (256, 128), method))


def test_read_crops_of_nothing_and_of_ragged_sizes(tmp_path: Path) -> None:
    assert images.read_crops([], (32, 16)).shape == (0, 32, 16, 3)
    sizes = [(64, 32), (32, 16), (7, 3), (100, 10)]
    paths = [tmp_path / f"{h}.png" for h, _ in sizes]
    for (height, width), path in zip(sizes, paths, strict=True):
        Image.new("RGB", (width, height), (height, width, 0)).save(path)
    crops = images.read_crops(paths, (32, 16))
    assert crops[:, 3, 3].tolist() == [[h, w, 0] for h, w in sizes]


def test_an_array_that_is_no_image_is_named_by_its_place() -> None:
    sources: list[Any] = [_noise(4, 4), np.zeros((4, 4))]
    with pytest.raises(ImageError, match="image 1 is float64"):
        images.crops_of(sources, (8, 8))
    with pytest.raises(ImageError, match="image 33 is float64"):
        images.crops_of(sources, (8, 8), first=32)


@pytest.mark.parametrize("method", images.RESIZES)
@pytest.mark.parametrize("size", [(60, 30), (20, 9)])
def test_strides_change_no_pixel(method: str, size: tuple[int, int]) -> None:
    frame = np.random.default_rng(5).integers(0, 256, (50, 40, 4), np.uint8)
    bgr = np.ascontiguousarray(frame[:, :, :3])
    for view in (
        bgr[5:45, 3:33],
        bgr[5:45, 3:33, ::-1],
        frame[5:45, 3:33, 2::-1],
        frame[5:45, 3:33, :3],
        bgr[45:5:-1, 33:3:-1],
        bgr[::-1][5:45, 3:33, ::-1],
        bgr[::2, ::3],
        np.asfortranarray(bgr),
        np.broadcast_to(frame[:, :, :1], (50, 40, 3)),
        bgr[:1, 3:33, ::-1],
        bgr[5:45, :1],
    ):
        expected = images.resize(np.array(view, order="C"), size, method)
        np.testing.assert_array_equal(images.resize(view, size, method), expected)


def test_opencv_fast_halves_and_then_reads_every_pixel_that_is_left() -> None:
    image = _noise(61, 33)
    halves = image[:60, :32].reshape(30, 2, 16, 2, 3).astype(int).sum((1, 3))  # 61 -> 30 is under 2 x 16, 33 -> 16 too
    expected = images.resize(((halves + 2) // 4).astype(np.uint8), (16, 16), "opencv-fast")
    np.testing.assert_array_equal(images.resize(image, (16, 16), "opencv-fast"), expected)
    for line in range(31):  # of 31 to 16, no row and no column goes unseen
        alone = np.zeros((31, 31, 3), np.uint8)
        alone[line] = 255
        assert images.resize(alone, (16, 16), "opencv-fast").any()
        assert images.resize(alone.swapaxes(0, 1), (16, 16), "opencv-fast").any()


def test_opencv_fast_is_opencv_where_nothing_shrinks_and_along_one_axis_alone() -> None:
    image = _noise(40, 20)
    for size in ((40, 20), (41, 20), (256, 128)):
        np.testing.assert_array_equal(images.resize(image, size, "opencv-fast"), images.resize(image, size, "opencv"))
    means = image.reshape(10, 4, 20, 3).mean(1)
    np.testing.assert_allclose(images.resize(image, (10, 20), "opencv-fast"), means, atol=1.5)


@pytest.mark.parametrize(("size", "decoded"), [((128, 64), (48, 24)), ((78, 40), (78, 40)), ((80, 40), (40, 20))])
def test_opencv_fast_decodes_large_jpegs_at_a_reduced_size(
    size: tuple[int, int], decoded: tuple[int, int], tmp_path: Path
) -> None:
    path = tmp_path / "large.jpg"
    Image.fromarray(_two_colours(*size)).save(path, quality=95)
    assert decoding.read(path, (40, 20)).shape[:2] == decoded
    fast, exact = (images.read_crop(path, (40, 20), method).astype(int) for method in ("opencv-fast", "opencv"))
    assert np.abs(fast - exact).max() <= 40 and np.abs(fast - exact).mean() < 1  # where the two colours meet
    assert decoding.read(path).shape[:2] == size
    Image.fromarray(_two_colours(*size)).save(path.with_suffix(".png"))
    assert decoding.read(path.with_suffix(".png"), (40, 20)).shape[:2] == size
