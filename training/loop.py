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
from reid_edge.embedder import Embedder
from reid_edge.engine import Engine
from reid_edge.errors import DatasetError, GateError, InputError, Stopped
from reid_edge.evaluation import evaluate
from reid_edge.files import written_whole
from reid_edge.progress import track

from .augment import augmented
from .checkpoint import Checkpoint, card_of, load_checkpoint, save_checkpoint, start_from
from .config import TrainConfig
from .curves import Board, draw_curves
from .inference import TorchEngine
from .parallel import world
from .run import Progress, Run
from .sampler import pk_batches
from .schedule import lr_factor
from .signals import asked_to_stop
from .store import Decoded, decoded

__all__ = ["CHECKPOINT_NAME", "MODEL_NAME", "RECIPE_NAME", "TEACHER_NAME", "EpochReport", "train"]

CHECKPOINT_NAME = "checkpoint.pth"
"""Written after every epoch, and within long ones: the model and all that ``--resume`` needs."""

MODEL_NAME = "model.pth"
"""Written at the end: the model alone, a third of the size."""

RECIPE_NAME = "recipe.toml"
"""The settings of the run, for ``--config``."""

TEACHER_NAME = "teacher.npy"
"""A teacher's embeddings of the training crops."""

_SAVE_EVERY_SECONDS = 600.0


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
    teacher: Engine | None = None,
    quantization: dict[str, Any] | None = None,
    resume: bool = False,
    device: str = "auto",
    eval_every: int = 10,
    max_bad_crops: int = 10,
    say: Callable[[str], None] = print,
) -> Path:
    """Train a model and return the path of its file, ``out/model.pth``.

    ``out`` also receives ``history.json``, ``recipe.toml``, curves, a TensorBoard log, and ``checkpoint.pth``: after
    every epoch, every ten minutes within one, and on SIGTERM. With ``resume`` the run goes on from there and reaches
    the weights that an uninterrupted one reaches (bit for bit on one CPU with the same number of threads). Every
    ``eval_every`` epochs and after the last, the model is scored on the query and gallery crops; the score chooses
    nothing. ``teacher`` adds `losses.similarity_distillation`; its embeddings of the training crops are computed once,
    without augmentation. ``quantization`` (ranges of a `ModelCard`) trains under INT8's rounding. Up to
    ``max_bad_crops`` unreadable crops are named and left out.

    Raises InputError (a used ``out``, other settings than the run that is resumed), DatasetError, ModelError,
    GateError when a loss is not finite, and Stopped on SIGTERM, after the checkpoint is written.
    """
    require(dataset, "train")
    if dataset.layout == "crops" and (config.id_weight or config.triplet_weight or config.center_weight):
        raise InputError(f"{dataset.root} says of no crop whom it shows: give --recipe distill and a --teacher")
    with world(device) as together:
        say = say if together.leads else _silent
        labels = _labels(dataset)
        run = Run(config, people=int(labels.max()) + 1, device=device, world=together)
        _begin(run, out, weights, resume, say)
        run.round_to_int8(quantization or {})
        with together.leader_first():
            crops = decoded(dataset.split.train, config.input_hw, config.resize)
            taught = _taught(teacher, dataset, out / TEACHER_NAME, say)
        usable = _usable(crops, dataset, max_bad_crops, say)
        lesson = _Lesson(run.resident(crops.images), labels, usable, taught)
        _train_epochs(run, lesson, dataset, out, eval_every, say)
        if together.leads:
            save_checkpoint(Checkpoint(_card(run, dataset), run.deployed.state_dict()), out / MODEL_NAME)
    return out / MODEL_NAME


def _silent(message: str) -> None:
    """What all ranks but the first say."""


