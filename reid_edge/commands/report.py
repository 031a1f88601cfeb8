"""`reid-edge report`: what a command measured, as a page."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from .parts import choices
from .parts.console import tell
from .parts.options import MODEL, ActivationMaps, Html, Layout, OptionalData, Part, Queries, WithCrops

__all__ = ["EXAMPLES", "report"]

EXAMPLES = "report bench.json\nreport runs/osnet --html osnet.html"


def report(
    path: Annotated[
        Path,
        typer.Argument(
            metavar="PATH",
            help="A file of bench --json or eval --json, or the folder of a training, an ablation or reproduce.",
        ),
    ],
    html: Html = None,
    models: Annotated[
        list[Path] | None,
        typer.Option(
            "--model",
            metavar="FILE",
            help="Run this model once more on --data, for curves and ranked lists of a bench or eval file; repeatable.",
            rich_help_panel=MODEL,
        ),
    ] = None,
    data: OptionalData = None,
    layout: Layout = None,
    part: Part = choices.Part.TEST,
    queries: Queries = 100,
    with_crops: WithCrops = False,
    activation_maps: ActivationMaps = 0,
) -> None:
    """Write what a command measured as one page, which a browser opens from disk: tables, curves, ranked lists."""
    from reid_edge import report as write_report
    from reid_edge.api.report import PageOptions

    page = PageOptions(queries=queries, with_crops=with_crops, activation_maps=activation_maps)
    written = write_report(
        path, html=html, models=models or (), data=data, layout=choices.value_of(layout), part=part.value, page=page
    )
    tell(f"{written}")
