"""The Siamese pair head: trained on hard pairs of one part of the people, calibrated on another, measured on a third.

The head's place is the seed paper's future work; its form is `reid_edge.verification.PairHead`. A cosine with the same
calibration, from the same people, is measured beside it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from reid_edge.errors import DatasetError, InputError
from reid_edge.verification import PairHead

from .pair_measures import PairMeasures, Pairs, Roc, auc_of, bootstrap, measure, true_accepts_at

__all__ = [
    "CALIBRATIONS",
    "Embedded",
    "PairReport",
    "Scorer",
    "calibrated",
    "draw_pairs",
    "pairs_of",
    "train_pair_head",
]

CALIBRATIONS = ("temperature", "isotonic")
"""How log-odds are made right: a scale and an offset (Guo et al., ICML 2017), or a monotone step function (Zadrozny and
Elkan, KDD 2002), drawn as straight lines between the middles of its steps."""

_MOST_EPOCHS = 40
_PATIENCE = 3  # epochs without a better one, after which it ends
_RATE = 3e-4
_DECAY = 1e-3
_BATCH = 256
_NEAREST = 20
_FALSE_ACCEPTS = 1e-3  # where thresholds are set
_SURE = 1e-4  # isotonic steps stay this far from 0 and 1, which a finite sample cannot claim
_MOST_CROPS = 4000  # whose pairs are all looked at: 8 million


@dataclass(frozen=True)
class Embedded:
    """Embeddings float32 [N, D], rows of L2 norm 1, with ``people`` [N] and ``cameras`` [N]."""

    embeddings: NDArray[np.float32]
    people: NDArray[np.int64]
    cameras: NDArray[np.int64]

    def of(self, people: NDArray[np.int64]) -> Embedded:
        """Only the crops of those people."""
        kept = np.isin(self.people, people)
        return Embedded(self.embeddings[kept], self.people[kept], self.cameras[kept])

    def parts(self, shares: tuple[float, ...], rng: np.random.Generator) -> list[Embedded]:
        """People dealt at random into as many parts as there are ``shares``, which add up to 1."""
        people = rng.permutation(np.unique(self.people))
        ends = np.round(np.cumsum(shares) * len(people)).astype(int)
        return [self.of(part) for part in np.split(people, ends[:-1])]


@dataclass(frozen=True)
class Scorer:
    """A head with its figures: ``raw`` before calibration; ``threshold`` in log-odds, and what it does to new people.

    The threshold lets 1 in 1,000 pairs of two people pass among those it was set on; ``false_accepts`` and
    ``true_accepts`` are what it does among the people measured on.
    """

    name: str
    head: PairHead
    raw: PairMeasures
    measures: PairMeasures
    threshold: float
    false_accepts: float
    true_accepts: float

    def to_dict(self) -> dict[str, Any]:
        """JSON-able, without the head."""
        return {
            "before_calibration": self.raw.to_dict(),
            **self.measures.to_dict(),
            "threshold_log_odds": self.threshold,
            "at_threshold": {"false_accepts": self.false_accepts, "true_accepts": self.true_accepts},
        }


@dataclass(frozen=True)
class PairReport:
    """The cosine and the head, on the same pairs of people that neither has seen.

    ``auc_gain`` and ``true_accept_gain`` (at 1 false accept in 1,000) are the 95 % intervals of head minus cosine.
    ``counts`` are people and pairs of each part.
    """

    cosine: Scorer
    head: Scorer
    auc_gain: tuple[float, float]
    true_accept_gain: tuple[float, float]
    counts: dict[str, int]
    calibration: str

    def to_dict(self) -> dict[str, Any]:
        """JSON-able; all rates are fractions."""
        return {
            "cosine": self.cosine.to_dict(),
            "head": self.head.to_dict(),
            "auc_gain_95": self.auc_gain,
            "true_accept_gain_95": self.true_accept_gain,
            "calibration": self.calibration,
            **self.counts,
        }


class Tower(nn.Module):
    """One linear map for both sides, then their cosine, scaled and shifted. It begins as the plain cosine."""

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
        """The same in numpy."""
        weight, bias = (np.array(each.detach().numpy()) for each in (self.map.weight, self.map.bias))
        scale, offset = (float(value) for value in self.line.detach())
        return PairHead(weight, bias, scale, offset)


def train_pair_head(
    fit: Embedded,
    calibrate: Embedded,
    report: Embedded,
    *,
    calibration: str = "temperature",
    hard: float = 0.5,
    seed: int = 0,
    say: Callable[[str], None] = print,
) -> PairReport:
    """Train on pairs of ``fit``, choose the epoch and calibrate on ``calibrate``, measure on ``report``.

    The three hold different people. ``hard`` is the share of negative pairs that are drawn from the 20 nearest crops of
    other people. Raises InputError for another ``calibration`` than `CALIBRATIONS`, and DatasetError where a part has
    no pairs of one person in two cameras, or shares people with another.
    """
    if calibration not in CALIBRATIONS:
        raise InputError(f"calibration {calibration!r} is unknown: give one of {', '.join(CALIBRATIONS)}")
    parts = {"to train on": fit, "to calibrate on": calibrate, "to measure on": report}
    for name, part in parts.items():
        _check_people(name, part)
    people = [set(part.people.tolist()) for part in parts.values()]
    if people[0] & people[1] or people[0] & people[2] or people[1] & people[2]:
        raise DatasetError("the people trained, calibrated and measured on must be different ones")
    calibrate, report = (_at_most(part, seed) for part in (calibrate, report))
    head = _fitted(fit, calibrate, hard, seed, say)
    cosine = _scorer("cosine", PairHead.of_cosine(fit.embeddings.shape[1]), calibrate, report, calibration)
    siamese = _scorer("pair head", head, calibrate, report, calibration)
    first, second = (pairs_of(report, each.head) for each in (cosine, siamese))
    gains = bootstrap(first, second, [auc_of, _accepts])
    counts = {
        "fit_people": len(people[0]),
        "calibration_people": len(people[1]),
        "measured_people": len(people[2]),
        "same_pairs": int(first.same.sum()),
        "different_pairs": int((~first.same).sum()),
    }
    return PairReport(cosine, siamese, gains[0], gains[1], counts, calibration)


def draw_pairs(
    of: Embedded, rng: np.random.Generator, hard: float
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.bool_]]:
    """For each crop that has one, a crop of the same person in another camera, and one of another person.

    Returns (first, second, same), each [2 x crops with a positive]. A negative is, with probability ``hard``, one of
    the 20 nearest crops of other people, else any.
    """
    first, second, same = [], [], []
    for row, (person, camera) in enumerate(zip(of.people, of.cameras, strict=True)):
        positives = np.flatnonzero((of.people == person) & (of.cameras != camera))
        if not len(positives):
            continue
        others = np.flatnonzero(of.people != person)
        if rng.random() < hard and len(others) > _NEAREST:
            nearness = of.embeddings[others] @ of.embeddings[row]
            others = others[np.argpartition(-nearness, _NEAREST)[:_NEAREST]]
        first += [row, row]
        second += [rng.choice(positives), rng.choice(others)]
        same += [True, False]
    return np.array(first, np.int64), np.array(second, np.int64), np.array(same, np.bool_)


def pairs_of(of: Embedded, head: PairHead) -> Pairs:
    """Every pair of crops from two cameras, each once, with the head's log-odds."""
    rows = head.project(of.embeddings)
    first, second = np.triu_indices(len(rows), 1)
    kept = of.cameras[first] != of.cameras[second]
    first, second = first[kept], second[kept]
    cosines = np.concatenate([rows[k] @ rows[k + 1 :].T for k in range(len(rows))])[kept]
    people = np.stack([of.people[first], of.people[second]])
    return Pairs(head.log_odds_of(cosines).astype(np.float32), people[0] == people[1], people)


