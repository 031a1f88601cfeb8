"""The page of an evaluation: figures of ``eval --json``, its CMC, and with a model and data the queries that failed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any
from xml.etree.ElementTree import Element

from reid_edge.benchmarks.html.charts import Series
from reid_edge.benchmarks.html.curves import cmc_chart, curves_section
from reid_edge.benchmarks.html.elements import element
from reid_edge.benchmarks.html.page import write_page
from reid_edge.benchmarks.html.tables import figure_table
from reid_edge.benchmarks.scored import ScoredModel
from reid_edge.data.datasets import Dataset

from .bench import scored_sections

__all__ = ["write_evaluation_page"]

_SCORES = {"rank1": "rank-1", "rank5": "rank-5", "rank10": "rank-10", "rank20": "rank-20", "mAP": "mAP", "mINP": "mINP"}
_FACTS = (
    "dataset",
    "part",
    "distance",
    "architecture",
    "precision",
    "resize",
    "backend",
    "provider",
    "threads",
    "sha256",
)


def write_evaluation_page(
    figures: Mapping[str, Any],
    path: Path | str,
    scored: Sequence[ScoredModel] = (),
    dataset: Dataset | None = None,
    *,
    with_crops: bool = False,
) -> Path:
    """Write the page of what `Evaluation.to_dict` gave, and return its path; the other arguments are a benchmark's."""
    scores = {label: figures[name] for name, label in _SCORES.items() if name in figures}
    curves = scored_sections(scored, dataset, with_crops=with_crops) if dataset else [_measured_ranks(figures)]
    main = [(label, f"{100 * share:.1f} %", "") for label, share in scores.items() if label != "rank-20"]
    remark = f"of {figures['queries']} have a match among {figures['gallery']} crops"
    return write_page(
        path,
        [*curves, _conditions(figures)],
        title="reid-edge: evaluation",
        lead=f"{figures['model']} on {figures['dataset']} ({figures['part']}), by {figures['distance']} distance.",
        figures=[*main, ("queries", str(figures["valid_queries"]), remark)],
    )


def _measured_ranks(figures: Mapping[str, Any]) -> Element:
    """CMC as far as the figures hold it: whole, or at the ranks reported."""
    whole = enumerate(figures.get("cmc", ()), start=1)
    ranks = list(whole) or [
        (int(name[4:]), figures[name]) for name in _SCORES if name in figures and name[4:].isdigit()
    ]
    line = Series(str(figures["model"]), [(rank, 100 * share) for rank, share in ranks])
    text = "Ranked lists, and every rank, are here when the model and its data are given (--model, --data)."
    return curves_section([cmc_chart([line])], title="CMC", text=text)


def _conditions(figures: Mapping[str, Any]) -> Element:
    """What the figures depend on."""
    settings = figures.get("settings")
    tricks = settings if isinstance(settings, Mapping) else {}
    rows = [[name, str(figures[name])] for name in _FACTS if name in figures]
    rows += [[name.replace("_", " "), _said(value)] for name, value in tricks.items()]
    table = figure_table(("condition", "value"), rows, "What the figures depend on")
    return element("section", element("h2", "Conditions"), table)


def _said(value: object) -> str:
    return (
        {True: "yes", False: "no", None: "no"}.get(value, str(value)) if isinstance(value, bool | None) else str(value)
    )
