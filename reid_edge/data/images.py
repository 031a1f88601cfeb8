"""The one image path: files and frames to uint8 crops of the model's input size, RGB, HWC, 0..255.

Training, calibration, evaluation and the device all prepare crops here, so that a model sees the pixels it was trained
for. The ModelCard records the resize method, one of `RESIZES`, see `resize`: the pixels of a name never change, as
models carry it. Decoding is the same everywhere (`reid_edge.data.decoding`).
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from reid_edge.core.names import require_name

from .colors import cut_rgb
from .decoding import read
from .opencv import import_opencv

if TYPE_CHECKING:
    from PIL.Image import Image as PillowImage

__all__ = [
    "RESIZES",
    "Source",
    "check_method",
    "crops_of",
    "read_crop",
    "read_crops",
    "resize",
]

Source: TypeAlias = "Path | str | NDArray[np.uint8] | NDArray[np.uint16] | PillowImage"
"""Where a crop comes from: a file, or an array or Pillow image that `reid_edge.data.colors.as_rgb` takes."""

RESIZES = ("opencv", "pillow-bilinear", "opencv-fast")
"""The ways to bring a crop to a model's input size; a ModelCard names one."""


def resize(image: NDArray[np.uint8], input_hw: tuple[int, int], method: str = "opencv") -> NDArray[np.uint8]:
    """Bring a uint8 [h, w, 3] image to [H, W, 3]; the aspect ratio is not kept. Always a copy.

    - "opencv": bilinear (INTER_LINEAR) unless the image has more pixels than the result, then the mean over
      each pixel's area (INTER_AREA). A crop that shrinks along one axis only is not antialiased along it.
    - "pillow-bilinear": Pillow's bilinear, antialiased along each axis that shrinks, as torchvision's
      transforms of Pillow images do. It differs from "opencv" by one level at most where both axes grow.
    - "opencv-fast": for crops larger than the input. Each axis is halved, by the mean of two pixels, while it is at
      least twice as long as the result's; then bilinear, which reads every pixel of what shrinks by less than two.
      Where no axis shrinks it is "opencv".

    ``input_hw`` is (height, width) in pixels. Raises InputError when ``method`` is not in `RESIZES`.

    >>> resize(np.array([[[0] * 3, [90] * 3]], np.uint8), (1, 4))[0, :, 0].tolist()
    [0, 23, 68, 90]
    """
    check_method(method)
    height, width = input_hw
    if image.shape[:2] == (height, width):
        return np.array(image, order="C")
    if method == "pillow-bilinear":
        from PIL import Image

        return np.array(Image.fromarray(_packed(image)).resize((width, height), Image.Resampling.BILINEAR))
    cv2 = import_opencv()
    image = _packed(image, cv2)
    if method == "opencv-fast":
        image, how = _halved(image, input_hw, cv2), cv2.INTER_LINEAR
    else:
        how = cv2.INTER_AREA if image.shape[0] * image.shape[1] > height * width else cv2.INTER_LINEAR
    resized: NDArray[np.uint8] = cv2.resize(image, (width, height), interpolation=how)
    return resized


def check_method(method: str) -> str:
    """Return ``method`` if it is one of `RESIZES`; raise InputError otherwise."""
    return require_name(method, RESIZES, "resize")


def read_crop(path: Path | str, input_hw: tuple[int, int], method: str = "opencv") -> NDArray[np.uint8]:
    """Read an image file and bring it to uint8 [H, W, 3] RGB.

    "opencv-fast" has a JPEG decoded at a half, three eighths or less of its size while that is no smaller than the
    input (`reid_edge.data.decoding.read`), so that the pixels of such a file are not quite those of the same image as
    an array. Raises ImageError for a file that cannot be read.
    """
    return resize(read(path, input_hw if method == "opencv-fast" else None), input_hw, method)


def read_crops(
    paths: Sequence[Path | str], input_hw: tuple[int, int] = (256, 128), method: str = "opencv"
) -> NDArray[np.uint8]:
    """Read image files and bring each to the same size: uint8 [N, H, W, 3] RGB, in the order given."""
    return crops_of(paths, input_hw, method)


def crops_of(
    sources: Sequence[Source],
    input_hw: tuple[int, int] = (256, 128),
    method: str = "opencv",
    color: str = "rgb",
    first: int = 0,
) -> NDArray[np.uint8]:
    """Bring files and arrays, in any mixture, into one batch: uint8 [N, H, W, 3] RGB; [0, H, W, 3] without any.

    ``color`` is that of the arrays; files and Pillow images have their own. The batch shares no memory with the arrays.
    Raises ImageError that names the unreadable file, or the array by its position counted from ``first``.
    """
    check_method(method)
    crops = np.empty((len(sources), *input_hw, 3), np.uint8)
    for row, source in enumerate(sources):
        if isinstance(source, str | Path):
            crops[row] = read_crop(source, input_hw, method)
        else:
            crops[row] = resize(cut_rgb(source, None, f"image {first + row}", color), input_hw, method)
    return crops


def _halved(image: NDArray[np.uint8], input_hw: tuple[int, int], cv2: Any) -> NDArray[np.uint8]:
    """Halve each axis while it is at least twice as long as the input's; of an odd axis the last pixel is left out.

    OpenCV takes the mean of 2 x 2 pixels ten times as fast as that of any other area.
    """
    while True:
        by = [2 if length >= 2 * wanted else 1 for length, wanted in zip(image.shape, input_hw, strict=False)]
        if by == [1, 1]:
            return image
        height, width = image.shape[0] // by[0], image.shape[1] // by[1]
        even = image[: height * by[0], : width * by[1]]
        image = cv2.resize(even, (width, height), interpolation=cv2.INTER_AREA)


def _packed(image: NDArray[np.uint8], cv2: Any = None) -> NDArray[np.uint8]:
    """The image with three bytes for each pixel, one pixel after another, as Pillow and OpenCV take it.

    A view cut out of a frame is that already. Of one in another order `numpy.ascontiguousarray` takes up to four times
    as long as a channel at a time, and thirty times as long as OpenCV does for reversed channels.
    """
    if image.strides[1:] == (3, 1):
        return image
    if cv2 and image.strides[1:] == (3, -1):
        reversed_channels: NDArray[np.uint8] = cv2.cvtColor(image[:, :, ::-1], cv2.COLOR_BGR2RGB)
        return reversed_channels
    packed = np.empty(image.shape, np.uint8)
    for channel in range(3):
        packed[:, :, channel] = image[:, :, channel]
    return packed
