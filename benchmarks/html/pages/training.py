"""Pages of trainings: the curves of a run, and what each part of a recipe is worth."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import fmean
from typing import Any
from xml.etree.ElementTree import Element

from reid_edge.benchmarks.html.axes import Axis
from reid_edge.benchmarks.html.charts import Series, line_chart
from reid_edge.benchmarks.html.curves import Epoch, curves_section, loss_chart, score_chart
from reid_edge.benchmarks.html.elements import element
from reid_edge.benchmarks.html.page import write_page
from reid_edge.benchmarks.html.tables import figure_table, number

__all__ = ["write_ablation_page", "write_run_page"]

_SCORES = {"rank1": "rank-1", "mAP": "mAP", "mINP": "mINP"}


def write_run_page(
    history: Sequence[Epoch], path: Path | str, *, name: str, settings: Mapping[str, Any], note: str = ""
) -> Path:
    """Write the page of a run of at least one epoch, and return its path; ``settings`` are its recipe's."""
    last = history[-1]
    scored = [row for row in history if row.metrics]
    losses = [(label, f"{value:.3f}", "mean of the last epoch") for label, value in last.losses.items()]
    scores = (scored[-1].metrics or {}) if scored else {}
    best = [
        (label, f"{100 * scores[key]:.1f} %", f"after epoch {scored[-1].epoch}")
        for key, label in _SCORES.items()
        if key in scores
    ]
    charts = [loss_chart(history), _rate_chart(history), *([score_chart(history)] if scored else [])]
    text = "Losses are means of an epoch, each times its weight, from 0." + (
        "" if scored else " The model was not evaluated while it was trained."
    )
    done = f"{len(history)} epoch{'s' * (len(history) != 1)}"
    return write_page(
        path,
        [curves_section(charts, title="Curves", text=text), _epochs(history), *_recipe(settings)],
        title="reid-edge: training",
        lead=f"{name}: {done}. {note}".strip(),
        figures=[*best, *losses[:4]],
    )


def _rate_chart(history: Sequence[Epoch]) -> Element:
    line = Series("learning rate", [(row.epoch, row.learning_rate) for row in history])
    up = Axis.from_zero("of the last batch", (rate for _, rate in line.points))
    return line_chart(
        [line], title="Learning rate", across=Axis.counted("epoch", (row.epoch for row in history)), up=up
    )


def _epochs(history: Sequence[Epoch]) -> Element:
    losses = list(dict.fromkeys(name for row in history for name in row.losses))
    scores = _SCORES if any(row.metrics for row in history) else {}
    lines: list[list[Element | str]] = [
        [
            str(row.epoch),
            *(_number(row.losses.get(name), 3) for name in losses),
            number(row.learning_rate, f"{row.learning_rate:.2g}"),
            *(_number(100 * row.metrics[name] if row.metrics else None, 2) for name in scores),
            _number(row.images_per_second, 0),
        ]
        for row in history
    ]
    titles = ["epoch", *losses, "learning rate", *(f"{name} %" for name in scores.values()), "images/s"]
    table = figure_table(titles, lines, "Every epoch", sortable=True)
    return element("section", element("h2", "Epochs"), table)


def _recipe(settings: Mapping[str, Any]) -> list[Element]:
    if not settings:
        return []
    table = figure_table(("setting", "value"), [[name, str(value)] for name, value in settings.items()], "The recipe")
    return [element("section", element("h2", "Recipe"), table)]


def _number(value: float | None, places: int) -> Element:
    return number(value, "" if value is None else f"{value:.{places}f}")


def write_ablation_page(runs: Mapping[str, Mapping[str, Sequence[Epoch]]], path: Path | str, *, name: str) -> Path:
    """Write the page of runs of one recipe with changes, by change and seed, and return its path.

    The first change is the whole recipe: the others are compared with it, over the seeds that both have.
    """
    base, scores = next(iter(runs)), {change: _final(seeds) for change, seeds in runs.items()}
    rows: list[list[Element | str]] = [
        [change, str(len(runs[change])), *_compared(each, scores[base])] for change, each in scores.items()
    ]
    titles = ["recipe", "seeds", *(f"{label} %" for label in _SCORES.values()), "change of rank-1", "of mAP"]
    table = figure_table(titles, rows, f"Means over seeds, and the change from {base}", sortable=True)
    text = (
        f"Scores after the last epoch. A change is a difference in points from {base}, over the seeds that both have."
    )
    lines = [line for change, seeds in runs.items() if (line := _map_line(change, next(iter(seeds.values())))).points]
    return write_page(
        path,
        [element("section", element("h2", "What each part is worth"), element("p", text), table), *_map_section(lines)],
        title="reid-edge: ablation",
        lead=f"{name}: {len(runs)} recipes, {sum(map(len, runs.values()))} runs.",
    )


def _map_line(change: str, history: Sequence[Epoch]) -> Series:
    return Series(change, [(row.epoch, 100 * row.metrics["mAP"]) for row in history if row.metrics])


def _map_section(lines: Sequence[Series]) -> list[Element]:
    if not lines:
        return []
    across = Axis.counted("epoch", (epoch for line in lines for epoch, _ in line.points))
    chart = line_chart(lines, title="mAP", across=across, up=Axis.percent("%"))
    return [curves_section([chart], title="mAP by epoch", text="Of each row's first seed.")]


def _final(seeds: Mapping[str, Sequence[Epoch]]) -> dict[str, Mapping[str, Any]]:
    """The last scores of each seed that has any."""
    found = {seed: [row.metrics for row in history if row.metrics] for seed, history in seeds.items()}
    return {seed: metrics[-1] for seed, metrics in found.items() if metrics}


def _compared(own: Mapping[str, Mapping[str, Any]], base: Mapping[str, Mapping[str, Any]]) -> list[Element]:
    means = [fmean(100 * each[name] for each in own.values()) if own else None for name in _SCORES]
    shared = [] if own is base else sorted(set(own) & set(base))
    changes = [
        fmean(100 * (own[seed][name] - base[seed][name]) for seed in shared) if shared else None
        for name in ("rank1", "mAP")
    ]
    signed = [number(change, "" if change is None else f"{change:+.2f}") for change in changes]
    return [*(_number(mean, 2) for mean in means), *signed]
