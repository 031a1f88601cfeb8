"""`reid-edge doctor`: what is on this machine, what is missing, and whether its engines agree."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from reid_edge.errors import GateError

from .console import show, tell, write_json
from .options import MODEL, Json

__all__ = ["EXAMPLES", "doctor"]

EXAMPLES = "doctor\ndoctor --model models/osnet_x0_25_fp32.onnx --json doctor.json"


def doctor(
    model: Annotated[
        Path | None,
        typer.Option(help="ONNX file or engine to try; a small built-in model by default.", rich_help_panel=MODEL),
    ] = None,
    no_self_test: Annotated[
        bool, typer.Option("--no-self-test", help="Only look: run no engine.", rich_help_panel=MODEL)
    ] = False,
    json_file: Json = None,
) -> None:
    """Look at this machine: board, power mode, clocks, memory, GPU and libraries, and run every engine on drawn crops.

    Each finding is ok, a note (optional, or it costs speed) or wrong, with the command that mends it. Exit code 1 if
    something is wrong. Nothing is changed.
    """
    from reid_edge.api.doctor.run import doctor as examine
    from reid_edge.api.doctor.table import doctor_lines, doctor_table

    report = examine(model, self_test=not no_self_test)
    show(doctor_table(report), json_file)
    for line in doctor_lines(report):
        tell(line, json_file)
    write_json(json_file, report.to_dict())
    if report.wrong:
        parts = ", ".join(dict.fromkeys(finding.part for finding in report.wrong))
        raise GateError(f"something is wrong with {parts}: the report names the commands that mend it")
