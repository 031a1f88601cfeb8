"""Is B better than A? Two evaluations on the same queries, compared by a bootstrap over identities, in a sentence."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from reid_edge.errors import InputError
from reid_edge.scoring.bootstrap import Interval, paired_loss
from reid_edge.scoring.evaluation import PLAIN, Evaluation

__all__ = ["ModelComparison", "compare_evaluations", "names_of", "tricks_of"]


@dataclass(frozen=True)
class ModelComparison:
    """What ``second`` gains over ``first``: ``mAP`` and ``rank1``, fractions with 95 % intervals.

    >>> gain = Interval(0.008, 0.002, 0.015, identities=750)
    >>> print(ModelComparison("A", "B", mAP=gain, rank1=gain))
    B is better than A: +0.8 mAP, 95 % [0.2, 1.5]
    """

    first: str
    second: str
    mAP: Interval  # noqa: N815 - the name the field knows it by
    rank1: Interval

    def __str__(self) -> str:
        """The mAP in points; the better one is named where the interval leaves 0 out."""
        gain = self.mAP
        if gain.low > 0:
            return f"{self.second} is better than {self.first}: {_points(gain.mean, gain.low, gain.high)}"
        if gain.high < 0:
            return f"{self.first} is better than {self.second}: {_points(-gain.mean, -gain.high, -gain.low)}"
        figures = _points(gain.mean, gain.low, gain.high)
        return f"no difference shown between {self.first} and {self.second}: {figures}"

    def to_dict(self) -> dict[str, Any]:
        """JSON-able."""
        gains = {"mAP": self.mAP.to_dict(), "rank1": self.rank1.to_dict()}
        return {"first": self.first, "second": self.second, **gains, "sentence": str(self)}


def compare_evaluations(first: Evaluation, second: Evaluation, names: Sequence[str] = ()) -> ModelComparison:
    """Compare two evaluations of the same queries: models, settings or distances; ``names`` stand in the sentence.

    Raises InputError when their queries differ.
    """
    one, other = first.metrics, second.metrics
    if (first.dataset, first.part) != (second.dataset, second.part) or not np.array_equal(one.persons, other.persons):
        raise InputError(
            f"{first.model} was scored on other queries than {second.model}: compare models on one test set"
        )

    def gain(before: Any, after: Any) -> Interval:
        loss = paired_loss(after, before, one.persons)
        return Interval(loss.mean, loss.low, loss.high, loss.identities)

    before, after = names or names_of([first, second])
    return ModelComparison(
        first=before,
        second=after,
        mAP=gain(one.average_precision, other.average_precision),
        rank1=gain(one.first_match == 1, other.first_match == 1),
    )


def _points(*fractions: float) -> str:
    """A mean and the ends of its interval, in points; nothing is 0.0, not -0.0."""
    mean, low, high = (round(100 * each, 1) + 0.0 for each in fractions)
    return f"{mean:+.1f} mAP, 95 % [{low:.1f}, {high:.1f}]"


def tricks_of(result: Evaluation) -> str:
    """The test-time tricks that are on, with their parameters; empty for a plain evaluation."""
    said = []
    for name, value in result.settings.items():
        if name in PLAIN and value:
            values = ", ".join(f"{key} {each:g}" for key, each in value.items()) if isinstance(value, dict) else ""
            said.append(name.replace("_", " ").replace("rerank", "re-ranking") + (f" ({values})" if values else ""))
    return ", ".join(said)


def names_of(results: list[Evaluation]) -> tuple[str, ...]:
    """A name for each of several evaluations: what they differ in."""
    models, distances = ({getattr(each, name) for each in results} for name in ("model", "distance"))
    several_tricks = len({tricks_of(each) for each in results}) > 1

    def name(result: Evaluation) -> str:
        parts = [result.model] if len(models) > 1 else []
        parts += [result.distance] if len(distances) > 1 else []
        parts += [tricks_of(result) or "plain"] if several_tricks else []
        return " ".join(parts) or result.model

    return tuple(name(each) for each in results)
