"""Table I and the CMC figures of the paper's experiments: measured here, by the paper and by others, side by side."""

from __future__ import annotations

import csv
import io
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from reid_edge.core.files import write_text
from reid_edge.errors import MissingExtraError
from reid_edge.scoring.report.cmc import Curve, draw_cmc
from reid_edge.training.recipe.config import TrainConfig

from .plan import DATA_TITLES, Cell
from .published import Published, by_others, of_the_paper

__all__ = ["Filled", "draw_figures", "write_tables"]

logger = logging.getLogger(__name__)

_MAIN = "euclidean"
_NOT_RECORDED = "No figure of the paper for this experiment is among those recorded in `published.py`."
_CSV_HEAD = (
    *("model", "recipe", "trained_on", "epochs", "finetuned_on", "finetune_epochs", "start"),
    *("scored_on", "part", "distance"),
    *("rank1_percent", "rank5_percent", "rank10_percent", "rank20_percent", "mAP_percent", "mINP_percent"),
    *("queries", "valid_queries", "gallery", "paper_rank1_percent", "paper_mAP_percent", "missing"),
)


@dataclass(frozen=True)
class Filled:
    """A cell with its evaluation's ``result``, or None and the reason in ``missing``.

    ``configs`` are the recipes of its training and fine-tuning, ``start`` names the weights that training started from,
    ``part`` is the split of the data set scored on.
    """

    cell: Cell
    result: Mapping[str, Any] | None
    missing: str = ""
    configs: tuple[TrainConfig, ...] = ()
    start: str = ""
    part: str = ""

    def scores(self, distance: str = _MAIN) -> Mapping[str, Any] | None:
        """The figures by one distance, as `Metrics.to_dict` names them, and ``cmc``."""
        return None if self.result is None else self.result["distances"][distance]

    @property
    def paper(self) -> Published | None:
        """The paper's figure for this cell, if one is known."""
        cell = self.cell
        plain = cell.trained_on == cell.scored_on and cell.finetuned_on is None
        return of_the_paper(cell.arch, DATA_TITLES[cell.scored_on]) if plain else None

    @property
    def others(self) -> str:
        """What others published for the same architecture on the same data."""
        if self.cell.trained_on != self.cell.scored_on or self.cell.finetuned_on:
            return ""
        rows = by_others(self.cell.arch, DATA_TITLES[self.cell.scored_on])
        return "; ".join(f"{row} ({row.source})" for row in rows)


def write_tables(rows: Sequence[Filled], not_public: Mapping[str, str], out: Path) -> list[Path]:
    """Write ``table1.md`` and ``table1.csv`` (a line for each distance) in ``out``.

    ``not_public`` has a sentence for each data set, by its option, that is not the public one. A missing figure is "-"
    with the reason in a footnote.
    """
    lines = [*_table_one(rows, not_public), "", *_distances(rows)]
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(_CSV_HEAD)
    for row in rows:
        writer.writerows(_csv_lines(row))
    written = []
    for name, content in (("table1.md", "\n".join(lines) + "\n"), ("table1.csv", text.getvalue())):
        write_text(out / name, content)
        written.append(out / name)
    return written


def draw_figures(rows: Sequence[Filled], not_public: Mapping[str, str], out: Path) -> list[Path]:
    """Draw ``cmc-DATA-RECIPE.png`` and ``.svg`` for each data set scored on: its models, plain and fine-tuned.

    Only models trained or fine-tuned on the data set are drawn, except on LaST, where nothing is trained. Without
    matplotlib nothing is drawn, and a warning is logged. The title names the set, and marks one that is ``not_public``.
    """
    drawn: list[Path] = []
    for data, recipe in dict.fromkeys((row.cell.scored_on, row.cell.recipe) for row in rows):
        curves = [_curve(row) for row in rows if row.result and _is_drawn(row.cell, data, recipe)]
        if not curves:
            continue
        part = next(row.part for row in rows if row.cell.scored_on == data and row.part)
        title = f"{DATA_TITLES[data]} ({part}), recipe {recipe}{', not the public set' if data in not_public else ''}"
        try:
            drawn += draw_cmc(curves, out / f"cmc-{data}-{recipe}", title, published="the paper")
        except MissingExtraError as error:
            logger.warning("no CMC figures: %s, then repeat the command", error)
            return []
    return drawn


class _Footnotes:
    """Numbered sentences; the same sentence has the same number."""

    def __init__(self) -> None:
        self.texts: list[str] = []

    def mark(self, text: str) -> str:
        if not text:
            return ""
        if text not in self.texts:
            self.texts.append(text)
        return f" [{self.texts.index(text) + 1}]"


