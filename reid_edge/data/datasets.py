"""Open a data set: find its layout, list its crops, keep to its protocol.

Market-1501 and DukeMTMC-reID have the same folders. They are told apart by the name of a folder on the path, and by
their file names: ``c1s1_`` is Market-1501's, ``c2_f0046182`` Duke's.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from .errors import DatasetError, InputError
from .files import require_folder
from .layouts import LAYOUTS, Layout, Listing, images_below, market_name
from .manifest import MANIFEST_SUFFIXES, read_manifest
from .records import Crop, Split

__all__ = ["LAYOUT_NAMES", "Dataset", "crops_in", "market_name", "mixed", "open_dataset", "require"]

LAYOUT_NAMES = (*LAYOUTS, "manifest", "crops")
"""What ``layout`` may be. "crops" is any folder of images of nobody knows whom, to train on with a teacher alone."""

_DUKE_FRAME = re.compile(r"\d+_c\d_f\d+")


@dataclass(frozen=True)
class Dataset:
    """A data set, opened. ``part`` is what queries and gallery are: "test", or "val" where the set has one.

    ``same_camera_filter`` is false for LaST, where every crop has a camera number of its own. ``notices`` are for
    people to read. ``listing`` also says how many crops were junk and which names did not parse. ``published`` are
    the crops to train on, queries and gallery of the public set; None when this is another set in its layout.
    """

    name: str
    layout: str
    root: Path
    listing: Listing
    part: str = "test"
    same_camera_filter: bool = True
    one_numbering: bool = True
    notices: tuple[str, ...] = ()
    published: tuple[int, int, int] | None = None

    @property
    def split(self) -> Split:
        """Crops to train on, queries and gallery."""
        return self.listing.split


def open_dataset(path: Path | str, layout: str | None = None, part: str = "test") -> Dataset:
    """Open the data set at ``path``: a folder in a known layout, or a CSV or Parquet manifest.

    ``layout`` is one of `LAYOUT_NAMES`, found out when None. Raises DatasetError when no layout fits or nothing is
    there, InputError when the path is missing or ``part`` is none of the set's.
    """
    path = Path(path)
    if layout is not None and layout not in LAYOUT_NAMES:
        raise InputError(f"layout {layout!r} is unknown: give one of {', '.join(LAYOUT_NAMES)}")
    if layout == "manifest" or (layout is None and path.is_file() and path.suffix.lower() in MANIFEST_SUFFIXES):
        _check_part(part, ("test",), "a manifest")
        return Dataset(path.stem, "manifest", path, read_manifest(path))
    path = require_folder(path, "a data set without a .csv or .parquet manifest")
    if layout == "crops":
        _check_part(part, ("test",), "a folder of crops")
        crops = tuple(Crop(crop, number, 0) for number, crop in enumerate(crops_in(path)))
        return Dataset(path.name, "crops", path, Listing(Split(train=crops)))
    row, home = _found(path, layout)
    _check_part(part, row.parts, row.title)
    listing = row.read(home, part)
    if not any((listing.split.train, listing.split.query, listing.split.gallery)):
        raise DatasetError(f"{home} is laid out as {row.title} and holds no crops: {_seen(home)}")
    return Dataset(
        name=row.title if home.name in row.nested or home.name == row.title else home.name,
        layout=row.name,
        root=home,
        listing=listing,
        part=part,
        same_camera_filter=row.same_camera_filter,
        one_numbering=row.one_numbering,
        notices=row.notices,
        published=row.published.get(part) if _is_the_public_set(row, home) else None,
    )


def mixed(datasets: Sequence[Dataset]) -> Dataset:
    """Train on all of ``datasets``, score on the first; one is returned as it is.

    People and cameras of different sets are different: each set's person ids are moved past those before it (junk and
    distractors are not trained on, so ids are from 0), and so are its cameras. Raises InputError when the same folder
    is given twice.
    """
    first = datasets[0]
    roots = [each.root.resolve() for each in datasets]
    if twice := {str(root) for root in roots if roots.count(root) > 1}:
        raise InputError(f"{', '.join(sorted(twice))} is given twice: name each data set once")
    train: list[Crop] = []
    for each in datasets:
        pids = max((crop.pid for crop in train), default=-1) + 1
        cameras = max((crop.camid for crop in train), default=-1) + 1
        train += [Crop(crop.path, crop.pid + pids, crop.camid + cameras) for crop in each.split.train]
    if len(datasets) == 1:
        return first
    return replace(
        first,
        name=" + ".join(each.name for each in datasets),
        listing=replace(first.listing, split=replace(first.split, train=tuple(train))),
        one_numbering=False,
        notices=tuple(dict.fromkeys(notice for each in datasets for notice in each.notices)),
        published=None,
    )


def require(dataset: Dataset, *parts: str) -> None:
    """Raise DatasetError unless each of ``parts`` ("train", "query", "gallery") has a crop."""
    for part in parts:
        crops: tuple[Crop, ...] = getattr(dataset.split, part)
        if not crops:
            raise DatasetError(
                f"{dataset.root} ({dataset.layout}) has no {part} crops: "
                f"see what was found with  reid-edge data inspect {dataset.root}"
            )


def crops_in(folder: Path | str) -> list[Path]:
    """Every image below ``folder``, sorted. Raises DatasetError when there is none."""
    folder = require_folder(folder, "crops")
    crops = images_below(folder, deep=True)
    if not crops:
        raise DatasetError(f"{folder} holds no images: give a folder of JPEG or PNG crops")
    return crops


def _found(path: Path, layout: str | None) -> tuple[Layout, Path]:
    rows = [LAYOUTS[layout]] if layout else list(LAYOUTS.values())
    homes = {row.name: home for row in rows if (home := row.home(path)) is not None}
    if not homes:
        raise DatasetError(f"{path} is in no known layout: {_wanted(rows)}; {_seen(path)}")
    if "dukemtmc" in homes and homes["dukemtmc"] == homes.get("market1501"):
        del homes["market1501" if _is_duke(homes["dukemtmc"]) else "dukemtmc"]
    if len(homes) > 1:
        raise DatasetError(f"{path} holds several data sets: give the folder of one: {_named(homes)}")
    ((name, home),) = homes.items()
    return LAYOUTS[name], home


def _is_duke(home: Path) -> bool:
    crops = (crop.name for name in ("query", "bounding_box_test") for crop in images_below(home / name))
    sample = next((name for name in crops if market_name(name)), "")
    return "duke" in home.name.lower() or _DUKE_FRAME.match(sample) is not None


def _is_the_public_set(row: Layout, home: Path) -> bool:
    """Market-1501's layout is everybody's, the built-in set's too; the others' are theirs alone."""
    return row.name != "market1501" or "market" in home.name.lower()


def _named(homes: Mapping[str, Path]) -> str:
    return ", ".join(f"{home} ({name})" for name, home in homes.items())


def _check_part(part: str, known: tuple[str, ...], what: str) -> None:
    if part not in known:
        raise InputError(f"{what} has no part {part!r}: give {' or '.join(known)}")


def _wanted(rows: list[Layout]) -> str:
    wanted = "; ".join(dict.fromkeys(f"{' + '.join(row.markers)} ({row.title})" for row in rows))
    return f"looked for {wanted}"


def _seen(path: Path) -> str:
    names = sorted(entry.name for entry in path.iterdir())[:6]
    return f"found {', '.join(names)}" if names else "the folder is empty"