def _train_epochs(
    run: Run, lesson: _Lesson, dataset: Dataset, out: Path, eval_every: int, say: Callable[[str], None]
) -> None:
    """The epochs that are left, each with its report and its checkpoint, which the leader writes."""
    leads = run.world.leads

    def save() -> None:
        if leads:
            save_checkpoint(
                Checkpoint(_card(run, dataset), run.deployed.state_dict(), run.state()), out / CHECKPOINT_NAME
            )

    with asked_to_stop() as stop, Board(out / "tensorboard" if leads else None, run.epoch, say) as board:
        while run.epoch < run.config.epochs:
            _train_epoch(run, lesson, save, stop)
            report = _report(run)
            due = report.epoch == run.config.epochs or report.epoch % eval_every == 0
            if leads and dataset.split.query and due:
                report = _evaluated(report, run, dataset)
            say(str(report))
            run.history.append(asdict(report))
            run.progress = Progress()
            save()
            board.write(run.history[-1])
            if leads:
                _write_history(run.history, out / "history.json")
                draw_curves(run.history, out)


@dataclass(frozen=True)
class _Lesson:
    """What an epoch draws from: images uint8 [N, H, W, 3], labels int64 [N], usable rows, a teacher's embeddings."""

    images: Tensor
    labels: NDArray[np.int64]
    usable: NDArray[np.int64]
    taught: NDArray[np.float32] | None


def _labels(dataset: Dataset) -> NDArray[np.int64]:
    """The people of the training part, renumbered from 0: int64 [N]."""
    _, labels = np.unique([crop.pid for crop in dataset.split.train], return_inverse=True)
    return labels.astype(np.int64)


def _begin(run: Run, out: Path, weights: Path | None, resume: bool, say: Callable[[str], None]) -> None:
    checkpoint = out / CHECKPOINT_NAME
    if checkpoint.exists() and not resume:
        raise InputError(f"{out} already holds a run: give --resume to go on with it, or another --out")
    if checkpoint.exists():
        run.load_state(load_checkpoint(checkpoint), str(checkpoint))
        within = f", {run.progress.iteration} batches into the next" if run.progress.iteration else ""
        say(f"resuming {checkpoint} after epoch {run.epoch} of {run.config.epochs}{within}")
        return
    if weights is not None:
        say(start_from(run.model, weights).summary())
        run.restart_average()
    if run.world.leads:
        with written_whole(out / RECIPE_NAME) as beside:
            beside.write_text(run.config.to_toml(), encoding="utf-8")


def _usable(crops: Decoded, dataset: Dataset, limit: int, say: Callable[[str], None]) -> NDArray[np.int64]:
    """The rows to train on, int64 [M]. Raises DatasetError above ``limit`` unreadable ones."""
    bad = crops.unreadable
    if len(bad) > limit:
        first = next(iter(bad.values()))
        raise DatasetError(
            f"{len(bad)} of {len(crops.images)} training crops cannot be read, above --max-bad-crops {limit} "
            f"(the first: {first}): repair them, or see  reid-edge data inspect {dataset.root}"
        )
    for reason in bad.values():
        say(f"left out: {reason}")
    return np.setdiff1d(np.arange(len(crops.images)), list(bad)).astype(np.int64)


def _taught(
    teacher: Engine | None, dataset: Dataset, kept: Path, say: Callable[[str], None]
) -> NDArray[np.float32] | None:
    """The teacher's embeddings of the training crops, float32 [N, T], computed once a run."""
    if teacher is None:
        return None
    if not kept.exists():
        say(f"embedding {len(dataset.split.train)} crops with the teacher, a {teacher.card.architecture}")
        with teacher, Embedder(teacher) as embedder:
            embeddings = embedder.embed([crop.path for crop in dataset.split.train], progress=True)
        with written_whole(kept) as beside, open(beside, "wb") as file:
            np.save(file, embeddings)
    taught: NDArray[np.float32] = np.load(kept, allow_pickle=False)
    if taught.ndim != 2 or len(taught) != len(dataset.split.train):
        raise InputError(f"{kept} holds other crops' embeddings: delete it, or give another --out")
    return taught


