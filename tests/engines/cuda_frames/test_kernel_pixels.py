"""The kernel's source, compiled for the host, against OpenCV: the same pixels from every frame, box and scale."""

from __future__ import annotations

import platform
from collections.abc import Callable

import cv2
import numpy as np
import pytest
from host_kernel import frame_of, host_crops, size_of_work
from numpy.typing import NDArray

from reid_edge.data.images import resize

INPUT_HW = (64, 32)
Frame = NDArray[np.uint8]


def _frame(height: int, width: int, channels: int = 3, seed: int = 0) -> Frame:
    """Noise: the worst case for rounding, and no pixel is like its neighbour."""
    return np.random.default_rng(seed).integers(0, 256, (height, width, channels), np.uint8)


def _expected(rgb: Frame, edges: list[list[int]], input_hw: tuple[int, int]) -> Frame:
    crops = [np.ascontiguousarray(rgb[top:bottom, left:right]) for left, top, right, bottom in edges]
    return np.stack([resize(crop, input_hw) for crop in crops])


def _assert_same_pixels(found: Frame, expected: Frame) -> None:
    """Equal to OpenCV's own code. On ARM its builds may use Carotene, KleidiCV or fused sums: within a level."""
    assert np.abs(found.astype(int) - expected).max() <= 1
    assert platform.machine() != "x86_64" or np.array_equal(found, expected)


def test_the_kernels_argument_has_the_same_size_in_python() -> None:
    compiled, described = size_of_work()
    assert compiled == described <= 4096, "what every GPU takes as arguments"


def test_bilinear_by_hand() -> None:
    """Positions of OpenCV for 2 pixels to 4: -0.25, 0.25, 0.75, 1.25; 90 * 0.25 = 22.5 and 90 * 0.75 = 67.5."""
    frame = np.array([[[0] * 3, [90] * 3]], np.uint8)
    assert host_crops(frame_of(frame), [[0, 0, 2, 1]], (1, 4))[0, 0, :, 0].tolist() == [0, 23, 68, 90]


def test_the_mean_of_an_area_by_hand() -> None:
    """3 x 2 pixels to 2 x 1: each result covers one and a half columns of two rows."""
    frame = np.repeat(np.array([[10, 40, 70], [30, 60, 90]], np.uint8)[..., None], 3, axis=2)
    assert host_crops(frame_of(frame), [[0, 0, 3, 2]], (1, 2))[0, 0, :, 1].tolist() == [30, 70]


@pytest.mark.parametrize(
    "crop_hw",
    [
        (64, 32),  # as it is
        (20, 9),  # grows
        (1, 1),
        (63, 31),
        (128, 64),  # halves: integers
        (192, 96),
        (64, 96),
        (150, 71),  # shrinks by fractions
        (65, 33),
        (257, 201),
        (40, 300),  # has more pixels than the result, and one axis grows
        (300, 20),
        (64, 33),
        (40, 96),  # grows along y; along x the doubles of OpenCV decide
        (49 * 64, 32 * 3),
    ],
    ids=lambda hw: f"{hw[0]}x{hw[1]}",
)
def test_every_scale_gives_opencvs_pixels(crop_hw: tuple[int, int]) -> None:
    frame = _frame(crop_hw[0] + 5, crop_hw[1] + 4)
    edges = [[3, 2, 3 + crop_hw[1], 2 + crop_hw[0]]]
    _assert_same_pixels(host_crops(frame_of(frame), edges, INPUT_HW), _expected(frame, edges, INPUT_HW))


def test_random_boxes_and_sizes_give_opencvs_pixels() -> None:
    rng = np.random.default_rng(7)
    for trial in range(60):
        frame = _frame(*rng.integers(20, 400, 2).tolist(), seed=trial)
        height, width = frame.shape[:2]
        left, top = rng.integers(0, width, 4), rng.integers(0, height, 4)
        right, bottom = rng.integers(left, width) + 1, rng.integers(top, height) + 1
        edges = np.stack([left, top, right, bottom], axis=1).tolist()
        input_hw = (int(rng.integers(1, 70)), int(rng.integers(1, 70)))
        _assert_same_pixels(host_crops(frame_of(frame), edges, input_hw), _expected(frame, edges, input_hw))


