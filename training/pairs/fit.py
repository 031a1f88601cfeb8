"""The Siamese pair head: trained on hard pairs of one part of the identities, calibrated on another, tested on a third.

The seed paper proposes such a head as future work; its form is `reid_edge.pair_head.PairHead`. A cosine with the same
calibration, from the same identities, is measured beside it.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from reid_edge.core.names import require_name
from reid_edge.core.progress import track
from reid_edge.errors import DatasetError
from reid_edge.pair_head import PairHead

from .calibrate import CALIBRATIONS, calibrated
from .choose import Choice, choose
from .draw import Embedded, draw_pairs, pairs_of
from .measures import PairMeasures, Roc, bootstrap, log_losses, measure

__all__ = ["PairReport", "Scorer", "Tower", "train_pair_head"]

logger = logging.getLogger(__name__)

_MAX_EPOCHS = 40
_PATIENCE = 3  # epochs without an improvement, after which training stops
_RATE = 3e-4
_DECAY = 1e-3
_BATCH = 256
_THRESHOLD_FAR = 1e-3  # the false accept rate that thresholds are set for
_MAX_CROPS = 4000  # all of their pairs are measured: 8 million


@dataclass(frozen=True)
class Scorer:
    """A head with its figures, ``raw`` before calibration and ``measures`` after, and a ``threshold`` in log-odds.

    The threshold has a false accept rate of 1 in 1,000 on the calibration identities; ``far`` and ``tar`` are its false
    and true accept rates on the test identities.
    """

    name: str
    head: PairHead
    raw: PairMeasures
    measures: PairMeasures
    threshold: float
    far: float
    tar: float

    def to_dict(self) -> dict[str, Any]:
        """JSON-able, without the head."""
        return {
            "before_calibration": self.raw.to_dict(),
            **self.measures.to_dict(),
            "threshold_log_odds": self.threshold,
            "at_threshold": {"far": self.far, "tar": self.tar},
        }


@dataclass(frozen=True)
class PairReport:
    """The cosine and the head, on the same pairs of identities that neither was fitted to.

    ``choice`` says which of the two to use; it is made on the calibration identities. ``auc_gain`` and ``tar_gain`` (of
    TAR at FAR 0.1 %) are the 95 % intervals of head minus cosine. ``counts`` are the numbers of identities in each
    part, and of the test pairs.
    """

    cosine: Scorer
    head: Scorer
    choice: Choice
    auc_gain: tuple[float, float]
    tar_gain: tuple[float, float]
    counts: dict[str, int]
    calibration: str

    @property
    def chosen(self) -> Scorer:
        """The one to use."""
        return self.head if self.choice.is_head else self.cosine

    def to_dict(self) -> dict[str, Any]:
        """JSON-able; all rates are fractions."""
        return {
            "choice": self.choice.to_dict(),
            "cosine": self.cosine.to_dict(),
            "head": self.head.to_dict(),
            "auc_gain_95": self.auc_gain,
            "tar_gain_95": self.tar_gain,
            "calibration": self.calibration,
            **self.counts,
        }


class Tower(nn.Module):
    """One linear map for both sides, then their cosine, scaled and shifted. It is initialised as the plain cosine."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.map = nn.Linear(dim, dim)
        nn.init.eye_(self.map.weight)
        nn.init.zeros_(self.map.bias)
        self.line = nn.Parameter(torch.tensor([10.0, -5.0]))

    def forward(self, first: Tensor, second: Tensor) -> Tensor:
        """Log-odds [N] of rows [N, D] and [N, D]."""
        cosines = (F.normalize(self.map(first)) * F.normalize(self.map(second))).sum(1)
        return self.line[0] * cosines + self.line[1]

    def head(self) -> PairHead:
        """The tower as a head in numpy."""
        weight, bias = (np.array(each.detach().numpy()) for each in (self.map.weight, self.map.bias))
        scale, offset = (float(value) for value in self.line.detach())
        return PairHead(weight, bias, scale, offset)