def _train_epoch(run: Run, lesson: _Lesson, save: Callable[[], None], stop: Callable[[], bool]) -> None:
    """What is left of an epoch; `Run.progress` tells how it went."""
    config, epoch, progress = run.config, run.epoch, run.progress
    rng = np.random.default_rng([config.seed, epoch])
    labels = lesson.labels[lesson.usable]
    batches = pk_batches(labels, config.people_per_batch, config.crops_per_person, rng)
    run.begin_epoch()
    saved = time.perf_counter()

    def note() -> str:
        means = " ".join(f"{name} {value / progress.iteration:.3f}" for name, value in progress.sums.items())
        return f"{means} {progress.iteration * len(batches[0]) / progress.seconds:.0f} images/s"

    left = batches[progress.iteration :]
    for batch in track(left, f"epoch {epoch + 1}/{config.epochs}", note=note) if run.world.leads else left:
        began = time.perf_counter()
        index = progress.iteration
        run.set_learning_rate(lr_factor(config, epoch, index / len(batches)))
        chosen = lesson.usable[run.world.share(batch, config.crops_per_person)]
        rng = np.random.default_rng([config.seed, epoch, index + 1, run.world.rank])
        losses = _train_batch(run, lesson, chosen, rng)
        _check_finite(losses, epoch + 1, index + 1)
        progress.iteration += 1
        progress.seconds += time.perf_counter() - began
        progress.sums = {name: progress.sums.get(name, 0.0) + value for name, value in losses.items()}
        if run.world.any(stop()):
            save()
            raise Stopped(
                f"stopped in epoch {epoch + 1} after {progress.iteration} batches, all saved: go on with --resume"
            )
        if time.perf_counter() - saved > _SAVE_EVERY_SECONDS:
            save()
            saved = time.perf_counter()


def _train_batch(run: Run, lesson: _Lesson, chosen: NDArray[np.int64], rng: np.random.Generator) -> dict[str, float]:
    batch = augmented(run.gather(lesson.images, chosen), run.config, rng)
    labels = torch.from_numpy(lesson.labels[chosen]).to(run.device)
    taught = None if lesson.taught is None else torch.from_numpy(lesson.taught[chosen]).to(run.device)
    return run.step(batch, labels, taught)


def _report(run: Run) -> EpochReport:
    config, progress = run.config, run.progress
    crops = progress.iteration * config.people_per_batch * config.crops_per_person
    means = {name: value / progress.iteration for name, value in progress.sums.items()}
    return EpochReport(run.epoch + 1, run.learning_rate, means, progress.seconds, crops / progress.seconds)


def _check_finite(losses: dict[str, float], epoch: int, iteration: int) -> None:
    if not np.isfinite(sum(losses.values())):
        parts = ", ".join(f"{name} {value:g}" for name, value in losses.items())
        raise GateError(
            f"the loss is not finite at epoch {epoch}, iteration {iteration} ({parts}): "
            "resume with a lower --lr in another --out, or with --precision fp32"
        )


def _evaluated(report: EpochReport, run: Run, dataset: Dataset) -> EpochReport:
    card = ModelCard(run.model.name, run.model.embedding_dim, run.config.input_hw, run.config.resize)
    with TorchEngine(run.deployed, card, run.device) as engine:
        metrics = evaluate(engine, dataset, batch=64).metrics.to_dict()
    return EpochReport(**{**asdict(report), "metrics": metrics})


def _card(run: Run, dataset: Dataset) -> ModelCard:
    crops = dataset.split.train
    trained_on = f"{dataset.name}: {len(crops)} crops of {run.people} people"
    recipe = {**run.config.to_dict(), "epochs_done": run.epoch}
    return card_of(
        run.deployed,
        trained_on=trained_on,
        recipe=recipe,
        input_hw=run.config.input_hw,
        resize=run.config.resize,
        quantization=run.quantization,
    )


def _write_history(history: list[dict[str, Any]], path: Path) -> None:
    with written_whole(path) as beside:
        beside.write_text(json.dumps(history, indent=1) + "\n", encoding="utf-8")
