"""What readers share: which files are images, and numbers in file names."""

from __future__ import annotations

import os
import re
from pathlib import Path

from reid_edge.errors import DatasetError

__all__ = ["IMAGE_SUFFIXES", "folders_in", "images_below", "whole_number"]

IMAGE_SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff", ".ppm"})
"""What counts as a crop; anything else in a folder (Thumbs.db, readme.txt) is passed over."""

_WHOLE = re.compile(r"-?[0-9]{1,18}")


def whole_number(text: str) -> int | None:
    """The number that ``text`` writes in plain digits, or None. It fits 64 bits: 18 digits at most.

    >>> whole_number("-1"), whole_number("1.0"), whole_number("1-2"), whole_number("9" * 19)
    (-1, None, None, None)
    """
    return int(text) if _WHOLE.fullmatch(text) else None


def images_below(folder: Path, *, deep: bool = False) -> list[Path]:
    """The image files in ``folder``, or with ``deep`` also below it, sorted; [] when there is no such folder.

    Hidden files are left out: macOS adds a ``._0002_c1s1.jpg``, which is not an image, to each file it copies. Raises
    DatasetError for a folder that cannot be read.
    """
    found: list[Path] = []
    for parent, below, names in os.walk(folder, onerror=_refuse_unreadable):
        found += [Path(parent, name) for name in names if not name.startswith(".")]
        if not deep:
            below.clear()
    return sorted(path for path in found if path.suffix.lower() in IMAGE_SUFFIXES)


def folders_in(folder: Path) -> list[Path]:
    """The folders in ``folder`` that are not hidden, sorted; [] when there is no such folder.

    Raises DatasetError for a folder that cannot be read.
    """
    _, names, _ = next(os.walk(folder, onerror=_refuse_unreadable), ("", [], []))
    return sorted(folder / name for name in names if not name.startswith("."))


def _refuse_unreadable(error: OSError) -> None:
    if not isinstance(error, (FileNotFoundError, NotADirectoryError)):
        raise DatasetError(f"{error.filename} cannot be listed ({error.strerror}): check its permissions") from None
