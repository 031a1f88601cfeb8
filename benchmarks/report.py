"""What `bench` found, as a table under the machine it was measured on."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from .latency import Percentiles
from .machine import Machine
from .results import BenchReport, Row

if TYPE_CHECKING:
    from rich.console import Group

__all__ = ["report_table"]


def report_table(report: BenchReport) -> Group:
    """The machine, the warnings and the table, to be printed with rich."""
    from rich.box import SIMPLE_HEAD
    from rich.console import Group
    from rich.table import Table
    from rich.text import Text

    table = Table(box=SIMPLE_HEAD, padding=(0, 1, 0, 0), row_styles=("", "dim"))
    for title in _COLUMNS:
        name = title in ("model", "batch")
        table.add_column(title, justify="left" if title == "model" else "right", no_wrap=name, overflow="fold")
    for row in report.rows:
        table.add_row(*_cells(report, row))
    above = [Text(line) for line in _machine_lines(report)]
    above += [Text(line) for line in report.notices]
    above += [Text(f"warning: {line}", style="bold red") for line in report.warnings]
    below = [Text(line, style="dim") for line in _notes(report)]
    return Group(*above, Text(""), table, Text(""), *below)


# A cell holds the figures that the second line of its header names, and breaks at the spaces between them: a narrow
# terminal stacks figures, it cuts none.
_COLUMNS = (
    "model",
    "batch",
    "prep ms\np50 p90 p99",
    "infer ms\np50 p90 p99",
    "total ms\np50 p90 p99",
    "crops per s\ntotal infer",
    "GFLOP per s\nof peak",
    "MB\nfile peak",
    "%\nR1 mAP",
    "vs row 1\ntime R1 mAP",
)


def _cells(report: BenchReport, row: Row) -> tuple[str, ...]:
    measured, change = row.measured, report.change(row)
    return (
        _folded(row.model if row.precision in row.model else f"{row.model} {row.precision}"),
        str(row.batch),
        _times(measured.preprocess_ms),
        _times(measured.inference_ms),
        _times(measured.end_to_end_ms),
        f"{_figure(measured.crops_per_s)} {_figure(measured.inference_crops_per_s)}",
        f"{_figure(row.gflops)} {_share(report.of_peak(row))}",
        f"{_figure(row.file_bytes, 1e-6)} {_figure(measured.peak_memory_bytes, 1e-6)}",
        f"{_percent(row.rank1)} {_percent(row.mAP)}",
        f"x{change.end_to_end:.2f} {_signed(change.rank1_points)} {_signed(change.mAP_points)}",
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
    notes = [
        f"{settings['files']} files of {settings['data']}; {min(samples)} to {max(samples)} batches a row",
        "prep: files to a uint8 batch. infer: batch to embeddings. total: both, end to end. Times are per batch",
        f"models opened in {_figure(min(loads))} to {_figure(max(loads))} ms",
        "MB: 10^6 bytes; peak: of the row's whole process. time vs row 1: total p50 per crop. R1, mAP: points",
    ]
    if report.sgemm_gflops:
        notes.append(f"of peak: of the {report.sgemm_gflops:.0f} GFLOP/s that a float32 matrix product reached here")
    return notes


def _times(times: Percentiles) -> str:
    return " ".join(_figure(value) for value in (times.p50, times.p90, times.p99))


def _figure(value: float | None, scale: float = 1.0) -> str:
    """Three significant digits, never an exponent."""
    if value is None:
        return "-"
    scaled = value * scale
    places = 2 if scaled < 9.995 else 1 if scaled < 99.95 else 0
    return f"{scaled:.{places}f}"


def _percent(fraction: float | None) -> str:
    return "-" if fraction is None else f"{fraction * 100:.1f}"


def _share(fraction: float | None) -> str:
    return "-" if fraction is None else f"{fraction:.0%}"


def _signed(value: float | None) -> str:
    return "-" if value is None else f"{value:+.1f}"


def _folded(name: str) -> str:
    """A long name on several lines, broken after an underscore where there is one."""
    return "\n".join(re.findall(r".{1,13}(?:[_ -]|$)|.{1,14}", name))
