"""`reid-edge bench` and `inspect-model`: what a model costs, measured here or estimated for another device."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from . import choices
from .choices import value_of
from .console import show, tell, write_json
from .options import DEVICE, MODEL, OUTPUT, Batch, Distance, EngineBackends, Json, Layout, OptionalData, Part, Threads

__all__ = ["EXAMPLES", "INSPECT_EXAMPLES", "bench", "inspect_model"]

EXAMPLES = "bench models/osnet_x0_25_{fp32,fp16}.onnx --data Market-1501 --batch 1 --batch 8"
INSPECT_EXAMPLES = "inspect-model models/osnet_x0_25_fp16.onnx --device orin-nano --device agx-orin --batch 8"


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
    backend: EngineBackends = None,
    json_file: Json = None,
) -> None:
    """Time models from file to embedding and score them: a row per model and batch, compared with the first row.

    Without --data, crops are drawn to time the models on, and nothing is scored.
    """
    from reid_edge import BenchOptions
    from reid_edge import bench as run_bench
    from reid_edge.benchmarks.report import report_table

    batches = tuple(batch) if batch else BenchOptions.batches
    options = BenchOptions(batches=batches, min_seconds=seconds, threads=threads, backends=tuple(backend or ()))
    report = run_bench(
        models, data, options=options, distance=distance, layout=choices.value_of(layout), part=part.value
    )
    show(report_table(report), json_file)
    write_json(json_file, report.to_dict())


def inspect_model(
    model: Annotated[Path, typer.Argument(metavar="FILE", help="ONNX file, written by reid-edge export.")],
    device: Annotated[
        list[choices.Jetson] | None,
        typer.Option(help="Device to estimate for; repeatable. orin-nano if not given.", rich_help_panel=DEVICE),
    ] = None,
    batch: Batch = 1,
    launch_us: Annotated[
        float | None,
        typer.Option(min=0, metavar="US", help="Shortest time of a kernel, in microseconds.", rich_help_panel=DEVICE),
    ] = None,
    backend: Annotated[
        choices.Backend | None,
        typer.Option(help="TensorRT package; the first installed one by default.", rich_help_panel=MODEL),
    ] = None,
    no_kernels: Annotated[
        bool, typer.Option("--no-kernels", help="Build nothing, count no kernels.", rich_help_panel=MODEL)
    ] = False,
    top: Annotated[int, typer.Option(min=1, help="Layers to list.", rich_help_panel=OUTPUT)] = 10,
    json_file: Json = None,
) -> None:
    """Show the kernels, multiply-accumulates and bytes of a file, and which layers are bound by what (an estimate)."""
    from reid_edge.api.inspect_model import inspect_model as inspect
    from reid_edge.export.roofline.inspection import cost_table, roofline_table

    found = inspect(
        model,
        devices=[value_of(each) for each in device] if device else ("orin-nano",),
        batch=batch,
        kernels=not no_kernels,
        backend=value_of(backend),
        launch_us=launch_us,
    )
    show(cost_table(found), json_file)
    if found.kernels:
        tell(f"{found.kernels.total} kernels by {found.kernels.builder}", json_file)
    else:
        tell(f"kernels were not counted: {found.no_kernels}", json_file)
    for estimate in found.rooflines:
        show(roofline_table(estimate, top), json_file)
    write_json(json_file, found.to_dict())
