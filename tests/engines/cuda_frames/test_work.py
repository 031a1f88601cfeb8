"""Shapes and colours that a frame on the GPU may have, and what is said of others."""

from __future__ import annotations

import numpy as np
import pytest

from reid_edge.engines.cuda_frames.arrays import DeviceArray
from reid_edge.engines.cuda_frames.work import device_frame, grid_of, works
from reid_edge.errors import ImageError, InputError


def _array(*shape: int) -> DeviceArray:
    return DeviceArray(1 << 20, shape, np.empty(shape, np.uint8).strides, None, None)


@pytest.mark.parametrize(
    ("shapes", "color", "said"),
    [
        ([(3, 40, 30)], "rgb", r"shape \[3, 40, 30\], and rgb has 1, 2, 3, 4 channels last"),
        ([(40, 30, 3)], "bgra", r"bgra has 4 channels last: give its color"),
        ([(40, 30, 3)], "gray", r"gray has 1 channels last"),
        ([(1, 40, 30, 3)], "rgb", r"shape \[1, 40, 30, 3\]: give \[height, width, channels\]"),
        ([(40, 30, 3), (40, 30, 3)], "rgb", r"shape \[40, 30, 3\] and \[40, 30, 3\]: give"),
        ([(0, 30, 3)], "rgb", "0x30 pixels"),
        ([(61, 30)], "nv12", r"nv12 is \[H \* 3/2, W\]"),
        ([(60, 31)], "nv12", r"H and W even"),
        ([(60, 30), (60, 30)], "nv12", "nv12 is"),
        ([(60, 30), (30, 15, 3)], "nv12", "nv12 is"),
        ([(60, 30, 3)], "nv12", "nv12 is"),
        ([(60, 30), (30, 30), (30, 30)], "nv12", "nv12 is"),
        ([(0, 30)], "nv12", "nv12 is"),
    ],
)
def test_another_shape_is_refused_with_what_to_give(shapes: list[tuple[int, ...]], color: str, said: str) -> None:
    with pytest.raises(ImageError, match=said):
        device_frame([_array(*shape) for shape in shapes], color)


def test_an_unknown_colour_is_refused() -> None:
    with pytest.raises(InputError, match="'hsv'.*nv12"):
        device_frame([_array(4, 4, 3)], "hsv")


def test_where_channels_and_planes_are() -> None:
    frame = device_frame([_array(40, 30, 4)], "bgra")
    assert frame.hw == (40, 30)
    assert frame.memory == dict(pixels=1 << 20, row=120, column=4, red=2, green=1, blue=0)
    nv12 = device_frame([_array(60, 30)], "nv12")
    assert nv12.hw == (40, 30) and nv12.memory["chroma"] == (1 << 20) + 40 * 30
    assert (nv12.memory["chroma_row"], nv12.memory["chroma_column"], nv12.memory["chroma_v"]) == (30, 2, 1)


def test_boxes_are_split_into_launches_that_write_behind_each_other() -> None:
    frame = device_frame([_array(40, 30, 3)], "rgb")
    edges = np.tile(np.array([0, 1, 2, 3]), (150, 1))
    split = list(works(frame, edges, (8, 4), 1000))
    assert [work.out for work in split] == [1000, 1000 + 64 * 8 * 4 * 3, 1000 + 128 * 8 * 4 * 3]
    assert [list(work.edges[0]) for work in split] == [[0, 1, 2, 3]] * 3
    assert list(works(frame, edges[:0], (8, 4), 1000)) == []


def test_a_frame_for_which_the_kernels_integers_are_too_small_is_refused() -> None:
    frame = device_frame([_array(5_000_000, 1, 1)], "gray")
    with pytest.raises(InputError, match="too large"):
        list(works(frame, np.array([[0, 0, 1, 9]]), (256, 128), 0))


def test_every_pixel_of_the_result_has_a_thread() -> None:
    assert grid_of(3, (17, 33)) == (2, 3, 3)
