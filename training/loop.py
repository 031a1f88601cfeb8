"""The training loop: batches, losses, two optimisers, a checkpoint after every epoch."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from reid_edge.card import ModelCard
from reid_edge.datasets import Dataset, require
from reid_edge.errors import GateError, InputError
from reid_edge.evaluation import evaluate
from reid_edge.files import written_whole
from reid_edge.progress import track

from .augment import augmented
from .checkpoint import Checkpoint, card_of, load_checkpoint, save_checkpoint, start_from
from .config import TrainConfig
from .inference import TorchEngine
from .run import Run
from .sampler import pk_batches
from .schedule import lr_factor
from .store import decoded

__all__ = ["CHECKPOINT_NAME", "MODEL_NAME", "EpochReport", "train"]

CHECKPOINT_NAME = "checkpoint.pth"
"""Written after every epoch: the model and all that ``--resume`` needs."""

MODEL_NAME = "model.pth"
"""Written at the end: the model alone, a third of the size."""


@dataclass(frozen=True)
class EpochReport:
    """One line of the history: ``epoch`` counts from 1, ``losses`` are the epoch's means with their weights in them."""

    epoch: int
    learning_rate: float
    losses: dict[str, float]
    seconds: float
    images_per_second: float
    metrics: dict[str, Any] | None = None

    def __str__(self) -> str:
        parts = " ".join(f"{name} {value:.3f}" for name, value in self.losses.items())
        line = f"epoch {self.epoch}: {parts} | lr {self.learning_rate:.2e} | {self.images_per_second:.0f} images/s"
        if self.metrics:
            line += "".join(f" | {k} {100 * self.metrics[k]:.2f}" for k in ("rank1", "mAP", "mINP"))
        return line


def train(
    config: TrainConfig,
    dataset: Dataset,
    out: Path,
    *,
    weights: Path | None = None,
    resume: bool = False,
    device: str = "auto",
    eval_every: int = 10,
    say: Callable[[str], None] = print,
) -> Path:
    """Train a model and return the path of its file, ``out/model.pth``.

    ``out`` also receives ``checkpoint.pth`` after every epoch and ``history.json``. With ``resume`` the run goes on
    after the last whole epoch and reaches the weights that an uninterrupted one reaches (bit for bit on one CPU with
    the same number of threads). Every ``eval_every`` epochs and after the last, the model is scored on the query and
    gallery crops; the score chooses nothing.

    Raises InputError (a used ``out``, other settings than the run that is resumed), DatasetError, ImageError,
    ModelError, and GateError when a loss is not finite.
    """
    require(dataset, "train")
    labels = _labels(dataset)
    run = Run(config, people=int(labels.max()) + 1, device=device)
    _begin(run, out / CHECKPOINT_NAME, weights, resume, say)
    images = run.resident(decoded(dataset.split.train, config.input_hw, config.resize))
    while run.epoch < config.epochs:
        report = _train_epoch(run, images, labels)
        last = report.epoch == config.epochs
        if dataset.split.query and (last or report.epoch % eval_every == 0):
            report = _evaluated(report, run, dataset)
        say(str(report))
        run.history.append(asdict(report))
        card = _card(run, dataset)
        save_checkpoint(Checkpoint(card, run.model.state_dict(), run.state()), out / CHECKPOINT_NAME)
        _write_history(run.history, out / "history.json")
    save_checkpoint(Checkpoint(_card(run, dataset), run.model.state_dict()), out / MODEL_NAME)
    return out / MODEL_NAME


def _labels(dataset: Dataset) -> NDArray[np.int64]:
    """The people of the training part, renumbered from 0: int64 [N]."""
    _, labels = np.unique([crop.pid for crop in dataset.split.train], return_inverse=True)
    return labels.astype(np.int64)


def _begin(run: Run, checkpoint: Path, weights: Path | None, resume: bool, say: Callable[[str], None]) -> None:
    if checkpoint.exists() and not resume:
        raise InputError(f"{checkpoint.parent} already holds a run: give --resume to go on with it, or another --out")
    if checkpoint.exists():
        run.load_state(load_checkpoint(checkpoint), str(checkpoint))
        say(f"resuming {checkpoint} after epoch {run.epoch} of {run.config.epochs}")
    elif weights is not None:
        say(start_from(run.model, weights).summary())


def _train_epoch(run: Run, images: Tensor, labels: NDArray[np.int64]) -> EpochReport:
    config, epoch = run.config, run.epoch
    rng = np.random.default_rng([config.seed, epoch])
    batches = pk_batches(labels, config.people_per_batch, config.crops_per_person, rng)
    run.model.train()
    sums: dict[str, float] = {}
    began = time.perf_counter()
    seen = 0

    def note() -> str:
        means = " ".join(f"{name} {value / (seen // len(batches[0])):.3f}" for name, value in sums.items())
        return f"{means} {seen / (time.perf_counter() - began):.0f} images/s"

    for index, chosen in enumerate(track(batches, f"epoch {epoch + 1}/{config.epochs}", note=note)):
        run.set_learning_rate(lr_factor(config, epoch, index / len(batches)))
        batch = augmented(run.gather(images, chosen), config, rng)
        losses = run.step(batch, torch.from_numpy(labels[chosen]).to(run.device))
        _check_finite(losses, epoch + 1, index + 1)
        seen += len(chosen)
        sums = {name: sums.get(name, 0.0) + value for name, value in losses.items()}
    seconds = time.perf_counter() - began
    means = {name: value / len(batches) for name, value in sums.items()}
    return EpochReport(epoch + 1, run.learning_rate, means, seconds, seen / seconds)


def _check_finite(losses: dict[str, float], epoch: int, iteration: int) -> None:
    if not np.isfinite(sum(losses.values())):
        parts = ", ".join(f"{name} {value:g}" for name, value in losses.items())
        raise GateError(
            f"the loss is not finite at epoch {epoch}, iteration {iteration} ({parts}): "
            "resume with a lower --lr in another --out, or with --precision fp32"
        )


def _evaluated(report: EpochReport, run: Run, dataset: Dataset) -> EpochReport:
    card = ModelCard(run.model.name, run.model.embedding_dim, run.config.input_hw, run.config.resize)
    with TorchEngine(run.model, card, run.device) as engine:
        metrics = evaluate(engine, dataset, batch=64).metrics.to_dict()
    return EpochReport(**{**asdict(report), "metrics": metrics})


def _card(run: Run, dataset: Dataset) -> ModelCard:
    crops = dataset.split.train
    trained_on = f"{dataset.name}: {len(crops)} crops of {run.people} people"
    recipe = {**run.config.to_dict(), "epochs_done": run.epoch}
    return card_of(
        run.model,
        trained_on=trained_on,
        recipe=recipe,
        input_hw=run.config.input_hw,
        resize=run.config.resize,
    )


def _write_history(history: list[dict[str, Any]], path: Path) -> None:
    with written_whole(path) as beside:
        beside.write_text(json.dumps(history, indent=1) + "\n", encoding="utf-8")
