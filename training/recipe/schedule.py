"""The learning rate over time: linear warm-up, then steps or a cosine."""

from __future__ import annotations

import math

from .config import TrainConfig

__all__ = ["lr_factor"]


def lr_factor(config: TrainConfig, epoch: int, fraction: float = 0.0) -> float:
    """The factor on the base learning rate, ``fraction`` (0..1) of the way through ``epoch`` (from 0).

    "step" is BoT's (section 3.1), constant within an epoch: with t = epoch + 1 and the paper's numbers, t/10 up to
    t = 10, then 1 to t = 40, 0.1 to t = 70 and 0.01 to the end. "cosine" changes with every iteration, and ends at 0.

    >>> bot = TrainConfig(arch="resnet50_bot")
    >>> [round(lr_factor(bot, t - 1), 3) for t in (1, 5, 10, 40, 41, 70, 71, 120)]
    [0.1, 0.5, 1.0, 1.0, 0.1, 0.1, 0.01, 0.01]
    """
    if config.schedule == "step":
        return _step(config, epoch)
    return _cosine(config, epoch + fraction)


def _step(config: TrainConfig, epoch: int) -> float:
    if epoch < config.warmup_epochs:
        risen = epoch / max(1, config.warmup_epochs - 1)
        return config.warmup_factor + (1 - config.warmup_factor) * risen
    return float(config.gamma ** sum(epoch >= milestone for milestone in config.milestones))


def _cosine(config: TrainConfig, position: float) -> float:
    if position < config.warmup_epochs:
        return config.warmup_factor + (1 - config.warmup_factor) * position / config.warmup_epochs
    run = (position - config.warmup_epochs) / max(config.epochs - config.warmup_epochs, 1e-9)
    return 0.5 * (1 + math.cos(math.pi * min(run, 1.0)))
