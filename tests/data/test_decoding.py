"""Decoding: every kind of file and array to the right colours, and one clear line for bad ones."""

from __future__ import annotations

import io
import struct
import warnings
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import simplejpeg
from numpy.typing import NDArray
from PIL import Image

from reid_edge.data import colors, decoding
from reid_edge.errors import ImageError

RED, GREEN = (200, 40, 90), (20, 180, 60)


def _two_colours(height: int = 64, width: int = 32) -> NDArray[np.uint8]:
    """RED above GREEN: large flat areas, so that JPEG keeps the colours to a level or two."""
    image = np.empty((height, width, 3), np.uint8)
    image[: height // 2], image[height // 2 :] = RED, GREEN
    return image


def _noise(height: int, width: int, seed: int = 0) -> NDArray[np.uint8]:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)


def _encoded(image: Image.Image, kind: str, **options: object) -> bytes:
    out = io.BytesIO()
    image.save(out, kind, **options)
    return out.getvalue()


def _palette_with_alpha() -> bytes:
    image = Image.fromarray(_two_colours()).quantize(8)
    return _encoded(image, "PNG", transparency=bytes([0, 128, 255, 255, 255, 255, 255, 255]))


def _with_alpha() -> Image.Image:
    image = Image.fromarray(_two_colours())
    image.putalpha(0)  # compositing would lose the colours altogether
    return image


PICTURE = Image.fromarray(_two_colours())
COLOUR_FILES: dict[str, Callable[[], bytes]] = {
    "baseline JPEG": lambda: _encoded(PICTURE, "JPEG", quality=95),
    "progressive JPEG": lambda: _encoded(PICTURE, "JPEG", quality=95, progressive=True),
    "4:4:4 JPEG": lambda: _encoded(PICTURE, "JPEG", quality=95, subsampling=0),
    "RGB JPEG": lambda: _encoded(PICTURE, "JPEG", quality=95, keep_rgb=True),
    "CMYK JPEG, inverted as Adobe does": lambda: _encoded(PICTURE.convert("CMYK"), "JPEG", quality=95),
    "CMYK TIFF": lambda: _encoded(PICTURE.convert("CMYK"), "TIFF"),
    "PNG": lambda: _encoded(PICTURE, "PNG"),
    "RGBA PNG": lambda: _encoded(_with_alpha(), "PNG"),
    "palette PNG": lambda: _encoded(PICTURE.quantize(8), "PNG"),
    "palette PNG with alpha": _palette_with_alpha,
    "16-bit RGB PNG": lambda: _png(16, 2, (_two_colours() * np.uint16(256) + np.uint16(77)).astype(">u2")),
    "BMP": lambda: _encoded(PICTURE, "BMP"),
    "WebP": lambda: _encoded(PICTURE, "WEBP", lossless=True),
    "GIF": lambda: _encoded(PICTURE.quantize(8), "GIF"),
    "PPM": lambda: _encoded(PICTURE, "PPM"),
}


def _png(bits: int, colour_type: int, pixels: NDArray[np.generic]) -> bytes:
    """A PNG made by hand: Pillow writes no 16-bit RGB."""
    rows = b"".join(b"\0" + row.tobytes() for row in pixels)
    return _png_of(pixels.shape[1], pixels.shape[0], bits, colour_type, rows)


def _png_of(width: int, height: int, bits: int, colour_type: int, rows: bytes) -> bytes:
    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    header = struct.pack(">IIBBBBB", width, height, bits, colour_type, 0, 0, 0)
    body = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + body


@pytest.mark.parametrize("kind", COLOUR_FILES)
def test_every_kind_of_file_gives_its_colours(kind: str) -> None:
    image = decoding.decode(COLOUR_FILES[kind](), kind)
    assert image.shape == (64, 32, 3) and image.dtype == np.uint8 and image.flags.writeable
    np.testing.assert_allclose(image[5, 5], RED, atol=1)
    np.testing.assert_allclose(image[60, 5], GREEN, atol=1)


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "TIFF", "WEBP"])
def test_grey_files_are_grey_in_all_three_channels(kind: str) -> None:
    image = decoding.decode(_encoded(Image.new("L", (8, 8), 77), kind))
    np.testing.assert_allclose(image, 77, atol=1)
    assert (image == image[:, :, :1]).all()


