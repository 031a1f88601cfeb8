"""How a row differs from the one it belongs to, measure by measure, and how sure each difference is."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from reid_edge.benchmarks.queries import QueryScores
from reid_edge.benchmarks.results import BenchReport, BenchRow
from reid_edge.benchmarks.timing.measurement import Turn
from reid_edge.scoring.bootstrap import paired_loss

from .measures import MEASURES
from .ratios import paired_ratio, unpaired_ratio

__all__ = ["Difference", "difference"]

_BOUNDED = {
    "p50_rise": ("end_to_end_ms", "p50"),
    "p90_rise": ("end_to_end_ms", "p90"),
    "p99_rise": ("end_to_end_ms", "p99"),
    "inference_rise": ("inference_ms", "p50"),
}
"""Measures that are percentiles, whose bounds are in the file: the times and the percentile."""

_OF_TURN: Mapping[str, Callable[[Turn], float]] = {
    "p50_rise": lambda turn: turn.p50_ms,
    "cpu_rise": lambda turn: turn.cpu_p50_ms or 0.0,
}
"""Measures that every turn has; `difference` asks only where none is missing."""

_Interval: TypeAlias = "tuple[float, float, float, str]"
"""A value, the ends of its 95 % interval, and what they were found by."""


@dataclass(frozen=True)
class Difference:
    """How much worse one measure became, in ``unit``: negative for better.

    ``low`` and ``high`` are the ends of the 95 % interval, None where the files do not tell; ``basis`` is what the
    interval was found by, in words.
    """

    name: str
    old: float
    new: float
    unit: str
    worse_by: float
    low: float | None = None
    high: float | None = None
    basis: str = ""

    def exceeds(self, limit: float) -> bool | None:
        """Whether it is surely above ``limit`` (True) or not (False); None where its interval holds the limit.

        Without an interval the value alone decides.

        >>> worse = Difference("p50_rise", 10, 11.2, "%", 12.0, low=9.0, high=15.0)
        >>> worse.exceeds(5), worse.exceeds(10), worse.exceeds(20)
        (True, None, False)
        """
        if self.low is None or self.high is None:
            return self.worse_by > limit
        return True if self.low > limit else False if self.high <= limit else None

    def __str__(self) -> str:
        """The change of the figure itself, so that a drop is negative: "+12.0 % [+9.0, +15.0]"."""
        return _signed(self, MEASURES[self.name].sign)


def difference(
    name: str, rows: tuple[BenchRow, BenchRow], reports: tuple[BenchReport, BenchReport], unit: str = ""
) -> Difference | None:
    """How the measure ``name`` differs between two rows of ``reports`` (the same one twice for rows of one run).

    ``unit`` is one of the measure's (empty: its first). None where a row has no such figure, or nothing to divide by.
    """
    measure = MEASURES[name]
    unit = unit or measure.units[0]
    old, new = (measure.value(row) for row in rows)
    if old is None or new is None or (unit == "%" and old <= 0):
        return None
    found = _accuracy_interval(name, rows, reports) if not measure.share else _ratio_interval(name, rows, reports)
    if found is None:
        return Difference(name, old, new, unit, measure.worse_by(old, new, unit))
    value, low, high, basis = found
    if measure.share:
        value, low, high = (_of_ratio(ratio, old, unit) for ratio in (value, low, high))
    return Difference(name, old, new, unit, value, low, high, basis)


def _of_ratio(ratio: float, old: float, unit: str) -> float:
    """What a ratio of times is in per cent, or in the unit of ``old``."""
    return (ratio - 1) * (100 if unit == "%" else old)


def _ratio_interval(
    name: str, rows: tuple[BenchRow, BenchRow], reports: tuple[BenchReport, BenchReport]
) -> _Interval | None:
    """The ratio of two times: by turns for p50 and CPU time, else by the bounds of each percentile."""
    if name in _OF_TURN:
        old, new = ([_OF_TURN[name](turn) for turn in row.measured.turns] for row in rows)
        paired = reports[0] is reports[1]
        if ratio := (paired_ratio if paired else unpaired_ratio)(old, new):
            return ratio.value, ratio.low, ratio.high, f"{ratio.turns} {'paired ' if paired else ''}turns"
    return _bounds_interval(*_BOUNDED[name], rows) if name in _BOUNDED else None


def _bounds_interval(times: str, percentile: str, rows: tuple[BenchRow, BenchRow]) -> _Interval | None:
    """The least and the largest ratio of what two percentiles may be: at least as wide as 95 %."""
    old, new = (getattr(row.measured, times) for row in rows)
    (old_low, old_high), (new_low, new_high) = (each.bounds.get(percentile, (None, None)) for each in (old, new))
    if not (old_low and old_high and new_low and new_high):
        return None
    ratio = getattr(new, percentile) / getattr(old, percentile)
    return ratio, new_low / old_high, new_high / old_low, f"bounds of {percentile}"


def _accuracy_interval(
    name: str, rows: tuple[BenchRow, BenchRow], reports: tuple[BenchReport, BenchReport]
) -> _Interval | None:
    """Points lost, by a bootstrap over identities, where both files have the scores of the same queries."""
    scores = [report.queries for report in reports]
    if scores[0] is None or scores[1] is None or scores[0].persons != scores[1].persons:
        return None
    found = [_scores_of(name, row, score) for row, score in zip(rows, scores, strict=True) if score]
    if found[0] is None or found[1] is None:
        return None
    loss = paired_loss(found[0], found[1], np.array(scores[0].persons))
    return loss.mean * 100, loss.low * 100, loss.high * 100, f"{loss.identities} identities"


def _scores_of(name: str, row: BenchRow, scores: QueryScores) -> NDArray[np.float64] | None:
    """What is averaged over queries [V]; None for a row that was not scored."""
    key = QueryScores.key(row.measured.engine)
    if key not in scores.average_precision:
        return None
    first = np.array(scores.first_match[key])
    return np.array(scores.average_precision[key]) if name == "map_drop" else np.where(first == 1, 1.0, 0.0)


def _signed(found: Difference, sign: int) -> str:
    def text(value: float) -> str:
        shown = f"{value:+.2f}" if found.unit == "points" else f"{value:+.1f}"
        return shown[1:] if float(shown) == 0 else shown

    ends = [] if found.low is None or found.high is None else sorted((sign * found.low, sign * found.high))
    interval = f" [{', '.join(map(text, ends))}]" if ends else ""
    return f"{text(sign * found.worse_by)} {found.unit}{interval}"
