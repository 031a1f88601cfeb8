"""Tiny data sets of every layout, made in code: one grey crop, copied under the names that the test asks for."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import numpy as np
from PIL import Image

__all__ = ["touch_crops"]


def touch_crops(root: Path, names: Iterable[str]) -> Path:
    """A readable 8x16 JPEG under each of ``names`` below ``root``."""
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.full((16, 8, 3), 128, np.uint8)).save(path)
    return root