def test_grey_with_alpha_and_one_bit() -> None:
    assert (decoding.decode(_encoded(Image.new("LA", (3, 2), (90, 0)), "PNG")) == 90).all()
    assert (decoding.decode(_encoded(Image.new("1", (3, 2), 1), "PNG")) == 255).all()


@pytest.mark.parametrize("kind", ["PNG", "TIFF"])
def test_sixteen_bit_grey_keeps_its_high_byte_instead_of_clipping_to_white(kind: str) -> None:
    grey = np.array([[0, 255, 256], [0x7FFF, 0x8000, 0xFFFF]], np.uint16)
    image = decoding.decode(_encoded(Image.fromarray(grey), kind))
    assert image[:, :, 0].tolist() == [[0, 0, 1], [127, 128, 255]]


def test_pixels_of_unknown_scale_are_refused() -> None:
    for mode, value in (("F", 0.5), ("I", 1 << 20)):
        with pytest.raises(ImageError, match="scale is unknown"):
            decoding.decode(_encoded(Image.new(mode, (4, 4), value), "TIFF"))


def test_exif_orientation_is_ignored() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # a quarter turn
    assert decoding.decode(_encoded(PICTURE, "JPEG", exif=exif)).shape == (64, 32, 3)


@pytest.mark.parametrize("progressive", [False, True])
@pytest.mark.parametrize("subsampling", [0, 1, 2])
def test_jpeg_pixels_are_those_of_pillow(progressive: bool, subsampling: int) -> None:
    picture = Image.fromarray(_noise(61, 37)).resize((64, 128), Image.Resampling.BICUBIC)
    data = _encoded(picture, "JPEG", progressive=progressive, subsampling=subsampling)
    np.testing.assert_array_equal(decoding.decode(data), np.asarray(Image.open(io.BytesIO(data))))


def test_real_crops_decode_to_the_pixels_of_pillow(dev_crops: Path) -> None:
    paths = sorted(dev_crops.glob("query/*.jpg"))[:100]
    assert len(paths) == 100
    for path in paths:
        np.testing.assert_array_equal(decoding.read(path), np.asarray(Image.open(path).convert("RGB")))


