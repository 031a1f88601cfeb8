"""The report of `bench` as a table under the machine it was measured on, and each row's details."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from reid_edge.core.log import printable

from .machine import Machine
from .results import BenchReport, BenchRow
from .timing.measurement import Clocks
from .timing.percentiles import Percentiles

if TYPE_CHECKING:
    from rich.console import Group
    from rich.table import Table

__all__ = ["detail_lines", "figure", "report_table"]


def report_table(report: BenchReport, details: bool = False) -> Group:
    """The warnings, the machine, and a table of one line a row, to be printed with rich; 80 columns.

    With ``details`` each row's stages, bounds, turns, energy and clocks follow.
    """
    from rich.console import Group
    from rich.text import Text

    above = [Text(printable(f"warning: {line}"), style="bold red") for line in report.warnings]
    above += [Text(printable(line)) for line in (*_machine_lines(report), *report.notices)]
    table = _table(report)
    for row in report.rows:
        table.add_row(*_cells(report, row))
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
        _short_name(row),
        row.precision,
        f"{row.batch}{streams}{'~' if measured.disturbed else ''}",
        figure(end_to_end.p50),
        figure(end_to_end.p99),
        figure(measured.crops_per_s),
        figure(energy) if _has_energy(report) else figure(measured.peak_memory_bytes, 1e-6),
        *("-" if score is None else f"{100 * score:.1f}" for score in (row.rank1, row.mAP)),
        f"x{report.change(row).end_to_end:.2f}",
    )


def _short_name(row: BenchRow) -> str:
    """The model without its precision; of a long name the ends, which tell it from others.

    The engine's line below the table has the whole name.
    """
    name = row.model.removesuffix(f"_{row.precision}")
    return name if len(name) <= _NAME_WIDTH else f"{name[:12]}..{name[-13:]}"


def detail_lines(report: BenchReport, row: BenchRow) -> list[str]:
    """All that was measured of one row, in lines of at most 80 characters but for names and reasons."""
    measured, change = row.measured, report.change(row)
    streams = f", {measured.streams} streams" if measured.streams > 1 else ""
    lines = ["", f"{row.model} ({row.precision}), batch {row.batch}{streams}: {measured.samples} batches"]
    if row is not report.rows[0] and change.mAP_points is not None:
        lines.append(f"  against row 1: R1 {change.rank1_points:+.2f}, mAP {change.mAP_points:+.2f} points")
    parts = {"end to end": measured.end_to_end_ms, **_renamed(measured.stages)}
    if not measured.stages:
        parts |= {"preprocessing": measured.preprocess_ms, "inference": measured.inference_ms}
    lines += [f"  {name:<15}{_percentiles(each)}" for name, each in parts.items()]
    if measured.streamed:
        crops, times = measured.streamed.crops_per_s, measured.streamed.latency_ms
        lines.append(f"  {'streamed':<15}{_percentiles(times)}; {figure(crops)} crops/s")
    lines.append(
        f"  opened in {figure(measured.load_ms)} ms, first run {figure(measured.first_run_ms)} ms" + _warmed(row)
    )
    if row.gflops:
        share = report.of_peak(row)
        peak = "" if share is None else f", {share:.0%} of the {figure(report.peak(row))} of a matrix product"
        lines.append(f"  {figure(row.gflops)} GFLOP/s{peak}")
    if measured.energy:
        energy = measured.energy
        idle = "" if energy.idle_watts is None else f", {energy.idle_watts:.1f} W when waiting"
        lines.append(f"  {energy.mj_per_crop:.2f} mJ a crop by {energy.source}: {energy.watts:.1f} W{idle}")
    if measured.clocks and (clocks := _clock_line(measured.clocks)):
        lines.append(f"  {clocks}")
    if len(measured.turns) > 1:
        lines.append("  turns' p50: " + ", ".join(figure(turn.p50_ms) for turn in measured.turns) + " ms")
    lines += [f"  disturbed: {reason}" for reason in measured.disturbed]
    return lines


def _renamed(stages: Mapping[str, Percentiles]) -> dict[str, Percentiles]:
    """Stages by the words for people."""
    words = {"host_to_device": "to the device", "device_to_host": "from the device", "rank": "rank"}
    return {words.get(name, name): each for name, each in stages.items()}


def _percentiles(times: Percentiles) -> str:
    """The three with their bounds, where those are known.

    >>> _percentiles(Percentiles(3.0, 4.0, 5.0, 400, {"p50": (2.9, 3.1), "p99": (4.5, None)}))
    'p50 3.00 [2.90, 3.10]  p90 4.00  p99 5.00 [4.50, -]'
    """
    parts = []
    for name in ("p50", "p90", "p99"):
        low, high = times.bounds.get(name, (None, None))
        bounds = "" if low is None and high is None else f" [{figure(low)}, {figure(high)}]"
        parts.append(f"{name} {figure(getattr(times, name))}{bounds}")
    return "  ".join(parts)


def _warmed(row: BenchRow) -> str:
    warmed = row.measured.warm_up
    if warmed is None:
        return ""
    steady = "" if warmed.steady else ", never steady"
    return f"; warm-up {warmed.batches} batches, {warmed.seconds:.1f} s{steady}"


def _clock_line(clocks: Clocks) -> str:
    facts = [
        f"CPU {clocks.cpu_mhz:.0f} MHz" if clocks.cpu_mhz else "",
        f"GPU {clocks.gpu_mhz:.0f} MHz" if clocks.gpu_mhz else "",
        f"memory {clocks.memory_mhz:.0f} MHz" if clocks.memory_mhz else "",
        f"{clocks.celsius:.0f} C" if clocks.celsius is not None else "",
        f"power mode {clocks.power_mode}" if clocks.power_mode else "",
        f"lowered by {', '.join(clocks.throttled)}" if clocks.throttled else "",
    ]
    return ", ".join(fact for fact in facts if fact)


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
