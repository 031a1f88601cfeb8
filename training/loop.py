"""Training on one page: the run, the epoch, the batch and the step."""

from __future__ import annotations

import copy
import logging
import shlex
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from reid_edge.card import ModelCard
from reid_edge.core.progress import phase, track
from reid_edge.data.datasets import Dataset
from reid_edge.engines.base import Engine
from reid_edge.errors import Stopped
from reid_edge.scoring.evaluation import evaluate
from reid_edge.training.batches.augment import augment, normalised
from reid_edge.training.models.reid_model import Features
from reid_edge.training.models.torch_engine import TorchEngine
from reid_edge.training.recipe.config import TrainConfig
from reid_edge.training.recipe.losses import (
    batch_hard_triplet,
    embedding_distillation,
    similarity_distillation,
    smoothed_cross_entropy,
)
from reid_edge.training.recipe.schedule import lr_factor

from .data import TrainingData, identities_of, prepare_data
from .parallel import world
from .qat_bias import correct_biases
from .run_folder import RunFolder
from .run_record import RunRecord
from .signals import stop_on_signal
from .trainer import Trainer

__all__ = ["train", "train_one_epoch", "train_step"]

logger = logging.getLogger(__name__)

_BIAS_CROPS = 256
"""As many as `export.int8.bias` measures on."""


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
    record: RunRecord | None = None,
) -> Path:
    """Train a model and return the path of its file, ``out/model.pth``.

    ``out`` also receives ``history.json``, ``recipe.toml``, the ``record``, curves, a TensorBoard log, and
    ``checkpoint.pth``: after every epoch, every ten minutes within one, and on SIGTERM and ctrl-C. With ``resume`` the
    run continues from it and reaches the weights that an uninterrupted one reaches (bit for bit on one CPU with the
    same number of threads); over more epochs than it had, its schedule is stretched to their number. Every
    ``eval_every`` epochs and after the last, the model is evaluated on the query and gallery crops; the scores select
    nothing. A run that is refused leaves nothing in ``out``. ``teacher`` adds `losses.similarity_distillation` or
    `losses.embedding_distillation`; its embeddings of the training crops are computed once, without augmentation.
    ``quantization`` (the activation ranges of a `ModelCard`) adds INT8 fake quantisation, and biases start corrected
    for it (`qat_bias`). Up to ``max_bad_crops`` unreadable crops are logged and left out.

    Raises InputError (a used ``out``, one that another process trains in, other settings than the run that is resumed),
    DatasetError, ModelError, GateError when a loss or a weight is not finite, and Stopped on SIGTERM and ctrl-C, after
    the checkpoint is written.
    """
    identities = identities_of(dataset, config, has_teacher=teacher is not None)
    with world(device) as processes:
        with phase("building the model"):
            trainer = Trainer(config, identities, device, processes)
        folder = RunFolder(out, trainer, dataset)
        with folder.locked():
            folder.load(weights, resume=resume)
            # A run that goes on has its biases corrected, and trained.
            exact = copy.deepcopy(trainer.model) if quantization and not trainer.quantization else None
            trainer.fake_quantize(trainer.quantization or quantization or {})
            trainer.choose_precision()
            if trainer.epoch == config.epochs:
                logger.info(
                    "%s is finished after %d epochs: give --resume a larger --epochs to go on", out, config.epochs
                )
                folder.write_history(trainer.history)
                return folder.write_model()
            data = prepare_data(dataset, trainer, max_bad_crops=max_bad_crops)
            if teacher is not None:
                width = trainer.model.embedding_dim if config.embedding_weight else None
                data = data.with_teacher(teacher, dataset, folder.out, processes, width)
            if exact is not None:
                with phase("correcting biases for INT8"):
                    images = normalised(data.spread(_BIAS_CROPS, trainer.device))
                    correct_biases(trainer.model, exact, images, processes)
            return _train_in(folder, trainer, data, dataset, eval_every, record)


def _train_in(
    folder: RunFolder,
    trainer: Trainer,
    data: TrainingData,
    dataset: Dataset,
    eval_every: int,
    record: RunRecord | None,
) -> Path:
    """The epochs that are left; nothing is refused any more."""
    config = trainer.config
    with stop_on_signal() as signalled, folder.begin(record) as board:
        while trainer.epoch < config.epochs:
            train_one_epoch(trainer, data, folder, signalled)
            report = trainer.epoch_report()
            due = report.epoch == config.epochs or report.epoch % eval_every == 0
            if due and dataset.split.query:
                folder.save()  # ctrl-C twice ends an evaluation at once: no batch is lost
                if trainer.world.is_main:
                    report = report.with_metrics(evaluate_deployed(trainer, dataset))
            for line in report.lines():
                logger.info("%s", line)
            trainer.end_epoch(report)
            with phase("saving the checkpoint and curves"):
                folder.save()
                board.write(report)
                folder.write_history(trainer.history)
    with phase("writing the model"):
        return folder.write_model()


