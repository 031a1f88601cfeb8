"""What a run trains on: decoded crops, labels, and a teacher's embeddings of the crops."""

from __future__ import annotations

import hashlib
import logging
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from reid_edge.data.datasets import Dataset, require
from reid_edge.embedder.embedder import Embedder
from reid_edge.engines.base import Engine
from reid_edge.errors import DatasetError, InputError, ModelError
from reid_edge.training.batches.cache import DecodedCrops, cache_decoded, crops_key, read_checked, write_checked
from reid_edge.training.batches.sampler import balanced_batches, pk_batches
from reid_edge.training.recipe.config import TrainConfig

from .parallel import World
from .trainer import Trainer

__all__ = ["TrainingData", "identities_of", "labels_of", "prepare_data"]

logger = logging.getLogger(__name__)


@dataclass(frozen=True, repr=False)
class TrainingData:
    """Crops in memory: ``images`` uint8 [N, H, W, 3] RGB and ``labels`` int64 [N], identities from 0.

    ``usable`` int64 [M] are the rows that could be read; ``teacher_embeddings`` float32 [N, T] or None; ``domains``
    int64 [N] the number of the data set that a crop is of, None where there is one.
    """

    images: Tensor
    labels: NDArray[np.int64]
    usable: NDArray[np.int64]
    teacher_embeddings: NDArray[np.float32] | None = None
    domains: NDArray[np.int64] | None = None

    def __repr__(self) -> str:
        taught = "" if self.teacher_embeddings is None else ", with a teacher's embeddings"
        return f"<TrainingData: {len(self.usable)} crops of {len(np.unique(self.labels))} identities{taught}>"

    def batches(self, config: TrainConfig, epoch: int) -> list[NDArray[np.int64]]:
        """The P x K batches of an epoch, each int64 [P*K] rows of ``images``: the same whenever they are drawn."""
        rng = np.random.default_rng([config.seed, epoch])
        labels = self.labels[self.usable]
        size = config.identities_per_batch, config.crops_per_identity
        if config.balance_domains and self.domains is not None:
            batches = balanced_batches(labels, self.domains[self.usable], *size, rng)
        else:
            batches = pk_batches(labels, *size, rng)
        return [self.usable[batch] for batch in batches[: config.max_batches or None]]

    def with_teacher(
        self, teacher: Engine, dataset: Dataset, folder: Path, world: World, width: int | None = None
    ) -> TrainingData:
        """The same with the teacher's embeddings of the training crops, computed once and kept in ``folder``.

        Raises InputError where they are not as wide as ``width``.
        """
        with world.main_first():
            if width is not None:
                _require_width(teacher, width)
            return replace(self, teacher_embeddings=_teacher_embeddings(teacher, dataset, folder))

    def spread(self, count: int, device: torch.device) -> Tensor:
        """At most ``count`` crops, evenly spread over the usable ones: uint8 [B, H, W, 3] on ``device``."""
        places = np.unique(np.linspace(0, len(self.usable) - 1, count).astype(int))
        return self.gather(self.usable[places], device)[0]

    def gather(self, rows: NDArray[np.int64], device: torch.device) -> tuple[Tensor, Tensor, Tensor | None]:
        """The crops uint8 [B, H, W, 3], labels int64 [B] and teacher's embeddings [B, T] of ``rows``, on ``device``."""
        images = self.images[torch.from_numpy(rows).to(self.images.device)].to(device)
        labels = torch.from_numpy(self.labels[rows]).to(device)
        if self.teacher_embeddings is None:
            return images, labels, None
        return images, labels, torch.from_numpy(self.teacher_embeddings[rows]).to(device)


def labels_of(dataset: Dataset) -> NDArray[np.int64]:
    """The identities of the training crops, renumbered from 0: int64 [N]."""
    _, labels = np.unique([crop.pid for crop in dataset.split.train], return_inverse=True)
    return labels.astype(np.int64)