def test_boxes_at_every_border_read_nothing_beyond_the_frame() -> None:
    """The frame lies within a larger array whose other pixels would be seen."""
    around = np.full((60, 50, 3), 255, np.uint8)
    around[10:50, 10:40] = 0
    frame = around[10:50, 10:40]
    boxes = [[0, 0, 30, 40], [0, 0, 3, 5], [27, 35, 30, 40], [29, 0, 30, 40], [0, 39, 30, 40]]
    assert not host_crops(frame_of(frame), boxes, (24, 16)).any()


@pytest.mark.parametrize(
    ("color", "channels", "to_rgb"),
    [
        ("rgb", 3, lambda frame: frame),
        ("bgr", 3, lambda frame: frame[..., ::-1]),
        ("rgb", 4, lambda frame: frame[..., :3]),
        ("rgba", 4, lambda frame: frame[..., :3]),
        ("bgra", 4, lambda frame: frame[..., 2::-1]),
        ("bgr", 4, lambda frame: frame[..., 2::-1]),
        ("gray", 1, lambda frame: np.repeat(frame, 3, axis=2)),
        ("rgb", 1, lambda frame: np.repeat(frame, 3, axis=2)),
        ("bgr", 2, lambda frame: np.repeat(frame[..., :1], 3, axis=2)),
    ],
)
def test_every_colour_becomes_rgb(color: str, channels: int, to_rgb: Callable[[Frame], Frame]) -> None:
    frame, edges = _frame(90, 70, channels), [[5, 8, 60, 81], [0, 0, 20, 40]]
    found = host_crops(frame_of(frame, color=color), edges, INPUT_HW)
    _assert_same_pixels(found, _expected(to_rgb(frame), edges, INPUT_HW))


def test_gray_without_a_channel_axis() -> None:
    frame, edges = _frame(40, 30, 1)[..., 0], [[1, 2, 25, 38]]
    expected = _expected(np.repeat(frame[..., None], 3, axis=2), edges, INPUT_HW)
    _assert_same_pixels(host_crops(frame_of(frame, color="gray"), edges, INPUT_HW), expected)


@pytest.mark.parametrize("planes", ["one array", "two planes", "chroma in pairs"])
def test_nv12_is_converted_as_opencv_does(planes: str) -> None:
    """Noise in all planes: also luma and chroma outside of the limited range."""
    both = _frame(120, 60, 1)[..., 0]  # 80 rows of luma, 40 of chroma
    rgb = cv2.cvtColor(both, cv2.COLOR_YUV2RGB_NV12)
    arrays = {
        "one array": (both,),
        "two planes": (both[:80], both[80:]),
        "chroma in pairs": (both[:80, :, None], both[80:].reshape(40, 30, 2)),
    }[planes]
    edges = [[0, 0, 60, 80], [7, 11, 30, 64], [58, 78, 60, 80], [13, 0, 14, 80]]
    found = host_crops(frame_of(*arrays, color="nv12"), edges, INPUT_HW)
    _assert_same_pixels(found, _expected(rgb, edges, INPUT_HW))


def test_nv12_of_a_decoder_with_padded_rows() -> None:
    """Hardware decoders pad rows to a pitch, and the chroma plane follows the luma's padding."""
    padded = _frame(120, 64, 1)[..., 0]
    rgb, edges = cv2.cvtColor(np.ascontiguousarray(padded[:, :60]), cv2.COLOR_YUV2RGB_NV12), [[3, 5, 57, 79]]
    found = host_crops(frame_of(padded[:, :60], color="nv12"), edges, INPUT_HW)
    _assert_same_pixels(found, _expected(rgb, edges, INPUT_HW))


@pytest.mark.parametrize("view", ["rows apart", "upside down", "mirrored", "channels first"])
def test_strided_views_need_no_copy(view: str) -> None:
    whole = _frame(80, 90)
    frame = {
        "rows apart": whole[::2, 5:60],
        "upside down": whole[::-1],
        "mirrored": whole[:, ::-1],
        "channels first": np.ascontiguousarray(whole.transpose(2, 0, 1)).transpose(1, 2, 0),
    }[view]
    edges = [[2, 3, 41, 38]]
    _assert_same_pixels(host_crops(frame_of(frame), edges, INPUT_HW), _expected(frame, edges, INPUT_HW))


def test_more_boxes_than_one_launch_takes() -> None:
    frame, rng = _frame(60, 50), np.random.default_rng(3)
    corner = rng.integers(0, 20, (150, 2))
    edges = np.concatenate([corner, corner + rng.integers(1, 30, (150, 2))], axis=1)
    found = host_crops(frame_of(frame), edges, (16, 8))
    _assert_same_pixels(found, _expected(frame, edges.tolist(), (16, 8)))
