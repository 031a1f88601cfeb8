"""What `bench` writes beside its table, and the end of an audited run."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from reid_edge.errors import GateError, InputError

from .console import say, tell
from .options import CHECKS, OUTPUT, writable

if TYPE_CHECKING:
    from reid_edge.benchmarks.options import BenchOptions
    from reid_edge.benchmarks.results import BenchReport

__all__ = ["Audit", "Csv", "Markdown", "finish_audit", "options_of_audit", "write_tables"]

Audit = Annotated[
    bool,
    typer.Option(
        "--audit",
        help="Measure so that a stranger can check it: each row at least 600 s and MLPerf's number of crops, hashes in "
        "the JSON; exit code 1 where a rule is broken. Needs --data and --json.",
        rich_help_panel=CHECKS,
    ),
]
Csv = Annotated[
    Path | None,
    typer.Option("--csv", callback=writable, help="Write a line for each row to this file.", rich_help_panel=OUTPUT),
]
Markdown = Annotated[
    Path | None,
    typer.Option("--markdown", callback=writable, help="Write a table for a README.", rich_help_panel=OUTPUT),
]


def options_of_audit(options: BenchOptions, data: Path | None, json_file: Path | None) -> BenchOptions:
    """The options with as much time and as many batches as an audit asks for.

    Raises InputError where there would be nothing to check: before the measuring, not after it.
    """
    if data is None or json_file is None:
        raise InputError("--audit needs --data DATASET for the accuracy and --json FILE for what is checked: give both")
    from reid_edge.benchmarks.audit.rules import audit_options

    return audit_options(options)


def finish_audit(report: BenchReport, data: Path, layout: str | None, part: str, json_file: Path) -> None:
    """Write the report with its audit. Raises GateError where a rule is broken, after listing all that are."""
    from reid_edge.benchmarks.audit.artefacts import audited, write_audited
    from reid_edge.data.datasets import open_dataset

    found = audited(report, open_dataset(data, layout, part))
    write_audited(json_file, report, found)
    say(f"wrote {json_file}; anybody checks it with  python -m reid_edge.benchmarks.audit {json_file}")
    for line in found.broken:
        tell(f"broken: {line}", json_file)
    if found.broken:
        raise GateError(f"{len(found.broken)} rules of the audit are broken, the first: {found.broken[0]}")


def write_tables(report: BenchReport, csv_file: Path | None, markdown_file: Path | None) -> None:
    """Write the files that were asked for, each whole or not at all."""
    from reid_edge.benchmarks.outputs.columns import write_csv, write_markdown

    for path, write in ((csv_file, write_csv), (markdown_file, write_markdown)):
        if path is not None:
            write(path, report)
            say(f"wrote {path}")
