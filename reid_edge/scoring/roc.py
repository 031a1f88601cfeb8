"""ROC: how well one threshold on the distance tells pairs of one person from pairs of two.

A genuine pair shows one person, an impostor pair two; a pair matches when its distance is at most the threshold. Over
thresholds, the false match rate (FMR, also false accept rate, FAR) is the share of impostor pairs that match, the false
non-match rate (FNMR) the share of genuine pairs that do not (ISO/IEC 19795-1); the true accept rate (TAR) is 1 - FNMR.
A ranking may be good where no threshold is: CMC and mAP compare the distances of one query, ROC those of all.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from reid_edge.errors import InputError

__all__ = ["RocCurve", "roc_curve"]

_ROUNDING = 1 + 1e-9
"""A rate that was summed from weights may exceed the one it is by this factor."""


@dataclass(frozen=True, eq=False)
class RocCurve:
    """The error rates at thresholds in ascending order, float64 [T] each.

    ``false_match_rate`` rises from 0 to 1 and ``false_non_match_rate`` falls from 1 to 0. The first of ``thresholds``
    is -inf: nothing matches. `roc_curve` makes it.
    """

    false_match_rate: NDArray[np.float64]
    false_non_match_rate: NDArray[np.float64]
    thresholds: NDArray[np.float64]

    def __repr__(self) -> str:
        return f"<RocCurve: EER {100 * self.eer:.2f} %, AUC {100 * self.auc:.2f} %, {len(self.thresholds)} thresholds>"

    @classmethod
    def of_weights(
        cls, distances: NDArray[np.float64], genuine: NDArray[np.float64], impostor: NDArray[np.float64]
    ) -> RocCurve:
        """The curve of weights (or counts) [V] of genuine and impostor pairs at ``distances`` [V], which ascend."""
        matched = (np.concatenate([[0.0], np.cumsum(weights)]) for weights in (impostor, genuine))
        false, true = (sums / sums[-1] for sums in matched)
        return cls(false, 1 - true, np.concatenate([[-np.inf], distances]))

    @property
    def eer(self) -> float:
        """The equal error rate: where FMR and FNMR meet, on the line between the two thresholds around it."""
        gap = self.false_match_rate - self.false_non_match_rate  # ascends from -1 to 1
        after = int(np.argmax(gap >= 0))
        share = gap[after - 1] / (gap[after - 1] - gap[after])
        return float(np.interp(share, (0, 1), self.false_match_rate[after - 1 : after + 1]))

    @property
    def auc(self) -> float:
        """The area under TAR over FMR: how often a genuine pair is closer than an impostor, a tie counting one half."""
        true = 1 - self.false_non_match_rate
        return float(np.sum(np.diff(self.false_match_rate) * (true[1:] + true[:-1]) / 2))

    def tar_at(self, far: float) -> float:
        """TAR@FAR: the true accept rate at the largest threshold with a false match rate of at most ``far``."""
        return float(1 - self.false_non_match_rate[self._at(far)])

    def fnmr_at(self, fmr: float) -> float:
        """FNMR at FMR, which is 1 - TAR@FAR."""
        return float(self.false_non_match_rate[self._at(fmr)])

    def threshold_at(self, far: float) -> float:
        """The largest threshold with a false match rate of at most ``far``; -inf where no pair may match."""
        return float(self.thresholds[self._at(far)])

    def _at(self, far: float) -> int:
        if not 0 <= far <= 1:
            raise InputError(f"a false match rate of {far} is no fraction: give 0..1, as 0.001 for 0.1 %")
        return int(np.searchsorted(self.false_match_rate, far * _ROUNDING, "right")) - 1


def roc_curve(genuine: ArrayLike, impostor: ArrayLike) -> RocCurve:
    """The ROC of the distances of ``genuine`` pairs and of ``impostor`` pairs: numbers [N] and [M], smaller for closer.

    Raises InputError unless there is one of each and all are finite.

    Three genuine pairs and four impostors. At a threshold of 0.3, one impostor of four and two genuine pairs of three
    match; FMR and FNMR meet between it and 0.4.

    >>> curve = roc_curve([0.1, 0.3, 0.4], [0.2, 0.5, 0.6, 0.7])
    >>> curve.tar_at(far=0.25), round(curve.tar_at(far=0), 4), curve.threshold_at(far=0.25), round(curve.eer, 4)
    (1.0, 0.3333, 0.4, 0.25)
    """
    kinds = [np.asarray(each, np.float64).ravel() for each in (genuine, impostor)]
    for values, what in zip(kinds, ("genuine", "impostor"), strict=True):
        if not len(values) or not np.isfinite(values).all():
            raise InputError(f"ROC needs {what} pairs, and finite distances: check person ids and embeddings")
    distances, at = np.unique(np.concatenate(kinds), return_inverse=True)
    ends = np.split(at.ravel(), [len(kinds[0])])
    return RocCurve.of_weights(distances, *(np.bincount(each, minlength=len(distances)) for each in ends))
