"""Boxes on a frame: clipping and rounding by hand, views, and what is refused."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from reid_edge.data.colors import as_rgb
from reid_edge.embedder.boxes import MIN_HEIGHT, MIN_WIDTH, clip_boxes, cut_boxes, xyxy_of
from reid_edge.errors import ImageError, InputError

HW = (60, 80)


def _frame(channels: int = 3, seed: int = 0) -> NDArray[np.uint8]:
    return np.random.default_rng(seed).integers(0, 256, (*HW, channels), np.uint8)


@pytest.mark.parametrize(
    ("box", "edges", "clipped"),
    [
        ((10, 5, 30, 45), (10, 5, 30, 45), False),
        ((10.4, 5.5, 29.5, 44.4), (10, 6, 30, 44), False),  # to the nearest border, halves right and down
        ((9.9999, 5.00001, 30.00001, 44.9999), (10, 5, 30, 45), False),  # noise of a detector's float32
        ((-7, -3, 20, 30), (0, 0, 20, 30), True),
        ((70, 50, 99.5, 61), (70, 50, 80, 60), True),
        ((-0.4, -0.5, 80.4, 60.49), (0, 0, 80, 60), False),  # less than half a pixel is not outside
        ((0, 0, 80, 60), (0, 0, 80, 60), False),
        ((5.1, 0, 5.2, 60), (5, 0, 6, 60), False),  # a sliver keeps the pixel where it begins
        ((5.6, 7.6, 6.4, 8.4), (5, 7, 6, 8), False),
        ((79.7, 59.9, 80, 60), (79, 59, 80, 60), False),
        ((-1e300, -1e300, 1e300, 1e300), (0, 0, 80, 60), True),
    ],
)
def test_boxes_are_clipped_and_rounded(box: tuple[float, ...], edges: tuple[int, ...], clipped: bool) -> None:
    found = clip_boxes([box], HW)
    assert (found.edges.tolist(), found.clipped.tolist(), found.kept.tolist()) == ([list(edges)], [clipped], [0])


def test_boxes_without_area_inside_are_left_out_and_the_others_keep_their_numbers() -> None:
    boxes = [
        (0, 0, 0, 10),  # no width
        (10, 10, 40, 50),
        (80, 0, 90, 10),  # right of the frame
        (-9, -9, 0, 5),  # left of it
        (4, 60, 9, 99),  # below
        (-5, 20, 30, 90),
    ]
    cut = cut_boxes(_frame(), boxes)
    assert cut.kept.tolist() == [1, 5] and cut.clipped.tolist() == [False, True]
    assert [crop.shape for crop in cut.crops] == [(40, 30, 3), (40, 30, 3)]
    assert (cut.kept.dtype, cut.clipped.dtype, cut.too_small.dtype) == (np.int64, np.bool_, np.bool_)


@pytest.mark.parametrize("nothing", [[], (), np.empty((0, 4)), np.empty((0, 4), np.float32), np.empty(0)])
def test_no_boxes_give_no_crops(nothing: Any) -> None:
    cut = cut_boxes(_frame(), nothing)
    assert cut.crops == [] and cut.kept.shape == cut.clipped.shape == cut.too_small.shape == (0,)


def test_small_is_what_is_left_inside_the_frame() -> None:
    high, wide = MIN_HEIGHT, MIN_WIDTH
    boxes = [(0, 0, wide, high), (0, 0, wide - 1, high), (0, 0, wide, high - 1), (1 - wide, 0, wide - 1, high)]
    assert clip_boxes(boxes, HW).too_small.tolist() == [False, True, True, True]


@pytest.mark.parametrize(
    ("color", "frame"),
    [
        ("rgb", _frame()),
        ("bgr", _frame()),
        ("rgba", _frame(4)),
        ("bgra", _frame(4)),
        ("bgr", _frame(4)),
        ("gray", _frame(1)),
        ("gray", _frame(1)[:, :, 0]),
        ("rgb", _frame()[:, :, ::-1]),
        ("bgr", _frame()[::-1, ::-1]),
        ("rgb", np.asfortranarray(_frame())),
    ],
)
def test_crops_are_views_of_the_frame_in_rgb(color: str, frame: NDArray[np.uint8]) -> None:
    boxes = [(3, 5, 33, 55), (-4, 30.2, 21.8, 100)]
    whole = as_rgb(frame, color=color)
    first, second = cut_boxes(frame, boxes, color).crops
    np.testing.assert_array_equal(first, whole[5:55, 3:33])
    np.testing.assert_array_equal(second, whole[30:60, 0:22])
    assert np.shares_memory(first, frame) and np.shares_memory(second, frame)


@pytest.mark.parametrize(
    ("color", "pixel", "rgb"),
    [
        ("rgb", [1, 2, 3], [1, 2, 3]),
        ("bgr", [1, 2, 3], [3, 2, 1]),
        ("rgba", [1, 2, 3, 9], [1, 2, 3]),
        ("bgra", [1, 2, 3, 9], [3, 2, 1]),
        ("gray", [7], [7, 7, 7]),
    ],
)
def test_colours_by_hand(color: str, pixel: list[int], rgb: list[int]) -> None:
    frame = np.full((4, 4, len(pixel)), pixel, np.uint8)
    assert cut_boxes(frame, [(1, 1, 2, 2)], color).crops[0].tolist() == [[rgb]]


def test_16_bit_frames_are_converted_inside_the_boxes_only() -> None:
    frame = np.random.default_rng(0).integers(0, 65536, (*HW, 3), np.uint16)
    (crop,) = cut_boxes(frame, [(3, 5, 33, 55)], "bgr").crops
    np.testing.assert_array_equal(crop, (frame >> 8).astype(np.uint8)[5:55, 3:33, ::-1])
    base: Any = crop
    while base.base is not None:
        base = base.base
    assert base.size == crop.size


@pytest.mark.parametrize("box", [(4, 6, 40, 50), (5, 6, 40, 50), (4, 7, 41, 51), (5, 7, 40, 51), (79, 59, 80, 60)])
def test_nv12_is_what_opencv_makes_of_the_whole_frame(box: tuple[int, int, int, int]) -> None:
    cv2 = pytest.importorskip("cv2")
    planes = np.random.default_rng(1).integers(0, 256, (HW[0] * 3 // 2, HW[1]), np.uint8)
    whole = cv2.cvtColor(planes, cv2.COLOR_YUV2RGB_NV12)
    for frame in (planes, np.repeat(planes, 2, axis=1)[:, ::2], planes[::-1].copy()[::-1]):
        (crop,) = cut_boxes(frame, [box], "nv12").crops
        difference = crop.astype(int) - whole[box[1] : box[3], box[0] : box[2]]
        assert np.abs(difference).max() <= 1
    assert cut_boxes(planes, [(0, 0, 999, 999)], "nv12").crops[0].shape == (*HW, 3)


@pytest.mark.parametrize("mode", ["RGB", "L", "RGBA", "P"])
def test_pillow_images_and_files_have_their_own_colour(mode: str, tmp_path: Path) -> None:
    image = Image.fromarray(_frame()).convert(mode)
    image.save(tmp_path / "frame.png")
    expected = np.asarray(image.convert("RGB"))[5:55, 3:33]
    for frame in (image, tmp_path / "frame.png", str(tmp_path / "frame.png")):
        np.testing.assert_array_equal(cut_boxes(frame, [(3, 5, 33, 55)], "bgr").crops[0], expected)


@pytest.mark.parametrize(
    ("boxes", "message"),
    [
        ([(0, 0, 1, 1), (0, np.nan, 1, 1)], r"box 1 of frame, \[0.0, nan, 1.0, 1.0\], is not finite: drop it"),
        ([(0, 0, np.inf, 1)], "box 0 of frame.*is not finite"),
        ([(0, 0, 1, 1), (50, 5, 20, 9)], "box 1 of frame.*ends before it begins: give x1, y1, x2, y2, not x, y, w, h"),
        ([(5, 50, 20, 9)], "box 0 .*ends before"),
        ([1, 2, 3, 4], r"boxes of frame are int64 \[4\]: give numbers \[N, 4\]"),
        ([(1, 2, 3)], r"int64 \[1, 3\]"),
        (np.zeros((1, 1, 4)), r"float64 \[1, 1, 4\]"),
        ([(1, 2, 3, 4), (1, 2)], "are list: give"),
        ([("a", "b", "c", "d")], r"<U1 \[1, 4\]"),
        (np.ones((1, 4), bool), r"bool \[1, 4\]"),
        (None, "are NoneType: give"),
        (SimpleNamespace(boxes=None), "are SimpleNamespace: give"),
    ],
)
def test_what_is_no_box_is_named(boxes: Any, message: str) -> None:
    with pytest.raises(InputError, match=message):
        cut_boxes(_frame(), boxes)


def test_a_frame_that_is_none_is_named() -> None:
    for frame, color, message in [
        (np.zeros(HW), "rgb", "camera 2 is float64"),
        (_frame(), "bgra", "camera 2 has 3 channels, and bgra has 4"),
        (_frame(), "gray", "camera 2 has 3 channels, and gray has 1"),
        (_frame(), "nv12", r"nv12 is uint8 \[H \* 3/2, W\]"),
        (np.zeros((91, 80), np.uint8), "nv12", r"uint8 \[91, 80\]: nv12 is"),
        (np.zeros((90, 81), np.uint8), "nv12", r"uint8 \[90, 81\]: nv12 is"),
        (np.zeros((0, 4, 3), np.uint8), "rgb", "camera 2 is 0x4 pixels"),
        (7, "rgb", "camera 2 is a int"),
    ]:
        with pytest.raises(ImageError, match=message):
            cut_boxes(frame, [(0, 0, 1, 1)], color, "camera 2")  # type: ignore[arg-type]
    with pytest.raises(InputError, match="color 'yuv' is unknown"):
        cut_boxes(_frame(), [], "yuv")


def test_boxes_are_read_from_what_detectors_give() -> None:
    array = np.array([(1, 2, 3, 4)], np.float32)
    detections = SimpleNamespace(xyxy=array)
    for given in (
        array,
        detections,
        SimpleNamespace(boxes=detections),
        SimpleNamespace(boxes=SimpleNamespace(xyxy=array)),
    ):
        assert xyxy_of(given).tolist() == [[1, 2, 3, 4]]


def test_a_tensor_is_boxes_too() -> None:
    torch = pytest.importorskip("torch")
    for dtype in (torch.float32, torch.float16, torch.bfloat16, torch.int32):
        tensor = torch.tensor([[1, 2, 3, 4]], dtype=dtype)
        assert xyxy_of(SimpleNamespace(boxes=SimpleNamespace(xyxy=tensor))).tolist() == [[1, 2, 3, 4]]
    assert xyxy_of(torch.tensor([[1.5, 2, 3, 4]], requires_grad=True)).tolist() == [[1.5, 2, 3, 4]]
