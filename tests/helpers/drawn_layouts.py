"""Tiny data sets of every layout, made in code: plain crops under the names that the test asks for."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path

import numpy as np
from PIL import Image

__all__ = ["paint_crops", "touch_crops"]


def touch_crops(root: Path, names: Iterable[str]) -> Path:
    """A readable grey 8x16 image under each of ``names`` below ``root``."""
    for name in names:
        _save(np.full((16, 8, 3), 128, np.uint8), root / name)
    return root


def paint_crops(root: Path, levels: Mapping[str, int]) -> Path:
    """A 16x32 image under each name below ``root``, green at level 0 and red at level 255: near levels look alike."""
    for name, level in levels.items():
        _save(np.full((32, 16, 3), (level, 255 - level, 90), np.uint8), root / name)
    return root


def _save(pixels: np.ndarray, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)
