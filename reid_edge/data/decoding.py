"""Decoding: an image file or an array to uint8 RGB, HWC, 0..255.

JPEG is decoded by libjpeg-turbo through simplejpeg, to the same pixels as Pillow in a quarter of the time; other
formats by Pillow. JPEG is read strictly: damage that other readers fill with grey is an error here.

Alpha is dropped, not composited: the background is unknown, and crops from a detector have no alpha. 16-bit images
become 8-bit by keeping the high byte. EXIF orientation and colour profiles are ignored: crops from a detector have
neither, and a photograph that has must be converted first.
"""

from __future__ import annotations

import os
import stat
import sys
import threading
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeGuard

import numpy as np
from numpy.typing import NDArray

from reid_edge.core.names import require_name
from reid_edge.errors import ImageError

if TYPE_CHECKING:
    from PIL.Image import Image as PillowImage

__all__ = [
    "COLORS",
    "MAX_PIXELS",
    "as_rgb",
    "check_size",
    "decode",
    "is_pillow",
    "read",
    "rgb_of_pillow",
    "rgb_view",
]

COLORS = ("rgb", "bgr", "rgba", "bgra", "gray")
"""What ``color`` may be for an array. Its channels are counted: "rgb" and "bgr" take grey and alpha too."""

MAX_PIXELS = 64_000_000
"""An image that claims more pixels is refused before it is decoded: a few kilobytes can claim gigabytes."""

_MAX_FILE_BYTES = 256 << 20
# The formats that Pillow may try. Its other readers are never needed for crops, and one of them (EPS) runs a program.
_FORMATS = ("JPEG", "PNG", "BMP", "GIF", "PPM", "WEBP", "TIFF")
_REPLACE = "replace the file or drop it from the data"
_SMALLER = "give crops, not whole photographs"
_CHANNELS = {"rgba": 4, "bgra": 4, "gray": 1}
_opening = threading.Lock()  # Pillow's warning of many pixels is caught by filters that all threads share


def read(path: Path | str) -> NDArray[np.uint8]:
    """Read an image file: uint8 [h, w, 3] RGB.

    Raises ImageError when the file is missing, empty, damaged or not an image.
    """
    return decode(_bytes_of(path), str(path))


def decode(data: bytes, name: str = "image") -> NDArray[np.uint8]:
    """Decode a JPEG, PNG, BMP, WebP, TIFF, PPM or GIF file held in memory: uint8 [h, w, 3] RGB.

    Grey, palette, 16-bit and CMYK files become 8-bit RGB; ``name`` names the image in errors. Raises
    ImageError when the data is damaged, is not an image, or claims over `MAX_PIXELS`.
    """
    if not data:
        raise ImageError(f"{name} is empty (0 bytes): {_REPLACE}")
    if data.startswith(b"\xff\xd8"):
        image = _simple_jpeg(data, name)
        if image is not None:
            return image
    return _by_pillow(data, name)


def as_rgb(array: NDArray[Any] | PillowImage, name: str = "image", color: str = "rgb") -> NDArray[np.uint8]:
    """Convert an image array to uint8 [h, w, 3] RGB, always a copy.

    Takes uint8 or uint16 of shape [h, w] or [h, w, 1] (grey), [h, w, 2] (grey, alpha), [h, w, 3] or [h, w, 4]
    (alpha last), and Pillow images. ``color`` is one of `COLORS`; "bgr" is for OpenCV's frames. Raises ImageError
    for anything else: a float has no known scale.

    >>> as_rgb(np.array([[[10, 20, 30]]], np.uint8), color="bgr").tolist()
    [[[30, 20, 10]]]
    >>> as_rgb(np.array([[65535, 256]], np.uint16)).tolist()
    [[[255, 255, 255], [1, 1, 1]]]
    """
    return np.array(rgb_view(array, name, color), order="C")


def rgb_view(image: NDArray[Any] | PillowImage, name: str, color: str) -> NDArray[np.uint8]:
    """`as_rgb` without the copy where none is needed: the result may share memory with ``image``."""
    require_name(color, COLORS, "color")
    if not isinstance(image, np.ndarray):
        if is_pillow(image):
            return rgb_of_pillow(image.copy(), name)  # it drops a palette's transparency
        raise ImageError(f"{name} is a {type(image).__name__}: give a path or a numpy array")
    array: NDArray[Any] = image
    shape = list(array.shape)
    if array.dtype not in (np.uint8, np.uint16):
        raise ImageError(f"{name} is {array.dtype} {shape}: scale it to 0..255 and convert it to uint8")
    if array.ndim == 2:
        array = array[:, :, None]
    if array.ndim != 3 or array.shape[2] not in (1, 2, 3, 4):
        raise ImageError(f"{name} has shape {shape}: give [height, width] or [height, width, 1 to 4 channels]")
    if color in _CHANNELS and array.shape[2] != _CHANNELS[color]:
        raise ImageError(f"{name} has {array.shape[2]} channels: {color} has {_CHANNELS[color]}")
    check_size(array.shape[0], array.shape[1], name)
    if array.dtype == np.uint16:  # the high byte, as Pillow does for 16-bit RGB files
        array = (array >> np.uint16(8)).astype(np.uint8)
    if array.shape[2] <= 2:
        array = np.repeat(array[:, :, :1], 3, axis=2)
    return array[:, :, 2::-1] if color in ("bgr", "bgra") else array[:, :, :3]


