"""Models: speed, size and scores of each file, and what the gates of the export said of it."""

from __future__ import annotations

from typing import TYPE_CHECKING
from xml.etree.ElementTree import Element

from reid_edge.benchmarks.details import figure
from reid_edge.benchmarks.machine import Machine
from reid_edge.benchmarks.results import BenchReport, BenchRow

from .elements import element
from .tables import figure_table, number, verdict

if TYPE_CHECKING:
    from reid_edge.export.report import Exported, ExportReport

__all__ = ["BENCH_TITLES", "bench_cells", "bench_section", "gate_section", "model_name", "row_name"]

BENCH_TITLES = ("model", "precision", "batch", "p50 ms", "p99 ms", "crops/s", "MB", "R1 %", "mAP %")
"""What `bench_cells` are; times are a batch's, from files to embeddings."""

_REFUSED = "was refused and not written: it is not shown to rank like the model it was made from."


def bench_section(report: BenchReport, *, title: str, text: str) -> Element:
    """A row for each model, precision and batch, under the machine and the warnings; its columns sort."""
    energy = any(row.measured.energy for row in report.rows)
    table = figure_table(
        [*BENCH_TITLES, *(["mJ a crop"] if energy else [])],
        [_sortable_cells(row, energy) for row in report.rows],
        "Latency beside accuracy",
        sortable=True,
    )
    warnings = [element("p", f"Warning: {line}", class_="warning") for line in report.warnings]
    disturbed = [
        element("p", f"{row_name(row)} was disturbed: {'; '.join(row.measured.disturbed)}.", class_="warning")
        for row in report.rows
        if row.measured.disturbed
    ]
    machine = element("p", _in_words(report.machine), class_="quiet")
    return element("section", element("h2", title), element("p", text), *warnings, table, *disturbed, machine)


def bench_cells(row: BenchRow) -> list[str]:
    """A row of the table in short, under `BENCH_TITLES`."""
    times, scores = row.measured.end_to_end_ms, (row.rank1, row.mAP)
    return [
        model_name(row),
        row.precision.upper(),
        str(row.batch),
        *map(figure, (times.p50, times.p99, row.measured.crops_per_s, row.file_bytes / 1e6)),
        *("-" if score is None else f"{100 * score:.1f}" for score in scores),
    ]


def _sortable_cells(row: BenchRow, energy: bool) -> list[Element | str]:
    measured, times, (model, precision, *texts) = row.measured, row.measured.end_to_end_ms, bench_cells(row)
    values = [row.batch, times.p50, times.p99, measured.crops_per_s, row.file_bytes, row.rank1, row.mAP]
    if energy:
        used = measured.energy.mj_per_crop if measured.energy else None
        values, texts = [*values, used], [*texts, figure(used)]
    return [model, precision, *(number(value, text) for value, text in zip(values, texts, strict=True))]


def model_name(row: BenchRow) -> str:
    """A model's name without its precision, and what ran it where that is not ONNX Runtime on the CPU."""
    name, engine = row.model.removesuffix(f"_{row.precision}"), row.measured.engine
    return name if engine.provider == "CPUExecutionProvider" else f"{name} on {engine.provider}"


def row_name(row: BenchRow) -> str:
    """A row in words: model, precision and batch, and streams where there are several."""
    streams = f", {row.measured.streams} streams" if row.measured.streams > 1 else ""
    return f"{model_name(row)} {row.precision.upper()}, batch {row.batch}{streams}"


def _in_words(machine: Machine) -> str:
    hardware = [machine.board, f"{machine.cpu}, {machine.cores} cores", *machine.gpus, machine.power_mode]
    software = [machine.os, f"Python {machine.python}", f"onnxruntime {machine.onnxruntime or 'missing'}"]
    return "Measured on " + "; ".join(part for part in (*hardware, *software) if part) + "."


def gate_section(report: ExportReport, *, title: str, text: str) -> Element:
    """Each file's agreement with its FP32 model and its verdict, INT8's layers in float, and why one was refused."""
    titles = ("file", "verdict", "lowest cosine", "same top ten", "mAP lost [95 %]", "may lose")
    table = figure_table(titles, [_gate_row(file) for file in report.files], "What the gate measured")
    reasons = [
        element("p", element("b", f"{file.path.name} {_REFUSED}"), f" {file.refused}.", class_="warning")
        for file in report.files
        if file.refused
    ]
    passed = [file for file in report.files if not file.refused]
    in_float = [element("p", f"{file.path.name}: {file.int8.summary()}.") for file in passed if file.int8]
    return element("section", element("h2", title), element("p", text), table, *in_float, *reasons)


def _gate_row(file: Exported) -> list[Element | str]:
    parity, lost = file.parity, file.lost
    return [
        file.path.name,
        verdict(file.refused is None, "refused" if file.refused else "passed"),
        f"{parity.cosine_min:.5f}" if parity else "-",
        f"{parity.ranking:.1%}" if parity else "-",
        f"{lost.mAP}" if lost else "-",
        f"{100 * lost.limit:.2f}" if lost else "-",
    ]
