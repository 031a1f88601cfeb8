"""All that was measured of a row of `bench`, in lines: stages, bounds, turns, energy and clocks."""

from __future__ import annotations

from collections.abc import Mapping

from .results import BenchReport, BenchRow
from .timing.measurement import Clocks
from .timing.percentiles import Percentiles

__all__ = ["detail_lines", "figure"]


def detail_lines(report: BenchReport, row: BenchRow) -> list[str]:
    """All that was measured of one row, in lines of at most 80 characters but for names and reasons."""
    measured, change = row.measured, report.change(row)
    streams = f", {measured.streams} streams" if measured.streams > 1 else ""
    lines = ["", f"{row.model} ({row.precision}), batch {row.batch}{streams}: {measured.samples} batches"]
    lines[1] += f" by {measured.engine.backend}"
    if row is not report.rows[0] and change.mAP_points is not None:
        lines.append(f"  against row 1: R1 {change.rank1_points:+.2f}, mAP {change.mAP_points:+.2f} points")
    parts = {"end to end": measured.end_to_end_ms, **_renamed(measured.stages)}
    if not measured.stages:
        parts |= {"preprocessing": measured.preprocess_ms, "inference": measured.inference_ms}
    if measured.streamed:
        parts["streamed"] = measured.streamed.latency_ms
    lines.append(f"  {'ms':<15}" + "".join(f"{name:<21}" for name in ("p50", "p90", "p99")).rstrip())
    lines += [f"  {name:<15}{_percentiles(each)}" for name, each in parts.items()]
    if measured.streamed:
        lines.append(f"  streamed: {figure(measured.streamed.crops_per_s)} crops/s")
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
    """The three with their bounds, where those are known, in columns of 21.

    >>> _percentiles(Percentiles(3.0, 4.0, 5.0, 400, {"p50": (2.9, 3.1), "p99": (4.5, None)}))
    '3.00 [2.90, 3.10]    4.00                 5.00 [4.50, -]'
    """
    parts = []
    for name in ("p50", "p90", "p99"):
        low, high = times.bounds.get(name, (None, None))
        bounds = "" if low is None and high is None else f" [{figure(low)}, {figure(high)}]"
        parts.append(f"{figure(getattr(times, name)) + bounds:<20}")
    return " ".join(parts).rstrip()


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
