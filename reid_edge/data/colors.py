"""Arrays and Pillow images in the colours that cameras and libraries give, to uint8 RGB, HWC, 0..255.

Alpha is dropped, not composited: the background is unknown, and crops from a detector have no alpha. 16-bit images
become 8-bit by keeping the high byte.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from reid_edge.core.names import require_name
from reid_edge.errors import ImageError

from .opencv import import_opencv

if TYPE_CHECKING:
    from PIL.Image import Image as PillowImage

__all__ = ["COLORS", "MAX_PIXELS", "as_rgb", "check_color", "check_size", "cut_rgb", "rgb_of_pillow", "size_hw"]

COLORS = ("rgb", "bgr", "rgba", "bgra", "gray", "nv12")
"""What an array may hold.

"rgb" and "bgr" say the order of colours and also take grey and alpha, told by the number of channels; "rgba", "bgra"
and "gray" refuse any other number. "nv12" is what hardware decoders give, uint8 [H * 3/2, W]: H rows of luma, then
H/2 rows of U and V by turns, each for 2x2 pixels (BT.601, limited range, as OpenCV converts it).
"""

MAX_PIXELS = 64_000_000
"""An image that claims more pixels is refused before it is decoded: a few kilobytes can claim gigabytes."""

_CHANNELS = {"rgb": (1, 2, 3, 4), "bgr": (1, 2, 3, 4), "rgba": (4,), "bgra": (4,), "gray": (1,)}

Edges: TypeAlias = "tuple[int, int, int, int]"
"""Left, top, right, bottom in pixels, inside the image; right and bottom are the first pixels outside of the cut."""


def check_color(color: str) -> str:
    """Return ``color`` if it is one of `COLORS`; raise InputError otherwise."""
    return require_name(color, COLORS, "color")


def as_rgb(image: NDArray[Any] | PillowImage, name: str = "image", color: str = "rgb") -> NDArray[np.uint8]:
    """Convert an image array or a Pillow image to uint8 [h, w, 3] RGB, always a copy.

    Takes uint8 or uint16 of shape [h, w] or [h, w, 1] (grey), [h, w, 2] (grey, alpha), [h, w, 3] or [h, w, 4]
    (alpha last), with any strides, in one of `COLORS`; "bgr" is for OpenCV's frames. A Pillow image has its own colour.
    Raises ImageError for anything else: a float has no known scale.

    >>> as_rgb(np.array([[[10, 20, 30]]], np.uint8), color="bgr").tolist()
    [[[30, 20, 10]]]
    >>> as_rgb(np.array([[65535, 256]], np.uint16)).tolist()
    [[[255, 255, 255], [1, 1, 1]]]
    """
    return np.array(cut_rgb(image, None, name, color), order="C")


def cut_rgb(image: NDArray[Any] | PillowImage, edges: Edges | None, name: str, color: str) -> NDArray[np.uint8]:
    """Cut ``edges`` (None: everything) out of an image, as RGB: uint8 [h, w, 3].

    A view of ``image`` for uint8 of every colour but "nv12"; what has to be converted is converted inside the edges
    only.
    """
    check_color(color)
    if pillow := as_pillow(image):
        return rgb_of_pillow(pillow if edges is None else pillow.crop(edges), name)
    array = _checked(image, name, color)
    if color == "nv12":
        return _cut_nv12(array, edges or (0, 0, array.shape[1], array.shape[0] * 2 // 3))
    if edges is not None:
        left, top, right, bottom = edges
        array = array[top:bottom, left:right]
    if array.dtype == np.uint16:  # the high byte, as Pillow does for 16-bit RGB files
        array = (array >> np.uint16(8)).astype(np.uint8)
    if array.shape[2] <= 2:
        return np.broadcast_to(array[:, :, :1], (*array.shape[:2], 3))
    return array[:, :, 2::-1] if color.startswith("bgr") else array[:, :, :3]


def size_hw(image: NDArray[Any] | PillowImage, name: str, color: str) -> tuple[int, int]:
    """Check that `cut_rgb` takes an image, and return its height and width in pixels."""
    check_color(color)
    if pillow := as_pillow(image):
        check_size(pillow.height, pillow.width, name)
        return pillow.height, pillow.width
    height, width = _checked(image, name, color).shape[:2]
    return (height * 2 // 3 if color == "nv12" else height), width


def as_pillow(image: Any) -> PillowImage | None:
    """The image if it is Pillow's, else None. Pillow is not imported: who has such an image has imported it."""
    pillow = sys.modules.get("PIL.Image")
    if pillow is None or not isinstance(image, pillow.Image):
        return None
    found: PillowImage = image
    return found


