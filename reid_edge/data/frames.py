"""A frame of a video, in the colours that cameras and decoders give, and the RGB pixels of a part of it."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from reid_edge.core.names import require_name
from reid_edge.errors import ImageError

from .decoding import COLORS, check_size, is_pillow, rgb_of_pillow, rgb_view
from .opencv import import_opencv

__all__ = ["FRAME_COLORS", "Frame"]

FRAME_COLORS = (*COLORS, "nv12")
"""What ``color`` may be for a frame: those of an array, and NV12, a decoder's planes of luma and halved chroma."""


class Frame:
    """A frame that parts are cut from; only the pixels of a part are ever converted.

    ``image`` is an array as `reid_edge.data.decoding.as_rgb` takes it, with its ``color``; a Pillow image, which has
    its own; or with "nv12" uint8 [H * 3 / 2, W]: H rows of luma (BT.601, limited range, as OpenCV's conversion has it),
    then H / 2 of interleaved chroma. ``name`` names it in errors.

    Raises ImageError for anything else, InputError for an unknown colour.

    >>> frame = Frame(np.arange(24, dtype=np.uint8).reshape(2, 4, 3), "bgr")
    >>> frame.height, frame.width, frame.cut(1, 0, 2, 1).tolist()
    (2, 4, [[[5, 4, 3]]])
    """

    def __init__(self, image: Any, color: str = "rgb", name: str = "frame") -> None:
        require_name(color, FRAME_COLORS, "color")
        if is_pillow(image):
            image, color = rgb_of_pillow(image.copy(), name), "rgb"
        self._color, self._name = color, name
        self._pixels = _planes(image, name) if color == "nv12" else _checked(image, name, color)
        self.height = len(self._pixels) * 2 // 3 if color == "nv12" else len(self._pixels)
        self.width = self._pixels.shape[1]

    def cut(self, left: int, top: int, right: int, bottom: int) -> NDArray[np.uint8]:
        """The pixels from (left, top) to before (right, bottom), inside the frame: uint8 [h, w, 3] RGB.

        They share the frame's memory, except those of grey, 16-bit and NV12 frames.
        """
        if self._color == "nv12":
            return self._converted(left, top, right, bottom)
        return rgb_view(self._pixels[top:bottom, left:right], self._name, self._color)

    def _converted(self, left: int, top: int, right: int, bottom: int) -> NDArray[np.uint8]:
        """From NV12: whole pairs of rows and columns around the part share their chroma, then the part itself."""
        cv2 = import_opencv()
        first, above, last, below = left // 2 * 2, top // 2 * 2, right + right % 2, bottom + bottom % 2
        chroma = self._pixels[self.height :].reshape(self.height // 2, self.width // 2, 2)
        pairs = chroma[above // 2 : below // 2, first // 2 : last // 2]
        rgb = cv2.cvtColorTwoPlane(self._pixels[above:below, first:last], pairs, cv2.COLOR_YUV2RGB_NV12)
        part: NDArray[np.uint8] = rgb[top - above : bottom - above, left - first : right - first]
        return part


def _checked(image: Any, name: str, color: str) -> NDArray[Any]:
    """``image`` if it is an array whose parts `rgb_view` takes."""
    if isinstance(image, np.ndarray) and image.ndim >= 2:
        check_size(image.shape[0], image.shape[1], name)
        rgb_view(image[:1, :1], name, color)
        return image
    return rgb_view(image, name, color)  # raises


def _planes(image: Any, name: str) -> NDArray[np.uint8]:
    """The array of an NV12 frame, checked."""
    if not isinstance(image, np.ndarray) or image.dtype != np.uint8 or image.ndim != 2:
        found = f"{image.dtype} {list(image.shape)}" if isinstance(image, np.ndarray) else type(image).__name__
        raise ImageError(f"{name} is {found}: nv12 is uint8 [height * 3 / 2, width]")
    rows, width = image.shape
    if rows % 3 or width % 2:
        raise ImageError(f"{name} is {rows}x{width}: nv12 has a multiple of 3 rows and of 2 columns: crop the padding")
    check_size(rows * 2 // 3, width, name)
    return np.ascontiguousarray(image)
