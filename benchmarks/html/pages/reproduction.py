"""The page of a reproduction: the paper's Table I beside the figures measured, and CMC curves by data set."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from xml.etree.ElementTree import Element

from reid_edge.benchmarks.html.charts import Series
from reid_edge.benchmarks.html.curves import cmc_chart, curves_section
from reid_edge.benchmarks.html.elements import element
from reid_edge.benchmarks.html.page import write_page
from reid_edge.benchmarks.html.tables import figure_table, number

__all__ = ["write_reproduction_page"]

_TITLES = (
    "model",
    "recipe",
    "trained on",
    "scored on",
    "distance",
    "R1 %",
    "paper R1 %",
    "mAP %",
    "paper mAP %",
    "mINP %",
)
_MOST_LINES = 16  # of one chart, which can still be told apart


def write_reproduction_page(
    rows: Sequence[Mapping[str, str]], curves: Mapping[str, Sequence[Series]], path: Path | str, *, name: str
) -> Path:
    """Write the page of the lines of ``table1.csv`` and of CMC ``curves`` by data set, and return its path."""
    measured = [row for row in rows if not row.get("missing")]
    reasons = dict.fromkeys(row["missing"] for row in rows if row.get("missing"))
    table = figure_table(_TITLES, [_cells(row) for row in rows], "Table I: measured beside the paper", sortable=True)
    text = (
        "A line for each distance; a column sorts by its title. A dash stands where the paper gives no figure, or none "
        "is measured yet. No re-ranking, no flip averaging; the paper averaged each crop's feature with its mirror's."
    )
    missing = [element("p", reason, class_="quiet") for reason in reasons]
    charts = [_chart(data, lines) for data, lines in curves.items()]
    return write_page(
        path,
        [
            element("section", element("h2", "Table I"), element("p", text), table, *missing),
            *(
                [curves_section(charts, title="CMC", text="By euclidean distance, a chart for each data set.")]
                if charts
                else []
            ),
        ],
        title="reid-edge: reproduction",
        lead=f"{name}: {len(measured)} of {len(rows)} lines of the paper's experiments are measured.",
    )


def _chart(data: str, lines: Sequence[Series]) -> Element:
    rest = f" (the first {_MOST_LINES} of {len(lines)})" if len(lines) > _MOST_LINES else ""
    return cmc_chart(lines[:_MOST_LINES], f"{data}{rest}")


def _cells(row: Mapping[str, str]) -> list[Element | str]:
    trained = row["trained_on"] + (f", then {row['finetuned_on']}" if row["finetuned_on"] else "")
    named = [row["model"], row["recipe"], trained, row["scored_on"], row["distance"] or "-"]
    names = ("rank1_percent", "paper_rank1_percent", "mAP_percent", "paper_mAP_percent", "mINP_percent")
    return [*named, *(_figure(row[name]) for name in names)]


def _figure(text: str) -> Element:
    return number(float(text), text) if text else number(None, "")
