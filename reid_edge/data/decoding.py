"""Decoding: an image file to uint8 RGB, HWC, 0..255.

JPEG is decoded by libjpeg-turbo through simplejpeg, to the same pixels as Pillow in a quarter of the time; other
formats by Pillow. JPEG is read strictly: damage that other readers fill with grey is an error here.

Alpha and 16 bits become 8-bit RGB as in arrays (`reid_edge.data.colors`). EXIF orientation and colour profiles are
ignored: crops from a detector have neither, and a photograph that has must be converted first.
"""

from __future__ import annotations

import os
import stat
import threading
import warnings
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from reid_edge.errors import ImageError

from .colors import MAX_PIXELS, check_size, rgb_of_pillow

__all__ = ["decode", "read"]

_MAX_FILE_BYTES = 256 << 20
# The formats that Pillow may try. Its other readers are never needed for crops, and one of them (EPS) runs a program.
_FORMATS = ("JPEG", "PNG", "BMP", "GIF", "PPM", "WEBP", "TIFF")
_REPLACE = "replace the file or drop it from the data"
_SMALLER = "give crops, not whole photographs"
_opening = threading.Lock()  # Pillow's warning of many pixels is caught by filters that all threads share


def read(path: Path | str, at_least_hw: tuple[int, int] | None = None) -> NDArray[np.uint8]:
    """Read an image file: uint8 [h, w, 3] RGB.

    With ``at_least_hw`` (height, width) a JPEG may come out smaller than it is, at half its size or less, and at least
    as large as that: see `decode`. Raises ImageError when the file is missing, empty, damaged or not an image.
    """
    return decode(_bytes_of(path), str(path), at_least_hw)


def decode(data: bytes, name: str = "image", at_least_hw: tuple[int, int] | None = None) -> NDArray[np.uint8]:
    """Decode a JPEG, PNG, BMP, WebP, TIFF, PPM or GIF file held in memory: uint8 [h, w, 3] RGB.

    Grey, palette, 16-bit and CMYK files become 8-bit RGB; ``name`` names the image in errors. With ``at_least_hw`` a
    JPEG twice as large or more is decoded by a smaller inverse transform to the smallest size that is no smaller:
    libjpeg scales by eighths, and those above one half take longer than none. Raises ImageError when the data is
    damaged, is not an image, or claims over `MAX_PIXELS`.
    """
    if not data:
        raise ImageError(f"{name} is empty (0 bytes): {_REPLACE}")
    if data.startswith(b"\xff\xd8"):
        image = _simple_jpeg(data, name, at_least_hw or (0, 0))
        if image is not None:
            return image
    return _by_pillow(data, name)


def _bytes_of(path: Path | str) -> bytes:
    try:
        found = os.stat(path)
        if stat.S_ISDIR(found.st_mode):
            raise ImageError(f"{path} is a folder, not an image: name the files inside it")
        if not stat.S_ISREG(found.st_mode) or found.st_size > _MAX_FILE_BYTES:
            raise ImageError(f"{path} is not a regular file of up to {_MAX_FILE_BYTES >> 20} MiB: {_REPLACE}")
        with open(path, "rb", buffering=0) as file:
            return file.readall()
    except FileNotFoundError:
        raise ImageError(f"{path} does not exist: give the path of an image file") from None
    except (OSError, ValueError) as error:  # ValueError: a path with a null byte
        raise ImageError(f"{path} cannot be read ({error}): check the path and its permissions") from None


def _simple_jpeg(data: bytes, name: str, at_least_hw: tuple[int, int]) -> NDArray[np.uint8] | None:
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
        image: NDArray[np.uint8] = simplejpeg.decode_jpeg(
            data, "RGB", min_height=at_least_hw[0], min_width=at_least_hw[1], min_factor=2, strict=True
        )
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
