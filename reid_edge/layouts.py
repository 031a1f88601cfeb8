"""How each public data set lies on disk, and how its file names say who and where.

A `Layout` is a row of data and two functions: ``home`` finds the folder with the set's own folders in it, ``read``
lists the crops there. Counts and conventions are those of the data sets' own papers and readers.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from .errors import DatasetError
from .records import Crop, Split

__all__ = ["IMAGE_SUFFIXES", "LAYOUTS", "Layout", "Listing", "images_below", "last_name", "market_name", "whole_number"]

IMAGE_SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff", ".ppm"})
"""What counts as a crop; anything else in a folder (Thumbs.db, readme.txt) is passed over."""

_WHOLE = re.compile(r"-?[0-9]{1,18}")
_MARKET = re.compile(r"([-\d]+)_c(\d+)")
_DUKE = re.compile(r"(\d+)_c(\d+)")
_DUKE_NOTICE = (
    "DukeMTMC-reID was withdrawn by its authors over the privacy of the people in it: "
    "think twice before you use it, and do not pass it on"
)


@dataclass(frozen=True)
class Listing:
    """What a reader found: the crops, how many were dropped as junk, and files whose names do not parse."""

    split: Split
    junk: int = 0
    unparsed: tuple[Path, ...] = ()


@dataclass(frozen=True)
class Layout:
    """One public data set's way of lying on disk.

    ``nested`` are folders that may stand between the given path and ``markers``, all of which must be there.
    ``parts`` are what can be scored, the default first. ``published`` counts crops as (train, query, gallery) by part.
    Where ``one_numbering`` is false, train and test people are numbered independently and an overlap means nothing.
    """

    name: str
    title: str
    nested: tuple[str, ...]
    markers: tuple[str, ...]
    read: Callable[[Path, str], Listing]
    parts: tuple[str, ...] = ("test",)
    same_camera_filter: bool = True
    one_numbering: bool = True
    notices: tuple[str, ...] = ()
    published: dict[str, tuple[int, int, int]] = field(default_factory=dict)

    def home(self, path: Path) -> Path | None:
        """The folder that holds this layout, ``path`` itself or one of the usual folders below it, or None."""
        for candidate in (path, *(path / name for name in self.nested)):
            if all(any((candidate / name).exists() for name in marker.split("|")) for marker in self.markers):
                return candidate
        return None


def market_name(name: str) -> tuple[int, int] | None:
    """Person and camera of a file name in Market-1501's form, or None for another name.

    >>> market_name("0002_c1s1_000451_03.jpg"), market_name("-1_c6s4_000001_00.jpg"), market_name("me.jpg")
    ((2, 1), (-1, 6), None)
    """
    return _ids(_MARKET, name)


def last_name(name: str) -> tuple[int, str] | None:
    """Person and last token of a file name in LaST's form, or None for another name.

    In ``train`` the last token labels the clothes, within one person; val and test have no such label.

    >>> last_name("000123_7_41_0_2.jpg"), last_name("me.jpg")
    ((123, '2'), None)
    """
    tokens = Path(name).stem.split("_")
    pid = whole_number(tokens[0])
    return None if pid is None or pid < 0 else (pid, tokens[-1])


def whole_number(text: str) -> int | None:
    """The number that ``text`` writes in plain digits, or None. It fits 64 bits: 18 digits at most.

    >>> whole_number("-1"), whole_number("1.0"), whole_number("1-2"), whole_number("9" * 19)
    (-1, None, None, None)
    """
    return int(text) if _WHOLE.fullmatch(text) else None


def images_below(folder: Path, *, deep: bool = False) -> list[Path]:
    """The image files in ``folder``, or with ``deep`` also below it, sorted; [] when there is no such folder.

    Hidden files are none: macOS leaves a ``._0002_c1s1.jpg`` that is no image beside each file it copies.
    """
    found: list[Path] = []
    for parent, below, names in os.walk(folder):
        found += [Path(parent, name) for name in names if not name.startswith(".")]
        if not deep:
            below.clear()
    return sorted(path for path in found if path.suffix.lower() in IMAGE_SUFFIXES)


def _ids(pattern: re.Pattern[str], name: str) -> tuple[int, int] | None:
    match = pattern.match(name)
    pid, camid = (whole_number(text) for text in match.groups()) if match else (None, None)
    return None if pid is None or camid is None else (pid, camid)


def _market(root: Path, part: str) -> Listing:
    """Junk (-1) is dropped; distractors (0) stay in the gallery. Neither is trained on."""
    return _three_folders(root, _MARKET)


def _duke(root: Path, part: str) -> Listing:
    return _three_folders(root, _DUKE)


def _three_folders(root: Path, pattern: re.Pattern[str]) -> Listing:
    unparsed: list[Path] = []

    def crops(folder: str) -> Iterator[Crop]:
        for path in images_below(root / folder):
            ids = _ids(pattern, path.name)
            if ids is None:
                unparsed.append(path)
            else:
                yield Crop(path, *ids)

    train, query, gallery = (list(crops(name)) for name in ("bounding_box_train", "query", "bounding_box_test"))
    kept = Split(
        train=tuple(crop for crop in train if crop.pid > 0),
        query=tuple(crop for crop in query if crop.pid > 0),
        gallery=tuple(crop for crop in gallery if crop.pid >= 0),
    )
    dropped = len(train) + len(query) + len(gallery) - len(kept.train) - len(kept.query) - len(kept.gallery)
    return Listing(kept, dropped, tuple(unparsed))


def _last(root: Path, part: str) -> Listing:
    """Every image counts as its own camera, so that the same-camera rule drops nothing."""
    folders = (root / "train", root / part / "query", root / part / "gallery")
    unparsed: list[Path] = []
    parts: list[tuple[Crop, ...]] = []
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
        parts.append(tuple(crops))
    return Listing(Split(*parts), 0, tuple(unparsed))


def _msmt17(root: Path, part: str) -> Listing:
    """``list_val.txt`` is trained on too, as in the published 32,621. Paths in the lists are below train or test."""
    lists = {"train": ("train", "val"), "query": ("query",), "gallery": ("gallery",)}
    unparsed: list[Path] = []
    parts: list[tuple[Crop, ...]] = []
    for name, sources in lists.items():
        choices = ("train", "mask_train_v2") if name == "train" else ("test", "mask_test_v2")
        folder = next((root / choice for choice in choices if (root / choice).is_dir()), root / choices[0])
        crops: list[Crop] = []
        for source in sources:
            _read_list(root / f"list_{source}.txt", folder, crops, unparsed)
        parts.append(tuple(crops))
    return Listing(Split(*parts), 0, tuple(unparsed))


def _read_list(path: Path, folder: Path, crops: list[Crop], unparsed: list[Path]) -> None:
    if not path.is_file():
        return
    for number, line in enumerate(path.read_text(encoding="utf-8", errors="replace").splitlines(), start=1):
        if not line.strip():
            continue
        name, _, last = line.strip().rpartition(" ")
        pid = whole_number(last)
        if not name or pid is None or pid < 0:
            raise DatasetError(f"{path}, line {number}: {line[:80]!r} is not 'path pid': get the list again")
        tokens = Path(name).name.split("_")
        camid = whole_number(tokens[2]) if len(tokens) > 2 else None
        if camid is None:
            unparsed.append(folder / name)
        else:
            crops.append(Crop(folder / name, pid, camid))


_THREE = ("bounding_box_train", "bounding_box_test", "query")

_ROWS: Sequence[Layout] = (
    Layout(
        "dukemtmc",
        "DukeMTMC-reID",
        nested=("DukeMTMC-reID", "dukemtmc-reid/DukeMTMC-reID"),
        markers=_THREE,
        read=_duke,
        notices=(_DUKE_NOTICE,),
        published={"test": (16_522, 2_228, 17_661)},
    ),
    Layout(
        "market1501",
        "Market-1501",
        nested=("Market-1501-v15.09.15", "market1501/Market-1501-v15.09.15", "Market-1501", "market1501"),
        markers=_THREE,
        read=_market,
        published={"test": (12_936, 3_368, 15_913)},
    ),
    Layout(
        "msmt17",
        "MSMT17",
        nested=("MSMT17_V1", "MSMT17_V2", "msmt17/MSMT17_V1", "msmt17/MSMT17_V2"),
        markers=("list_query.txt", "list_gallery.txt", "test|mask_test_v2"),
        read=_msmt17,
        one_numbering=False,
        published={"test": (32_621, 11_659, 82_161)},
    ),
    Layout(
        "last",
        "LaST",
        nested=("LaST", "last"),
        markers=("test/query|val/query", "test/gallery|val/gallery"),
        read=_last,
        parts=("test", "val"),
        same_camera_filter=False,
        published={"val": (71_248, 100, 21_279), "test": (71_248, 10_176, 125_353)},
    ),
)

LAYOUTS = {layout.name: layout for layout in _ROWS}
"""The known layouts by name, in the order in which they are looked for."""
