"""`reid-edge verify-export`: the gate of export alone, for existing files and engines."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from reid_edge.errors import GateError

from .parts.choices import value_of
from .parts.console import show, tell, write_json
from .parts.options import MODEL, Arch, EngineBackend, Gates, Json, Layout, ScoredData, Threads

__all__ = ["EXAMPLES", "verify_export"]

EXAMPLES = "verify-export models/*.onnx --reference runs/osnet/model.pth --data Market-1501"


def verify_export(
    files: Annotated[list[Path], typer.Argument(metavar="FILE...", help="Exported ONNX files or engines.")],
    reference: Annotated[
        Path,
        typer.Option(
            help="The model that they must agree with: a checkpoint, .pth or FP32 .onnx.", rich_help_panel=MODEL
        ),
    ],
    arch: Arch = None,
    data: ScoredData = None,
    gate: Gates = None,
    layout: Layout = None,
    threads: Threads = None,
    backend: EngineBackend = None,
    json_file: Json = None,
) -> None:
    """Check files and engines against their model: embeddings, ranking, batches, and mAP where --data can be scored.

    Exit code 1 if one is refused; the others are still checked.
    """
    from reid_edge.api.verify_export import verify_export as verify_files
    from reid_edge.export.parity.limits import Checks, parse_gates
    from reid_edge.export.tables import scores_table, verified_table

    checks = Checks(gates=parse_gates(gate or []))
    rows = verify_files(
        files,
        reference,
        arch=arch,
        data=data,
        layout=value_of(layout),
        checks=checks,
        threads=threads,
        backend=backend,
    )
    show(verified_table(rows), json_file)
    if any(row.metrics for row in rows):
        show(scores_table(rows), json_file)
    for row in rows:
        if row.note:
            tell(row.note, json_file)
    write_json(json_file, {str(row.path): row.to_dict() for row in rows})
    if refused := [f"{row.path}: {row.refused}" for row in rows if row.refused]:
        raise GateError("; ".join(refused))
