"""What `bench` measured, as pictures: accuracy against latency, the spread of times, their stages, energy."""

from __future__ import annotations

from collections.abc import Sequence
from xml.etree.ElementTree import Element

from reid_edge.benchmarks.details import figure
from reid_edge.benchmarks.html.curves import curves_section
from reid_edge.benchmarks.html.elements import element
from reid_edge.benchmarks.html.histograms import histogram_chart
from reid_edge.benchmarks.html.models import model_name, row_name
from reid_edge.benchmarks.html.scatter import Dot, scatter_chart
from reid_edge.benchmarks.html.tables import figure_table, number
from reid_edge.benchmarks.results import BenchReport, BenchRow

__all__ = ["energy_section", "front_section", "latency_section"]

_MOST_HISTOGRAMS = 48


def front_section(report: BenchReport) -> Element | None:
    """MAP against p50, a chart for each batch size; None where nothing was scored."""
    scored = [row for row in report.rows if row.mAP is not None and row.measured.streams == 1]
    charts = [_front(rows, batch) for batch, rows in _by_batch(scored)]
    text = (
        "Up and to the left is better. A row is on the Pareto front where no other is both as fast and as accurate. "
        "Times are of a whole batch, from files to embeddings; their axis is logarithmic."
    )
    return curves_section(charts, title="Accuracy against latency", text=text) if charts else None


def _front(rows: Sequence[BenchRow], batch: int) -> Element:
    dots = [
        Dot(model_name(row), row.precision.upper(), row.measured.end_to_end_ms.p50, 100 * (row.mAP or 0))
        for row in rows
    ]
    return scatter_chart(dots, title=f"Batch {batch}", across=f"p50, ms a batch of {batch}", up="mAP, %")


def latency_section(report: BenchReport) -> Element | None:
    """A histogram for each row, and the p50 of its stages; None where the report holds no times."""
    rows = [row for row in report.rows if row.measured.latencies_ms]
    if not rows:
        return None
    charts = [_histogram(row) for row in rows[:_MOST_HISTOGRAMS]]
    beyond = f" Of {len(rows)} rows the first {_MOST_HISTOGRAMS} are drawn." if len(rows) > _MOST_HISTOGRAMS else ""
    text = "How often a batch took how long, from files to embeddings; each axis has its own range." + beyond
    section = curves_section(charts, title="Latency", text=text)
    if any(row.measured.stages for row in rows):
        section.append(_stages(rows))
    return section


def _histogram(row: BenchRow) -> Element:
    times = row.measured.end_to_end_ms
    marks = {"p50": times.p50, "p99": times.p99}
    return histogram_chart(row.measured.latencies_ms, title=row_name(row), marks=marks)


def _stages(rows: Sequence[BenchRow]) -> Element:
    names = list(dict.fromkeys(name for row in rows for name in row.measured.stages))
    lines: list[list[Element | str]] = [
        [row_name(row), *(_median(row, name) for name in names)] for row in rows if row.measured.stages
    ]
    titles = ["row", *(name.replace("_", " ") for name in names)]
    return figure_table(titles, lines, "Stages, each by itself: p50 in ms a batch", sortable=True)


def _median(row: BenchRow, stage: str) -> Element:
    times = row.measured.stages.get(stage)
    return number(None, "") if times is None else number(times.p50, figure(times.p50))


def energy_section(report: BenchReport) -> Element | None:
    """Millijoules a crop for each row, a table for each meter; None where nothing was metered."""
    metered: dict[str, list[BenchRow]] = {}
    for row in report.rows:
        if row.measured.energy:
            metered.setdefault(row.measured.energy.source, []).append(row)
    if not metered:
        return None
    text = "What a crop took, from file to embedding, the idle machine included. Only figures of one meter compare."
    tables = [_meter(source, rows) for source, rows in metered.items()]
    return element("section", element("h2", "Energy"), element("p", text), *tables)


def _meter(source: str, rows: Sequence[BenchRow]) -> Element:
    most = max(row.measured.energy.mj_per_crop for row in rows if row.measured.energy) or 1.0
    lines: list[list[Element | str]] = []
    for row in rows:
        used = row.measured.energy
        assert used is not None
        watts = used.joules / used.seconds if used.seconds else None
        lines.append(
            [
                row_name(row),
                number(used.mj_per_crop, figure(used.mj_per_crop)),
                _bar(used.mj_per_crop / most),
                number(watts, figure(watts)),
            ]
        )
    return figure_table(("row", "mJ a crop", "", "W, mean"), lines, f"Energy by {source}")


def _bar(share: float) -> Element:
    bar = element("rect", x=0, y=0, width=round(100 * share, 1), height=10, class_="bar")
    return element("svg", bar, viewBox="0 0 100 10", class_="amount", aria_hidden="true")


def _by_batch(rows: Sequence[BenchRow]) -> list[tuple[int, list[BenchRow]]]:
    groups: dict[int, list[BenchRow]] = {}
    for row in rows:
        groups.setdefault(row.batch, []).append(row)
    return sorted(groups.items())