def train_pair_head(
    fit: Embedded,
    calibrate: Embedded,
    test: Embedded,
    *,
    calibration: str = "temperature",
    hard: float = 0.5,
    seed: int = 0,
) -> PairReport:
    """Train on pairs of ``fit``, select the epoch and calibrate on ``calibrate``, measure on ``test``.

    The three hold different identities. ``hard`` is the share of negative pairs that are drawn from the 20 nearest
    crops of other identities. Raises InputError for an unknown ``calibration`` (see `CALIBRATIONS`), and DatasetError
    when a part has no identity in two cameras, or shares identities with another part.
    """
    require_name(calibration, CALIBRATIONS, "calibration")
    parts = {"to train on": fit, "to calibrate on": calibrate, "to measure on": test}
    for name, part in parts.items():
        _check_pairs(name, part)
    identities = [set(part.identities.tolist()) for part in parts.values()]
    if identities[0] & identities[1] or identities[0] & identities[2] or identities[1] & identities[2]:
        raise DatasetError("the identities trained, calibrated and measured on must be different ones")
    calibrate, test = (_limited(part, seed) for part in (calibrate, test))
    halves = calibrate.split((0.5, 0.5), np.random.default_rng([seed, 3]))
    comparable = all(half.has_pairs() for half in halves)
    head, *of_halves = _fitted(fit, [calibrate, *(halves if comparable else ())], hard, seed)
    choice = choose(of_halves, halves, calibration) if comparable else Choice(None, None)
    cosine = _scorer("cosine", PairHead.of_cosine(fit.embeddings.shape[1]), calibrate, test, calibration)
    siamese = _scorer("pair head", head, calibrate, test, calibration)
    first, second = (pairs_of(test, each.head) for each in (cosine, siamese))
    gains = bootstrap(first, second, [lambda roc: roc.auc, lambda roc: roc.tar_at(_THRESHOLD_FAR)])
    counts = {
        "fit_identities": len(identities[0]),
        "calibration_identities": len(identities[1]),
        "test_identities": len(identities[2]),
        "same_pairs": int(first.same.sum()),
        "different_pairs": int((~first.same).sum()),
    }
    return PairReport(cosine, siamese, choice, gains[0], gains[1], counts, calibration)


def _fitted(fit: Embedded, views: Sequence[Embedded], hard: float, seed: int) -> list[PairHead]:
    """For each of ``views`` the tower of the epoch with the smallest calibrated log loss on it.

    Training stops when that of the first has not improved for `_PATIENCE` epochs.
    """
    rng = np.random.default_rng([seed, 1])
    generator = torch.Generator().manual_seed(seed)
    tower = Tower(fit.embeddings.shape[1])
    optimizer = torch.optim.AdamW(tower.parameters(), lr=_RATE, weight_decay=_DECAY)
    rows, best = torch.from_numpy(fit.embeddings), [(float("inf"), tower.head()) for _ in views]
    since = 0
    for epoch in track(range(1, _MAX_EPOCHS + 1), "fitting the pair head"):
        first, second, same = (torch.from_numpy(each) for each in draw_pairs(fit, rng, hard))
        for chosen in torch.randperm(len(same), generator=generator).tensor_split(-(-len(same) // _BATCH)):
            loss = F.binary_cross_entropy_with_logits(
                tower(rows[first[chosen]], rows[second[chosen]]), same[chosen].float()
            )
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
        raw = tower.head()
        losses = [_calibrated_loss(raw, view) for view in views]
        logger.debug("epoch %d: %s pairs, %.4f nats on the calibration identities", epoch, f"{len(same):,}", losses[0])
        since = 0 if losses[0] < best[0][0] else since + 1
        best = [min(known, (loss, raw), key=lambda each: each[0]) for known, loss in zip(best, losses, strict=True)]
        if since == _PATIENCE:
            break
    return [head for _, head in best]


def _calibrated_loss(head: PairHead, view: Embedded) -> float:
    pairs = pairs_of(view, calibrated(head, pairs_of(view, head), "temperature"))
    return float(np.sum(pairs.balanced() * log_losses(pairs)))


def _scorer(name: str, head: PairHead, calibrate: Embedded, test: Embedded, calibration: str) -> Scorer:
    finished = calibrated(head, pairs_of(calibrate, head), calibration)
    fitted, tested = pairs_of(calibrate, finished), pairs_of(test, finished)
    threshold = Roc(fitted.log_odds, fitted.same).threshold(fitted.balanced(), _THRESHOLD_FAR)
    accepted = tested.log_odds >= threshold
    return Scorer(
        name=name,
        head=finished,
        raw=measure(pairs_of(test, head)),
        measures=measure(tested),
        threshold=threshold,
        far=float(accepted[~tested.same].mean()),
        tar=float(accepted[tested.same].mean()),
    )


def _check_pairs(name: str, part: Embedded) -> None:
    if not part.has_pairs():
        raise DatasetError(
            f"the {len(np.unique(part.identities))} identities {name} make no positive and negative pairs: "
            "give two identities or more, at least one of them seen by two cameras"
        )


def _limited(part: Embedded, seed: int) -> Embedded:
    """The part itself, or as many of its identities, drawn at random, as have 4,000 crops together."""
    if len(part.identities) <= _MAX_CROPS:
        return part
    identities, counts = np.unique(part.identities, return_counts=True)
    order = np.random.default_rng([seed, 2]).permutation(len(identities))
    kept = int(np.searchsorted(np.cumsum(counts[order]), _MAX_CROPS, "right"))
    return part.of(identities[order[: max(kept, 2)]])
