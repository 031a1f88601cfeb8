"""A run to look at: TensorBoard scalars while it goes, and a picture of losses, learning rate and scores.

Both need the report extra; without it a run is the same and says so once.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

from reid_edge.files import written_whole

__all__ = ["Board", "draw_curves"]

_SCORES = {"rank1": "rank-1", "mAP": "mAP", "mINP": "mINP"}


class Board:
    """Writes each epoch's line of the history to TensorBoard in ``folder``; a resumed run replaces what it repeats.

    Without a folder nothing is written.
    """

    def __init__(self, folder: Path | None, epochs_done: int, say: Callable[[str], None]) -> None:
        self._writer: Any = None
        if folder is None:
            return
        try:
            from torch.utils.tensorboard import SummaryWriter
        except ImportError:
            say("no TensorBoard log and no curves: pip install 'reid-edge[report]' for them")
            return
        self._writer = SummaryWriter(str(folder), purge_step=epochs_done + 1 if epochs_done else None)

    def write(self, line: Mapping[str, Any]) -> None:
        """Add one line of the history: losses, learning rate, speed, and the scores where there are any."""
        if self._writer is None:
            return
        scalars = {f"loss/{name}": value for name, value in line["losses"].items()}
        scalars |= {"learning_rate": line["learning_rate"], "images_per_second": line["images_per_second"]}
        scalars |= {f"score/{name}": (line["metrics"] or {})[name] for name in _SCORES if line["metrics"]}
        for name, value in scalars.items():
            self._writer.add_scalar(name, value, line["epoch"])
        self._writer.flush()

    def __enter__(self) -> Board:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._writer is not None:
            self._writer.close()


def draw_curves(history: Sequence[Mapping[str, Any]], out: Path) -> list[Path]:
    """Draw a run's history, one line an epoch, as ``curves.png`` and ``curves.svg`` in ``out``.

    Losses (each with its weight), the learning rate, and R1, mAP and mINP in per cent where they were scored. Without
    matplotlib nothing is drawn and the list is empty.
    """
    try:
        from matplotlib.figure import Figure
    except ImportError:
        return []
    figure = Figure(figsize=(12, 3.6), layout="constrained")
    losses, rate, scores = figure.subplots(1, 3)
    epochs = [line["epoch"] for line in history]
    for name in dict.fromkeys(name for line in history for name in line["losses"]):
        losses.plot(epochs, [line["losses"].get(name, float("nan")) for line in history], label=name)
    losses.set(title="losses, weighted", xlabel="epoch", yscale="log")
    rate.plot(epochs, [line["learning_rate"] for line in history], color="black")
    rate.set(title="learning rate", xlabel="epoch")
    scored = [line for line in history if line["metrics"]]
    for (name, label), marker in zip(_SCORES.items(), "os^", strict=True):
        values = [100 * line["metrics"][name] for line in scored]
        scores.plot([line["epoch"] for line in scored], values, marker=marker, label=label)
    scores.set(title="people not trained on, %", xlabel="epoch", ylim=(0, 100))
    for axes in (losses, scores):
        if axes.lines:
            axes.legend()
    drawn = []
    for suffix in ("png", "svg"):
        with written_whole(out / f"curves.{suffix}") as beside:
            figure.savefig(beside, format=suffix, dpi=120)
        drawn.append(out / f"curves.{suffix}")
    return drawn
