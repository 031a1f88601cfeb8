"""The one image path: a file or a frame to uint8 crops, RGB, HWC, 0..255.

Training, calibration, evaluation and the device all prepare crops here, so that a model never meets pixels it
was not made for. Two things about the pixels are choices, and the ModelCard records the second:

- **decoding**: libjpeg-turbo through simplejpeg for JPEG, to the same pixels as Pillow at a quarter of the
  time; Pillow for other formats. JPEG is read strictly: what other readers would paint grey is an error here.
- **resizing**: "opencv" or "pillow-bilinear", see `resize`.

Alpha is dropped, not composited: what lies behind it is unknown, and crops from a detector have none. Sixteen
bits become eight by keeping the high byte. EXIF orientation and colour profiles are ignored: such crops carry
neither, and a photograph that does must be turned before it comes here.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from .errors import ImageError, InputError

if TYPE_CHECKING:
    from PIL.Image import Image as PillowImage

__all__ = [
    "MAX_PIXELS",
    "RESIZES",
    "Source",
    "as_rgb",
    "check_method",
    "crops_of",
    "decode",
    "read",
    "read_crops",
    "resize",
]

Source: TypeAlias = "Path | str | NDArray[np.uint8] | NDArray[np.uint16]"
"""Where a crop comes from: a file, or an array that `as_rgb` takes."""

RESIZES = ("opencv", "pillow-bilinear")
"""The ways to bring a crop to a model's input size; a ModelCard names one."""

MAX_PIXELS = 64_000_000
"""An image that claims more pixels is refused before it is decoded: a few kilobytes can claim gigabytes."""

_MAX_FILE_BYTES = 256 << 20
# What Pillow may try. Its other readers are never needed for crops, and one of them (EPS) starts a program.
_FORMATS = ("JPEG", "PNG", "BMP", "GIF", "PPM", "WEBP", "TIFF")
_REPLACE = "replace the file or drop it from the data"


def read(path: Path | str) -> NDArray[np.uint8]:
    """Read an image file: uint8 [h, w, 3] RGB.

    Raises ImageError when the file is missing, empty, damaged or no image.
    """
    return decode(_bytes_of(path), str(path))


def decode(data: bytes, name: str = "image") -> NDArray[np.uint8]:
    """Decode a JPEG, PNG, BMP, WebP, TIFF, PPM or GIF file held in memory: uint8 [h, w, 3] RGB.

    Grey, palette, 16-bit and CMYK files become 8-bit RGB; ``name`` names the image in errors. Raises
    ImageError when the data is damaged, is no image, or claims over `MAX_PIXELS`.
    """
    if not data:
        raise ImageError(f"{name} is empty (0 bytes): {_REPLACE}")
    if data.startswith(b"\xff\xd8"):
        image = _simple_jpeg(data, name)
        if image is not None:
            return image
    return _by_pillow(data, name)


def as_rgb(array: NDArray[Any], name: str = "image", channel_order: str = "RGB") -> NDArray[np.uint8]:
    """Any usual image array as uint8 [h, w, 3] RGB, always a copy.

    Takes uint8 or uint16 of shape [h, w] or [h, w, 1] (grey), [h, w, 2] (grey, alpha), [h, w, 3] or [h, w, 4]
    (alpha last). ``channel_order`` "BGR" is for OpenCV's frames. Raises ImageError for anything else: a float
    has no known scale.

    >>> as_rgb(np.array([[[10, 20, 30]]], np.uint8), channel_order="BGR").tolist()
    [[[30, 20, 10]]]
    >>> as_rgb(np.array([[65535, 256]], np.uint16)).tolist()
    [[[255, 255, 255], [1, 1, 1]]]
    """
    return np.array(_rgb_view(array, name, channel_order), order="C")


def resize(image: NDArray[np.uint8], input_hw: tuple[int, int], method: str = "opencv") -> NDArray[np.uint8]:
    """Bring a uint8 [h, w, 3] image to [H, W, 3]; the aspect ratio is not kept. Always a copy.

    - "opencv": bilinear (INTER_LINEAR) unless the image has more pixels than the result, then the mean over
      each pixel's area (INTER_AREA). A crop that shrinks along one axis only is not antialiased along it.
    - "pillow-bilinear": Pillow's bilinear, antialiased along each axis that shrinks, as torchvision's
      transforms of Pillow images do. It differs from "opencv" by one level at most where both axes grow.

    ``input_hw`` is (height, width) in pixels. Raises InputError when ``method`` is none of `RESIZES`.

    >>> resize(np.array([[[0] * 3, [90] * 3]], np.uint8), (1, 4))[0, :, 0].tolist()
    [0, 23, 68, 90]
    """
    check_method(method)
    height, width = input_hw
    if image.shape[:2] == (height, width):
        return np.array(image, order="C")
    image = np.ascontiguousarray(image)  # OpenCV refuses reversed channels
    if method == "pillow-bilinear":
        from PIL import Image

        return np.array(Image.fromarray(image).resize((width, height), Image.Resampling.BILINEAR))
    import cv2

    shrinks = image.shape[0] * image.shape[1] > height * width
    how = cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR
    return cv2.resize(image, (width, height), interpolation=how).astype(np.uint8, copy=False)


def check_method(method: str) -> str:
    """Give back ``method`` when it is one of `RESIZES`; raises InputError otherwise."""
    if method not in RESIZES:
        raise InputError(f"resize {method!r} is unknown: give one of {', '.join(RESIZES)}")
    return method


