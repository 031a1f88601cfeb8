"""`reid-edge cross-domain`: every model on every data set."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from .parts.console import say, show, show_notices, write_json
from .parts.options import DATA, OUTPUT, Arch, Batch, Distance, Json, Threads, writable

__all__ = ["EXAMPLES", "cross_domain"]

EXAMPLES = "cross-domain market.onnx msmt17.onnx --data Market-1501 --data MSMT17_V1 --cameras --heat-map domains.svg"


def cross_domain(
    models: Annotated[list[Path], typer.Argument(metavar="MODEL...", help="Model files: .onnx, engine, checkpoint.")],
    data: Annotated[
        list[Path],
        typer.Option("--data", metavar="DATASET", help="Data set to score on; repeatable.", rich_help_panel=DATA),
    ],
    arch: Arch = None,
    flip: Annotated[
        bool, typer.Option("--flip", help="Also score the mean of a crop and its mirror image.", rich_help_panel=DATA)
    ] = False,
    cameras: Annotated[
        bool,
        typer.Option(
            "--cameras",
            help="Also score embeddings normalised by camera, without labels: statistics of training crops where each "
            "camera has 100, else of the gallery.",
            rich_help_panel=DATA,
        ),
    ] = False,
    distance: Distance = "cosine",
    batch: Batch = 32,
    threads: Threads = None,
    heat_map: Annotated[
        Path | None,
        typer.Option(metavar="FILE.svg", callback=writable, help="mAP as a picture.", rich_help_panel=OUTPUT),
    ] = None,
    json_file: Json = None,
) -> None:
    """Score every model on every data set: what is lost away from home, and what helps there without labels."""
    from reid_edge import cross_domain as score_all
    from reid_edge.api.cross_domain.heat_map import write_heat_map
    from reid_edge.api.cross_domain.report import cross_domain_table
    from reid_edge.errors import InputError

    if heat_map is not None and heat_map.suffix.lower() != ".svg":
        raise InputError(f"{heat_map} does not end in .svg: the heat map is an SVG picture")
    report = score_all(
        models,
        data,
        flip=flip,
        cameras=cameras,
        arch=arch,
        distance=distance,
        batch=batch,
        threads=threads,
        progress=True,
    )
    show_notices(report.notices)
    show(cross_domain_table(report), json_file)
    if heat_map is not None:
        write_heat_map(report, heat_map)
        say(f"wrote {heat_map}")
    write_json(json_file, report.to_dict())
