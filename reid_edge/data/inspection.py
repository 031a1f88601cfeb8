"""Inspect a data set before training: what it holds, and its problems."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from reid_edge.core.log import printable
from reid_edge.core.pools import thread_pool
from reid_edge.core.progress import phase, track
from reid_edge.errors import ImageError

from .datasets import Dataset, open_dataset
from .decoding import read
from .records import Crop, Split

if TYPE_CHECKING:
    from rich.console import RenderableType
    from rich.text import Text

__all__ = ["Counts", "Inspection", "Problem", "inspect_dataset", "inspection_table"]

_LISTED = 5
"""How many problems of one kind are listed; all are counted."""


@dataclass(frozen=True)
class Counts:
    """Crops, identities and cameras of one split; ``distractors`` are crops without an identity in the data set.

    ``cameras`` is None where the data set does not say which camera took a crop.
    """

    crops: int
    identities: int
    cameras: int | None
    distractors: int

    @classmethod
    def of(cls, crops: Sequence[Crop], dataset: Dataset) -> Counts:
        """Count a split of a data set."""
        distractors = sum(crop.pid == dataset.distractor for crop in crops)
        identities = {crop.pid for crop in crops} - {dataset.distractor}
        cameras = len({crop.camid for crop in crops}) if dataset.same_camera_filter else None
        return cls(len(crops), len(identities), cameras, distractors)


@dataclass(frozen=True)
class Problem:
    """One problem: ``kind`` is what problems are grouped by, ``path`` the file where there is one."""

    kind: str
    message: str
    path: str | None = None


@dataclass(frozen=True)
class Inspection:
    """What `inspect_dataset` found. ``kinds`` counts all problems by kind; ``problems`` lists the first few of each.

    ``distractor`` is the person id of distractors, None where the data set has none. ``names`` are those of its
    persons, where it has names. ``use`` says what cannot be done with the set, "" where all can.
    """

    name: str
    layout: str
    root: str
    part: str
    splits: dict[str, Counts]
    use: str
    names: tuple[str, ...]
    distractor: int | None
    junk: int
    kinds: dict[str, int]
    problems: tuple[Problem, ...]
    notices: tuple[str, ...]

    def to_dict(self) -> dict[str, Any]:
        """JSON-able."""
        return asdict(self)


def inspect_dataset(
    path: Path | str, layout: str | None = None, part: str = "test", check_images: bool = True
) -> Inspection:
    """Count identities, cameras and crops of each split, and look for problems.

    These are: empty splits; files whose names do not parse; with ``check_images`` crops that cannot be decoded or
    have no pixels; training identities and queries that only one camera saw; identities in both train and test; crops
    listed twice; counts that differ from the published ones. Raises what `open_dataset` raises; problems are returned.
    """
    with phase(f"reading {path}"):
        dataset = open_dataset(path, layout, part)
    split = dataset.split
    parts = {"train": split.train, "query": split.query, "gallery": split.gallery}
    with phase("looking for problems"):
        found = list(_problems(dataset))
    if check_images:
        found += _unreadable([crop.path for crops in parts.values() for crop in crops])
    return Inspection(
        name=dataset.name,
        layout=dataset.layout,
        root=str(dataset.root),
        part=dataset.part,
        splits={name: Counts.of(crops, dataset) for name, crops in parts.items()},
        use=_use(split),
        names=tuple(dataset.listing.names.values()),
        distractor=dataset.distractor,
        junk=dataset.listing.junk,
        kinds=dict(Counter(problem.kind for problem in found)),
        problems=tuple(_first_of_each_kind(found)),
        notices=dataset.notices,
    )


def inspection_table(inspection: Inspection) -> RenderableType:
    """A table of the splits, then what to know of the set, then its problems."""
    from rich.box import SIMPLE_HEAD
    from rich.console import Group
    from rich.padding import Padding
    from rich.table import Table
    from rich.text import Text

    title = f"{inspection.name}: layout {inspection.layout}, {inspection.part} part"
    splits = Table("split", box=SIMPLE_HEAD, title=_line(title), title_justify="left", padding=(0, 1), show_edge=False)
    for column in ("crops", "identities", "cameras", "distractors"):
        splits.add_column(column, justify="right")
    for name, counts in inspection.splits.items():
        splits.add_row(name, *("-" if value is None else f"{value:,}" for value in asdict(counts).values()))
    facts = Table.grid(padding=(0, 2))
    for label, fact in _facts(inspection):
        facts.add_row(label, _line(fact))
    problems: list[RenderableType] = []
    for kind, count in inspection.kinds.items():
        own = [problem for problem in inspection.problems if problem.kind == kind]
        lines = [_line(problem.message) for problem in own]
        lines += [Text(f"and {count - len(own)} more")] if count > len(own) else []
        problems += [Text(f"{kind}: {count}", style="bold yellow"), Padding(Group(*lines), (0, 0, 0, 2))]
    return Group(splits, "", facts, *(problems or [Text("no problems found", style="green")]))


def _facts(inspection: Inspection) -> Iterator[tuple[str, str]]:
    """What is worth knowing and no problem, with a label each."""
    if names := inspection.names:
        more = f" and {len(names) - _LISTED} more" if len(names) > _LISTED else ""
        yield "persons", ", ".join(names[:_LISTED]) + more
    if inspection.junk:
        outside = "" if inspection.distractor is None else f", or person {inspection.distractor} outside the gallery"
        yield "junk", f"{inspection.junk:,} left out by the protocol: person below 0{outside}"
    for note in (inspection.use, *inspection.notices):
        if note:
            yield "note", note


def _use(split: Split) -> str:
    """What a set without a training or a test part is for."""
    if split.train and not (split.query or split.gallery):
        return "no query and gallery crops: this set can be trained on, and not scored"
    if split.query and split.gallery and not split.train:
        return "no train crops: this set can be scored, and not trained on"
    return ""


def _line(text: str) -> Text:
    """One line of text, whatever file names hold."""
    from rich.text import Text

    return Text(printable(text))


def _problems(dataset: Dataset) -> Iterator[Problem]:
    split = dataset.split
    for name in ("query", "gallery"):
        if not getattr(split, name) and not _use(split):
            yield Problem("empty splits", f"there are no {name} crops: this set cannot be scored")
    for path in dataset.listing.unparsed:
        name = os.path.relpath(path, dataset.root)
        yield Problem("names that do not parse", f"{name}: left out; rename or move it, or use a manifest", str(path))
    if dataset.same_camera_filter:
        yield from _one_camera(dataset)
    yield from _without_match(dataset)
    if dataset.one_numbering:
        shared = {crop.pid for crop in split.train} & {crop.pid for crop in (*split.query, *split.gallery)}
        for pid in sorted(shared):
            message = f"person {dataset.name_of(pid)} is in both train and test: the score will be too high"
            yield Problem("identities in train and test", message)
    for path, count in Counter(crop.path for crop in _listings(split)).items():
        if count > 1:
            yield Problem("crops listed twice", f"{path.name} is listed {count} times", str(path))
    counts = tuple(len(part) for part in _parts(dataset))
    if dataset.is_public and counts != dataset.published:
        message = f"{counts} train, query and gallery crops, published are {dataset.published}: a subset, or incomplete"
        yield Problem("not the published counts", message)


def _parts(dataset: Dataset) -> tuple[tuple[Crop, ...], ...]:
    return dataset.split.train, dataset.split.query, dataset.split.gallery


def _listings(split: Split) -> Iterator[Crop]:
    """Each time that a crop is listed; once where all queries are the gallery, as in CUHK03's classic protocol."""
    yield from (*split.train, *split.query, *(split.gallery if split.gallery != split.query else ()))


