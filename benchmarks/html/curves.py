"""Curves: a training's losses and scores, CMC and ROC."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, Protocol
from xml.etree.ElementTree import Element

from reid_edge.benchmarks.scored import PairSample
from reid_edge.scoring.metrics import Metrics
from reid_edge.scoring.roc import RocCurve, roc_curve

from .axes import Axis
from .charts import Series, line_chart
from .elements import element
from .tables import figure_table

__all__ = ["Epoch", "cmc_chart", "cmc_of", "curves_section", "loss_chart", "roc_chart", "score_chart"]

_FEWEST_MATCHES = 10
_FALSE_MATCH_RATES = [float(f"1e{power}") * 10 ** (step / 10) for power in range(-6, 0) for step in range(10)] + [1.0]
_SCORES = {"rank1": "rank-1", "mAP": "mAP", "mINP": "mINP"}


class Epoch(Protocol):
    """An epoch of a training run: a row of its history."""

    @property
    def epoch(self) -> int:
        """Counted from 1."""

    @property
    def losses(self) -> dict[str, float]:
        """The mean of each loss, times its weight."""

    @property
    def learning_rate(self) -> float:
        """Of the last batch."""

    @property
    def images_per_second(self) -> float:
        """Trained on."""

    @property
    def metrics(self) -> dict[str, Any] | None:
        """Scores as fractions, by the names of `Metrics.to_dict`, after some epochs."""


def loss_chart(history: Sequence[Epoch]) -> Element:
    """The losses by epoch, from 0."""
    names = dict.fromkeys(name for row in history for name in row.losses)
    lines = [Series(name, [(row.epoch, row.losses[name]) for row in history if name in row.losses]) for name in names]
    epochs = Axis.counted("epoch", (row.epoch for row in history))
    up = Axis.from_zero("mean, weighted", (value for line in lines for _, value in line.points))
    return line_chart(lines, title="Losses", across=epochs, up=up)


def score_chart(history: Sequence[Epoch], before: Mapping[str, float] | None = None) -> Element:
    """Test scores by epoch, of those that were evaluated; ``before`` are the same before the first."""
    scored: list[tuple[int, Mapping[str, Any]]] = [(0, before)] if before else []
    scored += [(row.epoch, row.metrics) for row in history if row.metrics]
    lines = [Series(label, [(epoch, 100 * row[name]) for epoch, row in scored]) for name, label in _SCORES.items()]
    across = Axis.counted("epoch", (epoch for epoch, _ in scored))
    return line_chart(lines, title="Test scores", across=across, up=Axis.percent("%"))


def cmc_of(name: str, metrics: Metrics, ranks: int = 20) -> Series:
    """The CMC curve of a result, in per cent."""
    return Series(name, [(rank, 100 * share) for rank, share in enumerate(metrics.cmc[:ranks].tolist(), start=1)])


def cmc_chart(lines: Sequence[Series], title: str = "CMC") -> Element:
    """CMC curves, by rank and in per cent."""
    across = Axis.counted("rank", (rank for line in lines for rank, _ in line.points))
    return line_chart(lines, title=title, across=across, up=Axis.percent("% of queries with a match so far"))


def roc_chart(models: Sequence[tuple[str, PairSample]]) -> Element:
    """ROC curves: the share of pairs of one person that are accepted, by the share of pairs of two that are too.

    Rates of fewer than ten false matches among the pairs are not drawn: they are one crop's luck.
    """
    curves = [(name, roc_curve(pairs.genuine, pairs.impostor), len(pairs.impostor)) for name, pairs in models]
    lines = [
        Series(name, [(rate, 100 * curve.tar_at(rate)) for rate in _FALSE_MATCH_RATES if rate >= _least_rate(pairs)])
        for name, curve, pairs in curves
    ]
    across = Axis.powers("false match rate", (rate for line in lines for rate, _ in line.points))
    table = _rates_table([(name, curve) for name, curve, _ in curves], across.ticks)
    return line_chart(lines, title="ROC", across=across, up=Axis.percent("TAR, %"), table=table)


def _least_rate(pairs: int) -> float:
    """The lowest power of ten that ten false matches among ``pairs`` are a rate of; 1 for few pairs.

    >>> _least_rate(1_500_000), _least_rate(5)
    (1e-05, 1.0)
    """
    return min(1.0, float(f"1e{math.ceil(math.log10(_FEWEST_MATCHES / pairs))}"))


def _rates_table(curves: Sequence[tuple[str, RocCurve]], rates: Sequence[float]) -> Element:
    titles = ["model", *(f"TAR % at {rate:g}" for rate in rates if rate < 1), "EER %"]
    rows = [
        [name, *(f"{100 * curve.tar_at(rate):.1f}" for rate in rates if rate < 1), f"{100 * curve.eer:.2f}"]
        for name, curve in curves
    ]
    return figure_table(titles, rows, "TAR at false match rates, and the equal error rate")


def curves_section(charts: Sequence[Element], *, title: str, text: str) -> Element:
    """Charts side by side, as many as the page is wide for."""
    return element("section", element("h2", title), element("p", text), element("div", *charts, class_="charts"))