def rgb_of_pillow(image: PillowImage, name: str) -> NDArray[np.uint8]:
    """Convert a Pillow image of any mode whose scale is known: uint8 [h, w, 3] RGB, a copy."""
    if image.mode.startswith("I"):  # 16-bit grey: Pillow's own conversion would clip it to white
        grey = np.asarray(image)
        if grey.min() < 0 or grey.max() > 65535:
            raise ImageError(f"{name} holds 32-bit pixels, whose scale is unknown: save it with 8 or 16 bits")
        return as_rgb(grey.astype(np.uint16), name)
    if image.mode == "F":
        raise ImageError(f"{name} holds float pixels, whose scale is unknown: save it with 8 or 16 bits")
    if "transparency" in image.info:  # converting a palette with alpha warns
        image = image.copy()
        del image.info["transparency"]
    return np.array(image.convert("RGB"))


def check_size(height: int, width: int, name: str) -> None:
    """Raise ImageError for an image without pixels or with more than `MAX_PIXELS`."""
    if height < 1 or width < 1:
        raise ImageError(f"{name} is {height}x{width} pixels: drop it, or run the detector again")
    if height * width > MAX_PIXELS:
        raise ImageError(f"{name} claims {height}x{width} pixels, over {MAX_PIXELS}: give crops, not whole photographs")


def _checked(array: Any, name: str, color: str) -> NDArray[Any]:
    """An array with a channel axis, or the planes of "nv12" as they are."""
    if not isinstance(array, np.ndarray):
        raise ImageError(f"{name} is a {type(array).__name__}: give a path, a numpy array or a Pillow image")
    shape = list(array.shape)
    if color == "nv12":
        return _checked_nv12(array, name)
    if array.dtype not in (np.uint8, np.uint16):
        raise ImageError(f"{name} is {array.dtype} {shape}: scale it to 0..255 and convert it to uint8")
    array = array[:, :, None] if array.ndim == 2 else array
    if array.ndim != 3 or array.shape[2] not in _CHANNELS["rgb"]:
        raise ImageError(f"{name} has shape {shape}: give [height, width] or [height, width, 1 to 4 channels]")
    if array.shape[2] not in _CHANNELS[color]:
        raise ImageError(f"{name} has {array.shape[2]} channels, and {color} has {_CHANNELS[color][0]}: give its color")
    check_size(array.shape[0], array.shape[1], name)
    checked: NDArray[Any] = array
    return checked


def _checked_nv12(array: NDArray[Any], name: str) -> NDArray[np.uint8]:
    shape = list(array.shape)
    if array.dtype != np.uint8 or array.ndim != 2 or shape[0] % 3 or shape[1] % 2:
        raise ImageError(f"{name} is {array.dtype} {shape}: nv12 is uint8 [H * 3/2, W] of even H and W")
    check_size(shape[0] * 2 // 3, shape[1], name)
    return array


def _cut_nv12(planes: NDArray[np.uint8], edges: Edges) -> NDArray[np.uint8]:
    """Convert the even edges around ``edges``, as chroma is there for blocks of 2x2 pixels, and cut those."""
    left, top, right, bottom = edges
    x, y = left // 2 * 2, top // 2 * 2
    end_x, end_y = right + right % 2, bottom + bottom % 2
    height = planes.shape[0] * 2 // 3
    chroma = planes[height + y // 2 : height + end_y // 2, x:end_x].reshape(-1, (end_x - x) // 2, 2)
    cv2 = import_opencv()
    rgb: NDArray[np.uint8] = cv2.cvtColorTwoPlane(
        np.ascontiguousarray(planes[y:end_y, x:end_x]), np.ascontiguousarray(chroma), cv2.COLOR_YUV2RGB_NV12
    )
    return rgb[top - y : bottom - y, left - x : right - x]
