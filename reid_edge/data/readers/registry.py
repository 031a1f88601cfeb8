"""The data sets that can be opened: add a reader here, or by `register_reader`, and everything knows it."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path

from reid_edge.core.files import require_folder
from reid_edge.core.names import require_name
from reid_edge.core.registry import Registry
from reid_edge.errors import DatasetError, InputError

from .base import DatasetReader, missing_layout
from .crops import UnlabelledCrops
from .cuhk03 import Cuhk03ClassicDetected, Cuhk03ClassicLabeled, Cuhk03Detected, Cuhk03Labeled
from .dukemtmc import DukeMtmc, OccludedDuke
from .last import Last
from .manifest import Manifest
from .market1501 import Market1501
from .msmt17 import Msmt17
from .person_folders import PersonFolders, UnsplitPersonFolders
from .small_sets import Cuhk01, Grid, Viper

__all__ = ["LAYOUTS", "READERS", "choose_reader", "register_reader"]

logger = logging.getLogger(__name__)

READERS: tuple[DatasetReader, ...] = (
    OccludedDuke(),
    DukeMtmc(),
    Cuhk03Labeled(),
    Cuhk03Detected(),
    Market1501(),
    Msmt17(),
    Last(),
    Cuhk03ClassicLabeled(),
    Cuhk03ClassicDetected(),
    Cuhk01(),
    Viper(),
    Grid(),
    Manifest(),
    PersonFolders(),
    UnsplitPersonFolders(),
    UnlabelledCrops(),
)
"""The own readers. Put a part of another data set (Occluded-Duke) before that one: of equals, the first wins."""

LAYOUTS: Registry[DatasetReader] = Registry("layouts", {reader.name: reader for reader in READERS})
"""These readers by name, and what programs and packages add. Those added come first where several claim a folder."""


def register_reader(reader: DatasetReader) -> None:
    """Make a reader of another package known, before those that are: what it claims as surely as they, is its own.

    It is known to this process, by its name and to auto-detection. Raises InputError for the name of an own reader.
    """
    LAYOUTS.register(reader.name, reader)


def choose_reader(path: Path, layout: str | None = None, *, guess: int = 2) -> tuple[DatasetReader, Path]:
    """The reader of the data set at ``path`` and the folder or file to read, by ``layout`` or auto-detected.

    ``guess`` is how much may be guessed (`reid_edge.data.readers.base.DatasetReader.guess`). Raises InputError for an
    unknown layout or a missing path, DatasetError when no reader, or more than one data set, is found there.
    """
    if layout is not None:
        reader = LAYOUTS[require_name(layout, LAYOUTS, "layout")]
        return reader, reader.required_home(path)
    readers = _readers()
    claims = next(filter(None, (_claims(path, readers, level) for level in range(guess + 1))), [])
    if not claims:
        raise missing_layout(require_folder(path, "a data set (a manifest ends in .csv or .parquet)"), readers)
    if len(claims) > 1:
        found = ", ".join(f"{home} ({reader.name})" for reader, home in claims)
        raise DatasetError(f"{path} holds several data sets: give the folder of one, or its layout: {found}")
    (claim,) = claims
    return claim


def _readers() -> tuple[DatasetReader, ...]:
    """All of them in the order in which they are asked, without those of other packages that cannot be imported."""
    added = []
    for name in LAYOUTS:
        if name not in LAYOUTS.own:
            try:
                added.append(LAYOUTS[name])
            except InputError as error:
                logger.warning("%s", error)
    return (*reversed(added), *READERS)


def _claims(path: Path, readers: Sequence[DatasetReader], guess: int) -> list[tuple[DatasetReader, Path]]:
    """The data sets that readers of this ``guess`` find at ``path``: of those with the same folders, the surest."""
    claims: dict[tuple[Path, tuple[str, ...]], tuple[int, DatasetReader]] = {}
    for reader in (reader for reader in readers if reader.guess == guess):
        home = reader.home(path)
        if home is None or not (confidence := reader.confidence(home)):
            continue
        place = (home, reader.markers)
        if place not in claims or confidence > claims[place][0]:
            claims[place] = (confidence, reader)
    return [(reader, home) for (home, _), (_, reader) in claims.items()]
