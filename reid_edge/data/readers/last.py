"""LaST (Shu et al., "Large-Scale Spatio-Temporal Person Re-identification", TCSVT 2021)."""

from __future__ import annotations

from pathlib import Path

from .base import DatasetReader
from .files import images_below, whole_number
from .listing import Crop, Listing, Split

__all__ = ["Last", "last_name"]


class Last(DatasetReader):
    """LaST: persons from films, with a validation part. Crops have no camera.

    Every image counts as its own camera, so that the same-camera rule drops nothing.
    """

    name = "last"
    title = "LaST"
    nested = ("LaST", "last")
    markers = ("test/query|val/query", "test/gallery|val/gallery")
    parts = ("test", "val")
    same_camera_filter = False
    published = {"val": (71_248, 100, 21_279), "test": (71_248, 10_176, 125_353)}

    def read(self, home: Path, part: str) -> Listing:
        """List ``train``, and query and gallery of ``part``."""
        folders = (home / "train", home / part / "query", home / part / "gallery")
        unparsed: list[Path] = []
        splits: list[tuple[Crop, ...]] = []
        camera = 0
        for folder in folders:
            crops = []
            for path in images_below(folder, deep=True):
                named = last_name(path.name)
                if named is None:
                    unparsed.append(path)
                else:
                    crops.append(Crop(path, named[0], camera))
                    camera += 1
            splits.append(tuple(crops))
        return Listing(Split(*splits), 0, tuple(unparsed))


def last_name(name: str) -> tuple[int, str] | None:
    """Person and last token of a file name in LaST's form, or None for another name.

    In ``train`` the last token labels the clothes, within one person; val and test have no such label.

    >>> last_name("000123_7_41_0_2.jpg"), last_name("me.jpg")
    ((123, '2'), None)
    """
    tokens = Path(name).stem.split("_")
    pid = whole_number(tokens[0])
    return None if pid is None or pid < 0 else (pid, tokens[-1])
