"""`reid-edge inspect-model`: what a file costs, and what bounds its layers on a named device."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from . import choices
from .choices import value_of
from .console import show, tell, write_json
from .options import DEVICE, MODEL, OUTPUT, Batch, Json

__all__ = ["inspect_model"]


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
