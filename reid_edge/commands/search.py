"""`reid-edge embed` and `reid-edge rank`: crops to a gallery file, and a gallery ranked for queries."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from .parts.console import say, show, write_json
from .parts.options import DATA, OUTPUT, Batch, Distance, EngineBackend, Json, Model, Threads, writable

__all__ = ["embed", "rank"]


def embed(
    paths: Annotated[list[Path], typer.Argument(metavar="CROP...", help="Crops, or folders of crops.")],
    model: Model,
    out: Annotated[
        Path,
        typer.Option(
            metavar="FILE",
            callback=writable,
            help="Gallery file (.npz): embeddings [N, D] and labels [N].",
            rich_help_panel=OUTPUT,
        ),
    ],
    batch: Batch = 32,
    threads: Threads = None,
    backend: EngineBackend = None,
) -> None:
    """Embed crops into a gallery file, which `rank --gallery` and `reid_edge.Gallery.load` read."""
    from reid_edge.gallery.search import enrol_files, new_gallery

    with new_gallery(out) as gallery:
        enrol_files(gallery, paths, model, batch=batch, threads=threads, backend=backend)
        size = f"{len(gallery)} embeddings of {gallery.dim} dimensions"
    say(f"wrote {out}: {size}")


def rank(
    queries: Annotated[list[Path], typer.Argument(metavar="QUERY...", help="Query crops, or folders of crops.")],
    gallery: Annotated[
        Path, typer.Option(help="A folder of crops, or a gallery file written by embed.", rich_help_panel=DATA)
    ],
    model: Model,
    distance: Distance = "cosine",
    top: Annotated[int, typer.Option(min=1, help="Gallery crops to list for each query.", rich_help_panel=OUTPUT)] = 10,
    picture: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            callback=writable,
            help="Draw each query with its ranked crops (.png, .jpg or .webp).",
            rich_help_panel=OUTPUT,
        ),
    ] = None,
    threads: Threads = None,
    backend: EngineBackend = None,
    json_file: Json = None,
) -> None:
    """Rank the crops of a gallery by their distance from each query."""
    from reid_edge.gallery.pictures import require_picture
    from reid_edge.gallery.search import draw_ranking, rank_files, ranking_table

    if picture:
        require_picture(picture)
    found = rank_files(queries, gallery, model, top=top, distance=distance, threads=threads, backend=backend)
    show(ranking_table(found), json_file)
    if picture:
        draw_ranking(found, picture)
        say(f"wrote {picture}")
    write_json(json_file, found.to_dict())