def calibrated(head: PairHead, pairs: Pairs, calibration: str) -> PairHead:
    """The head with log-odds that are right for ``pairs``, which it scored, at a prior of one half."""
    weights = pairs.balanced()
    if calibration == "temperature":
        scale, offset = _logistic(pairs.log_odds.astype(np.float64), pairs.same, weights)
        return replace(head, scale=head.scale * scale, offset=head.offset * scale + offset)
    from scipy.optimize import isotonic_regression

    order = np.argsort(pairs.log_odds, kind="stable")
    fitted = isotonic_regression(pairs.same[order].astype(np.float64), weights=weights[order])
    steps = fitted.blocks
    middles = np.array([np.mean(pairs.log_odds[order[a:b]]) for a, b in zip(steps[:-1], steps[1:], strict=True)])
    levels = np.clip(fitted.x[steps[:-1]], _SURE, 1 - _SURE)
    return replace(head, knots=np.stack([middles, np.log(levels / (1 - levels))]).astype(np.float32))


def _accepts(false: NDArray[np.float64], true: NDArray[np.float64]) -> float:
    return true_accepts_at(false, true, _FALSE_ACCEPTS)


def _fitted(fit: Embedded, calibrate: Embedded, hard: float, seed: int, say: Callable[[str], None]) -> PairHead:
    """The tower of the epoch whose calibrated negative log-likelihood on the calibration people is the least."""
    rng = np.random.default_rng([seed, 1])
    generator = torch.Generator().manual_seed(seed)
    tower = Tower(fit.embeddings.shape[1])
    optimizer = torch.optim.AdamW(tower.parameters(), lr=_RATE, weight_decay=_DECAY)
    rows, best = torch.from_numpy(fit.embeddings), (float("inf"), tower.head())
    since = 0
    for epoch in range(1, _MOST_EPOCHS + 1):
        first, second, same = (torch.from_numpy(each) for each in draw_pairs(fit, rng, hard))
        for chosen in torch.randperm(len(same), generator=generator).tensor_split(-(-len(same) // _BATCH)):
            loss = F.binary_cross_entropy_with_logits(
                tower(rows[first[chosen]], rows[second[chosen]]), same[chosen].float()
            )
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
        raw = tower.head()
        pairs = pairs_of(calibrate, raw)
        nll = measure(pairs_of(calibrate, calibrated(raw, pairs, "temperature"))).nll
        say(f"epoch {epoch}: {len(same):,} pairs, {nll:.4f} nats on the calibration people")
        since = 0 if nll < best[0] else since + 1
        best = min(best, (nll, raw), key=lambda each: each[0])
        if since == _PATIENCE:
            break
    return best[1]


def _scorer(name: str, head: PairHead, calibrate: Embedded, report: Embedded, calibration: str) -> Scorer:
    seen = pairs_of(calibrate, head)
    ready = calibrated(head, seen, calibration)
    seen, new = pairs_of(calibrate, ready), pairs_of(report, ready)
    threshold = Roc(seen.log_odds, seen.same).threshold(seen.balanced(), _FALSE_ACCEPTS)
    accepted = new.log_odds >= threshold
    return Scorer(
        name,
        ready,
        measure(pairs_of(report, head)),
        measure(new),
        threshold,
        float(accepted[~new.same].mean()),
        float(accepted[new.same].mean()),
    )


def _logistic(odds: NDArray[np.float64], same: NDArray[np.bool_], weights: NDArray[np.float64]) -> tuple[float, float]:
    """The scale (kept positive) and offset of least negative log-likelihood: convex, by L-BFGS."""
    x, w = torch.from_numpy(odds), torch.from_numpy(weights)
    middle, spread = float((w * x).sum()), float((w * (x - (w * x).sum()) ** 2).sum().sqrt()) or 1.0
    x, y = (x - middle) / spread, torch.from_numpy(same.astype(np.float64))
    line = torch.tensor([1.0, 0.0], dtype=torch.float64, requires_grad=True)
    optimizer = torch.optim.LBFGS([line], max_iter=100, tolerance_grad=1e-9, line_search_fn="strong_wolfe")

    def closure() -> Tensor:
        optimizer.zero_grad()
        loss = F.binary_cross_entropy_with_logits(line[0] * x + line[1], y, weight=w, reduction="sum")
        loss.backward()  # type: ignore[no-untyped-call]
        return loss

    optimizer.step(closure)  # type: ignore[no-untyped-call]
    scale, offset = (float(value) for value in line.detach())
    scale = max(scale, 1e-6)
    return scale / spread, offset - scale * middle / spread


def _check_people(name: str, part: Embedded) -> None:
    cameras: dict[int, set[int]] = {}
    for person, camera in zip(part.people.tolist(), part.cameras.tolist(), strict=True):
        cameras.setdefault(person, set()).add(camera)
    if len(cameras) < 2 or all(len(seen) < 2 for seen in cameras.values()):
        raise DatasetError(
            f"the {len(cameras)} people {name} make no pairs of both kinds: "
            "give two people or more, at least one of them seen by two cameras"
        )


def _at_most(part: Embedded, seed: int) -> Embedded:
    """All of it, or as many people, drawn at random, as have 4,000 crops together."""
    if len(part.people) <= _MOST_CROPS:
        return part
    people, counts = np.unique(part.people, return_counts=True)
    order = np.random.default_rng([seed, 2]).permutation(len(people))
    kept = int(np.searchsorted(np.cumsum(counts[order]), _MOST_CROPS, "right"))
    return part.of(people[order[: max(kept, 2)]])