def _bytes_of(path: Path | str) -> bytes:
    try:
        found = os.stat(path)
        if stat.S_ISDIR(found.st_mode):
            raise ImageError(f"{path} is a folder, not an image: name the files inside it")
        if not stat.S_ISREG(found.st_mode) or found.st_size > _MAX_FILE_BYTES:
            raise ImageError(f"{path} is not a regular file of up to {_MAX_FILE_BYTES >> 20} MiB: {_REPLACE}")
        with open(path, "rb") as file:
            return file.read()
    except FileNotFoundError:
        raise ImageError(f"{path} does not exist: give the path of an image file") from None
    except (OSError, ValueError) as error:  # ValueError: a path with a null byte
        raise ImageError(f"{path} cannot be read ({error}): check the path and its permissions") from None


def _simple_jpeg(data: bytes, name: str) -> NDArray[np.uint8] | None:
    """Decode by simplejpeg, or None for a JPEG that Pillow must decode: CMYK, YCCK, an unreadable header."""
    import simplejpeg

    try:
        height, width, colours, _ = simplejpeg.decode_jpeg_header(data)
    except ValueError:
        return None
    if colours not in ("YCbCr", "RGB", "Gray"):
        return None
    check_size(height, width, name)
    try:
        image: NDArray[np.uint8] = simplejpeg.decode_jpeg(data, "RGB", strict=True)
    except ValueError as error:
        raise ImageError(f"{name} is a damaged JPEG ({error}): {_REPLACE}") from None
    return image


def _by_pillow(data: bytes, name: str) -> NDArray[np.uint8]:
    import io

    from PIL import Image, UnidentifiedImageError

    try:
        with _opening, warnings.catch_warnings():
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            opened = Image.open(io.BytesIO(data), formats=_FORMATS)
        with opened as image:
            check_size(image.height, image.width, name)
            image.load()
            return rgb_of_pillow(image, name)
    except ImageError:
        raise
    except (Image.DecompressionBombWarning, Image.DecompressionBombError):
        raise ImageError(f"{name} claims over {MAX_PIXELS} pixels: {_SMALLER}") from None
    except UnidentifiedImageError:
        raise ImageError(f"{name} is not a readable image (it begins {data[:8]!r}): {_REPLACE}") from None
    except Exception as error:  # on hostile bytes Pillow's readers raise nearly anything
        raise ImageError(f"{name} is a damaged image ({' '.join(str(error).split())}): {_REPLACE}") from None


def is_pillow(image: object) -> TypeGuard[PillowImage]:
    """Whether ``image`` is a Pillow image, without importing Pillow where nobody has."""
    pillow = sys.modules.get("PIL.Image")
    return pillow is not None and isinstance(image, pillow.Image)


def rgb_of_pillow(image: PillowImage, name: str) -> NDArray[np.uint8]:
    """The pixels of a Pillow image: uint8 [h, w, 3] RGB. Raises ImageError where their scale is unknown."""
    if image.mode.startswith("I"):  # 16-bit grey: Pillow's own conversion would clip it to white
        grey = np.asarray(image)
        if grey.min() < 0 or grey.max() > 65535:
            raise ImageError(f"{name} holds 32-bit pixels, whose scale is unknown: save it with 8 or 16 bits")
        return as_rgb(grey.astype(np.uint16), name)
    if image.mode == "F":
        raise ImageError(f"{name} holds float pixels, whose scale is unknown: save it with 8 or 16 bits")
    image.info.pop("transparency", None)  # or converting a palette with alpha warns
    return np.array(image.convert("RGB"))


def check_size(height: int, width: int, name: str) -> None:
    """Raise ImageError unless an image of this size has pixels, and at most `MAX_PIXELS`."""
    if height < 1 or width < 1:
        raise ImageError(f"{name} is {height}x{width} pixels: {_REPLACE}, or run the detector again")
    if height * width > MAX_PIXELS:
        raise ImageError(f"{name} claims {height}x{width} pixels, over {MAX_PIXELS}: {_SMALLER}")