def _one_camera(dataset: Dataset) -> Iterator[Problem]:
    cameras: dict[int, set[int]] = {}
    for crop in dataset.split.train:
        cameras.setdefault(crop.pid, set()).add(crop.camid)
    for pid, seen in sorted(cameras.items()):
        if len(seen) == 1:
            person = f"person {dataset.name_of(pid)}"
            message = f"{person} was seen by camera {min(seen)} only: nothing is learned across cameras"
            yield Problem("training identities in one camera only", message)


def _without_match(dataset: Dataset) -> Iterator[Problem]:
    needed = "crop by another camera" if dataset.same_camera_filter else "crop"
    cameras: dict[int, set[int]] = {}
    for crop in dataset.split.gallery:
        cameras.setdefault(crop.pid, set()).add(crop.camid)
    for crop in dataset.split.query:
        if not cameras.get(crop.pid, set()) - {crop.camid}:
            message = (
                f"{crop.path.name}: person {dataset.name_of(crop.pid)} has no {needed} in the gallery; not counted"
            )
            yield Problem("queries without a match", message, str(crop.path))


def _unreadable(paths: Sequence[Path]) -> list[Problem]:
    with thread_pool() as pool:
        found = track(pool.map(_decoded, paths), f"decoding {len(paths)} crops", len(paths))
        return [problem for problem in found if problem is not None]


def _decoded(path: Path) -> Problem | None:
    try:
        read(path)
    except ImageError as error:
        return Problem("unreadable crops", str(error), str(path))
    return None


def _first_of_each_kind(found: Iterable[Problem]) -> Iterator[Problem]:
    listed: Counter[str] = Counter()
    for problem in found:
        listed[problem.kind] += 1
        if listed[problem.kind] <= _LISTED:
            yield problem
