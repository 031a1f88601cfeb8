"""The report of `bench` as a table under the machine it was measured on."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from reid_edge.core.log import printable

from .details import detail_lines, figure
from .machine import Machine
from .results import BenchReport, BenchRow

if TYPE_CHECKING:
    from rich.console import Group
    from rich.table import Table

__all__ = ["report_table"]


def report_table(report: BenchReport, details: bool = False) -> Group:
    """The warnings, the machine, and a table of one line a row, to be printed with rich; 80 columns.

    With ``details`` each row's stages, bounds, turns, energy and clocks follow.
    """
    from rich.console import Group
    from rich.text import Text

    above = [Text(printable(f"warning: {line}"), style="bold red") for line in report.warnings]
    above += [Text(printable(line)) for line in (*_machine_lines(report), *report.notices)]
    table = _table(report)
    for row, name in zip(report.rows, _names(report), strict=True):
        table.add_row(name, *_cells(report, row))
    below = [Text(printable(line), style="dim") for line in _notes(report)]
    beside = [Text(printable(line)) for each in report.trtexec for line in each.lines()]
    rows = [Text(printable(line)) for row in report.rows for line in detail_lines(report, row)] if details else []
    return Group(*above, Text(""), table, Text(""), *beside, *below, *rows)


_NAME_WIDTH = 27


def _table(report: BenchReport) -> Table:
    from rich.box import SIMPLE_HEAD
    from rich.table import Table

    table = Table(box=SIMPLE_HEAD, padding=0, show_edge=False, pad_edge=False)
    table.add_column("model", min_width=5, max_width=_NAME_WIDTH, no_wrap=True)
    for title, width in (
        ("type", 4),
        ("batch", 5),
        ("p50\nms", 5),
        ("p99\nms", 5),
        ("crops\n/s", 5),
        ("mJ a\ncrop" if _has_energy(report) else "peak\nMB", 4),
        ("R1\n%", 4),
        ("mAP\n%", 4),
        ("vs\nrow 1", 5),
    ):
        table.add_column(title, justify="right", min_width=width, no_wrap=True)
    return table


def _has_energy(report: BenchReport) -> bool:
    return any(row.measured.energy for row in report.rows)


def _cells(report: BenchReport, row: BenchRow) -> tuple[str, ...]:
    measured = row.measured
    end_to_end = measured.end_to_end_ms
    energy = measured.energy.mj_per_crop if measured.energy else None
    streams = f"x{measured.streams}" if measured.streams > 1 else ""
    return (
        row.precision,
        f"{row.batch}{streams}{'~' if measured.disturbed else ''}",
        figure(end_to_end.p50),
        figure(end_to_end.p99),
        figure(measured.crops_per_s),
        figure(energy) if _has_energy(report) else figure(measured.peak_memory_bytes, 1e-6),
        *("-" if score is None else f"{100 * score:.1f}" for score in (row.rank1, row.mAP)),
        f"x{report.change(row).end_to_end:.2f}",
    )


def _names(report: BenchReport) -> list[str]:
    """Each row's model without its precision, and what tells it from others of that name: its folder, its backend."""
    rows = report.rows
    found = []
    for row in rows:
        alike = [each for each in rows if each.model == row.model]
        folder = f"{Path(row.path).parent.name}/" if len({each.path for each in alike}) > 1 else ""
        same = [each for each in alike if each.path == row.path and each.precision == row.precision]
        backend = row.measured.engine.backend
        mark = f" {backend}" if len({each.measured.engine.backend for each in same}) > 1 else ""
        found.append(_shortened(folder + row.model.removesuffix(f"_{row.precision}"), _NAME_WIDTH - len(mark)) + mark)
    return found


def _shortened(name: str, width: int) -> str:
    """Of a long name the ends, which tell it from others: the engine's line below the table has the whole name.

    >>> _shortened("mobilenetv3_large_100_from_resnet50", 27)
    'mobilenetv3_..from_resnet50'
    """
    start, end = (width - 2) // 2, (width - 1) // 2
    return name if len(name) <= width else f"{name[:start]}..{name[-end:]}"


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
    firsts = [round(each.first_run_ms) for each in measured]
    turns = f" in {settings['turns']} turns" if settings.get("turns", 1) > 1 else ""
    notes = [
        f"{settings['files']} files of {settings['data']}; {_span(samples)} batches a row{turns}",
        "times: ms a batch, files to embeddings; vs row 1: p50 per crop",
        *([] if _has_energy(report) else ["peak: MB (10^6 bytes) of the row's whole process"]),
        *(["~: disturbed, see --details"] if any(each.disturbed for each in measured) else []),
        f"models opened in {_span([round(load) for load in loads])} ms, first batches ran in {_span(firsts)} ms",
    ]
    notes += dict.fromkeys(f"{row.model}: {row.measured.engine}" for row in report.rows)
    shares = [(report.of_peak(row) or 0, row) for row in report.rows]
    share, best = max(shares, key=lambda pair: pair[0], default=(0, None))
    if share and best:
        of = f"{share:.0%} of the {report.peak(best):.0f} that a matrix product in {best.precision} reached"
        notes.append(f"fastest inference: {figure(best.gflops)} GFLOP/s, {of}")
    if report.rates:
        notes.append("limits: " + ", ".join(_rate(name, rate) for name, rate in report.rates.items()))
    return notes


def _rate(name: str, rate: float) -> str:
    """A measured limit with its unit.

    >>> _rate("int8", 480.4), _rate("copy", 24.31)
    ('int8 480 GOP/s', 'copy 24.3 GB/s')
    """
    copies = name == "copy" or name.endswith(("h2d", "d2h"))
    return f"{name} {figure(rate)} {'GB/s' if copies else 'GOP/s' if name.endswith('int8') else 'GFLOP/s'}"


def _span(values: Sequence[int]) -> str:
    """The least and the largest, where they differ.

    >>> _span([20, 31]), _span([20, 20])
    ('20 to 31', '20')
    """
    low, high = min(values), max(values)
    return f"{low} to {high}" if low < high else f"{low}"
