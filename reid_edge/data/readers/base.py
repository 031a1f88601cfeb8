"""The contract of a data set reader: everything that differs from one public data set to the next."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping
from pathlib import Path
from types import MappingProxyType

from reid_edge.core.files import require_folder
from reid_edge.errors import DatasetError

from .listing import Listing

__all__ = ["DatasetReader", "contents_of", "missing_layout"]


class DatasetReader(ABC):
    """The folders of one data set, the meaning of its file names, and its evaluation protocol.

    A subclass states the facts as class attributes and implements `read`. A row of
    `reid_edge.data.readers.registry.READERS` makes it known to the package, and
    `reid_edge.data.readers.registry.register_reader` makes a reader of another package known. Readers hold no state.
    A data set in Market-1501's folders needs less: see `reid_edge.data.readers.market_folders.MarketFolders`.

    A reader of ``entrance/12-003.jpg`` and ``exit/12-001.jpg``, the third and first crop of person 12:

    >>> from reid_edge.data.readers.files import images_below
    >>> from reid_edge.data.readers.listing import Crop, Split
    >>> class Doors(DatasetReader):
    ...     name, title, markers = "doors", "Doors", ("entrance", "exit")
    ...
    ...     def read(self, home, part):
    ...         return Listing(Split(query=self.seen(home / "entrance", 0), gallery=self.seen(home / "exit", 1)))
    ...
    ...     def seen(self, folder, camera):
    ...         return tuple(Crop(path, int(path.stem.split("-")[0]), camera) for path in images_below(folder))
    """

    name: str
    """The value of ``layout`` and ``--layout``."""

    title: str
    """The data set's own name, for tables and errors."""

    nested: tuple[str, ...] = ()
    """Folders that may lie between the path that a user gives and the data set's own folders."""

    parts: tuple[str, ...] = ("test",)
    """What can be scored, the default first: "test", and "val" where the set has one."""

    same_camera_filter: bool = True
    """Whether the protocol drops gallery crops of the query's person seen by the query's camera."""

    single_gallery_shot: bool = False
    """Whether CMC counts one random gallery crop of each person (`reid_edge.scoring.trials`), as CUHK03's did."""

    one_numbering: bool = True
    """False where train and test persons are numbered independently, so that equal ids mean nothing."""

    distractor: int | None = None
    """The person id of distractors, gallery crops that match no query; None where there are none."""

    labelled: bool = True
    """False where no crop has a person id, so that only distillation can train on them."""

    notices: tuple[str, ...] = ()
    """What a user of the data should know, e.g. that its authors withdrew it."""

    published: Mapping[str, tuple[int, int, int]] = MappingProxyType({})
    """The public set's number of (train, query, gallery) crops, by part."""

    guess: int = 0
    """Readers that guess more are asked only where no other finds its data set.

    0: file or folder names are the data set's own. 1: folder names say which crops are for training, which for test.
    2: any folder may look so, and only a path that the user gives is opened so.
    """

    @property
    def markers(self) -> tuple[str, ...]:
        """Entries that must be there for a folder to be this data set; "a|b" means either of them."""
        return ()

    @abstractmethod
    def read(self, home: Path, part: str) -> Listing:
        """List the crops below ``home``, queries and gallery being those of ``part``."""

    def home(self, path: Path) -> Path | None:
        """The folder of this data set: ``path``, or one of ``nested`` below it; None if neither is."""
        for candidate in (path, *(path / name for name in self.nested)):
            if all(any((candidate / name).exists() for name in marker.split("|")) for marker in self.markers):
                return candidate
        return None

    def required_home(self, path: Path) -> Path:
        """Like `home`, where the user named this layout. Raises InputError when the data set is not there."""
        home = self.home(require_folder(path, "a data set (a manifest ends in .csv or .parquet)"))
        if home is None:
            raise missing_layout(path, (self,))
        return home

    def confidence(self, home: Path) -> int:
        """How certain it is that ``home``, found by `home`, is this data set: 0 means that it is another one.

        Among data sets with the same folders the highest value wins, and of equal values the earlier reader.
        """
        return 1

    def is_public(self, home: Path) -> bool:
        """Whether ``home`` claims to be the public data set, and must then have the published number of crops."""
        return True

    def display_name(self, home: Path) -> str:
        """What to call the data set in tables: its own title, unless its folder has another name."""
        return self.title if home.name in (*self.nested, self.title) else home.name


def missing_layout(path: Path, readers: Iterable[DatasetReader]) -> DatasetError:
    """The error for a folder in which none of ``readers`` finds its data set: what was expected and what was found."""
    titles: dict[tuple[str, ...], list[str]] = {}
    for reader in readers:
        titles.setdefault(reader.markers, []).append(reader.title)
    wanted = "; ".join(
        f"{' + '.join(markers).replace('|', ' or ')} ({', '.join(titles[markers])})" for markers in titles if markers
    )
    return DatasetError(f"{path} is in no known layout: looked for {wanted}; {contents_of(path)}")


def contents_of(folder: Path) -> str:
    """The first few entries of a folder, for errors."""
    try:
        names = sorted(entry.name for entry in folder.iterdir())[:6]
    except OSError as error:
        return f"it cannot be listed ({error.strerror}): check its permissions"
    return f"found {', '.join(names)}" if names else "the folder is empty"
