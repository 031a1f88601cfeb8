"""The gate of scores: a file must be shown to rank as well as its FP32 model, not only on the persons tested.

The limit is on mAP alone. Rank-1 is shown beside it without one: it sees a single place of each ranking, so that its
interval is several times as wide, and a limit that a good INT8 file could be shown to keep would allow a damaged one.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from reid_edge.errors import GateError, InputError
from reid_edge.scoring.bootstrap import PairedLoss, paired_loss
from reid_edge.scoring.metrics import Metrics

from .limits import Thresholds

__all__ = ["ScoreLoss", "check_scores", "score_loss"]


@dataclass(frozen=True)
class ScoreLoss:
    """What a file loses against the FP32 model on the same queries; ``limit`` is how much of mAP it may lose."""

    mAP: PairedLoss  # noqa: N815 - the name the field knows it by
    rank1: PairedLoss
    limit: float

    @property
    def holds(self) -> bool:
        """Whether the whole interval of the mAP lost is within the limit."""
        return self.mAP.high <= self.limit

    @property
    def verdict(self) -> str:
        """Whether the limit holds, in words; where it is not shown, by how many identities it would be."""
        if self.holds:
            return "holds"
        needed = self.mAP.identities_needed(self.limit)
        return f"not shown to hold (needs about {needed:,} identities)" if needed else "lost"

    def to_dict(self) -> dict[str, Any]:
        """JSON-able: losses as fractions with the ends of their 95 % intervals, and the verdict on mAP."""
        return {
            "mAP": self.mAP.to_dict(),
            "rank1": self.rank1.to_dict(),
            "mAP_limit": self.limit,
            "verdict": self.verdict,
        }


def score_loss(base: Metrics, found: Metrics, limits: Thresholds) -> ScoreLoss:
    """The loss of a file that scored ``found`` where the FP32 model scored ``base``.

    Raises InputError unless the two answered the same queries.
    """
    if not np.array_equal(base.persons, found.persons):
        raise InputError("the two models answered other queries: score both on one data set")
    return ScoreLoss(
        mAP=paired_loss(base.average_precision, found.average_precision, base.persons),
        rank1=paired_loss(base.first_match == 1, found.first_match == 1, base.persons),
        limit=limits.map_loss,
    )


def check_scores(lost: ScoreLoss, limits: Thresholds, precision: str) -> None:
    """Raise GateError unless a file is shown to lose at most ``limits.map_loss`` of mAP."""
    if lost.holds:
        return
    found = f"{precision} loses {lost.mAP} points of mAP over {lost.mAP.identities} identities"
    allowed = f"at most {100 * lost.limit:.2f} may be lost"
    if needed := lost.mAP.identities_needed(lost.limit):
        remedy = f"score on about {needed:,} identities, or {limits.remedy}"
        raise GateError(f"{found}: that {allowed} is not shown to hold: {remedy}")
    raise GateError(f"{found} ({allowed}): {limits.remedy}")
