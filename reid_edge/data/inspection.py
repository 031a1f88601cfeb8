"""What a data set holds, and what is wrong with it, before a night of training finds out."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .datasets import Dataset, open_dataset
from .errors import ImageError
from .images import read
from .progress import track
from .records import Crop

if TYPE_CHECKING:
    from rich.console import RenderableType
    from rich.text import Text

__all__ = ["Counts", "Inspection", "Problem", "inspect_dataset", "inspection_table"]

_LISTED = 5
"""How many problems of one kind are spelled out; all are counted."""


@dataclass(frozen=True)
class Counts:
    """How many crops, people and cameras one split holds; ``distractors`` are crops of nobody (person 0)."""

    crops: int
    people: int
    cameras: int
    distractors: int

    @classmethod
    def of(cls, crops: Sequence[Crop], zero_is_nobody: bool) -> Counts:
        """Count a split. Where ``zero_is_nobody``, person 0 is a distractor and no person."""
        nobody = sum(crop.pid == 0 for crop in crops) if zero_is_nobody else 0
        people = {crop.pid for crop in crops} - ({0} if zero_is_nobody else set())
        return cls(len(crops), len(people), len({crop.camid for crop in crops}), nobody)


@dataclass(frozen=True)
class Problem:
    """Something wrong: ``kind`` groups, ``message`` says it, ``path`` is the file where there is one."""

    kind: str
    message: str
    path: str | None = None


@dataclass(frozen=True)
class Inspection:
    """What `inspect_dataset` found. ``kinds`` counts all problems by kind; ``problems`` lists the first few of each."""

    name: str
    layout: str
    root: str
    part: str
    splits: dict[str, Counts]
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
    """Count people, cameras and crops of each split, and look for what would hurt.

    Looked for: empty splits; files whose names do not parse; with ``check_images`` crops that cannot be decoded or
    have no pixels; people to train on and queries that only one camera saw; people in both train and test; crops
    listed twice; counts other than the published. Raises as `open_dataset` does; problems are found, not raised.
    """
    dataset = open_dataset(path, layout, part)
    split = dataset.split
    zero_is_nobody = dataset.layout in {"market1501", "dukemtmc"}
    parts = {"train": split.train, "query": split.query, "gallery": split.gallery}
    found = list(_problems(dataset))
    if check_images:
        found += _unreadable([crop.path for crops in parts.values() for crop in crops])
    return Inspection(
        name=dataset.name,
        layout=dataset.layout,
        root=str(dataset.root),
        part=dataset.part,
        splits={name: Counts.of(crops, zero_is_nobody) for name, crops in parts.items()},
        junk=dataset.listing.junk,
        kinds=dict(Counter(problem.kind for problem in found)),
        problems=tuple(_first_of_each_kind(found)),
        notices=dataset.notices,
    )


def inspection_table(inspection: Inspection) -> RenderableType:
    """A table of the splits, then what is wrong."""
    from rich.console import Group
    from rich.table import Table
    from rich.text import Text

    title = f"{inspection.name}: layout {inspection.layout}, {inspection.part} part"
    table = Table("split", "crops", "people", "cameras", "distractors", title=_line(title))
    for name, counts in inspection.splits.items():
        table.add_row(name, *(str(value) for value in asdict(counts).values()))
    lines = [_line(f"note: {notice}") for notice in inspection.notices]
    if inspection.junk:
        kinds = "person below 0, or person 0 outside the gallery"
        lines.append(Text(f"{inspection.junk} crops are junk ({kinds}) and were left out, as the protocol says"))
    for kind, count in inspection.kinds.items():
        lines.append(Text(f"{kind}: {count}", style="bold yellow"))
        own = [problem for problem in inspection.problems if problem.kind == kind]
        lines += [_line(f"  {problem.message}") for problem in own]
        lines += [Text(f"  and {count - len(own)} more")] if count > len(own) else []
    return Group(table, *lines, *([] if inspection.kinds else [Text("nothing wrong was found", style="green")]))


def _line(text: str) -> Text:
    """File names may hold line breaks, terminal codes or bytes that are no text: those are shown escaped."""
    from rich.text import Text

    return Text("".join(sign if sign.isprintable() else ascii(sign)[1:-1] for sign in text))


def _problems(dataset: Dataset) -> Iterator[Problem]:
    split = dataset.split
    for name, crops in zip(("train", "query", "gallery"), _parts(dataset), strict=True):
        if not crops:
            use = "train on" if name == "train" else "evaluate with"
            yield Problem("empty splits", f"there are no {name} crops: this set cannot be used to {use}")
    for path in dataset.listing.unparsed:
        yield Problem("names that do not parse", f"{path.name}: left out; rename it or use a manifest", str(path))
    if dataset.same_camera_filter:
        yield from _one_camera(split.train)
        yield from _without_match(split.query, split.gallery)
    if dataset.one_numbering:
        shared = {crop.pid for crop in split.train} & {crop.pid for crop in (*split.query, *split.gallery)}
        for pid in sorted(shared):
            message = f"person {pid} is trained on and tested on: the score will flatter the model"
            yield Problem("people in train and test", message)
    for path, count in Counter(crop.path for part in _parts(dataset) for crop in part).items():
        if count > 1:
            yield Problem("crops listed twice", f"{path.name} is listed {count} times", str(path))
    counts = tuple(len(part) for part in _parts(dataset))
    if dataset.published and counts != dataset.published:
        message = f"{counts} train, query and gallery crops, published are {dataset.published}: a subset, or damaged"
        yield Problem("not the published counts", message)


def _parts(dataset: Dataset) -> tuple[tuple[Crop, ...], ...]:
    return dataset.split.train, dataset.split.query, dataset.split.gallery


def _one_camera(train: Sequence[Crop]) -> Iterator[Problem]:
    cameras: dict[int, set[int]] = {}
    for crop in train:
        cameras.setdefault(crop.pid, set()).add(crop.camid)
    for pid, seen in sorted(cameras.items()):
        if len(seen) == 1:
            message = f"person {pid} was seen by camera {min(seen)} alone: nothing is learned across cameras"
            yield Problem("people to train on in one camera only", message)


def _without_match(query: Sequence[Crop], gallery: Sequence[Crop]) -> Iterator[Problem]:
    cameras: dict[int, set[int]] = {}
    for crop in gallery:
        cameras.setdefault(crop.pid, set()).add(crop.camid)
    for crop in query:
        if not cameras.get(crop.pid, set()) - {crop.camid}:
            message = f"{crop.path.name}: person {crop.pid} is in no other camera of the gallery; it does not count"
            yield Problem("queries without a match", message, str(crop.path))


def _unreadable(paths: Sequence[Path]) -> list[Problem]:
    with ThreadPoolExecutor() as pool:
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
