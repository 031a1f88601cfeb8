"""Curves of a run: TensorBoard scalars while it trains, and a picture of losses, learning rate and scores.

Both need the report extra; without it a run is the same, and logs once that there are none.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from types import TracebackType
from typing import Any

from reid_edge.core.files import written_whole
from reid_edge.core.progress import phase

from .history import EpochReport

__all__ = ["TensorBoardLog", "draw_curves"]

_SCORES = {"rank1": "rank-1", "mAP": "mAP", "mINP": "mINP"}

logger = logging.getLogger(__name__)


class TensorBoardLog:
    """Writes each epoch to TensorBoard in ``folder``; a resumed run replaces the epochs that it repeats.

    Without a folder nothing is written.
    """

    def __init__(self, folder: Path | None, epochs_done: int) -> None:
        self._writer: Any = None
        if folder is None:
            return
        try:
            with phase("loading TensorBoard"):
                from torch.utils.tensorboard import SummaryWriter
        except ImportError:
            logger.warning("no TensorBoard log and no curves: pip install matplotlib tensorboard  for them")
            return
        self._writer = SummaryWriter(str(folder), purge_step=epochs_done + 1 if epochs_done else None)

    def write(self, report: EpochReport) -> None:
        """Add one epoch: losses, learning rate, speed, and the scores where there are any."""
        if self._writer is None:
            return
        scalars = {f"loss/{name}": value for name, value in report.losses.items()}
        scalars |= {"learning_rate": report.learning_rate, "images_per_second": report.images_per_second}
        scalars |= {f"score/{name}": report.metrics[name] for name in _SCORES if report.metrics}
        for name, value in scalars.items():
            self._writer.add_scalar(name, value, report.epoch)
        self._writer.flush()

    def __enter__(self) -> TensorBoardLog:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._writer is not None:
            self._writer.close()


def draw_curves(history: Sequence[EpochReport], out: Path) -> list[Path]:
    """Draw a run's history as ``curves.png`` and ``curves.svg`` in ``out``, and return their paths.

    Losses (each times its weight), the learning rate, and R1, mAP and mINP in per cent of the epochs after which the
    model was evaluated; a dotted line where the schedule was stretched to more epochs. Without matplotlib nothing is
    drawn and the list is empty.
    """
    try:
        from matplotlib.figure import Figure
    except ImportError:
        return []
    figure = Figure(figsize=(12, 3.6), layout="constrained")
    losses, rate, scores = figure.subplots(1, 3)
    epochs = [report.epoch for report in history]
    for name in dict.fromkeys(name for report in history for name in report.losses):
        losses.plot(epochs, [report.losses.get(name, float("nan")) for report in history], label=name)
    losses.set(title="losses, weighted", xlabel="epoch", yscale="log")
    rate.plot(epochs, [report.learning_rate for report in history], color="black")
    rate.set(title="learning rate", xlabel="epoch")
    scored = [(report.epoch, report.metrics) for report in history if report.metrics]
    for (name, label), marker in zip(_SCORES.items(), "os^", strict=True):
        values = [100 * metrics[name] for _, metrics in scored]
        scores.plot([epoch for epoch, _ in scored], values, marker=marker, label=label)
    scores.set(title="test scores, %", xlabel="epoch", ylim=(0, 100))
    for before, after in pairwise(history):
        if after.of_epochs != before.of_epochs:
            for axes in (losses, rate, scores):
                axes.axvline(before.epoch + 0.5, color="grey", linestyle=":", label=f"now of {after.of_epochs} epochs")
    for axes in (losses, rate, scores):
        if axes.get_legend_handles_labels()[0]:
            axes.legend()
    drawn = []
    for suffix in ("png", "svg"):
        with written_whole(out / f"curves.{suffix}") as beside:
            figure.savefig(beside, format=suffix, dpi=120)
        drawn.append(out / f"curves.{suffix}")
    return drawn
