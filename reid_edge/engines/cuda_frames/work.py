"""What the kernel of ``crops.cu`` is told: a frame's memory and colours, the boxes, the result's size."""

from __future__ import annotations

import ctypes
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from reid_edge.core.names import require_name
from reid_edge.errors import ImageError, InputError

from .arrays import DeviceArray

__all__ = ["BLOCK", "MOST_CROPS", "CropWork", "DeviceFrame", "device_frame", "grid_of", "works"]

MOST_CROPS = 64
"""In one launch: their edges travel within the kernel's arguments, so that no memory is copied for them."""

BLOCK = (32, 8, 1)
"""Threads of a block, each with one pixel of the result."""

_CHANNELS = {
    "rgb": {1: (0, 0, 0), 2: (0, 0, 0), 3: (0, 1, 2), 4: (0, 1, 2)},
    "bgr": {1: (0, 0, 0), 2: (0, 0, 0), 3: (2, 1, 0), 4: (2, 1, 0)},
    "rgba": {4: (0, 1, 2)},
    "bgra": {4: (2, 1, 0)},
    "gray": {1: (0, 0, 0)},
    "nv12": {},
}
"""Where red, green and blue are, by colour and number of channels."""

_INT_MAX = 2**31 - 1


class CropWork(ctypes.Structure):
    """``CropWork`` of ``crops.cu``."""

    _fields_ = (
        *((name, ctypes.c_void_p) for name in ("pixels", "chroma", "out")),
        *((name, ctypes.c_longlong) for name in ("row", "column", "red", "green", "blue")),
        *((name, ctypes.c_longlong) for name in ("chroma_row", "chroma_column", "chroma_v")),
        *((name, ctypes.c_int) for name in ("height", "width")),
        ("edges", ctypes.c_int * 4 * MOST_CROPS),
    )


@dataclass(frozen=True)
class DeviceFrame:
    """A frame on the GPU: its height and width in pixels, and where `CropWork` says that its pixels are."""

    hw: tuple[int, int]
    memory: dict[str, int]
    planes: tuple[DeviceArray, ...]


def device_frame(planes: Sequence[DeviceArray], color: str, name: str = "frame") -> DeviceFrame:
    """Describe a frame: one array [h, w] or [h, w, channels], or for "nv12" also its two planes.

    NV12 is one array [h * 3/2, w], or luma [h, w] and chroma [h/2, w] or [h/2, w/2, 2]. Strides are free. Raises
    InputError for an unknown colour, and ImageError for a shape that ``color`` does not have.
    """
    require_name(color, tuple(_CHANNELS), "color")
    planes = tuple(_without_channel(plane) if color in ("nv12", "gray") else plane for plane in planes)
    if color == "nv12":
        found = _nv12(planes, name)
    elif len(planes) == 1 and len(planes[0].shape) in (2, 3):
        found = _interleaved(planes[0], color, name)
    else:
        raise ImageError(
            f"{name} has shape {_shapes(planes)}: give [height, width, channels], as permute(1, 2, 0) does"
        )
    if min(found.hw) < 1:
        raise ImageError(f"{name} is {found.hw[0]}x{found.hw[1]} pixels: drop it")
    return found


def works(frame: DeviceFrame, edges: NDArray[np.int64], input_hw: tuple[int, int], out: int) -> Iterator[CropWork]:
    """The launches that write crops uint8 [N, height, width, 3] to the address ``out``.

    ``edges`` int64 [N, 4] are left, top, right, bottom in pixels, within the frame and not empty. Raises InputError
    for sizes at which the kernel's integers would overflow.
    """
    (height, width), largest = input_hw, max(*frame.hw, 1)
    if (2 * max(input_hw) + 1) * largest > _INT_MAX:
        raise InputError(f"a frame of {frame.hw[0]}x{frame.hw[1]} pixels is too large for the GPU: give it in parts")
    assert ((edges[:, :2] >= 0) & (edges[:, :2] < edges[:, 2:]) & (edges[:, 2:] <= frame.hw[::-1])).all()
    for first in range(0, len(edges), MOST_CROPS):
        work = CropWork(**frame.memory, height=height, width=width, out=out + first * height * width * 3)
        part = np.ascontiguousarray(edges[first : first + MOST_CROPS], np.int32)
        ctypes.memmove(work.edges, part.ctypes.data, part.nbytes)
        yield work


def grid_of(count: int, input_hw: tuple[int, int]) -> tuple[int, int, int]:
    """Blocks of a launch for ``count`` crops.

    >>> grid_of(12, (256, 128))
    (4, 32, 12)
    """
    height, width = input_hw
    return -(-width // BLOCK[0]), -(-height // BLOCK[1]), count


def _interleaved(array: DeviceArray, color: str, name: str) -> DeviceFrame:
    channels = 1 if len(array.shape) == 2 else array.shape[2]
    if channels not in _CHANNELS[color]:
        allowed = ", ".join(map(str, _CHANNELS[color]))
        raise ImageError(
            f"{name} has shape {list(array.shape)}, and {color} has {allowed} channels last: give its color"
        )
    step = 0 if len(array.shape) == 2 else array.strides[2]
    red, green, blue = (channel * step for channel in _CHANNELS[color][channels])
    memory = dict(pixels=array.address, row=array.strides[0], column=array.strides[1], red=red, green=green, blue=blue)
    return DeviceFrame((array.shape[0], array.shape[1]), memory, (array,))


def _nv12(planes: tuple[DeviceArray, ...], name: str) -> DeviceFrame:
    """Chroma [h/2, w] has U and V by turns; [h/2, w/2, 2] has them as channels."""
    luma, chroma = planes[0], planes[-1]
    rows, width = luma.shape if len(luma.shape) == 2 else (0, 0)
    height = rows * 2 // 3 if len(planes) == 1 else rows
    right = {(height // 2, width), (height // 2, width // 2, 2)} if len(planes) == 2 else {(height * 3 // 2, width)}
    if len(planes) > 2 or height % 2 or width % 2 or height * width == 0 or chroma.shape not in right:
        raise ImageError(
            f"{name} has shape {_shapes(planes)}: nv12 is [H * 3/2, W], or [H, W] and [H/2, W], H and W even"
        )
    paired = len(chroma.shape) == 3
    memory = dict(
        pixels=luma.address,
        row=luma.strides[0],
        column=luma.strides[1],
        chroma=chroma.address + (height * luma.strides[0] if len(planes) == 1 else 0),
        chroma_row=chroma.strides[0],
        chroma_column=chroma.strides[1] * (1 if paired else 2),
        chroma_v=chroma.strides[2] if paired else chroma.strides[1],
    )
    return DeviceFrame((height, width), memory, planes)


def _without_channel(array: DeviceArray) -> DeviceArray:
    """[h, w] for [h, w, 1], as decoders give luma."""
    if len(array.shape) != 3 or array.shape[2] != 1:
        return array
    return DeviceArray(array.address, array.shape[:2], array.strides[:2], array.producer_stream, array.owner)


def _shapes(planes: Sequence[DeviceArray]) -> str:
    return " and ".join(str(list(plane.shape)) for plane in planes)