def _table_one(rows: Sequence[Filled], not_public: Mapping[str, str]) -> list[str]:
    notes = _Footnotes()
    lines = [
        *(_caption(rows), ""),
        "| model | recipe | trained on | scored on | measured | the paper | others |",
        "| --- | --- | --- | --- | --- | --- | --- |",
    ]
    for row in rows:
        cell, scores = row.cell, row.scores()
        where = DATA_TITLES[cell.scored_on] + (f" ({row.part})" if cell.scored_on == "last" and row.part else "")
        where += notes.mark(not_public.get(cell.scored_on, ""))
        measured = _pair(scores) if scores else "-" + notes.mark(row.missing)
        paper = str(row.paper) if row.paper else "-" + notes.mark(_NOT_RECORDED)
        cells = cell.arch, cell.recipe, _trained_on(row), where, measured, paper, row.others or "-"
        lines.append(f"| {' | '.join(cells)} |")
    lines.append("")
    for number, text in enumerate(notes.texts, start=1):
        lines.append(f"{number}. {text}")
    return lines


def _caption(rows: Sequence[Filled]) -> str:
    """The conditions of the figures in Table I."""
    lines = [
        f"**Table I.** Rank-1 / mAP in per cent by {_MAIN} distance, after the last epoch; no re-ranking, no flip "
        "averaging (the paper averaged each crop's feature with its mirror image's)."
    ]
    for arch, recipe in dict.fromkeys((row.cell.arch, row.cell.recipe) for row in rows):
        first = next((r for r in rows if (r.cell.arch, r.cell.recipe) == (arch, recipe) and r.configs), None)
        if first is None:
            continue
        config = first.configs[0]
        height, width = config.input_hw
        lines.append(f"{arch}, {recipe}: {_epochs(config.epochs)} from {first.start} at {height}x{width}.")
    lines.append(_about_last(rows))
    return " ".join(lines)


def _about_last(rows: Sequence[Filled]) -> str:
    paper = "the paper's LaST column was measured on `val`, by models trained on Market-1501"
    found = next((row for row in rows if row.cell.scored_on == "last" and row.part), None)
    if found is None:
        return f"LaST was not scored ({paper})."
    scores = found.scores()
    counts = f" ({scores['queries']:,} queries, {scores['gallery']:,} gallery crops)" if scores else ""
    return f"LaST: the `{found.part}` split{counts}, no same-camera filtering; {paper}."


def _distances(rows: Sequence[Filled]) -> list[str]:
    lines = [
        "**Distances.** Rank-1 / mAP in per cent from the same embeddings. They are L2-normalised, so that cosine and "
        "euclidean give the same ranking, except for ties that rounding decides.",
        "",
    ]
    filled = [row for row in rows if row.result]
    if not filled:
        return [*lines, "Nothing is evaluated yet."]
    names = list((filled[0].result or {})["distances"])
    lines += [f"| model | recipe | trained on | scored on | {' | '.join(names)} |", "| --- " * (4 + len(names)) + "|"]
    for row in filled:
        scored = [_pair(row.scores(name) or {}) for name in names]
        cells = row.cell.arch, row.cell.recipe, _trained_on(row), DATA_TITLES[row.cell.scored_on], *scored
        lines.append(f"| {' | '.join(cells)} |")
    return lines


def _trained_on(row: Filled) -> str:
    first = DATA_TITLES[row.cell.trained_on]
    if not row.cell.finetuned_on:
        return first
    epochs = f" {_epochs(row.configs[1].epochs)} of" if len(row.configs) > 1 else ""
    return f"{first}, then{epochs} {DATA_TITLES[row.cell.finetuned_on]}"


def _pair(scores: Mapping[str, Any]) -> str:
    return f"{100 * scores['rank1']:.1f}/{100 * scores['mAP']:.1f}"


def _epochs(count: int) -> str:
    return f"{count} epoch{'' if count == 1 else 's'}"


def _is_drawn(cell: Cell, data: str, recipe: str) -> bool:
    seen = data in (cell.trained_on, cell.finetuned_on) or data == "last"
    return (cell.scored_on, cell.recipe) == (data, recipe) and seen


def _curve(row: Filled) -> Curve:
    cell, scores = row.cell, row.scores()
    assert scores is not None
    label = cell.arch if cell.trained_on == cell.scored_on else f"{cell.arch}, {_trained_on(row)}"
    paper = row.paper.rank1 / 100 if row.paper else None
    return Curve(label, scores["cmc"], paper, group=cell.arch, dashed=cell.finetuned_on is not None)


def _csv_lines(row: Filled) -> list[list[Any]]:
    cell, paper = row.cell, row.paper
    epochs = [config.epochs for config in row.configs] + [""] * (2 - len(row.configs))
    head = [cell.arch, cell.recipe, cell.trained_on, epochs[0], cell.finetuned_on, epochs[1], row.start]
    head += [cell.scored_on, row.part]
    theirs = [paper.rank1, paper.mAP] if paper else ["", ""]
    if row.result is None:
        return [[*head, "", *[""] * 9, *theirs, row.missing]]
    lines = []
    for distance, scores in row.result["distances"].items():
        shares = [f"{100 * scores[name]:.2f}" for name in ("rank1", "rank5", "rank10", "rank20", "mAP", "mINP")]
        counts = [scores["queries"], scores["valid_queries"], scores["gallery"]]
        lines.append([*head, distance, *shares, *counts, *theirs, ""])
    return lines
