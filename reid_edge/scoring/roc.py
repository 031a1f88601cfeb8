"""ROC: how well one threshold on the distance tells pairs of one person from pairs of two.

A genuine pair shows one person, an impostor pair two; a pair matches when its distance is at most the threshold. Over
thresholds, the false match rate (FMR, also false accept rate, FAR) is the share of impostor pairs that match, the false
non-match rate (FNMR) the share of genuine pairs that do not (ISO/IEC 19795-1); the true accept rate (TAR) is 1 - FNMR.
A ranking may be good where no threshold is: CMC and mAP compare the distances of one query, ROC those of all.

`roc_blocks` is exact without a list of all pairs (1.3 billion for LaST's test). The genuine pairs, of which a data set
has few, are sorted; of the impostors it is counted how many are below, and how many at, each genuine distance. Between
two genuine distances FNMR does not change, so that EER, AUC and TAR@FAR are those of all thresholds.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from reid_edge.errors import InputError

from .blocks import DistanceBlocks, checked_blocks
from .matches import Matches

__all__ = ["FALSE_ACCEPT_RATES", "RocCurve", "roc_blocks", "roc_curve"]

FALSE_ACCEPT_RATES = (1e-2, 1e-3, 1e-4)
"""The false accept rates at which the true accept rate is reported."""

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
    def of_weights(cls, distances: NDArray[np.float64], genuine: NDArray[Any], impostor: NDArray[Any]) -> RocCurve:
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

    def to_dict(self) -> dict[str, Any]:
        """The figures by name, fractions, JSON-able; the curve itself is left out."""
        rates = {f"{far:g}": self.tar_at(far) for far in FALSE_ACCEPT_RATES}
        return {"eer": self.eer, "auc": self.auc, "tar_at_far": rates}

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


def roc_blocks(
    distances: DistanceBlocks,
    query_pids: ArrayLike,
    query_camids: ArrayLike,
    gallery_pids: ArrayLike,
    gallery_camids: ArrayLike,
    *,
    progress: bool = False,
) -> RocCurve:
    """The ROC of a test set's pairs, from distances that come in blocks as `score_blocks` takes them.

    The pairs are those that a ranking compares: of each query with a match, its matches are genuine, the other gallery
    crops impostors, distractors among them; crops of the same person in the same camera are dropped, and so are queries
    without a match. ``distances`` is asked twice for each block. Raises InputError as `score_blocks` does, and where
    there is no genuine or no impostor pair.

    One query, person 7 in camera 0; the gallery holds a crop to drop, a match, a stranger and a second match.

    >>> curve = roc_blocks(np.float32([[0.1, 0.2, 0.3, 0.4]]).__getitem__, [7], [0], [7, 7, 5, 7], [0, 1, 1, 2])
    >>> curve.false_match_rate.tolist(), curve.false_non_match_rate.tolist()
    ([0.0, 0.0, 1.0, 1.0], [1.0, 0.5, 0.5, 0.0])
    """
    matches = Matches(query_pids, query_camids, gallery_pids, gallery_camids)
    of = [matches.of(query) for query in range(matches.queries)]
    found = [np.empty(0, np.float32)]
    for start, block in checked_blocks(distances, matches.queries, matches.gallery):
        found += [row[hits] for row, (hits, _) in zip(block, of[start:], strict=False)]
    genuine, counts = np.unique(np.concatenate(found), return_counts=True)  # [U]
    under = np.zeros((2, len(genuine) + 1), np.int64)  # impostors below and up to each genuine distance, and all
    farthest = -np.inf
    for start, block in checked_blocks(distances, matches.queries, matches.gallery, "ROC" * progress):
        others = _impostors(block, of[start : start + len(block)])
        farthest = max([farthest, *others[-1:]])
        for row, side in zip(under, ("left", "right"), strict=True):
            row += np.append(others.searchsorted(genuine, side), len(others))  # type: ignore[call-overload]
    if not len(genuine) or not under[0, -1]:
        raise InputError("ROC needs genuine and impostor pairs: check person and camera ids")
    return _curve_of_counts(genuine, counts, under, farthest)


def _impostors(block: NDArray[np.float32], of: list[tuple[NDArray[np.intp], NDArray[np.intp]]]) -> NDArray[np.float32]:
    """The distances of the impostor pairs in a block, sorted."""
    kept = block.copy()
    for row, (hits, dropped) in zip(kept, of, strict=True):
        row[dropped if len(hits) else slice(None)] = np.inf
        row[hits] = np.inf
    others: NDArray[np.float32] = kept.ravel()
    others.sort()
    return others[: others.searchsorted(np.float32(np.inf))]


def _curve_of_counts(
    genuine: NDArray[np.float32], counts: NDArray[np.int64], under: NDArray[np.int64], farthest: float
) -> RocCurve:
    """Two thresholds for each genuine distance, the number just below it and itself, then the farthest impostor's."""
    below = np.nextafter(genuine, np.float32(-np.inf))
    thresholds = np.append(np.stack([below, genuine], axis=1).ravel(), max(farthest, genuine[-1]))
    impostors = np.diff(np.append(under[:, :-1].T.ravel(), under[0, -1]), prepend=0)
    matched = np.append(np.stack([0 * counts, counts], axis=1).ravel(), 0)
    kept = (impostors + matched) > 0
    return RocCurve.of_weights(thresholds[kept].astype(np.float64), matched[kept], impostors[kept])
