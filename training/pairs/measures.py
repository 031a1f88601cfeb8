"""How good a score of pairs is: ROC, operating points and calibration, all over weighted pairs.

The weights give both classes one half, whatever their numbers: figures are at a prior of one half.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from reid_edge.progress import track

__all__ = ["FALSE_ACCEPTS", "Bin", "PairMeasures", "Pairs", "bootstrap", "measure"]

FALSE_ACCEPTS = (1e-2, 1e-3, 1e-4)
"""The rates of wrongly joined pairs at which the rate of rightly joined ones is told."""

_BINS = 15

Figure = Callable[[NDArray[np.float64], NDArray[np.float64]], float]


@dataclass(frozen=True)
class Pairs:
    """Scored pairs: ``log_odds`` float [M], ``same`` bool [M], and whose they are, ``people`` int [2, M]."""

    log_odds: NDArray[np.floating[Any]]
    same: NDArray[np.bool_]
    people: NDArray[np.int64]

    def balanced(self) -> NDArray[np.float64]:
        """A weight for each pair: one half for each class, in equal parts."""
        positives = int(self.same.sum())
        return np.where(self.same, 0.5 / positives, 0.5 / (len(self.same) - positives))


@dataclass(frozen=True)
class Bin:
    """Pairs told about the same probability: its mean, how many were of one person, and their share of the weight."""

    predicted: float
    observed: float
    share: float


@dataclass(frozen=True)
class PairMeasures:
    """Fractions. ``true_accepts`` are at `FALSE_ACCEPTS`; ``ece`` is over equal widths of probability.

    ``auc`` and ``eer`` (equal error rate) belong to the order of the scores; ``nll`` (nats), ``brier`` and ``ece`` to
    the probabilities.
    """

    auc: float
    eer: float
    true_accepts: tuple[float, ...]
    nll: float
    brier: float
    ece: float
    bins: tuple[Bin, ...]

    def to_dict(self) -> dict[str, Any]:
        """JSON-able."""
        return asdict(self)


class Roc:
    """The curve of true against false accepts over all thresholds, equal scores together."""

    def __init__(self, scores: NDArray[np.floating[Any]], same: NDArray[np.bool_]) -> None:
        self.values, self._places = np.unique(scores, return_inverse=True)
        self._same = same

    def rates(self, weights: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """False and true accepts [V + 1] as the threshold falls from above all scores to each distinct one."""
        accepted = []
        for kind in (~self._same, self._same):
            counts = np.bincount(self._places[kind], weights[kind], minlength=len(self.values))[::-1]
            accepted.append(np.concatenate([[0.0], np.cumsum(counts) / counts.sum()]))
        return accepted[0], accepted[1]

    def threshold(self, weights: NDArray[np.float64], false_accepts: float) -> float:
        """The lowest score from which on at most that share of the pairs of two people is accepted."""
        allowed = int(np.searchsorted(self.rates(weights)[0], false_accepts * (1 + 1e-9), "right")) - 1
        return float(self.values[::-1][allowed - 1]) if allowed else float("inf")


def true_accepts_at(false: NDArray[np.float64], true: NDArray[np.float64], rate: float) -> float:
    """The true accepts of the lowest threshold whose false accepts are at most ``rate``."""
    return float(true[np.searchsorted(false, rate * (1 + 1e-9), "right") - 1])


def auc_of(false: NDArray[np.float64], true: NDArray[np.float64]) -> float:
    """The area under the curve: the probability that a pair of one person scores above one of two, ties by halves."""
    return float(np.sum(np.diff(false) * (true[1:] + true[:-1]) / 2))


def measure(pairs: Pairs) -> PairMeasures:
    """All of `PairMeasures`. Raises ValueError unless there are pairs of both kinds."""
    if not 0 < pairs.same.sum() < len(pairs.same):
        raise ValueError("measuring needs pairs of one person and pairs of two")
    weights = pairs.balanced()
    false, true = Roc(pairs.log_odds, pairs.same).rates(weights)
    at = int(np.argmax(false >= 1 - true))
    odds = pairs.log_odds.astype(np.float64)
    probabilities = 0.5 * (1 + np.tanh(odds / 2))
    bins = _bins(probabilities, pairs.same, weights)
    return PairMeasures(
        auc=auc_of(false, true),
        eer=float((false[at] + 1 - true[at]) / 2),
        true_accepts=tuple(true_accepts_at(false, true, rate) for rate in FALSE_ACCEPTS),
        nll=float(np.sum(weights * np.logaddexp(0, np.where(pairs.same, -odds, odds)))),
        brier=float(np.sum(weights * (probabilities - pairs.same) ** 2)),
        ece=sum(each.share * abs(each.predicted - each.observed) for each in bins),
        bins=bins,
    )


def bootstrap(first: Pairs, second: Pairs, figures: Sequence[Figure], rounds: int = 100) -> list[tuple[float, float]]:
    """The central 95 % of ``second``'s figures minus ``first``'s when people are drawn anew, with replacement.

    Both score the same pairs in the same order; a figure is a function of a curve's false and true accepts. A pair
    counts as often as the product of its people's draws, a pair of one person as often as the person: crops of one
    person are no independent evidence, so people are what is drawn.
    """
    rng = np.random.default_rng(0)
    people, codes = np.unique(first.people, return_inverse=True)
    codes = codes.reshape(first.people.shape)
    curves = Roc(first.log_odds, first.same), Roc(second.log_odds, second.same)
    differences = []
    for _ in track(range(rounds), "drawing people anew"):
        drawn = np.bincount(rng.integers(len(people), size=len(people)), minlength=len(people)).astype(np.float64)
        weights = np.where(first.same, drawn[codes[0]], drawn[codes[0]] * drawn[codes[1]])
        if not weights[first.same].any() or not weights[~first.same].any():
            continue  # one person alone was drawn: no pair of two
        before, after = (curve.rates(weights) for curve in curves)
        differences.append([figure(*after) - figure(*before) for figure in figures])
    low, high = np.quantile(differences, [0.025, 0.975], axis=0).tolist()
    return list(zip(low, high, strict=True))


def _bins(probabilities: NDArray[np.float64], same: NDArray[np.bool_], weights: NDArray[np.float64]) -> tuple[Bin, ...]:
    at = np.minimum((probabilities * _BINS).astype(int), _BINS - 1)
    share = np.bincount(at, weights, _BINS)
    predicted, observed = (np.bincount(at, weights * values, _BINS) for values in (probabilities, same))
    return tuple(
        Bin(float(predicted[k] / share[k]), float(observed[k] / share[k]), float(share[k]))
        for k in range(_BINS)
        if share[k] > 0
    )
