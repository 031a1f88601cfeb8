"""Figures of a pair score: ROC, operating points and calibration, all over weighted pairs.

Each class has the weight one half, whatever its number of pairs: figures are at a prior of one half. A pair of one
identity is positive, a pair of two negative; TAR@FAR is the true accept rate at a false accept rate.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from reid_edge.core.progress import track
from reid_edge.scoring.roc import FALSE_ACCEPT_RATES, RocCurve

__all__ = [
    "Bin",
    "PairMeasures",
    "Pairs",
    "Roc",
    "bootstrap",
    "log_losses",
    "measure",
]

_BINS = 15

Figure = Callable[[RocCurve], float]


@dataclass(frozen=True)
class Pairs:
    """Scored pairs: ``log_odds`` float [M], ``same`` bool [M], and the two ``identities`` of each, int [2, M]."""

    log_odds: NDArray[np.floating[Any]]
    same: NDArray[np.bool_]
    identities: NDArray[np.int64]

    def balanced(self) -> NDArray[np.float64]:
        """A weight for each pair: one half for each class, in equal parts."""
        positives = int(self.same.sum())
        return np.where(self.same, 0.5 / positives, 0.5 / (len(self.same) - positives))


@dataclass(frozen=True)
class Bin:
    """Pairs of about one predicted probability: its mean, the share of positives, and the bin's share of the weight."""

    predicted: float
    observed: float
    share: float


@dataclass(frozen=True)
class PairMeasures:
    """Fractions. ``tar_at_far`` are the true accept rates at `FALSE_ACCEPT_RATES`.

    ``auc`` and ``eer`` (equal error rate) depend on the order of the scores alone; ``nll`` (nats), ``brier`` and
    ``ece`` (expected calibration error, over bins of equal width) on the probabilities.
    """

    auc: float
    eer: float
    tar_at_far: tuple[float, ...]
    nll: float
    brier: float
    ece: float
    bins: tuple[Bin, ...]

    def to_dict(self) -> dict[str, Any]:
        """JSON-able."""
        return asdict(self)


class Roc:
    """The ROC of scored pairs under any weights: the distance of a pair is its negative log-odds."""

    def __init__(self, scores: NDArray[np.floating[Any]], same: NDArray[np.bool_]) -> None:
        self._distances, self._places = np.unique(-scores, return_inverse=True)
        self._same = same

    def curve(self, weights: NDArray[np.float64]) -> RocCurve:
        """The curve where pair i counts ``weights[i]``; [M]."""
        kinds = (self._same, ~self._same)
        genuine, impostor = (
            np.bincount(self._places[kind], weights[kind], minlength=len(self._distances)) for kind in kinds
        )
        return RocCurve.of_weights(self._distances.astype(np.float64), genuine, impostor)

    def threshold(self, weights: NDArray[np.float64], far: float) -> float:
        """The lowest score that is accepted at a false accept rate of at most ``far``; infinite where none is."""
        return -self.curve(weights).threshold_at(far)


def measure(pairs: Pairs) -> PairMeasures:
    """The figures of scored pairs. Raises ValueError unless there are pairs of both classes."""
    if not 0 < pairs.same.sum() < len(pairs.same):
        raise ValueError("measuring needs pairs of one identity and pairs of two")
    weights = pairs.balanced()
    curve = Roc(pairs.log_odds, pairs.same).curve(weights)
    odds = pairs.log_odds.astype(np.float64)
    probabilities = 0.5 * (1 + np.tanh(odds / 2))
    bins = _bins(probabilities, pairs.same, weights)
    return PairMeasures(
        auc=curve.auc,
        eer=curve.eer,
        tar_at_far=tuple(curve.tar_at(far) for far in FALSE_ACCEPT_RATES),
        nll=float(np.sum(weights * log_losses(pairs))),
        brier=float(np.sum(weights * (probabilities - pairs.same) ** 2)),
        ece=sum(each.share * abs(each.predicted - each.observed) for each in bins),
        bins=bins,
    )


def log_losses(pairs: Pairs) -> NDArray[np.float64]:
    """The negative log-likelihood of each pair's label [M], in nats."""
    odds = pairs.log_odds.astype(np.float64)
    return np.logaddexp(0, np.where(pairs.same, -odds, odds))


def bootstrap(first: Pairs, second: Pairs, figures: Sequence[Figure], rounds: int = 100) -> list[tuple[float, float]]:
    """Bootstrap intervals (95 %) of ``second``'s figures minus ``first``'s, over identities drawn with replacement.

    Both score the same pairs in the same order; a figure is a function of a curve. A
    negative pair counts the product of its identities' draws, a positive pair its identity's draws: crops of one
    identity are not independent, so the draws are of identities and not of pairs.
    """
    rng = np.random.default_rng(0)
    identities, codes = np.unique(first.identities, return_inverse=True)
    codes = codes.reshape(first.identities.shape)
    curves = Roc(first.log_odds, first.same), Roc(second.log_odds, second.same)
    differences = []
    for _ in track(range(rounds), "bootstrap"):
        count = len(identities)
        drawn = np.bincount(rng.integers(count, size=count), minlength=count).astype(np.float64)
        weights = np.where(first.same, drawn[codes[0]], drawn[codes[0]] * drawn[codes[1]])
        if not weights[first.same].any() or not weights[~first.same].any():
            continue  # one identity alone was drawn: there is no negative pair
        before, after = (roc.curve(weights) for roc in curves)
        differences.append([figure(after) - figure(before) for figure in figures])
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
