"""Data sets in the folders of Market-1501, one for each of train, query and gallery, as many later sets have them."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from .base import DatasetReader
from .files import images_below, whole_number
from .listing import Crop, Listing, Split

__all__ = ["MarketFolders", "ids_in"]


class MarketFolders(DatasetReader):
    r"""A reader for data sets in Market-1501's folders; a subclass gives the pattern of its file names.

    Crops with a person id below 0 are junk, and dropped. ``distractor`` crops stay in the gallery and
    are junk elsewhere.

    The folder of training crops may be missing: the others can be scored all the same.

    Since several data sets have these folders, a reader recognises its own by ``folder_word`` and ``own_name``; the
    file name counts more. A reader that finds neither does not claim the folder, unless ``common_form`` is set.

    A reader of ``Harbour/query/person12_camera3_0001.jpg`` in whose gallery person 0 is nobody:

    >>> class Harbour(MarketFolders):
    ...     name, title, nested = "harbour", "Harbour", ("Harbour",)
    ...     folders = ("train", "query", "gallery")
    ...     pattern = own_name = re.compile(r"person(\d+)_camera(\d+)")
    ...     distractor = 0
    """

    folders: tuple[str, str, str] = ("bounding_box_train", "query", "bounding_box_test")
    """What the folders of train, query and gallery crops are called."""

    pattern: re.Pattern[str]
    """Matches the start of a file name: group 1 is the person, group 2 the camera."""

    folder_word: str = ""
    """A word in the name of the data set's folder, in lower case."""

    own_name: re.Pattern[str] | None = None
    """Matches file names of this data set that no other in these folders has."""

    must_be_named: bool = False
    """For a data set with the file names of another (Occluded-Duke): claims only folders with both signs."""

    common_form: bool = False
    """For a form that other data has too: claims any folder, and is the public set only with ``folder_word``."""

    @property
    def markers(self) -> tuple[str, ...]:
        """The folders of queries and gallery."""
        return self.folders[1:]

    def confidence(self, home: Path) -> int:
        """1, plus 1 where the folder's name and plus 2 where its file names are this data set's; 0 without a claim."""
        named = self._is_named(home)
        own = self.own_name is not None and self.own_name.match(self._sample(home)) is not None
        if not (named and own if self.must_be_named else named or own or self.common_form):
            return 0
        return 1 + named + 2 * own

    def is_public(self, home: Path) -> bool:
        """Always, except in the common form: there only by the folder's name."""
        return not self.common_form or self._is_named(home)

    def read(self, home: Path, part: str) -> Listing:
        """List the three folders, without junk."""
        unparsed: list[Path] = []
        train, query, gallery = (tuple(self._crops(home / name, unparsed)) for name in self.folders)
        kept = Split(
            train=tuple(crop for crop in train if crop.pid >= 0 and crop.pid != self.distractor),
            query=tuple(crop for crop in query if crop.pid >= 0 and crop.pid != self.distractor),
            gallery=tuple(crop for crop in gallery if crop.pid >= 0),
        )
        junk = len(train) + len(query) + len(gallery) - len(kept.train) - len(kept.query) - len(kept.gallery)
        return Listing(kept, junk, tuple(unparsed))

    def _crops(self, folder: Path, unparsed: list[Path]) -> Iterator[Crop]:
        for path in images_below(folder):
            ids = ids_in(path.name, self.pattern)
            if ids is None:
                unparsed.append(path)
            else:
                yield Crop(path, *ids)

    def _is_named(self, home: Path) -> bool:
        return bool(self.folder_word) and self.folder_word in home.name.lower()

    def _sample(self, home: Path) -> str:
        """The first file name that parses, from the queries or else the gallery; "" without one."""
        names = (path.name for folder in self.folders[1:] for path in images_below(home / folder))
        return next((name for name in names if ids_in(name, self.pattern)), "")


def ids_in(name: str, pattern: re.Pattern[str]) -> tuple[int, int] | None:
    """Person and camera of a file name, the two groups of ``pattern``; None when it does not match."""
    match = pattern.match(name)
    pid, camid = (whole_number(text) for text in match.groups()) if match else (None, None)
    return None if pid is None or camid is None else (pid, camid)
