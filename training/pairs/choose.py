"""The choice between a fitted head and the calibrated cosine: by log loss on identities that neither has seen."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from reid_edge.pair_head import PairHead

from .calibrate import calibrated
from .draw import Embedded, pairs_of
from .measures import log_losses

__all__ = ["Choice", "choose"]


@dataclass(frozen=True)
class Choice:
    """By how much the head's log loss is below the cosine's: ``gain`` and its standard ``error``, in nats.

    Both are None where the calibration identities are too few to tell. The head must gain more than the error, since a
    head that was fitted to few identities can be far worse than the cosine, which was fitted to none.
    """

    gain: float | None
    error: float | None

    @property
    def is_head(self) -> bool:
        """Whether the head was chosen."""
        return self.gain is not None and self.error is not None and self.gain > self.error

    def __str__(self) -> str:
        name = "pair head" if self.is_head else "calibrated cosine"
        if self.gain is None:
            return f"{name}, as the calibration identities are too few to tell whether the pair head is better"
        return (
            f"{name}, as the pair head's log loss is {abs(self.gain):.3f} nats {'below' if self.gain > 0 else 'above'} "
            f"the cosine's on held-out calibration identities (standard error {self.error:.3f})"
        )

    def to_dict(self) -> dict[str, Any]:
        """JSON-able."""
        return {"chosen": "pair head" if self.is_head else "cosine", **asdict(self)}


def choose(heads: Sequence[PairHead], halves: Sequence[Embedded], calibration: str) -> Choice:
    """Compare heads with the cosine by cross-validation over the two ``halves`` of the calibration identities.

    Head i was selected on half i alone. It and the cosine are calibrated there and judged on the other half.
    """
    gains, variances = [], []
    for head, own, other in zip(heads, halves, reversed(halves), strict=True):
        cosine = PairHead.of_cosine(own.embeddings.shape[1])
        losses = []
        for scorer in (cosine, head):
            judged = pairs_of(other, calibrated(scorer, pairs_of(own, scorer), calibration))
            losses.append(judged.balanced() * log_losses(judged))
        codes = np.unique(judged.identities, return_inverse=True)[1].reshape(judged.identities.shape)
        # Half of a pair's gain is each identity's: crops of one identity are not independent, identities are.
        shares = np.bincount(codes.ravel(), np.tile((losses[0] - losses[1]) / 2, 2))
        gains.append(shares.sum())
        variances.append(len(shares) * shares.var(ddof=1))
    return Choice(float(np.mean(gains)), float(np.sqrt(np.sum(variances)) / len(gains)))
