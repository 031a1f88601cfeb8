"""The report of `bench` as tables under the machine it was measured on."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from reid_edge.core.log import printable

from .machine import Machine
from .results import BenchReport, BenchRow

if TYPE_CHECKING:
    from rich.console import Group, RenderableType
    from rich.table import Table

__all__ = ["figure", "report_table"]


def report_table(report: BenchReport) -> Group:
    """The machine, the warnings, and a table for each model under one header, to be printed with rich; 80 columns."""
    from rich.console import Group
    from rich.text import Text

    above = [Text(printable(line)) for line in _machine_lines(report)]
    above += [Text(printable(line)) for line in report.notices]
    above += [Text(printable(f"warning: {line}"), style="bold red") for line in report.warnings]
    parts: list[RenderableType] = [*above, Text(""), _table()]
    for rows in _by_model(report.rows):
        parts.append(Text(printable(_heading(report, rows)), style="bold"))
        parts.append(table := _table(show_header=False))
        for row in rows:
            table.add_row(*_cells(report, row))
        parts.append(Text(""))
    return Group(*parts, *(Text(printable(line), style="dim") for line in _notes(report)))


_TIMES = ("prep", "infer", "total")
_COLUMNS = (
    ("\nbatch", 5),
    *((f"{name if p == 50 else ''}\np{p}", 6 if p == 50 else 5) for name in _TIMES for p in (50, 90, 99)),
    ("crops\nper s", 5),
    ("peak\nMB", 4),
    ("vs\nrow 1", 5),
)
"""Titles and widths: the tables of all models stand below each other."""


def _table(show_header: bool = True) -> Table:
    from rich.box import SIMPLE_HEAD
    from rich.table import Table

    table = Table(box=SIMPLE_HEAD, padding=0, show_edge=False, pad_edge=False, show_header=show_header)
    for title, width in _COLUMNS:
        table.add_column(title, justify="right", min_width=width, no_wrap=True)
    return table


def _by_model(rows: Sequence[BenchRow]) -> list[list[BenchRow]]:
    """The rows of each model on each backend; two files of one name are two models."""
    models: dict[tuple[str, ...], list[BenchRow]] = {}
    for row in rows:
        models.setdefault((row.path, row.measured.engine.backend, row.precision), []).append(row)
    return list(models.values())


def _heading(report: BenchReport, rows: Sequence[BenchRow]) -> str:
    """A model's name and what is the same for all of its batches; its highest GFLOP/s."""
    first, change = rows[0], report.change(rows[0])
    name = first.model if first.precision in first.model else f"{first.model} ({first.precision})"
    if first.measured.engine.backend != report.rows[0].measured.engine.backend:
        name += f" on {first.measured.engine.provider}"
    facts = [f"{figure(first.file_bytes, 1e-6)} MB"]
    for metric, value, points in (("R1", first.rank1, change.rank1_points), ("mAP", first.mAP, change.mAP_points)):
        if value is not None:
            against = f" ({points:+.1f})" if points is not None and first is not report.rows[0] else ""
            facts.append(f"{metric} {value * 100:.1f} %{against}")
    if first.macs:
        fastest = max(rows, key=lambda row: row.gflops or 0)
        share = report.of_peak(fastest)
        facts.append(f"{figure(fastest.gflops)} GFLOP/s" + ("" if share is None else f" ({share:.0%} of peak)"))
    return f"{name}: {', '.join(facts)}"


def _cells(report: BenchReport, row: BenchRow) -> tuple[str, ...]:
    measured = row.measured
    times = (measured.preprocess_ms, measured.inference_ms, measured.end_to_end_ms)
    return (
        str(row.batch),
        *(figure(value) for each in times for value in (each.p50, each.p90, each.p99)),
        figure(measured.crops_per_s),
        figure(measured.peak_memory_bytes, 1e-6),
        f"x{report.change(row).end_to_end:.2f}",
    )


def _machine_lines(report: BenchReport) -> list[str]:
    machine = report.machine
    memory = f", {machine.memory_bytes / 1e9:.1f} GB memory" if machine.memory_bytes else ""
    load = "" if machine.load_average is None else f", load average {machine.load_average:.2f}"
    lines = [
        *([machine.board] if machine.board else []),
        f"{machine.cpu}, {machine.cores} cores usable{memory}{load}",
        *machine.gpus,
        f"{machine.os}, kernel {machine.kernel}, Python {machine.python}",
        f"onnxruntime {machine.onnxruntime or 'missing'} (available: {', '.join(machine.providers) or 'no provider'})",
    ]
    return lines + ([clocks] if (clocks := _clocks(machine)) else [])


def _clocks(machine: Machine) -> str:
    facts = [
        f"power mode {machine.power_mode}" if machine.power_mode else "",
        f"governor {machine.governor}" if machine.governor else "",
        f"CPU at {machine.frequency_mhz:.0f} MHz" if machine.frequency_mhz else "",
        f"at most {machine.max_frequency_mhz:.0f} MHz" if machine.max_frequency_mhz else "",
        {True: "clocks pinned", False: "clocks not pinned", None: ""}[machine.clocks_pinned],
    ]
    return ", ".join(fact for fact in facts if fact)


def _notes(report: BenchReport) -> list[str]:
    settings, measured = report.settings, [row.measured for row in report.rows]
    samples, loads = [each.samples for each in measured], [each.load_ms for each in measured]
    points = "R1 and mAP in per cent, and their points against the first model"
    notes = [
        f"{settings['files']} files of {settings['data']}; {_span(samples)} batches a row",
        "times: ms a batch; prep: files to uint8; infer: uint8 to embeddings; total: both",
        "peak: MB (10^6 bytes) of the row's whole process. vs row 1: total p50 per crop",
        *([] if report.rows[0].rank1 is None else [points]),
        f"models opened in {_span([round(load) for load in loads])} ms",
    ]
    notes += dict.fromkeys(f"{row.model}: {row.measured.engine}" for row in report.rows)
    if any(report.of_peak(row) for row in report.rows):
        notes.append(
            f"of peak: of the {report.sgemm_gflops:.0f} GFLOP/s that a float32 matrix product reached on this CPU"
        )
    return notes


def _span(values: Sequence[int]) -> str:
    """The least and the largest, where they differ.

    >>> _span([20, 31]), _span([20, 20])
    ('20 to 31', '20')
    """
    low, high = min(values), max(values)
    return f"{low} to {high}" if low < high else f"{low}"


def figure(value: float | None, scale: float = 1.0) -> str:
    """Three significant digits, never an exponent, so that a column's figures are equally exact.

    >>> figure(14.0), figure(9.4), figure(1384.4), figure(None)
    ('14.0', '9.40', '1384', '-')
    """
    if value is None:
        return "-"
    scaled = value * scale
    places = 2 if scaled < 9.995 else 1 if scaled < 99.95 else 0
    return f"{scaled:.{places}f}"
