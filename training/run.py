"""What changes while a model trains, and one step of it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel

from reid_edge.errors import InputError, ModelError

from .checkpoint import Checkpoint, restore_stem
from .config import TrainConfig
from .losses import CenterLoss, batch_hard_triplet, similarity_distillation, smoothed_cross_entropy
from .models import Features, ReidModel, build_model
from .parallel import ALONE, World
from .qat import prepare, quantized_layers

__all__ = ["Progress", "Run", "device_for"]


def device_for(name: str) -> torch.device:
    """A torch device by name; "auto" is the GPU where there is one. Raises InputError when it is not there."""
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        device = torch.device(name)
        torch.empty(1, device=device)
    except (RuntimeError, AssertionError) as error:
        reason = str(error).splitlines()[0]
        raise InputError(f"device {name!r} cannot be used ({reason}): give --device cpu or cuda") from None
    return device


@dataclass
class Progress:
    """How far an epoch has come: batches done, the sums of their losses, seconds."""

    iteration: int = 0
    sums: dict[str, float] = field(default_factory=dict)
    seconds: float = 0.0


class Run:
    """The model, its two optimisers and the history; `epoch` counts the whole epochs done.

    ``progress`` is how far the epoch after those has come. Every random draw comes from (seed, epoch, iteration), so
    the state has no generator in it and `load_state` goes on exactly.
    """

    def __init__(self, config: TrainConfig, people: int, device: str = "auto", world: World = ALONE) -> None:
        self.config = config
        self.world = world
        self.people = people
        self.device = device_for(device)
        self.history: list[dict[str, Any]] = []
        self.learning_rate = 0.0
        self.progress = Progress()
        self.quantization: dict[str, Any] = {}
        torch.manual_seed(config.seed)
        self.model: ReidModel = build_model(config.model, num_classes=_classes(config, people), **config.options)
        self.model.to(self.device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        self._forward = _forward(self.model, config, world)
        self._averaged = _averaged(self.model, config.ema_decay) if config.ema_decay else None
        self.centers = CenterLoss(people if config.center_weight else 1, self.model.embedding_dim).to(self.device)
        self._optimizer = _optimizer(self.model, config)
        self._center_optimizer = torch.optim.SGD(self.centers.parameters(), lr=config.center_learning_rate)
        self._amp = _amp_dtype(config.precision, self.device)
        self._scaler = torch.amp.GradScaler(self.device.type, enabled=self._amp is torch.float16)

    @property
    def deployed(self) -> ReidModel:
        """What is evaluated and exported: the moving average where there is one, else the model itself."""
        if self._averaged is None:
            return self.model
        averaged = self._averaged.module
        assert isinstance(averaged, ReidModel)
        return averaged

    @property
    def epoch(self) -> int:
        """How many epochs are done."""
        return len(self.history)

    def round_to_int8(self, quantization: dict[str, Any]) -> None:
        """Train under INT8's rounding, with the ranges that a card's ``quantization`` holds. Raises ModelError."""
        if quantization:
            if self._averaged is not None:
                raise InputError("a moving average is not rounded as it is trained: leave ema_decay 0 with --qat")
            prepare(self.model, quantized_layers(quantization))
            self.quantization = quantization

    def restart_average(self) -> None:
        """Begin the moving average at the model as it is now, after weights were imported."""
        if self._averaged is not None:
            self._averaged = _averaged(self.model, self.config.ema_decay)

    def set_learning_rate(self, factor: float) -> None:
        """Scale the base learning rate; the centers keep theirs."""
        self.learning_rate = self.config.learning_rate * factor
        for group in self._optimizer.param_groups:
            group["lr"] = self.learning_rate

    def begin_epoch(self) -> None:
        """Training mode; where the recipe says so, batch norm stays in evaluation mode."""
        self.model.train()
        if self.config.freeze_norm:
            for module in self.model.modules():
                if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d):
                    module.eval()

    def resident(self, images: NDArray[np.uint8]) -> Tensor:
        """The decoded crops as a tensor: on the GPU where they fit in half of its free memory, else where they are."""
        tensor = torch.from_numpy(images)
        if self.device.type == "cuda" and images.nbytes < torch.cuda.mem_get_info(self.device)[0] // 2:
            return tensor.to(self.device)
        return tensor

    def gather(self, images: Tensor, chosen: NDArray[np.int64]) -> Tensor:
        """The ``chosen`` crops, uint8 [B, H, W, 3], on this run's device."""
        return images[torch.from_numpy(chosen).to(images.device)].to(self.device)

    def step(self, batch: Tensor, labels: Tensor, teacher: Tensor | None = None) -> dict[str, float]:
        """One optimisation step on float32 [B, 3, H, W]; the losses by name, each with its weight in it.

        ``teacher`` float32 [B, T] are a teacher's embeddings of the same crops. When a loss is not finite nothing is
        updated: the caller stops and says so.
        """
        with torch.autocast(self.device.type, dtype=self._amp, enabled=self._amp is not None):
            features = self._forward(batch)
        losses = self._losses(features, labels, teacher)
        stacked = torch.stack(list(losses.values()))
        # One wait for the device, not one for each; the ranks' means, so that all of them stop at a loss or none.
        values = dict(zip(losses, self.world.mean(stacked).tolist(), strict=True))
        if np.isfinite(sum(values.values())):
            own = losses.get("id", 0.0)
            self._update(own + self.world.size * (stacked.sum() - own))
        return values

    def _losses(self, features: Features, labels: Tensor, teacher: Tensor | None) -> dict[str, Tensor]:
        """The losses that have a weight: "id" over this rank's crops, the others over all ranks'."""
        config = self.config
        losses: dict[str, Tensor] = {}
        if config.id_weight:
            assert features.logits is not None
            logits = features.logits.float()
            logits = logits.sigmoid() if config.sigmoid_logits else logits
            losses["id"] = config.id_weight * smoothed_cross_entropy(logits, labels, config.label_smoothing)
        feature = features.embedding if config.metric_after_neck else features.feature
        feature, labels = self.world.gathered(feature.float()), self.world.gathered(labels)
        if config.triplet_weight:
            losses["triplet"] = config.triplet_weight * batch_hard_triplet(feature, labels, config.triplet_margin)
        if config.center_weight:
            losses["center"] = config.center_weight * self.centers(feature, labels)
        if teacher is not None and config.distill_weight:
            student, teacher = self.world.gathered(features.embedding.float()), self.world.gathered(teacher)
            likeness = similarity_distillation(student, teacher, config.distill_temperature)
            losses["distill"] = config.distill_weight * likeness
        if not losses:
            raise InputError("every loss has weight 0: give one a weight, or a teacher")
        return losses

    def _update(self, loss: Tensor) -> None:
        self._optimizer.zero_grad(set_to_none=True)
        self._center_optimizer.zero_grad(set_to_none=True)
        self._scaler.scale(loss).backward()  # type: ignore[no-untyped-call]
        self._scaler.unscale_(self._center_optimizer)
        self.centers.rescale_gradient(self.config.center_weight * self.world.size)
        self._scaler.step(self._optimizer)
        self._scaler.step(self._center_optimizer)
        self._scaler.update()
        if self._averaged is not None:
            self._averaged.update_parameters(self.model)

    def state(self) -> dict[str, Any]:
        """All that `load_state` needs beside the model's weights."""
        return {
            "config": self.config.to_dict(),
            "people": self.people,
            "centers": self.centers.state_dict(),
            "optimizer": self._optimizer.state_dict(),
            "center_optimizer": self._center_optimizer.state_dict(),
            "scaler": self._scaler.state_dict(),
            "history": self.history,
            "progress": asdict(self.progress),
            **({"averaged": self._averaged.state_dict(), "model": self.model.state_dict()} if self._averaged else {}),
        }

    def load_state(self, checkpoint: Checkpoint, source: str) -> None:
        """Go on where a checkpoint of the same settings stopped.

        Raises InputError naming the settings that differ, ModelError when it is a finished model or does not fit.
        """
        saved = checkpoint.training
        if not saved:
            raise ModelError(f"{source} is a finished model, not a run: start from it with --weights")
        asked = {**self.config.to_dict(), "people": self.people}
        stored = {**TrainConfig.from_dict(saved["config"]).to_dict(), "people": saved["people"]}
        if differing := [f"{k} was {stored[k]!r}, now {asked[k]!r}" for k in asked if asked[k] != stored[k]]:
            raise InputError(f"{source} was trained otherwise ({'; '.join(differing)}): repeat its settings to resume")
        try:
            self.model.load_state_dict(saved.get("model", checkpoint.model))
            restore_stem(self.model, checkpoint.card)
            if self._averaged is not None:
                self._averaged.load_state_dict(saved["averaged"])
                restore_stem(self.deployed, checkpoint.card)
            self.centers.load_state_dict(saved["centers"])
            self._optimizer.load_state_dict(saved["optimizer"])
            self._center_optimizer.load_state_dict(saved["center_optimizer"])
            self._scaler.load_state_dict(saved["scaler"])
            self.history = list(saved["history"])
            self.progress = Progress(**saved["progress"])
        except (KeyError, RuntimeError, TypeError, ValueError) as error:
            reason = " ".join(str(error).split())[:200]
            raise ModelError(f"{source} does not fit this run ({reason}): start again in another --out") from None


