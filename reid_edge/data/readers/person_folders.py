"""Crops of one's own: a folder for each person, whose name is the person's."""

from __future__ import annotations

import re
from collections.abc import Mapping
from hashlib import sha256
from itertools import count
from pathlib import Path

from reid_edge.errors import DatasetError

from .base import DatasetReader
from .files import folders_in, images_below
from .listing import Crop, Listing, Split

__all__ = ["PersonFolders", "UnsplitPersonFolders"]

_SPLIT_FOLDER = re.compile(r"(train|test|val|query|gallery|bounding_box_\w+)", re.IGNORECASE)

_Persons = dict[str, list[Path]]
"""The crops of each person, sorted."""


class PersonFolders(DatasetReader):
    """``train/anna/1.jpg`` and ``test/bert/1.jpg``; ``query/bert`` and ``gallery/bert`` may replace ``test``.

    Each folder may be missing; ``test`` beside ``query`` and ``gallery`` is refused, as one set is tested on. Of a
    person in ``test`` or ``val`` the first crop by name is the query and the others are gallery; a single one is
    gallery. Cameras are unknown: every image counts as its own camera, so that the same-camera rule drops nothing.
    """

    name = "person-folders"
    title = "a folder per person"
    markers = ("train/PERSON/", "test/PERSON/")
    parts = ("test", "val")
    same_camera_filter = False
    guess = 1

    def home(self, path: Path) -> Path | None:
        """The folder itself, where two persons have a folder in one of its parts, or queries one in the gallery."""
        query, gallery = (_person_folders(path / name) for name in ("query", "gallery"))
        parts = (_person_folders(path / name) for name in ("train", *self.parts))
        return path if query & gallery or any(len(part) > 1 for part in parts) else None

    def read(self, home: Path, part: str) -> Listing:
        """List ``train``, and query and gallery of ``part``."""
        unparsed: list[Path] = []
        train, scored, query, gallery = (
            _by_person(home / name, unparsed) for name in ("train", part, "query", "gallery")
        )
        if part == "test" and scored and (query or gallery):
            raise DatasetError(
                f"{home} has a test folder beside query and gallery, and one set is tested on: "
                "move that folder elsewhere, or query and gallery"
            )
        if part != "test" or not (query or gallery):
            query, gallery = _queries_apart(scored)
        return _listing(train, query, gallery, unparsed)


class UnsplitPersonFolders(DatasetReader):
    """``anna/1.jpg`` and ``bert/1.jpg``: one person in five, and at least two, is tested on, the others trained on.

    The SHA-256 of a person's name decides, so that the split is the same on every machine and adding a person moves few
    others. Persons with a single crop are trained on. Otherwise as in `PersonFolders`.
    """

    name = "person-folders-unsplit"
    title = "a folder per person, unsplit"
    markers = ("PERSON-1/", "PERSON-2/")
    same_camera_filter = False
    guess = 2
    notices = (
        "the persons were split by their names, one in five to test on: "
        "move their folders into train/ and test/ to split them yourself",
    )

    def home(self, path: Path) -> Path | None:
        """The folder itself, where two persons have a folder and none is named as a part of a data set."""
        names = _person_folders(path)
        return path if len(names) > 1 and not any(map(_SPLIT_FOLDER.fullmatch, names)) else None

    def read(self, home: Path, part: str) -> Listing:
        """Split the persons, then list them."""
        unparsed: list[Path] = []
        persons = _by_person(home, unparsed)
        several = (name for name, crops in persons.items() if len(crops) > 1)
        by_hash = sorted(several, key=lambda name: sha256(name.encode(errors="surrogateescape")).digest())
        tested = set(by_hash[: max(2, len(persons) // 5)])
        train = {name: crops for name, crops in persons.items() if name not in tested}
        query, gallery = _queries_apart({name: persons[name] for name in sorted(tested)})
        return _listing(train, query, gallery, unparsed)


def _person_folders(folder: Path) -> set[str]:
    """The names of the folders in ``folder`` that hold images."""
    return {path.name for path in folders_in(folder) if images_below(path)}


def _by_person(folder: Path, unparsed: list[Path]) -> _Persons:
    """The images of each person below ``folder``; those beside or below a person's folder are ``unparsed``."""
    unparsed += images_below(folder)
    persons: _Persons = {}
    for person in folders_in(folder):
        unparsed += [path for path in images_below(person, deep=True) if path.parent != person]
        if crops := images_below(person):
            persons[person.name] = crops
    return persons


def _queries_apart(persons: _Persons) -> tuple[_Persons, _Persons]:
    """Queries, the first crop of each person who has several, and gallery."""
    query = {name: crops[:1] for name, crops in persons.items() if len(crops) > 1}
    gallery = {name: crops[1:] or crops for name, crops in persons.items()}
    return query, gallery


def _listing(train: _Persons, query: _Persons, gallery: _Persons, unparsed: list[Path]) -> Listing:
    """The crops with the ids of their persons, which follow the order of the names, and a camera each."""
    names = dict(enumerate(sorted({*train, *query, *gallery})))
    ids = {name: pid for pid, name in names.items()}
    camera = count()

    def crops(persons: Mapping[str, list[Path]]) -> tuple[Crop, ...]:
        return tuple(Crop(path, ids[name], next(camera)) for name, paths in persons.items() for path in paths)

    return Listing(Split(crops(train), crops(query), crops(gallery)), 0, tuple(unparsed), names)
