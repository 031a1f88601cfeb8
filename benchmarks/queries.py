"""The scores of each query in ``bench.json``, so that two models, or two files, can be compared query by query."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from reid_edge.engines.facts import EngineFacts
from reid_edge.errors import InputError
from reid_edge.scoring.metrics import Metrics

__all__ = ["QueryScores"]

_PLACES = 4  # a rounded AP is off by 5e-5; the mean over queries by far less than that
_MOST = 1_000_000


@dataclass(frozen=True)
class QueryScores:
    """Scores of the valid queries, in the data set's order: ``persons`` [V] has the identity of each.

    ``average_precision`` [V], fractions rounded to four places, and ``first_match`` [V], the rank of the first match,
    are by the key of what was scored: `key`.
    """

    persons: tuple[int, ...]
    average_precision: Mapping[str, tuple[float, ...]]
    first_match: Mapping[str, tuple[int, ...]]

    @staticmethod
    def key(facts: EngineFacts) -> str:
        """What a model file's scores on an engine are found by: sixteen digits of its hash, and what computed.

        >>> QueryScores.key(EngineFacts("onnxruntime", "CPUExecutionProvider", {}, 1, "0123456789abcdef" * 4))
        '0123456789abcdef CPUExecutionProvider'
        """
        return f"{facts.sha256[:16]} {facts.provider} {facts.computes}".strip()

    @classmethod
    def of(cls, facts: EngineFacts, metrics: Metrics) -> QueryScores:
        """The scores in one model's metrics."""
        key = cls.key(facts)
        return cls(
            persons=tuple(metrics.persons.tolist()),
            average_precision={key: tuple(metrics.average_precision.round(_PLACES).tolist())},
            first_match={key: tuple(metrics.first_match.tolist())},
        )

    @classmethod
    def joined(cls, scores: Sequence[QueryScores]) -> QueryScores | None:
        """The scores of several models on the same queries as one; None of none."""
        if not scores:
            return None
        precision: dict[str, tuple[float, ...]] = {}
        first: dict[str, tuple[int, ...]] = {}
        for each in scores:
            precision |= each.average_precision
            first |= each.first_match
        return cls(scores[0].persons, precision, first)

    @classmethod
    def from_dict(cls, raw: Mapping[str, Any]) -> QueryScores:
        """The inverse of `dataclasses.asdict`. Raises InputError where a model has not one score for each query."""
        persons = tuple(map(int, raw["persons"]))
        precision = {key: _fractions(values) for key, values in raw["average_precision"].items()}
        first = {key: tuple(map(int, values)) for key, values in raw["first_match"].items()}
        lengths = {len(values) for values in (*precision.values(), *first.values())}
        if lengths - {len(persons)} or set(precision) != set(first) or len(persons) > _MOST:
            raise InputError("the scores of queries do not fit together: write the report again")
        return cls(persons, precision, first)


def _fractions(values: Sequence[float]) -> tuple[float, ...]:
    found = tuple(map(float, values))
    if not all(0 <= value <= 1 for value in found):
        raise InputError("an average precision is not within 0 and 1: write the report again")
    return found
