"""`reid-edge bench`: latency beside accuracy."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from . import choices
from .console import show, write_json
from .options import DEVICE, Distance, Json, Layout, OptionalData, Part, Threads

__all__ = ["bench"]


def bench(
    models: Annotated[list[Path], typer.Argument(metavar="MODEL...", help="ONNX files or engines.")],
    data: OptionalData = None,
    layout: Layout = None,
    part: Part = choices.Part.TEST,
    distance: Distance = "cosine",
    batch: Annotated[
        list[int] | None,
        typer.Option(min=1, help="Batch size to time; repeatable.", show_default="1, 8 and 32", rich_help_panel=DEVICE),
    ] = None,
    seconds: Annotated[
        float, typer.Option(min=0.1, help="Measure each row for at least this long.", rich_help_panel=DEVICE)
    ] = 2.0,
    threads: Threads = None,
    json_file: Json = None,
) -> None:
    """Time models from file to embedding and score them: a row per model and batch, compared with the first row.

    Without --data, crops are drawn to time the models on, and nothing is scored.
    """
    from reid_edge import BenchOptions
    from reid_edge import bench as run_bench
    from reid_edge.benchmarks.report import report_table

    batches = tuple(batch) if batch else BenchOptions.batches
    options = BenchOptions(batches=batches, min_seconds=seconds, threads=threads)
    report = run_bench(
        models, data, options=options, distance=distance, layout=choices.value_of(layout), part=part.value
    )
    show(report_table(report), json_file)
    write_json(json_file, report.to_dict())
