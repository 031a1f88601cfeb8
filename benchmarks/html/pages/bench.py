"""The page of a benchmark: what was measured on what, speed beside accuracy, curves, and the queries that failed."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from xml.etree.ElementTree import Element

from reid_edge.benchmarks.details import figure
from reid_edge.benchmarks.html.curves import cmc_chart, cmc_of, curves_section, roc_chart
from reid_edge.benchmarks.html.models import bench_section, row_name
from reid_edge.benchmarks.html.page import write_page
from reid_edge.benchmarks.results import BenchReport
from reid_edge.benchmarks.scored import ScoredModel
from reid_edge.data.datasets import Dataset

from .failures import failures_section
from .measured import energy_section, front_section, latency_section

__all__ = ["scored_sections", "write_bench_page"]


def write_bench_page(
    report: BenchReport,
    path: Path | str,
    scored: Sequence[ScoredModel] = (),
    dataset: Dataset | None = None,
    *,
    with_crops: bool = False,
) -> Path:
    """Write the page of ``report``, and return its path.

    ``scored`` are its models with what `score_model` found of each on ``dataset``: curves of all, ranked lists of the
    first. Crops of people are in the page only ``with_crops``. Raises ImageError for a crop that cannot be read.
    """
    text = (
        "Each row is timed in a process of its own, from files to embeddings; times are for a whole batch. "
        "Press the title of a column to sort by it."
    )
    sections = [
        front_section(report),
        bench_section(report, title="Speed and scores", text=text),
        latency_section(report),
        energy_section(report),
        *(scored_sections(scored, dataset, with_crops=with_crops) if dataset else []),
    ]
    data = Path(str(report.settings.get("data", "-"))).name
    return write_page(
        path,
        [section for section in sections if section is not None],
        title="reid-edge: benchmark",
        lead=f"{_models(report)} on {report.machine.board or report.machine.cpu}, with crops of {data}.",
        figures=_figures(report),
        footer=f"{report.made_with}, {report.started}. {' '.join(report.notices)}",
    )


def scored_sections(scored: Sequence[ScoredModel], dataset: Dataset, *, with_crops: bool) -> list[Element]:
    """CMC and ROC of every model, and the ranked lists of the first; nothing without models."""
    if not scored:
        return []
    first = scored[0]
    counts = f"{first.metrics.valid_queries} queries against {first.metrics.gallery} gallery crops of {dataset.name}"
    sampled = len(first.pairs.impostor) < first.pairs.impostor_pairs
    pairs = f"{len(first.pairs.genuine):,} pairs of one person and {first.pairs.impostor_pairs:,} of two"
    text = (
        f"{counts} ({dataset.part}), by {first.metrics.distance} distance. ROC over all {pairs}"
        f"{f', of which {len(first.pairs.impostor):,} are drawn evenly' if sampled else ''}."
    )
    charts = [
        cmc_chart([cmc_of(each.name, each.metrics) for each in scored]),
        roc_chart([(each.name, each.pairs) for each in scored]),
    ]
    curves = curves_section(charts, title="CMC and ROC", text=text)
    return [curves, failures_section(first, dataset, with_crops=with_crops)]


def _models(report: BenchReport) -> str:
    names = list(dict.fromkeys(row.model for row in report.rows))
    return ", ".join(names) if len(names) <= 3 else f"{len(names)} models"


def _figures(report: BenchReport) -> list[tuple[str, str, str]]:
    """The rows that are best at something."""
    rows = report.rows
    quick = min(rows, key=lambda row: row.measured.end_to_end_ms.p50 / row.batch)
    prompt = min(rows, key=lambda row: row.measured.end_to_end_ms.p50)
    found = [
        ("quickest batch", f"{figure(prompt.measured.end_to_end_ms.p50)} ms", f"median, {row_name(prompt)}"),
        ("crops/s", figure(quick.measured.crops_per_s), row_name(quick)),
    ]
    scored = [row for row in rows if row.mAP is not None]
    if scored:
        best = max(scored, key=lambda row: row.mAP or 0)
        found.append(("mAP", f"{100 * (best.mAP or 0):.1f} %", f"{best.model}, the highest"))
    small = min(rows, key=lambda row: row.file_bytes)
    found.append(("smallest file", f"{figure(small.file_bytes, 1e-6)} MB", small.model))
    metered = [row for row in rows if row.measured.energy]
    if metered:
        spare = min(metered, key=lambda row: row.measured.energy.mj_per_crop if row.measured.energy else 0)
        assert spare.measured.energy is not None
        found.append(("mJ a crop", figure(spare.measured.energy.mj_per_crop), row_name(spare)))
    return found
