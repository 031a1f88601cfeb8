"""Crops as pictures inside the page."""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from pathlib import Path
from xml.etree.ElementTree import Element

import numpy as np
from numpy.typing import NDArray

from reid_edge.benchmarks.occlusion import Occlusion
from reid_edge.data.images import read_crops
from reid_edge.data.records import Crop

from .elements import element

__all__ = ["crop_picture", "map_picture", "people_section"]

_SIZE_HW = (128, 64)
_JPEG_QUALITY = 80
_FOR, _AGAINST, _OPACITY = (230, 40, 20), (40, 90, 240), 0.75


def crop_picture(path: Path, alt: str) -> Element:
    """A crop of any size as a JPEG of 128 x 64 pixels, about 2 kB, within the page. Raises ImageError."""
    return _picture(read_crops([path], _SIZE_HW)[0], alt)


def map_picture(query: Path, found: Occlusion, alt: str) -> Element:
    """A crop in grey with the places that speak for a match in red, those that speak against it in blue."""
    from PIL import Image

    pixels = read_crops([query], _SIZE_HW)[0].astype(np.float32)
    grey = np.repeat(pixels.mean(axis=2, keepdims=True), 3, axis=2)  # [H, W, 3]
    height, width = _SIZE_HW
    drop = np.array(Image.fromarray(found.drop).resize((width, height), Image.Resampling.BICUBIC))  # [H, W]
    strength = (np.abs(drop) / max(float(np.abs(found.drop).max()), 1e-6)).clip(0, 1)[:, :, None]
    color = np.where(drop[:, :, None] > 0, np.array(_FOR, np.float32), np.array(_AGAINST, np.float32))
    mixed = grey + _OPACITY * strength * (color - grey)
    return _picture(mixed.round().astype(np.uint8), alt)


def _picture(pixels: NDArray[np.uint8], alt: str) -> Element:
    """Pixels uint8 [H, W, 3] as a JPEG within the page."""
    from PIL import Image

    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "JPEG", quality=_JPEG_QUALITY, optimize=True)
    data = base64.b64encode(file.getvalue()).decode("ascii")
    return element("img", src=f"data:image/jpeg;base64,{data}", alt=alt, width=pixels.shape[1], height=pixels.shape[0])


def people_section(crops: Sequence[Crop], *, title: str, text: str, identities: int = 6) -> Element:
    """A strip for each of a few identities, those seen by most cameras: a crop by each camera."""
    first: dict[int, dict[int, Crop]] = {}
    for crop in crops:
        if crop.pid > 0:
            first.setdefault(crop.pid, {}).setdefault(crop.camid, crop)
    shown = sorted(sorted(first, key=lambda pid: -len(first[pid]))[:identities])
    cameras = sorted({camera for pid in shown for camera in first[pid]})
    strips = [
        element(
            "figure",
            element("figcaption", f"person {pid}"),
            element("ol", *(_cell(camera, first[pid].get(camera)) for camera in cameras), role="list"),
        )
        for pid in shown
    ]
    return element("section", element("h2", title), element("p", text), element("div", *strips, class_="people"))


def _cell(camera: int, crop: Crop | None) -> Element:
    if crop is None:
        return element("li", element("span", "not seen"), element("span", f"cam {camera}"))
    picture = crop_picture(crop.path, f"person {crop.pid}, camera {camera}")
    return element("li", picture, element("span", f"cam {camera}", aria_hidden="true"))
