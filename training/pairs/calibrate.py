"""Calibration of a pair head: its log-odds to those of a probability, on pairs that it was not fitted on."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from reid_edge.pair_head import PairHead

from .measures import Pairs

__all__ = ["CALIBRATIONS", "calibrated"]

CALIBRATIONS = ("temperature", "isotonic")
"""How log-odds are calibrated: by a scale and an offset (Guo et al., ICML 2017), or by a monotone step function
(Zadrozny and Elkan, KDD 2002), interpolated between the middles of its steps."""

_MIN_PROBABILITY = 1e-4  # isotonic steps stay this far from 0 and 1, which no finite sample supports


def calibrated(head: PairHead, pairs: Pairs, calibration: str) -> PairHead:
    """The head with log-odds calibrated on ``pairs``, which it scored, at a prior of one half."""
    weights = pairs.balanced()
    if calibration == "temperature":
        scale, offset = _logistic(pairs.log_odds.astype(np.float64), pairs.same, weights)
        return replace(head, scale=head.scale * scale, offset=head.offset * scale + offset)
    from scipy.optimize import isotonic_regression

    order = np.argsort(pairs.log_odds, kind="stable")
    fitted = isotonic_regression(pairs.same[order].astype(np.float64), weights=weights[order])
    steps = fitted.blocks
    middles = np.array([np.mean(pairs.log_odds[order[a:b]]) for a, b in zip(steps[:-1], steps[1:], strict=True)])
    levels = np.clip(fitted.x[steps[:-1]], _MIN_PROBABILITY, 1 - _MIN_PROBABILITY)
    return replace(head, knots=np.stack([middles, np.log(levels / (1 - levels))]).astype(np.float32))


def _logistic(odds: NDArray[np.float64], same: NDArray[np.bool_], weights: NDArray[np.float64]) -> tuple[float, float]:
    """The scale (kept positive) and offset with the smallest negative log-likelihood: convex, by L-BFGS."""
    x, w = torch.from_numpy(odds), torch.from_numpy(weights)
    middle, spread = float((w * x).sum()), float((w * (x - (w * x).sum()) ** 2).sum().sqrt()) or 1.0
    positives, negatives = int(same.sum()), int((~same).sum())
    # Platt's targets (1999): where the classes are separable, labels of 0 and 1 would make the scale infinite.
    targets = np.where(same, (positives + 1) / (positives + 2), 1 / (negatives + 2))
    x, y = (x - middle) / spread, torch.from_numpy(targets)
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
