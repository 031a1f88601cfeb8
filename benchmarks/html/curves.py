"""Curves: a training's losses and scores, and CMC."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol
from xml.etree.ElementTree import Element

from reid_edge.scoring.metrics import Metrics

from .charts import Series, line_chart
from .elements import element

__all__ = ["Epoch", "cmc_chart", "curves_section", "loss_chart", "score_chart"]

_SCORES = {"rank1": "rank-1", "mAP": "mAP", "mINP": "mINP"}
_PERCENT = (0, 100)


class Epoch(Protocol):
    """An epoch of a training run: a row of its history."""

    @property
    def epoch(self) -> int:
        """Counted from 1."""

    @property
    def losses(self) -> dict[str, float]:
        """The mean of each loss, times its weight."""

    @property
    def metrics(self) -> dict[str, Any] | None:
        """Scores as fractions, by the names of `Metrics.to_dict`, after some epochs."""


def loss_chart(history: Sequence[Epoch]) -> Element:
    """The losses by epoch on a logarithmic axis; zeros have no place on it and are left out."""
    names = dict.fromkeys(name for row in history for name in row.losses)
    lines = [
        Series(name, [(row.epoch, row.losses[name]) for row in history if row.losses.get(name, 0) > 0])
        for name in names
    ]
    return line_chart([line for line in lines if line.points], title="Losses", across="epoch", up="mean, weighted")


def score_chart(history: Sequence[Epoch], before: Mapping[str, float] | None = None) -> Element:
    """Test scores by epoch, of those that were evaluated; ``before`` are the same before the first."""
    scored: list[tuple[int, Mapping[str, Any]]] = [(0, before)] if before else []
    scored += [(row.epoch, row.metrics) for row in history if row.metrics]
    lines = [Series(label, [(epoch, 100 * row[name]) for epoch, row in scored]) for name, label in _SCORES.items()]
    return line_chart(lines, title="Test scores", across="epoch", up="%", upright=_PERCENT)


def cmc_chart(results: Sequence[tuple[str, Metrics]], ranks: int = 20) -> Element:
    """A CMC curve for each named result."""
    lines = [
        Series(name, [(rank, 100 * share) for rank, share in enumerate(metrics.cmc[:ranks].tolist(), start=1)])
        for name, metrics in results
    ]
    return line_chart(lines, title="CMC", across="rank", up="% of queries with a match so far", upright=_PERCENT)


def curves_section(charts: Sequence[Element], *, title: str, text: str) -> Element:
    """Charts side by side, as many as the page is wide for."""
    return element("section", element("h2", title), element("p", text), element("div", *charts, class_="charts"))
