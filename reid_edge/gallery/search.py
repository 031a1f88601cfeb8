"""From files to a ranked list: what `reid-edge embed` and `reid-edge rank` do."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .datasets import crops_in, market_name
from .embedder import Embedder
from .errors import InputError
from .files import require_file
from .gallery import Gallery
from .records import Ranking

if TYPE_CHECKING:
    from rich.table import Table

__all__ = ["RankedFiles", "draw_ranking", "gallery_of", "rank_files", "ranking_table"]


@dataclass(frozen=True)
class RankedFiles:
    """Queries, and for each the gallery files closest to it. ``ranking.labels`` are the gallery's paths."""

    queries: tuple[Path, ...]
    ranking: Ranking
    distance: str

    def is_match(self, query: int, label: str) -> bool | None:
        """Whether both file names, in Market-1501's form, name the same person; None when a name does not say."""
        wanted, found = market_name(self.queries[query].name), market_name(Path(label).name)
        return None if wanted is None or found is None else wanted[0] == found[0]

    def to_dict(self) -> dict[str, Any]:
        """JSON-able: each query with its ranked labels and distances."""
        rows = [
            {"query": str(path), "ranked": [{"crop": n, "distance": d} for n, d in self.ranking.named(row)]}
            for row, path in enumerate(self.queries)
        ]
        return {"distance": self.distance, "queries": rows}


def gallery_of(paths: Sequence[Path], model: Path, *, batch: int = 32, threads: int | None = None) -> Gallery:
    """Embed crops, or folders of crops, into a `Gallery` labelled by their paths."""
    crops = _expanded(paths)
    with Embedder(model, batch=batch, threads=threads) as embedder:
        return _enrolled(embedder, crops)


def rank_files(
    queries: Sequence[Path],
    gallery: Path,
    model: Path,
    *,
    top: int = 10,
    distance: str = "cosine",
    threads: int | None = None,
) -> RankedFiles:
    """Rank a folder of crops, or a saved gallery, for each query crop. Raises InputError for what cannot be read."""
    crops = _expanded(queries)
    with Embedder(model, threads=threads) as embedder:
        if gallery.suffix == ".npz":
            entries = Gallery.load(require_file(gallery, "a gallery"))
        else:
            entries = _enrolled(embedder, crops_in(gallery))
        embedded = embedder.embed(crops, progress=True)
        ranking = entries.search(embedded, k=top, distance=distance, model=embedder.card.weights_sha256)
    return RankedFiles(tuple(crops), ranking, distance)


def ranking_table(found: RankedFiles) -> Table:
    """A row per ranked crop, under its query."""
    from rich.table import Table

    table = Table("query", "rank", f"{found.distance} distance", "crop", "same person")
    for row, path in enumerate(found.queries):
        for position, (label, distance) in enumerate(found.ranking.named(row), start=1):
            verdict = {True: "yes", False: "no", None: "-"}[found.is_match(row, label)]
            table.add_row(path.name if position == 1 else "", str(position), f"{distance:.4f}", label, verdict)
        table.add_section()
    return table


def draw_ranking(found: RankedFiles, path: Path) -> None:
    """Draw every query with its ranked crops; green frames for the same person, red for another, by file name."""
    from .pictures import ranking_picture, save_picture

    names = [found.ranking.named(row) for row in range(len(found.queries))]
    picture = ranking_picture(
        found.queries,
        [[Path(label) for label, _ in row] for row in names],
        distances=[[distance for _, distance in row] for row in names],
        matches=[[found.is_match(query, label) for label, _ in row] for query, row in enumerate(names)],
    )
    save_picture(picture, path)


def _enrolled(embedder: Embedder, crops: Sequence[Path]) -> Gallery:
    embeddings = embedder.embed(crops, progress=True)
    gallery = Gallery()
    gallery.enrol(embeddings, [str(crop) for crop in crops], model=embedder.card.weights_sha256)
    return gallery


def _expanded(paths: Sequence[Path]) -> list[Path]:
    """Files as they are, folders as the crops in them."""
    crops: list[Path] = []
    for path in paths:
        crops.extend(crops_in(path) if path.is_dir() else [require_file(path, "a crop")])
    if not crops:
        raise InputError("no crops were given: name image files or folders of them")
    return crops
