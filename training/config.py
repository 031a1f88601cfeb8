"""TrainConfig: a whole training recipe as one frozen record, and the default recipe of each model.

`bag_of_tricks` is *Bag of Tricks and a Strong Baseline for Deep Person Re-identification* (Luo et al., CVPRW 2019), and
ResNet50's default. The two light models keep its losses, batches and augmentation and have schedules of their own:
a small network trained from random weights wants a larger step, and a cosine needs no milestones to retune when the
number of epochs changes.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, field, fields, replace
from typing import Any

from reid_edge.errors import InputError

__all__ = ["TrainConfig", "recipe_for"]


@dataclass(frozen=True)
class TrainConfig:
    """Everything that decides what a run computes. Lengths are in epochs, ``input_hw`` and ``pad`` in pixels.

    ``schedule`` is "step" (``gamma`` at each of ``milestones``) or "cosine"; both rise linearly from
    ``warmup_factor`` over ``warmup_epochs``. ``precision`` is "fp32", "bf16" or "fp16" (automatic mixed precision),
    or "auto": bf16 or fp16 on a GPU, fp32 on a CPU.
    """

    model: str
    epochs: int = 120
    seed: int = 0
    options: dict[str, Any] = field(default_factory=dict)
    # batches
    people_per_batch: int = 16
    crops_per_person: int = 4
    # images
    input_hw: tuple[int, int] = (256, 128)
    resize: str = "opencv"
    flip: float = 0.5
    pad: int = 10
    erase: float = 0.5
    # optimiser
    optimizer: str = "adam"
    learning_rate: float = 3.5e-4
    weight_decay: float = 5e-4
    precision: str = "auto"
    # schedule
    schedule: str = "step"
    warmup_epochs: int = 10
    warmup_factor: float = 0.1
    milestones: tuple[int, ...] = (40, 70)
    gamma: float = 0.1
    # losses
    label_smoothing: float = 0.1
    triplet_margin: float = 0.3
    triplet_weight: float = 1.0
    center_weight: float = 5e-4
    center_learning_rate: float = 0.5

    def __post_init__(self) -> None:
        self._require(self.epochs >= 1, "epochs must be at least 1")
        self._require(self.people_per_batch >= 2, "people_per_batch must be at least 2: triplets need a negative")
        self._require(self.crops_per_person >= 2, "crops_per_person must be at least 2: triplets need a positive")
        self._require(self.learning_rate > 0, "learning_rate must be above 0")
        self._require(self.schedule in {"step", "cosine"}, "schedule must be step or cosine")
        self._require(self.optimizer in {"adam", "amsgrad"}, "optimizer must be adam or amsgrad")
        self._require(self.precision in {"auto", "fp32", "bf16", "fp16"}, "precision must be auto, fp32, bf16 or fp16")
        self._require(0 <= self.label_smoothing < 1, "label_smoothing must be in [0, 1)")
        self._require(all(side >= 32 for side in self.input_hw), "input_hw must be at least 32 x 32 pixels")
        self._require(self.warmup_epochs < self.epochs or self.epochs == 1, "warmup_epochs must be below epochs")

    def for_epochs(self, epochs: int) -> TrainConfig:
        """The same recipe over another number of epochs: warm-up, milestones and frozen epochs keep their share.

        Raises InputError below one epoch.
        """
        self._require(epochs >= 1, "epochs must be at least 1")
        share = epochs / self.epochs
        warmup = min(round(self.warmup_epochs * share) or min(self.warmup_epochs, 1), max(epochs - 1, 0))
        return replace(
            self,
            epochs=epochs,
            warmup_epochs=warmup,
            milestones=tuple(max(1, round(epoch * share)) for epoch in self.milestones),
        )

    def to_dict(self) -> dict[str, Any]:
        """JSON-able; `from_dict` reads it back."""
        return asdict(self)

    @classmethod
    def from_dict(cls, raw: dict[str, Any]) -> TrainConfig:
        """Read what `to_dict` wrote. Raises InputError naming fields that are unknown or of the wrong kind."""
        unknown = sorted(set(raw) - {f.name for f in fields(cls)})
        if unknown:
            raise InputError(f"unknown training settings {', '.join(unknown)}: see TrainConfig for the known ones")
        values = dict(raw)
        try:
            for name in ("input_hw", "milestones"):
                if name in values:
                    values[name] = tuple(int(value) for value in values[name])
            return cls(**values)
        except TypeError as error:
            raise InputError(f"bad training settings: {error}") from None

    @staticmethod
    def _require(holds: bool, message: str) -> None:
        if not holds:
            raise InputError(f"bad training settings: {message}")


def bag_of_tricks(model: str) -> TrainConfig:
    """BoT, section 2 of the paper: Adam 3.5e-4, x0.1 at epochs 40 and 70 of 120."""
    return TrainConfig(model=model)


def _osnet(model: str) -> TrainConfig:
    """OSNet's AMSGrad and step size (Zhou et al., ICCV 2019, section 4.1), BoT's losses and batches, a cosine."""
    return TrainConfig(
        model=model, optimizer="amsgrad", learning_rate=1.5e-3, schedule="cosine", warmup_epochs=5, epochs=180
    )


def _mobilenetv3(model: str) -> TrainConfig:
    return TrainConfig(model=model, learning_rate=1e-3, schedule="cosine", warmup_epochs=5)


def recipe_for(model: str, epochs: int | None = None) -> TrainConfig:
    """The default recipe of a model, over its own number of epochs or ``epochs``."""
    family = model.split("_")[0]
    config = {"osnet": _osnet, "mobilenetv3": _mobilenetv3}.get(family, bag_of_tricks)(model)
    return config if epochs is None else config.for_epochs(epochs)
