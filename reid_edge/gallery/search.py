"""From files to a ranked list: the work of `reid-edge embed` and `reid-edge rank`."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from reid_edge.core.cells import FileName
from reid_edge.core.files import require_file
from reid_edge.core.log import printable
from reid_edge.core.progress import phase
from reid_edge.data.datasets import crops_in
from reid_edge.data.identities import KnownIdentity, known_identities, same_identity
from reid_edge.data.records import Ranking
from reid_edge.embedder.embedder import Embedder
from reid_edge.errors import InputError
from reid_edge.scoring.distances import distance_by_name

from .base import GalleryStore
from .memory import Gallery

if TYPE_CHECKING:
    from rich.table import Table

__all__ = [
    "GALLERY_FILES",
    "GalleryFile",
    "RankedFiles",
    "draw_ranking",
    "enrol_files",
    "new_gallery",
    "rank_files",
    "ranking_table",
]


@dataclass(frozen=True)
class GalleryFile:
    """A kind of gallery file: ``load`` opens one; what is enrolled within ``with new(path)`` is kept at the path."""

    load: Callable[[Path], GalleryStore]
    new: Callable[[Path], AbstractContextManager[GalleryStore]]


@contextmanager
def _new_npz(path: Path) -> Iterator[GalleryStore]:
    gallery = Gallery()
    yield gallery
    gallery.save(path)


GALLERY_FILES = {".npz": GalleryFile(Gallery.load, _new_npz)}
"""The kinds of gallery files by suffix: what ``embed --out`` writes and ``rank --gallery`` reads."""


@dataclass(frozen=True)
class RankedFiles:
    """Queries, and for each the gallery files closest to it. ``ranking.labels`` are the gallery's paths.

    ``identities`` are those of the crops that lie in a data set of a known layout.
    """

    queries: tuple[Path, ...]
    ranking: Ranking
    distance: str
    identities: Mapping[Path, KnownIdentity] = field(default_factory=dict)

    @property
    def root(self) -> Path:
        """The folder that all of the gallery's crops lie in; ``.`` where they share none."""
        try:
            return Path(os.path.commonpath([os.path.dirname(label) for label in self.ranking.labels]))
        except ValueError:  # some are absolute and some are not
            return Path()

    def is_match(self, query: int, label: str) -> bool | None:
        """Whether a query and a ranked crop show one person; None unless one data set's layout says who both are."""
        return same_identity(self.identities.get(self.queries[query]), self.identities.get(Path(label)))

    def __repr__(self) -> str:
        return f"<RankedFiles: {self.ranking!r}, {self.distance} distance>"

    def to_dict(self) -> dict[str, Any]:
        """JSON-able: each query with its ranked labels and distances."""
        rows = [
            {"query": str(path), "ranked": [{"crop": n, "distance": d} for n, d in self.ranking.named(row)]}
            for row, path in enumerate(self.queries)
        ]
        return {"distance": self.distance, "queries": rows}


def new_gallery(path: Path) -> AbstractContextManager[GalleryStore]:
    """A gallery to fill within a ``with`` statement, at whose end it is written to ``path``; nothing after an error.

    Its suffix is one of `GALLERY_FILES`. Raises InputError for any other.
    """
    kind = GALLERY_FILES.get(path.suffix.lower())
    if kind is None:
        raise InputError(f"{path} is not named as a gallery file: give it the suffix {' or '.join(GALLERY_FILES)}")
    return kind.new(path)


def enrol_files(
    gallery: GalleryStore,
    paths: Sequence[Path],
    model: Path,
    *,
    batch: int = 32,
    threads: int | None = None,
    backend: str | None = None,
) -> None:
    """Embed crops, or folders of crops, and enrol them in ``gallery`` under their paths.

    ``backend`` names what runs the model, as `reid_edge.open_engine` takes it.

    Raises InputError for a gallery of another model, and what embedding raises.
    """
    model = require_file(model, "a model")
    with phase(f"embedding with {model.name}"):
        crops = _expanded(paths)
        with Embedder(model, batch=batch, threads=threads, backend=backend) as embedder:
            _enrol(gallery, embedder, crops)


