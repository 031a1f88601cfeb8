"""Whose crop is this? Known for the crops of a data set in a known layout, and for no others."""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from reid_edge.errors import InputError

from .datasets import open_dataset
from .readers.registry import choose_reader

__all__ = ["KnownIdentity", "known_identities", "same_identity"]

_DEEPEST = 4
"""How many folders above a crop its data set may be: one in Market-1501's layout, three in MSMT17's and LaST's."""


@dataclass(frozen=True)
class KnownIdentity:
    """An identity of a data set; ids mean the same within one ``numbering`` alone. ``pid`` is None for a distractor.

    ``name`` is what the data set calls the person, "" for a distractor.
    """

    numbering: str
    pid: int | None
    name: str = field(default="", compare=False)


def known_identities(paths: Iterable[Path]) -> dict[Path, KnownIdentity]:
    """The identity of each of ``paths`` that a data set around it lists; junk and other files are left out."""
    listed: dict[Path, dict[Path, KnownIdentity]] = {}
    found = {}
    for path in paths:
        crop = Path(os.path.abspath(path))
        for folder in list(crop.parents)[:_DEEPEST]:
            if folder not in listed:
                listed[folder] = _listed_in(folder)
            if crop in listed[folder]:
                found[path] = listed[folder][crop]
                break
    return found


def same_identity(query: KnownIdentity | None, other: KnownIdentity | None) -> bool | None:
    """Whether two crops show one identity; None where that is not known. A distractor matches no query."""
    if query is None or other is None or query.pid is None or query.numbering != other.numbering:
        return None
    return query.pid == other.pid


def _listed_in(folder: Path) -> dict[Path, KnownIdentity]:
    """The crops of the data set whose own folder this is; {} for any other folder."""
    try:
        reader, home = choose_reader(folder, guess=1)
        if home != folder:
            return {}
        dataset = open_dataset(folder, reader.name)
    except InputError:
        return {}
    split, test = dataset.split, f"{folder}"
    train = test if dataset.one_numbering else f"{folder} (train)"
    parts = ((split.train, train), (split.query, test), (split.gallery, test))
    return {
        crop.path: KnownIdentity(numbering, None)
        if crop.pid == dataset.distractor
        else KnownIdentity(numbering, crop.pid, dataset.name_of(crop.pid))
        for crops, numbering in parts
        for crop in crops
    }