def _classes(config: TrainConfig, people: int) -> int:
    if config.classes and config.classes < people:
        raise InputError(f"{people} people to train on, and classes is {config.classes}: give classes = 0, or more")
    return (config.classes or people) if config.id_weight else 0


def _forward(model: ReidModel, config: TrainConfig, world: World) -> Callable[[Tensor], Features]:
    """The model as a step calls it: over all ranks, compiled, or plain."""
    forward: nn.Module = model
    if world.size > 1:
        forward = nn.parallel.DistributedDataParallel(forward)
    compiled: Callable[[Tensor], Features] = torch.compile(forward) if config.compile else forward
    return compiled


def _optimizer(model: nn.Module, config: TrainConfig) -> torch.optim.Optimizer:
    parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
    rate, decay = config.learning_rate, config.weight_decay
    if config.optimizer == "sgd":
        return torch.optim.SGD(parameters, lr=rate, momentum=config.momentum, weight_decay=decay)
    return torch.optim.Adam(parameters, lr=rate, weight_decay=decay, amsgrad=config.optimizer == "amsgrad")


def _averaged(model: ReidModel, decay: float) -> AveragedModel:
    """A moving average over weights and batch norm's statistics, quicker at first so that the start is forgotten."""

    def average(averaged: Tensor, current: Tensor, count: Tensor | int) -> Tensor:
        if not averaged.is_floating_point():
            return current
        done = int(count)
        return averaged.lerp(current, 1 - min(decay, (1 + done) / (10 + done)))

    return AveragedModel(model, avg_fn=average, use_buffers=True)


def _amp_dtype(precision: str, device: torch.device) -> torch.dtype | None:
    """The autocast type, None for float32 throughout. "auto" keeps a CPU in float32: docs/training.md."""
    if precision == "auto":
        if device.type != "cuda":
            return None
        return torch.bfloat16 if torch.cuda.is_bf16_supported() else torch.float16
    return {"fp32": None, "bf16": torch.bfloat16, "fp16": torch.float16}[precision]