def rank_files(
    queries: Sequence[Path],
    gallery: Path,
    model: Path,
    *,
    top: int = 10,
    distance: str = "cosine",
    threads: int | None = None,
    backend: str | None = None,
) -> RankedFiles:
    """Rank a folder of crops, or a gallery file (`GALLERY_FILES`), by distance from each query crop.

    ``queries`` are crops or folders of crops; the ``top`` closest are ranked. ``backend`` names what runs the model, as
    `reid_edge.open_engine` takes it. Raises InputError for files that cannot be read and for a gallery file of another
    model.
    """
    distance_by_name(distance)
    model = require_file(model, "a model")
    with phase(f"ranking {gallery}"):
        crops, entries = _expanded(queries), _opened(gallery)
        with Embedder(model, threads=threads, backend=backend) as embedder:
            if not isinstance(entries, GalleryStore):
                entries = _enrolled(entries, embedder)
            embedded = embedder.embed(crops, progress=True)
            ranking = entries.search(embedded, k=top, distance=distance, model=embedder.card.weights_sha256)
        ranked = {Path(label) for row in range(len(crops)) for label, _ in ranking.named(row)}
        return RankedFiles(tuple(crops), ranking, distance, known_identities({*crops, *ranked}))


def ranking_table(found: RankedFiles) -> Table:
    """One row per ranked crop, grouped by query; crops are named relative to the gallery, which is in the title.

    Whether they show the query's person has a column where a data set's layout says it of any.
    """
    from rich.box import SIMPLE_HEAD
    from rich.table import Table
    from rich.text import Text

    root = found.root
    title = Text(printable(f"gallery: {root}")) if root.parts else None
    table = Table(box=SIMPLE_HEAD, title=title, title_justify="left", padding=(0, 1))
    known = any(found.is_match(row, label) is not None for row, label in _ranked(found))
    table.add_column("query")
    for name in ("rank", f"{found.distance}\ndistance"):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("crop")
    if known:
        table.add_column("same\nperson")
    for row, path in enumerate(found.queries):
        for position, (label, distance) in enumerate(found.ranking.named(row), start=1):
            verdict = [_verdict(found, row, label)] if known else []
            name = path.name if position == 1 else ""
            crop = str(Path(label).relative_to(root)) if root.parts else label
            table.add_row(FileName(name), str(position), f"{distance:.4f}", FileName(crop), *verdict)
        table.add_section()
    return table


def _ranked(found: RankedFiles) -> Iterator[tuple[int, str]]:
    """Each query's row and each label in its list."""
    for row in range(len(found.queries)):
        yield from ((row, label) for label, _ in found.ranking.named(row))


def _verdict(found: RankedFiles, query: int, label: str) -> str:
    """Whether the crop shows the query's person, and who it shows otherwise."""
    match = found.is_match(query, label)
    known = found.identities.get(Path(label))
    who = f", {printable(known.name)}" if match is False and known and known.name else ""
    return {True: "yes", False: "no", None: "-"}[match] + who


def draw_ranking(found: RankedFiles, path: Path) -> None:
    """Draw each query with its ranked crops, framed green for the same person and red for another, where known."""
    from .pictures import ranking_picture, save_picture

    names = [found.ranking.named(row) for row in range(len(found.queries))]
    picture = ranking_picture(
        found.queries,
        [[Path(label) for label, _ in row] for row in names],
        distances=[[distance for _, distance in row] for row in names],
        matches=[[found.is_match(query, label) for label, _ in row] for query, row in enumerate(names)],
    )
    save_picture(picture, path)


def _opened(gallery: Path) -> GalleryStore | list[Path]:
    """An opened gallery file, or the crops of a folder."""
    if kind := GALLERY_FILES.get(gallery.suffix.lower()):
        return kind.load(require_file(gallery, "a gallery"))
    if gallery.is_file():
        kinds = " or ".join(GALLERY_FILES)
        raise InputError(f"{gallery} is not a gallery file ({kinds}): give one that embed wrote, or a folder of crops")
    return crops_in(gallery)


def _enrolled(crops: Sequence[Path], embedder: Embedder) -> Gallery:
    entries = Gallery()
    _enrol(entries, embedder, crops)
    return entries


def _enrol(gallery: GalleryStore, embedder: Embedder, crops: Sequence[Path]) -> None:
    embeddings = embedder.embed(crops, progress=True)
    gallery.enrol(embeddings, [str(crop) for crop in crops], model=embedder.card.weights_sha256)


def _expanded(paths: Sequence[Path]) -> list[Path]:
    """Replace each folder by the crops in it."""
    crops: list[Path] = []
    for path in paths:
        crops.extend(crops_in(path) if path.is_dir() else [require_file(path, "a crop")])
    if not crops:
        raise InputError("no crops were given: name image files or folders of them")
    return crops
