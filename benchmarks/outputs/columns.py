"""What `csv` and `markdown` files of a report show of each row."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from reid_edge.benchmarks.details import figure
from reid_edge.benchmarks.results import BenchReport, BenchRow
from reid_edge.core.files import write_text

__all__ = ["csv_text", "markdown_text", "write_csv", "write_markdown"]

_CSV: Mapping[str, Callable[[BenchRow], Any]] = {
    "model": lambda row: row.model,
    "architecture": lambda row: row.architecture,
    "precision": lambda row: row.precision,
    "backend": lambda row: row.measured.engine.backend,
    "provider": lambda row: row.measured.engine.provider,
    "batch": lambda row: row.batch,
    "streams": lambda row: row.measured.streams,
    "samples": lambda row: row.measured.samples,
    "p50_ms": lambda row: row.measured.end_to_end_ms.p50,
    "p90_ms": lambda row: row.measured.end_to_end_ms.p90,
    "p99_ms": lambda row: row.measured.end_to_end_ms.p99,
    "preprocess_p50_ms": lambda row: row.measured.preprocess_ms.p50,
    "inference_p50_ms": lambda row: row.measured.inference_ms.p50,
    "crops_per_s": lambda row: row.measured.crops_per_s,
    "peak_memory_bytes": lambda row: row.measured.peak_memory_bytes,
    "mj_per_crop": lambda row: row.measured.energy and row.measured.energy.mj_per_crop,
    "energy_source": lambda row: row.measured.energy and row.measured.energy.source,
    "rank1": lambda row: row.rank1,
    "mAP": lambda row: row.mAP,
    "file_bytes": lambda row: row.file_bytes,
    "disturbed": lambda row: "; ".join(row.measured.disturbed),
    "sha256": lambda row: row.sha256,
}
"""Columns by name; what a row does not have is empty."""

_MARKDOWN: Mapping[str, Callable[[BenchRow], str]] = {
    "model": lambda row: row.model,
    "precision": lambda row: row.precision,
    "batch": lambda row: str(row.batch),
    "p50, ms": lambda row: figure(row.measured.end_to_end_ms.p50),
    "p99, ms": lambda row: figure(row.measured.end_to_end_ms.p99),
    "crops/s": lambda row: figure(row.measured.crops_per_s),
    "mJ a crop": lambda row: figure(row.measured.energy.mj_per_crop if row.measured.energy else None),
    "R1, %": lambda row: figure(row.rank1, 100),
    "mAP, %": lambda row: figure(row.mAP, 100),
    "file, MB": lambda row: figure(row.file_bytes, 1e-6),
    "sha256": lambda row: f"`{row.sha256[:12]}`" if row.sha256 else "-",
}
_TEXTS = ("model", "precision", "sha256")  # to the left; figures to the right


def csv_text(report: BenchReport) -> str:
    """One line a row under a header, figures in full; UTF-8, commas, and quotes where RFC 4180 wants them.

    A spreadsheet runs a cell that begins with =, +, - or @: a model's name is text from outside, and gets an
    apostrophe in front (OWASP, "CSV Injection").
    """
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(_CSV)
    writer.writerows([_cell(of(row)) for of in _CSV.values()] for row in report.rows)
    return out.getvalue()


def markdown_text(report: BenchReport) -> str:
    """A table for a README, under a line that says what was measured on what; warnings below."""
    machine = report.machine
    where = ", ".join([machine.board or machine.cpu, f"{machine.cores} cores", *machine.gpus])
    providers = ", ".join(dict.fromkeys(str(row.measured.engine).partition(", sha256")[0] for row in report.rows))
    lines = [
        f"Measured by {report.made_with} on {where}, {report.started[:10]}: {report.settings['data']}; {providers}."
    ]
    rows = [list(_MARKDOWN), ["---" if name in _TEXTS else "---:" for name in _MARKDOWN]]
    rows += [[of(row) for of in _MARKDOWN.values()] for row in report.rows]
    table = [f"| {' | '.join(cells)} |" for cells in [[_escaped(cell) for cell in row] for row in rows]]
    warnings = [f"Warning: {warning}." for warning in report.warnings]
    notes = ["Times are a batch's, from files to embeddings."]
    return "\n".join([*(_escaped(line) for line in lines), "", *table, "", *notes, *map(_escaped, warnings)]) + "\n"


def write_csv(path: Path | str, report: BenchReport) -> None:
    """Write `csv_text`, whole or not at all."""
    write_text(path, csv_text(report))


def write_markdown(path: Path | str, report: BenchReport) -> None:
    """Write `markdown_text`, whole or not at all."""
    write_text(path, markdown_text(report))


def _cell(value: Any) -> Any:
    if value is None:
        return ""
    return f"'{value}" if isinstance(value, str) and value.startswith(("=", "+", "-", "@", "\t", "\r")) else value


def _escaped(text: str) -> str:
    """Text that stays in its cell, and is no HTML."""
    one_line = " ".join(text.split())
    return one_line.replace("|", "\\|").replace("<", "&lt;")
