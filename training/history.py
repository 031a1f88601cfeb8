"""The epoch in progress and the history of a run: a row for each epoch done, as ``history.json`` keeps them."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from reid_edge.core.files import require_file, write_text

__all__ = ["EpochReport", "Progress", "history_from", "lengths_of", "percentages", "read_history", "write_history"]

_SCORES = ("rank1", "mAP", "mINP")


@dataclass
class Progress:
    """The part of an epoch that is done: batches, the sums of their losses by name, seconds."""

    iteration: int = 0
    sums: dict[str, float] = field(default_factory=dict)
    seconds: float = 0.0

    def count(self, seconds: float) -> None:
        """Count one batch; its losses may follow later."""
        self.iteration += 1
        self.seconds += seconds

    def add(self, losses: dict[str, float]) -> None:
        """Add the losses of a batch that is counted."""
        self.sums = {name: self.sums.get(name, 0.0) + value for name, value in losses.items()}

    def checked(self) -> Progress:
        """The same; raises ValueError unless its counts are possible and its sums finite."""
        numbers = [self.iteration, self.seconds, *self.sums.values()]
        if not all(math.isfinite(number) for number in numbers) or self.iteration < 0 or self.seconds < 0:
            raise ValueError(f"an epoch cannot be {self.iteration} batches and {self.seconds} seconds old")
        return self

    def means(self, unread: int = 0) -> dict[str, float]:
        """The mean losses of the batches done, but for the last ``unread``, whose losses were not added yet."""
        return {name: value / (self.iteration - unread) for name, value in self.sums.items()}


@dataclass(frozen=True, kw_only=True)
class EpochReport:
    """A row of the history. ``epoch`` counts from 1; ``losses`` are the epoch's means, each multiplied by its weight.

    ``metrics`` are the test scores (`Metrics.to_dict`) of an epoch after which the model was evaluated, else None.
    ``of_epochs`` is the length of the schedule that it was trained by: it changes where a run was stretched. Histories
    of earlier versions have None.
    """

    epoch: int
    learning_rate: float
    losses: dict[str, float]
    seconds: float
    images_per_second: float
    metrics: dict[str, Any] | None = None
    of_epochs: int | None = None

    def with_metrics(self, metrics: dict[str, Any]) -> EpochReport:
        """The same row with test scores."""
        return replace(self, metrics=metrics)

    def to_dict(self) -> dict[str, Any]:
        """JSON-able."""
        return asdict(self)

    def lines(self) -> tuple[str, ...]:
        """For a log of 80 columns: losses and speed, then the scores where there are any."""
        parts = " ".join(f"{name} {value:.3f}" for name, value in self.losses.items())
        line = f"epoch {self.epoch}: {parts} | lr {self.learning_rate:.2g} | {self.images_per_second:.0f} images/s"
        scores = percentages(self.metrics, " | ").removeprefix(" | ")
        return (line, f"epoch {self.epoch}: {scores}") if scores else (line,)


def percentages(metrics: dict[str, Any] | None, before: str) -> str:
    """The main scores in per cent, each after ``before``; nothing without metrics.

    >>> percentages({"rank1": 0.5, "mAP": 0.25, "mINP": 0.1}, " | ")
    ' | rank1 50.00 | mAP 25.00 | mINP 10.00'
    """
    return "".join(f"{before}{name} {100 * metrics[name]:.2f}" for name in _SCORES) if metrics else ""


def lengths_of(history: Sequence[EpochReport]) -> list[int]:
    """The lengths of the schedules that a run was trained by, in their order; more than one when it was stretched."""
    return list(dict.fromkeys(report.of_epochs for report in history if report.of_epochs is not None))


def history_from(rows: Sequence[dict[str, Any]]) -> list[EpochReport]:
    """Epochs from what `EpochReport.to_dict` gave. Raises TypeError or ValueError unless they are the first ones."""
    history = [EpochReport(**row) for row in rows]
    if [report.epoch for report in history] != list(range(1, len(history) + 1)):
        raise ValueError("its history is not of epochs 1, 2, 3, ...")
    return history


def read_history(path: Path) -> tuple[EpochReport, ...]:
    """The epochs in a ``history.json``. Raises InputError when it is missing."""
    rows = json.loads(require_file(path, "a history").read_text(encoding="utf-8"))
    return tuple(EpochReport(**row) for row in rows)


def write_history(history: Sequence[EpochReport], path: Path) -> None:
    """Write ``history.json``, whole or not at all."""
    rows = [report.to_dict() for report in history]
    write_text(path, json.dumps(rows, indent=1) + "\n")