JPEG = _encoded(Image.fromarray(_noise(64, 32)), "JPEG")
GREY_JPEG = _encoded(Image.fromarray(_noise(64, 32)).convert("L"), "JPEG")
CMYK_JPEG = _encoded(Image.fromarray(_noise(64, 32)).convert("CMYK"), "JPEG")
PNG = _encoded(Image.fromarray(_noise(64, 32)), "PNG")
BAD_FILES = {
    "empty": (b"", "is empty"),
    "text": (b"pedestrian number seven\n", "not a readable image .it begins b'pedestri'"),
    "JPEG cut in half": (JPEG[: len(JPEG) // 2], "is a damaged JPEG"),
    "JPEG without its last bytes": (JPEG[:-2], "is a damaged JPEG"),
    "JPEG cut in its header": (JPEG[:100], "is a damaged image"),
    "JPEG with a hole": (JPEG[:900] + b"\0" * 300 + JPEG[1200:], "is a damaged JPEG"),
    "grey JPEG cut in half": (GREY_JPEG[: len(GREY_JPEG) * 3 // 4], "is a damaged JPEG"),
    "CMYK JPEG cut in half": (CMYK_JPEG[: len(CMYK_JPEG) * 3 // 4], "is a damaged image"),
    "PNG cut in half": (PNG[: len(PNG) // 2], "is a damaged image"),
    "PNG of no pixels": (_png_of(0, 5, 8, 2, b""), "damaged image|0 pixels|not a readable image"),
    "PNG bomb": (_png_of(8_001, 8_000, 8, 2, b"\0"), "claims 8000x8001 pixels"),
    "PNG bomb that Pillow warns of": (_png_of(10_000, 10_000, 8, 2, b"\0"), "claims over 64000000 pixels: give crops"),
    "PNG bomb that Pillow refuses": (_png_of(60_000, 60_000, 8, 2, b"\0"), "claims over 64000000 pixels: give crops"),
    "program": (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", "not a readable image"),
}


@pytest.mark.parametrize("kind", BAD_FILES)
def test_bad_files_get_one_line_that_names_them_and_the_remedy(kind: str, tmp_path: Path) -> None:
    data, complaint = BAD_FILES[kind]
    path = tmp_path / "0007_c1.jpg"
    path.write_bytes(data)
    with pytest.raises(ImageError, match=complaint) as caught:
        decoding.read(path)
    text = str(caught.value)
    assert str(path) in text and "\n" not in text and ": " in text


def test_an_image_that_claims_too_many_pixels_is_refused_without_a_warning() -> None:
    with warnings.catch_warnings(record=True) as shown:
        warnings.simplefilter("always")
        with pytest.raises(ImageError):
            decoding.decode(_png_of(10_000, 10_000, 8, 2, b"\0"))
        assert not shown and Image.MAX_IMAGE_PIXELS == 89_478_485, "Pillow's own limit is the program's"


def test_a_jpeg_that_claims_too_many_pixels_is_refused_before_decoding(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    at = JPEG.index(b"\xff\xc0") + 5  # height and width in the frame header
    data = JPEG[:at] + struct.pack(">HH", 30_000, 30_000) + JPEG[at + 4 :]
    monkeypatch.delattr(simplejpeg, "decode_jpeg")
    with pytest.raises(ImageError, match="claims 30000x30000 pixels"):
        decoding.decode(data, "bomb.jpg")


def test_missing_files_and_folders(tmp_path: Path) -> None:
    with pytest.raises(ImageError, match="does not exist: give"):
        decoding.read(tmp_path / "none.jpg")
    with pytest.raises(ImageError, match="is a folder, not an image"):
        decoding.read(tmp_path)
    with pytest.raises(ImageError, match="cannot be read"):
        decoding.read("a\0b.jpg")
    with pytest.raises(ImageError, match="is not a regular file"):
        decoding.read("/dev/null")


def test_arrays_of_every_usual_shape() -> None:
    grey = np.array([[1, 2], [3, 4]], np.uint8)
    for array in (grey, grey[:, :, None], np.dstack([grey, 0 * grey])):
        assert colors.as_rgb(array)[1].tolist() == [[3, 3, 3], [4, 4, 4]]
    bgra = np.array([[[1, 2, 3, 0]]], np.uint8)
    assert colors.as_rgb(bgra).tolist() == [[[1, 2, 3]]]
    assert colors.as_rgb(bgra, color="bgr").tolist() == [[[3, 2, 1]]]
    assert colors.as_rgb((bgra.astype(np.uint16) << 8) + 200).tolist() == [[[1, 2, 3]]]


@pytest.mark.parametrize(
    ("array", "complaint"),
    [
        (np.zeros((4, 4, 3), np.float32), "frame 3 is float32 .4, 4, 3.: scale it to 0..255"),
        (np.zeros((3, 8, 4, 1), np.uint8), "has shape .3, 8, 4, 1.: give .height, width"),
        (np.zeros((3, 8, 9), np.uint8), "has shape .3, 8, 9."),
        (np.zeros((0, 4, 3), np.uint8), "is 0x4 pixels"),
        (np.zeros((), np.uint8), "has shape"),
        ([[1]], "is a list: give a path, a numpy array"),
    ],
)
def test_bad_arrays(array: NDArray[np.generic], complaint: str) -> None:
    with pytest.raises(ImageError, match=complaint):
        colors.as_rgb(array, "frame 3")