def read_crops(
    paths: Sequence[Path | str], input_hw: tuple[int, int] = (256, 128), method: str = "opencv"
) -> NDArray[np.uint8]:
    """Read image files and bring each to the same size: uint8 [N, H, W, 3] RGB, in the order given."""
    return crops_of(paths, input_hw, method)


def crops_of(
    sources: Sequence[Source],
    input_hw: tuple[int, int] = (256, 128),
    method: str = "opencv",
    channel_order: str = "RGB",
    first: int = 0,
) -> NDArray[np.uint8]:
    """Files and arrays, mixed as they come, as one batch: uint8 [N, H, W, 3] RGB. None is [0, H, W, 3].

    ``channel_order`` is that of the arrays; files know their own. The batch shares no memory with the arrays.
    Raises ImageError naming the file, or the array's place counted from ``first``, that is no image.
    """
    check_method(method)
    crops = np.empty((len(sources), *input_hw, 3), np.uint8)
    for row, source in enumerate(sources):
        if isinstance(source, str | Path):
            image = read(source)
        else:
            image = _rgb_view(source, f"image {first + row}", channel_order)
        crops[row] = resize(image, input_hw, method)
    return crops


def _bytes_of(path: Path | str) -> bytes:
    try:
        found = os.stat(path)
        if stat.S_ISDIR(found.st_mode):
            raise ImageError(f"{path} is a folder, not an image: name the files inside it")
        if not stat.S_ISREG(found.st_mode) or found.st_size > _MAX_FILE_BYTES:
            raise ImageError(f"{path} is no file of under {_MAX_FILE_BYTES >> 20} MiB: {_REPLACE}")
        with open(path, "rb") as file:
            return file.read()
    except FileNotFoundError:
        raise ImageError(f"{path} does not exist: give the path of an image file") from None
    except (OSError, ValueError) as error:  # ValueError: a path with a null byte
        raise ImageError(f"{path} cannot be read ({error}): check the path and its permissions") from None


def _simple_jpeg(data: bytes, name: str) -> NDArray[np.uint8] | None:
    """Decode by simplejpeg, or None for a JPEG to leave to Pillow: CMYK, YCCK, an unreadable header."""
    import simplejpeg

    try:
        height, width, colours, _ = simplejpeg.decode_jpeg_header(data)
    except ValueError:
        return None
    if colours not in ("YCbCr", "RGB", "Gray"):
        return None
    _check_size(height, width, name)
    try:
        image: NDArray[np.uint8] = simplejpeg.decode_jpeg(data, "RGB", strict=True)
    except ValueError as error:
        raise ImageError(f"{name} is a damaged JPEG ({error}): {_REPLACE}") from None
    return image


def _by_pillow(data: bytes, name: str) -> NDArray[np.uint8]:
    import io

    from PIL import Image, UnidentifiedImageError

    try:
        with Image.open(io.BytesIO(data), formats=_FORMATS) as image:
            _check_size(image.height, image.width, name)
            image.load()
            return _rgb_of_pillow(image, name)
    except ImageError:
        raise
    except UnidentifiedImageError:
        raise ImageError(f"{name} is no readable image (it begins {data[:8]!r}): {_REPLACE}") from None
    except Exception as error:  # on hostile bytes Pillow's readers raise nearly anything
        raise ImageError(f"{name} is a damaged image ({' '.join(str(error).split())}): {_REPLACE}") from None


def _rgb_of_pillow(image: PillowImage, name: str) -> NDArray[np.uint8]:
    if image.mode.startswith("I"):  # 16-bit grey: Pillow's own conversion would clip it to white
        grey = np.asarray(image)
        if grey.min() < 0 or grey.max() > 65535:
            raise ImageError(f"{name} holds 32-bit pixels, whose scale is unknown: save it with 8 or 16 bits")
        return as_rgb(grey.astype(np.uint16), name)
    if image.mode == "F":
        raise ImageError(f"{name} holds float pixels, whose scale is unknown: save it with 8 or 16 bits")
    image.info.pop("transparency", None)  # else converting a palette with alpha warns
    return np.array(image.convert("RGB"))


def _check_size(height: int, width: int, name: str) -> None:
    if height < 1 or width < 1:
        raise ImageError(f"{name} is {height}x{width} pixels: {_REPLACE}, or run the detector again")
    if height * width > MAX_PIXELS:
        raise ImageError(f"{name} claims {height}x{width} pixels, over {MAX_PIXELS}: give crops of people")


def _rgb_view(array: NDArray[Any], name: str, channel_order: str) -> NDArray[np.uint8]:
    """`as_rgb` without the copy where none is needed; a caller that hands it on must copy."""
    if channel_order not in ("RGB", "BGR"):
        raise InputError(f"channel order {channel_order!r} is unknown: give RGB or BGR")
    if not isinstance(array, np.ndarray):
        raise ImageError(f"{name} is a {type(array).__name__}: give a path or a numpy array")
    shape = list(array.shape)
    if array.dtype not in (np.uint8, np.uint16):
        raise ImageError(f"{name} is {array.dtype} {shape}: scale it to 0..255 and convert it to uint8")
    if array.ndim == 2:
        array = array[:, :, None]
    if array.ndim != 3 or array.shape[2] not in (1, 2, 3, 4):
        raise ImageError(f"{name} has shape {shape}: give [height, width] or [height, width, 1 to 4 channels]")
    _check_size(array.shape[0], array.shape[1], name)
    if array.dtype == np.uint16:  # the high byte, as Pillow does for 16-bit RGB files
        array = (array >> np.uint16(8)).astype(np.uint8)
    if array.shape[2] <= 2:
        array = np.repeat(array[:, :, :1], 3, axis=2)
    return array[:, :, 2::-1] if channel_order == "BGR" else array[:, :, :3]
