"""What changes while a model trains, and one step of it."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from reid_edge.errors import InputError, ModelError

from .checkpoint import Checkpoint, restore_stem
from .config import TrainConfig
from .losses import CenterLoss, batch_hard_triplet, smoothed_cross_entropy
from .models import build_model

__all__ = ["Run", "device_for"]


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


class Run:
    """The model, its two optimisers and the history; `epoch` counts the whole epochs done.

    Every random draw comes from (seed, epoch), so the state has no generator in it and `load_state` goes on exactly.
    """

    def __init__(self, config: TrainConfig, people: int, device: str = "auto") -> None:
        self.config = config
        self.people = people
        self.device = device_for(device)
        self.history: list[dict[str, Any]] = []
        self.learning_rate = 0.0
        torch.manual_seed(config.seed)
        self.model = build_model(config.model, num_classes=people, **config.options)
        self.model.to(self.device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.centers = CenterLoss(people, self.model.embedding_dim).to(self.device)
        self._optimizer = torch.optim.Adam(
            [parameter for parameter in self.model.parameters() if parameter.requires_grad],
            lr=config.learning_rate,
            weight_decay=config.weight_decay,
            amsgrad=config.optimizer == "amsgrad",
        )
        self._center_optimizer = torch.optim.SGD(self.centers.parameters(), lr=config.center_learning_rate)
        self._amp = _amp_dtype(config.precision, self.device)
        self._scaler = torch.amp.GradScaler(self.device.type, enabled=self._amp is torch.float16)

    @property
    def epoch(self) -> int:
        """How many epochs are done."""
        return len(self.history)

    def set_learning_rate(self, factor: float) -> None:
        """Scale the base learning rate; the centers keep theirs."""
        self.learning_rate = self.config.learning_rate * factor
        for group in self._optimizer.param_groups:
            group["lr"] = self.learning_rate

    def resident(self, images: NDArray[np.uint8]) -> Tensor:
        """The decoded crops as a tensor: on the GPU where they fit in half of its free memory, else where they are."""
        tensor = torch.from_numpy(images)
        if self.device.type == "cuda" and images.nbytes < torch.cuda.mem_get_info(self.device)[0] // 2:
            return tensor.to(self.device)
        return tensor

    def gather(self, images: Tensor, chosen: NDArray[np.int64]) -> Tensor:
        """The ``chosen`` crops, uint8 [B, H, W, 3], on this run's device."""
        return images[torch.from_numpy(chosen).to(images.device)].to(self.device)

    def step(self, batch: Tensor, labels: Tensor) -> dict[str, float]:
        """One optimisation step on float32 [B, 3, H, W]; the losses by name, each with its weight in it.

        When a loss is not finite nothing is updated: the caller stops and says so.
        """
        with torch.autocast(self.device.type, dtype=self._amp, enabled=self._amp is not None):
            features = self.model(batch)
        losses = self._losses(features.feature.float(), features.logits.float(), labels)
        values = {name: float(loss.detach()) for name, loss in losses.items()}
        if np.isfinite(sum(values.values())):
            self._update(torch.stack(list(losses.values())).sum())
        return values

    def _losses(self, feature: Tensor, logits: Tensor, labels: Tensor) -> dict[str, Tensor]:
        config = self.config
        return {
            "id": smoothed_cross_entropy(logits, labels, config.label_smoothing),
            "triplet": config.triplet_weight * batch_hard_triplet(feature, labels, config.triplet_margin),
            "center": config.center_weight * self.centers(feature, labels),
        }

    def _update(self, loss: Tensor) -> None:
        self._optimizer.zero_grad(set_to_none=True)
        self._center_optimizer.zero_grad(set_to_none=True)
        self._scaler.scale(loss).backward()  # type: ignore[no-untyped-call]
        self._scaler.unscale_(self._center_optimizer)
        self.centers.rescale_gradient(self.config.center_weight)
        self._scaler.step(self._optimizer)
        self._scaler.step(self._center_optimizer)
        self._scaler.update()

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
            self.model.load_state_dict(checkpoint.model)
            restore_stem(self.model, checkpoint.card)
            self.centers.load_state_dict(saved["centers"])
            self._optimizer.load_state_dict(saved["optimizer"])
            self._center_optimizer.load_state_dict(saved["center_optimizer"])
            self._scaler.load_state_dict(saved["scaler"])
            self.history = list(saved["history"])
        except (KeyError, RuntimeError, ValueError) as error:
            reason = " ".join(str(error).split())[:200]
            raise ModelError(f"{source} does not fit this run ({reason}): start again in another --out") from None


def _amp_dtype(precision: str, device: torch.device) -> torch.dtype | None:
    """The autocast type, None for float32 throughout. "auto" keeps a CPU in float32: bf16 did not help there."""
    if precision == "auto":
        if device.type != "cuda":
            return None
        return torch.bfloat16 if torch.cuda.is_bf16_supported() else torch.float16
    return {"fp32": None, "bf16": torch.bfloat16, "fp16": torch.float16}[precision]