def train_one_epoch(trainer: Trainer, data: TrainingData, folder: RunFolder, signalled: Callable[[], int]) -> None:
    """Train on an epoch's batches that `Trainer.progress` has not counted: all, unless a run resumed within the epoch.

    Raises Stopped when any process got a signal to stop, after the checkpoint is written.
    """
    config, world, epoch, progress = trainer.config, trainer.world, trainer.epoch, trainer.progress
    batches = data.batches(config, epoch)
    remaining = batches[progress.iteration :]
    trainer.begin_epoch()
    title = f"epoch {epoch + 1}/{config.epochs}"
    # As the last batch left it, in case that none remains.
    trainer.set_learning_rate(lr_factor(config, epoch, max(progress.iteration - 1, 0) / len(batches)))
    stop_if_signalled(trainer, folder, signalled())  # while the last epoch was evaluated
    for batch in track(remaining, title, note=trainer.summary) if world.is_main else remaining:
        started = time.perf_counter()
        trainer.set_learning_rate(lr_factor(config, epoch, progress.iteration / len(batches)))
        rows = world.share(batch, config.crops_per_identity)
        images, labels, teacher = data.gather(rows, trainer.device)
        rng = np.random.default_rng([config.seed, epoch, progress.iteration + 1, world.rank])
        trainer.losses.add(train_step(trainer, augment(images, config, rng), labels, teacher))
        progress.count(time.perf_counter() - started)
        if trainer.losses.due:
            trainer.read_losses()
        stop_if_signalled(trainer, folder, signalled())
        folder.save_if_due()


def stop_if_signalled(trainer: Trainer, folder: RunFolder, number: int) -> None:
    """Raise Stopped when any process got a signal, after the checkpoint is written; ``number`` is this one's, or 0."""
    if trainer.world.any(bool(number)):
        folder.save()
        raise Stopped(
            f"stopped in epoch {trainer.epoch + 1} after {trainer.progress.iteration} batches, all saved: "
            f"go on with  {trainer.world.command} --resume --out {shlex.quote(str(folder.out))}",
            number or signal.SIGTERM,
        )


def train_step(trainer: Trainer, images: Tensor, labels: Tensor, teacher: Tensor | None = None) -> dict[str, Tensor]:
    """One optimisation step on float32 [B, 3, H, W] and int64 [B]; the losses by name, each times its weight.

    They are the means over the ranks, still on the device: a GPU is not waited for (`Trainer.read_losses` is, every few
    steps). ``teacher`` float32 [B, T] are a teacher's embeddings of the same crops. On a CPU, raises GateError when a
    loss is not finite, before anything is updated.
    """
    config, world, scaler = trainer.config, trainer.world, trainer.scaler
    with trainer.autocast():
        features = trainer.forward(images)
    losses = weighted_losses(trainer, features, labels, teacher)
    stacked = torch.stack(list(losses.values()))
    # The means over the ranks, so that all of them stop at a loss or none.
    values = dict(zip(losses, world.mean(stacked).unbind(), strict=True))
    if trainer.device.type == "cpu":
        trainer.check_finite({name: float(value) for name, value in values.items()}, trainer.progress.iteration + 1)

    # DDP averages the ranks' gradients: right for the ID loss, while the others are computed whole on every rank.
    own = losses.get("id", 0.0)
    loss = own + world.size * (stacked.sum() - own)
    for optimizer in trainer.optimizers:
        optimizer.zero_grad(set_to_none=True)
    scaler.scale(loss).backward()  # type: ignore[no-untyped-call]
    for optimizer in trainer.optimizers:
        scaler.unscale_(optimizer)
    trainer.centers.rescale_gradient(config.center_weight * world.size)
    for optimizer in trainer.optimizers:
        scaler.step(optimizer)
    scaler.update()
    if trainer.average is not None:
        trainer.average.update_parameters(trainer.model)
    return values


def weighted_losses(trainer: Trainer, features: Features, labels: Tensor, teacher: Tensor | None) -> dict[str, Tensor]:
    """The losses that have a weight: "id" over this rank's crops, the others over all ranks'."""
    config, world = trainer.config, trainer.world
    losses: dict[str, Tensor] = {}
    if config.id_weight:
        assert features.logits is not None
        logits = features.logits.float()
        logits = logits.sigmoid() if config.sigmoid_logits else logits
        losses["id"] = config.id_weight * smoothed_cross_entropy(logits, labels, config.label_smoothing)
    feature = features.embedding if config.metric_after_neck else features.feature
    feature, labels = world.all_gather(feature.float()), world.all_gather(labels)
    if config.triplet_weight:
        losses["triplet"] = config.triplet_weight * batch_hard_triplet(feature, labels, config.triplet_margin)
    if config.center_weight:
        losses["center"] = config.center_weight * trainer.centers(feature, labels)
    if teacher is not None:
        student, teacher = world.all_gather(features.embedding.float()), world.all_gather(teacher)
        if config.distill_weight:
            divergence = similarity_distillation(student, teacher, config.distill_temperature)
            losses["distill"] = config.distill_weight * divergence
        if config.embedding_weight:
            losses["embedding"] = config.embedding_weight * embedding_distillation(student, teacher)
    return losses


def evaluate_deployed(trainer: Trainer, dataset: Dataset) -> dict[str, Any]:
    """The scores of the deployed model on the query and gallery crops."""
    config, model = trainer.config, trainer.deployed
    card = ModelCard(
        model.name, model.embedding_dim, config.input_hw, config.resize, trained_on=f"{dataset.name}: this run"
    )
    with TorchEngine(model, card, trainer.device) as engine:
        return evaluate(engine, dataset, batch=64, progress=True).metrics.to_dict()
