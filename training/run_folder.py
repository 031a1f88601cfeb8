"""The folder of a run: the checkpoint that it resumes from, its history, curves and recipe, and the finished model."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from reid_edge.card import ModelCard
from reid_edge.core.files import write_text
from reid_edge.core.locks import locked
from reid_edge.core.progress import phase
from reid_edge.data.datasets import Dataset
from reid_edge.errors import InputError
from reid_edge.training.curves import TensorBoardLog, draw_curves
from reid_edge.training.history import EpochReport, lengths_of, write_history
from reid_edge.training.models.checkpoint import Checkpoint, card_of, load_checkpoint, save_checkpoint, start_from
from reid_edge.training.trainer import Trainer

from .run_record import CHECKPOINT_NAME, RECORD_NAME, RunRecord

__all__ = ["HISTORY_NAME", "MODEL_NAME", "RECIPE_NAME", "RunFolder"]

MODEL_NAME = "model.pth"
"""Written at the end: the model alone, a third of the size."""

HISTORY_NAME = "history.json"
"""A row for each epoch."""

RECIPE_NAME = "recipe.toml"
"""The settings of the run, for ``--config``."""

_SAVE_EVERY_SECONDS = 600.0

logger = logging.getLogger(__name__)


class RunFolder:
    """Writes what a run leaves in ``out``; only the main process writes, the others' calls do nothing."""

    def __init__(self, out: Path, trainer: Trainer, dataset: Dataset) -> None:
        self.out = out
        self._trainer = trainer
        self._dataset = dataset
        self._saved_at = time.perf_counter()

    @property
    def _writes(self) -> bool:
        return self._trainer.world.is_main

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Hold the folder for this run alone; a folder that did not exist and that nothing was written to is removed.

        Raises InputError, naming the other process, when another run holds it.
        """
        if not self._writes:
            yield
            return
        existed = self.out.exists()
        try:
            with locked(self.out / CHECKPOINT_NAME, f"training into {self.out}"):
                yield
        finally:
            if not existed:
                with suppress(OSError):  # it is not empty
                    self.out.rmdir()

    def load(self, weights: Path | None = None, *, resume: bool = False) -> None:
        """Load the checkpoint in the folder with ``resume``, else the ``weights`` to start from, if any.

        Raises InputError for a checkpoint without ``resume``, and what `Trainer.load_state` and `start_from` raise.
        """
        trainer, checkpoint = self._trainer, self.out / CHECKPOINT_NAME
        if checkpoint.exists() and not resume:
            raise InputError(
                f"{self.out} already holds a run: give --resume (resume=True) to continue it, or another --out"
            )
        if checkpoint.exists():
            trainer.load_state(load_checkpoint(checkpoint), str(checkpoint))
            done, epochs = trainer.progress.iteration, trainer.config.epochs
            within = f", {done} batches into the next" if done else ""
            logger.info("resuming %s after epoch %d of %d%s", checkpoint, trainer.epoch, epochs, within)
            if trainer.stretched_from:
                logger.info("the schedule is stretched from %d epochs to %d", trainer.stretched_from, epochs)
        elif weights is not None:
            logger.info("%s", start_from(trainer.model, weights).summary())
            trainer.restart_average()

    def begin(self, record: RunRecord | None) -> TensorBoardLog:
        """Write the recipe, the record and the history so far; the run's TensorBoard log, from the epoch reached on."""
        if self._writes:
            write_text(self.out / RECIPE_NAME, self._trainer.config.to_toml())
            if record is None:
                (self.out / RECORD_NAME).unlink(missing_ok=True)  # that of another run, which left no checkpoint
            else:
                record.write(self.out)
        with phase("drawing the curves so far", shown=self._writes and bool(self._trainer.history)):
            self.write_history(self._trainer.history)
        return TensorBoardLog(self.out / "tensorboard" if self._writes else None, self._trainer.epoch)

    def save(self) -> None:
        """Write the checkpoint. Raises GateError, and keeps the one before, when a weight is not finite."""
        self._saved_at = time.perf_counter()
        self._trainer.check_weights()
        if self._writes:
            trainer = self._trainer
            checkpoint = Checkpoint(self._card(), trainer.deployed.state_dict(), trainer.state())
            save_checkpoint(checkpoint, self.out / CHECKPOINT_NAME)

    def save_if_due(self) -> None:
        """Write the checkpoint when the last one is ten minutes old."""
        if time.perf_counter() - self._saved_at > _SAVE_EVERY_SECONDS:
            self.save()

    def write_history(self, history: list[EpochReport]) -> None:
        """Write ``history.json`` and draw the curves."""
        if self._writes and history:
            write_history(history, self.out / HISTORY_NAME)
            draw_curves(history, self.out)

    def write_model(self) -> Path:
        """Write the finished model, and return its path."""
        path = self.out / MODEL_NAME
        if self._writes:
            save_checkpoint(Checkpoint(self._card(), self._trainer.deployed.state_dict()), path)
        return path

    def _card(self) -> ModelCard:
        trainer, config = self._trainer, self._trainer.config
        crops = self._dataset.split.train
        earlier = [epochs for epochs in lengths_of(trainer.history) if epochs != config.epochs]
        return card_of(
            trainer.deployed,
            trained_on=f"{self._dataset.name}: {len(crops)} crops of {trainer.identities} identities",
            recipe={
                **config.to_dict(),
                "epochs_done": trainer.epoch,
                **({"stretched_from": earlier} if earlier else {}),
            },
            input_hw=config.input_hw,
            resize=config.resize,
            quantization=trainer.quantization,
        )
