"""The state of a run: all that changes while a model trains, saved and loaded as a whole."""

from __future__ import annotations

import logging
import math
import time
from dataclasses import asdict
from typing import Any

import torch
from torch import nn

from reid_edge.core.progress import phase
from reid_edge.errors import GateError, InputError, ModelError
from reid_edge.training.models.checkpoint import Checkpoint, restore_stem
from reid_edge.training.models.registry import build_with
from reid_edge.training.models.reid_model import ReidModel
from reid_edge.training.models.torch_engine import device_for
from reid_edge.training.recipe.config import TrainConfig
from reid_edge.training.recipe.losses import CenterLoss

from .history import EpochReport, Progress, history_from
from .parallel import ALONE, World, forward_of, with_synchronised_norms
from .qat import activation_ranges, add_fake_quantisation, residual_ranges
from .same_run import check_processes, check_settings
from .steps.optimizers import MOMENTS, build_optimizer, load_moments, moving_average
from .steps.speed import LossLog, amp_dtype, faster_in_bf16, gains

__all__ = ["Trainer"]

logger = logging.getLogger(__name__)


class Trainer:
    """The model, its two optimisers and the history; `epoch` counts the whole epochs done.

    ``progress`` is the part done of the epoch after those. Every random draw comes from (seed, epoch, iteration), so
    no generator is part of the state, and training after `load_state` continues exactly. ``stretched_from`` is the
    number of epochs of the run that was loaded, when this one has more.
    """

    def __init__(self, config: TrainConfig, identities: int, device: str = "auto", world: World = ALONE) -> None:
        self.config = config
        self.world = world
        self.identities = identities
        self.device = device_for(device)
        self.history: list[EpochReport] = []
        self.learning_rate = 0.0
        self.progress = Progress()
        self.stretched_from: int | None = None
        self.quantization: dict[str, Any] = {}
        torch.manual_seed(config.seed)
        self.model: ReidModel = build_with(config.arch, config.options, _classes(config, identities))
        self.model.to(self.device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.model = with_synchronised_norms(self.model, config, self.device, world)
        self.forward = forward_of(self.model, config, world)
        self.average = moving_average(self.model, config.ema_decay) if config.ema_decay else None
        self.centers = CenterLoss(identities if config.center_weight else 1, self.model.embedding_dim).to(self.device)
        self.optimizer = build_optimizer(self.model, config)
        self.center_optimizer = torch.optim.SGD(self.centers.parameters(), lr=config.center_learning_rate)
        # A gradient scaler takes no optimiser whose parameters get no gradient.
        self.optimizers = [self.optimizer, *([self.center_optimizer] if config.center_weight else [])]
        self.losses = LossLog(self.device)
        self.precision = config.precision
        self._amp = amp_dtype(config.precision, self.device)
        self.scaler = torch.amp.GradScaler(self.device.type, enabled=self._amp is torch.float16)

    @property
    def deployed(self) -> ReidModel:
        """The model to evaluate and export: the moving average where there is one, else the trained model itself."""
        if self.average is None:
            return self.model
        averaged = self.average.module
        assert isinstance(averaged, ReidModel)
        return averaged

    @property
    def epoch(self) -> int:
        """The number of whole epochs done."""
        return len(self.history)

    def choose_precision(self) -> None:
        """Measure, for "auto" on a CPU, whether steps are faster in bfloat16; a resumed run keeps what it had."""
        if self.precision != "auto" or self.device.type != "cpu":
            return
        config = self.config
        batch = config.identities_per_batch * config.crops_per_identity // self.world.size
        with phase("measuring which precision is faster"):
            ratio = faster_in_bf16(self.model, batch, config.input_hw)
        if ratio is not None:  # all ranks agree
            ratio = float(self.world.mean(torch.tensor(ratio)))
        self._use_precision("bf16" if gains(ratio) else "fp32")
        if ratio is not None:
            logger.info("training in %s: mixed bf16 is %.2f times as fast as fp32 here", self.precision, ratio)

    def _use_precision(self, precision: str) -> None:
        self.precision = precision
        self._amp = amp_dtype(precision, self.device)

    def autocast(self) -> torch.autocast:
        """The context of the forward pass: mixed precision, or float32 throughout."""
        return torch.autocast(self.device.type, dtype=self._amp, enabled=self._amp is not None)

    def fake_quantize(self, quantization: dict[str, Any]) -> None:
        """Add INT8 fake quantisation with the activation ranges in a card's ``quantization``; none when it is empty.

        Raises ModelError for ranges that do not fit the model, InputError with a moving average.
        """
        if quantization:
            if self.average is not None:
                raise InputError("a moving average cannot be trained with fake quantisation: leave ema_decay 0")
            ranges, residuals = activation_ranges(quantization), residual_ranges(quantization)
            add_fake_quantisation(self.model, ranges, residuals)
            self.quantization = quantization

    def restart_average(self) -> None:
        """Restart the moving average from the present weights, after others were imported."""
        if self.average is not None:
            self.average = moving_average(self.model, self.config.ema_decay)

    def set_learning_rate(self, factor: float) -> None:
        """Scale the base learning rate; the centers keep theirs."""
        self.learning_rate = self.config.learning_rate * factor
        for group in self.optimizer.param_groups:
            group["lr"] = self.learning_rate

    def begin_epoch(self) -> None:
        """Switch to training mode; with ``freeze_norm`` batch norm stays in evaluation mode."""
        self.model.train()
        if self.config.freeze_norm:
            for module in self.model.modules():
                if isinstance(module, nn.modules.batchnorm._BatchNorm):
                    module.eval()

    def summary(self) -> str:
        """The mean losses and the images a second of the epoch so far, for a progress bar: short, for 80 columns."""
        means = " ".join(f"{name} {value:.2f}" for name, value in self.progress.means(len(self.losses)).items())
        return f"{means} {self._images_per_second():.0f}/s"

    def read_losses(self) -> None:
        """Add the losses of the steps since the last time to the progress, all of which are counted there.

        The wait for them is the steps' time too: on a GPU a step by itself only queues its work. Raises GateError when
        one is not finite: of the present step on a CPU, of some steps before on a GPU.
        """
        first, began = self.progress.iteration - len(self.losses) + 1, time.perf_counter()
        rows = self.losses.read()
        self.progress.seconds += time.perf_counter() - began
        for iteration, losses in enumerate(rows, start=first):
            self.check_finite(losses, iteration)
            self.progress.add(losses)

    def check_finite(self, losses: dict[str, float], iteration: int) -> None:
        """Raise GateError, with all losses, unless their sum is finite."""
        if not math.isfinite(sum(losses.values())):
            parts = ", ".join(f"{name} {value:g}" for name, value in losses.items())
            raise GateError(
                f"the loss is not finite at {self.where(iteration)} ({parts}): "
                "train again with a lower --lr in another --out, or with --precision fp32"
            )

    def epoch_report(self) -> EpochReport:
        """The epoch whose batches are all done, as a row of the history."""
        self.read_losses()
        return EpochReport(
            epoch=self.epoch + 1,
            learning_rate=self.learning_rate,
            losses=self.progress.means(),
            seconds=self.progress.seconds,
            images_per_second=self._images_per_second(),
            of_epochs=self.config.epochs,
        )

    def end_epoch(self, report: EpochReport) -> None:
        """Add an epoch to the history, and begin to count the next one's batches."""
        self.history.append(report)
        self.progress = Progress()

    def check_weights(self) -> None:
        """Raise GateError when a loss, or a number of the model or the centers, is not finite.

        One step can do that to weights unseen: the loss of its own batch was still finite.
        """
        self.read_losses()
        states = (self.model.state_dict(), self.deployed.state_dict(), self.centers.state_dict())
        broken = [name for state in states for name, value in state.items() if not torch.isfinite(value).all()]
        if broken:
            raise GateError(
                f"weights are not finite at {self.where(self.progress.iteration)} ({broken[0]!r}), and are not saved: "
                "train again with a lower --lr in another --out, or with --precision fp32"
            )

    def where(self, iteration: int) -> str:
        """A place in the present epoch, for messages."""
        return f"epoch {self.epoch + 1}, iteration {iteration}"

    def state(self) -> dict[str, Any]:
        """Everything that `load_state` needs beside the deployed model's weights: tensors and plain values."""
        average = self.average
        return {
            "config": self.config.to_dict(),
            "identities": self.identities,
            "processes": self.world.size,
            "centers": self.centers.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "center_optimizer": self.center_optimizer.state_dict(),
            "scaler": self.scaler.state_dict(),
            "history": [report.to_dict() for report in self.history],
            "progress": asdict(self.progress),
            "precision": self.precision,
            **({"averaged": average.state_dict(), "model": self.model.state_dict()} if average is not None else {}),
        }

    def load_state(self, checkpoint: Checkpoint, source: str) -> None:
        """Continue from a checkpoint of a run with the same settings; ``source`` names it in errors.

        A run of fewer epochs than this one goes on by this one's schedule.

        Raises InputError naming the settings that differ, ModelError when it is a finished model or does not fit.
        """
        saved = checkpoint.training
        if not saved:
            raise ModelError(f"{source} is a finished model, not a run: start from its weights (--weights)")
        try:
            check_processes(saved, self.world, source)
            self.stretched_from = check_settings(saved, self.config, self.identities, source)
            self.model.load_state_dict(saved.get("model", checkpoint.model))
            restore_stem(self.model, checkpoint.card)
            if self.average is not None:
                self.average.load_state_dict(saved["averaged"])
                restore_stem(self.deployed, checkpoint.card)
            self.centers.load_state_dict(saved["centers"])
            load_moments(self.optimizer, saved["optimizer"], MOMENTS[self.config.optimizer])
            load_moments(self.center_optimizer, saved["center_optimizer"], {"momentum_buffer"})
            self.scaler.load_state_dict(saved["scaler"])
            earlier = "fp32" if (self.precision, self.device.type) == ("auto", "cpu") else self.precision
            self._use_precision(str(saved.get("precision", earlier)))
            self.quantization = checkpoint.card.quantization
            self.history = history_from(saved["history"])
            self.progress = Progress(**saved["progress"]).checked()
            if self.epoch > self.config.epochs:
                raise ValueError(f"{self.epoch} epochs are done of {self.config.epochs}")
        except (ArithmeticError, AttributeError, LookupError, RuntimeError, TypeError, ValueError) as error:
            reason = " ".join(str(error).split())[:200]
            raise ModelError(f"{source} does not fit this run ({reason}): start again in another --out") from None

    def __repr__(self) -> str:
        done = f"{self.epoch} of {self.config.epochs} epochs"
        return f"<Trainer: {self.model.name}, {self.identities} identities, {done}, on {self.device}>"

    def _images_per_second(self) -> float:
        batch = self.config.identities_per_batch * self.config.crops_per_identity
        return self.progress.iteration * batch / self.progress.seconds


def _classes(config: TrainConfig, identities: int) -> int:
    if config.classes and config.classes < identities:
        raise InputError(
            f"{identities} identities to train on, and classes is {config.classes}: give classes = 0, or more"
        )
    return (config.classes or identities) if config.id_weight else 0