def identities_of(dataset: Dataset, config: TrainConfig, *, has_teacher: bool = False) -> int:
    """The number of identities to train on. Raises DatasetError without training crops.

    Raises InputError when there is no loss to train on: every weight is 0 (that of distillation counts for a run that
    ``has_teacher``), or the crops have no labels for those that read them.
    """
    require(dataset, "train")
    labels_read = config.id_weight or config.triplet_weight or config.center_weight
    if not dataset.labelled and labels_read:
        raise InputError(
            f"the crops in {dataset.root} have no labels: distil a teacher (--recipe distill --teacher FILE)"
        )
    if not labels_read and not (has_teacher and (config.distill_weight or config.embedding_weight)):
        raise InputError("every loss has weight 0: give one a weight, or a teacher")
    return int(labels_of(dataset).max()) + 1


def prepare_data(dataset: Dataset, trainer: Trainer, *, max_bad_crops: int = 10) -> TrainingData:
    """Decode the training crops, or read what an earlier run kept of them, and see that they make whole batches.

    The main process works first, and the others read its files. The data set's notices are logged. Raises DatasetError
    for more than ``max_bad_crops`` unreadable crops; InputError for too few identities for a batch, or a batch that the
    processes cannot share; ModelError when the run was saved beyond the batches that there are.
    """
    config = trainer.config
    for notice in dataset.notices:
        logger.warning("%s", notice)
    with trainer.world.main_first():
        crops = cache_decoded(dataset.split.train, config.input_hw, config.resize)
    usable = _usable_rows(crops, dataset, max_bad_crops)
    domains = np.repeat(np.arange(len(dataset.mixed_from)), dataset.mixed_from) if dataset.mixed_from else None
    data = TrainingData(_resident(crops.images, trainer.device), labels_of(dataset), usable, domains=domains)
    batches = data.batches(config, trainer.epoch)
    trainer.world.share(batches[0], config.crops_per_identity)
    if trainer.progress.iteration > len(batches):
        raise ModelError(
            f"the run was saved after {trainer.progress.iteration} batches of an epoch, and these crops make "
            f"{len(batches)}: give the data that it was trained on, or start again in another --out"
        )
    return data


def _resident(images: NDArray[np.uint8], device: torch.device) -> Tensor:
    """The decoded crops as a tensor: on the GPU when they fit in half of its free memory, else where they are."""
    tensor = torch.from_numpy(images)
    if device.type == "cuda" and images.nbytes < torch.cuda.mem_get_info(device)[0] // 2:
        return tensor.to(device)
    return tensor


def _usable_rows(crops: DecodedCrops, dataset: Dataset, limit: int) -> NDArray[np.int64]:
    """The rows that could be read, int64 [M]. Raises DatasetError above ``limit`` unreadable ones."""
    bad = crops.unreadable
    if len(bad) > limit:
        first = next(iter(bad.values()))
        raise DatasetError(
            f"{len(bad)} of {len(crops.images)} training crops cannot be read, above --max-bad-crops {limit} "
            f"(the first: {first}): repair them, or see  reid-edge data inspect {dataset.root}"
        )
    for reason in bad.values():
        logger.warning("left out: %s", reason)
    return np.setdiff1d(np.arange(len(crops.images)), list(bad)).astype(np.int64)


def _require_width(teacher: Engine, width: int) -> None:
    with teacher:  # an ONNX file says what it is once it is open
        own = teacher.card.embedding_dim
    if own != width:
        raise InputError(
            f"the teacher embeds in {own} values and this model in {width}: learn its similarities instead "
            "(embedding_weight = 0 and distill_weight = 1 in --config, config=), or give another --teacher (teacher=)"
        )


def _teacher_embeddings(teacher: Engine, dataset: Dataset, folder: Path) -> NDArray[np.float32]:
    """The teacher's embeddings of the training crops without augmentation, float32 [N, T], computed once a run.

    They are kept under a name made of the teacher's card, weights' hash included, and of the crops.
    """
    crops = dataset.split.train
    with teacher:  # an ONNX file says what it is once it is open
        card = teacher.card
    key = hashlib.sha256(f"{card.to_json()}\n{crops_key(crops)}".encode()).hexdigest()[:16]
    file = folder / f"teacher-{key}.npy"
    kept = read_checked(file)
    if kept is not None:
        embeddings: NDArray[np.float32] = kept[0]
        return embeddings
    logger.info("embedding %d crops with the teacher (%s)", len(crops), card.architecture)
    with teacher, Embedder(teacher) as embedder:
        embeddings = embedder.embed([crop.path for crop in crops], progress=True)
    write_checked(file, embeddings, embeddings.shape, embeddings.dtype)
    return embeddings
