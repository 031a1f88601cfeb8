"""Open a data set: detect its layout, list its crops, keep to its protocol."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from reid_edge.core.names import did_you_mean
from reid_edge.errors import DatasetError, InputError

from .readers.base import contents_of
from .readers.crops import crops_in
from .readers.registry import READERS, choose_reader
from .records import Crop, Listing, Split

__all__ = ["LAYOUT_NAMES", "Dataset", "crops_in", "mixed", "open_dataset", "require"]

LAYOUT_NAMES = tuple(reader.name for reader in READERS)
"""What ``layout`` may be, but for readers that a program registers.

"crops" is any folder of images without labels, to train on with a teacher alone.
"""


@dataclass(frozen=True)
class Dataset:
    """A data set, opened; its protocol facts are those of its `reid_edge.data.readers.base.DatasetReader`.

    ``part`` is what queries and gallery are: "test", or "val" where the set has one. ``listing`` also says how many
    crops were junk and which names did not parse. ``published`` are the public set's train, query and gallery crops
    in number; ``is_public`` is False for other data in the same layout, which need not match them. ``mixed_from`` are
    the numbers of training crops of the sets that it was `mixed` from, in their order.
    """

    name: str
    layout: str
    root: Path
    listing: Listing
    part: str = "test"
    same_camera_filter: bool = True
    single_gallery_shot: bool = False
    one_numbering: bool = True
    notices: tuple[str, ...] = ()
    published: tuple[int, int, int] | None = None
    is_public: bool = False
    distractor: int | None = None
    labelled: bool = True
    mixed_from: tuple[int, ...] = ()

    def __repr__(self) -> str:
        split = self.split
        counts = f"{len(split.train)} train, {len(split.query)} query and {len(split.gallery)} gallery crops"
        return f"<Dataset {self.name} ({self.layout}, {self.part}) at {str(self.root)!r}: {counts}>"

    @property
    def split(self) -> Split:
        """Crops to train on, queries and gallery."""
        return self.listing.split

    def name_of(self, pid: int) -> str:
        """What the data set calls a person: a name where it has names, else the id itself."""
        return self.listing.names.get(pid, str(pid))


def open_dataset(path: Path | str, layout: str | None = None, part: str = "test") -> Dataset:
    """Open the data set at ``path``: a folder in a known layout, or a CSV or Parquet manifest.

    ``layout`` is one of `LAYOUT_NAMES`, auto-detected when None. Raises DatasetError when no layout fits or there are
    no crops, InputError when the path is missing or the set has no such ``part``.

    >>> import tempfile
    >>> from reid_edge.data.synthetic.dataset import synthesize
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     drawn = synthesize(
    ...         Path(folder) / "drawn", identities=2, test_identities=2, cameras=2, size_hw=(64, 32), progress=False
    ...     )
    ...     dataset = open_dataset(drawn)
    >>> dataset.layout, sorted({crop.pid for crop in dataset.split.train})
    ('market1501', [1, 2])
    """
    reader, home = choose_reader(Path(path), layout)
    if part not in reader.parts:
        known = f"give {' or '.join(reader.parts)}{did_you_mean(part, reader.parts)}"
        raise InputError(f"{reader.title} has no part {part!r}: {known}")
    listing = reader.read(home, part)
    if not any((listing.split.train, listing.split.query, listing.split.gallery)):
        raise DatasetError(f"{home} is laid out as {reader.title} and holds no crops: {contents_of(home)}")
    return Dataset(
        name=reader.display_name(home),
        layout=reader.name,
        root=home,
        listing=listing,
        part=part,
        same_camera_filter=reader.same_camera_filter,
        single_gallery_shot=reader.single_gallery_shot,
        one_numbering=reader.one_numbering,
        notices=(*reader.notices, *listing.notices),
        published=reader.published.get(part),
        is_public=part in reader.published and reader.is_public(home),
        distractor=reader.distractor,
        labelled=reader.labelled,
    )


def mixed(datasets: Sequence[Dataset]) -> Dataset:
    """Train on all of ``datasets``, score on the first; a single one is returned as it is.

    Persons and cameras of different sets are different: each set's ids are moved past those of the sets before it.
    Ids to train on are 0 or more, since junk and distractors are left out. Raises InputError for a folder given twice.
    """
    first = datasets[0]
    roots = [each.root.resolve() for each in datasets]
    if twice := {str(root) for root in roots if roots.count(root) > 1}:
        raise InputError(f"{', '.join(sorted(twice))} is given twice: name each data set once")
    train = list(first.split.train)
    names = dict(first.listing.names)
    scored = first.split.query + first.split.gallery
    for each in datasets[1:]:
        pids = max((*(crop.pid for crop in (*train, *scored)), *names), default=-1) + 1
        cameras = max((crop.camid for crop in train), default=-1) + 1
        train += [Crop(crop.path, crop.pid + pids, crop.camid + cameras) for crop in each.split.train]
        names |= {pid + pids: name for pid, name in each.listing.names.items()}
    if len(datasets) == 1:
        return first
    return replace(
        first,
        name=" + ".join(each.name for each in datasets),
        listing=replace(first.listing, split=replace(first.split, train=tuple(train)), names=names),
        one_numbering=False,
        notices=tuple(dict.fromkeys(notice for each in datasets for notice in each.notices)),
        published=None,
        is_public=False,
        labelled=all(each.labelled for each in datasets),
        mixed_from=tuple(len(each.split.train) for each in datasets),
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
