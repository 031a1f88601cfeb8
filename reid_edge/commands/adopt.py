"""`reid-edge adopt`: the card of an engine that trtexec built, after the gate of export."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from reid_edge.errors import GateError

from . import choices
from .choices import value_of
from .console import show, tell
from .options import MODEL, ComparedData, Gates, Layout

__all__ = ["adopt"]


def adopt(
    engine: Annotated[Path, typer.Argument(metavar="ENGINE", help="Engine that trtexec built.")],
    onnx: Annotated[
        Path, typer.Option(help="The file of reid-edge export that it was built from.", rich_help_panel=MODEL)
    ],
    backend: Annotated[
        choices.Backend | None,
        typer.Option(help="TensorRT package; the first installed one by default.", rich_help_panel=MODEL),
    ] = None,
    data: ComparedData = None,
    layout: Layout = None,
    gate: Gates = None,
) -> None:
    """Check an engine of trtexec against its ONNX file, and write the card that it needs to be opened.

    Needs the GPU that the engine was built for. Exit code 1 if the two disagree.
    """
    from reid_edge.api.adopt_engine import adopt_engine
    from reid_edge.engines.engine_card import EngineCard
    from reid_edge.export.parity.limits import Checks, parse_gates
    from reid_edge.export.tables import verified_table

    checks = Checks(gates=parse_gates(gate or []))
    row = adopt_engine(engine, onnx, data=data, layout=value_of(layout), backend=value_of(backend), checks=checks)
    show(verified_table([row]))
    if row.refused:
        raise GateError(f"{engine} gets no card: {row.refused}")
    tell(f"wrote {EngineCard.path_for(engine)}")
