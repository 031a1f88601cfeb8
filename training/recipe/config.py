"""TrainConfig: a whole training recipe as one frozen record, which TOML can carry.

`to_toml` writes every setting with a comment, `from_toml` reads what somebody edited. The recipes themselves are in
`recipes`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import MISSING, Field, asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import Any

from reid_edge.errors import InputError
from reid_edge.files import require_file

__all__ = ["TrainConfig"]


def _setting(default: Any, help: str, *, heading: str = "") -> Any:
    """A field with the comment that it gets in TOML, under a heading where one begins."""
    facts = {"help": help, "heading": heading}
    if isinstance(default, dict):
        return field(default_factory=dict, metadata=facts)
    return field(default=default, metadata=facts)


@dataclass(frozen=True)
class TrainConfig:
    """Everything that decides what a run computes. Lengths are in epochs, ``input_hw`` and ``pad`` in pixels.

    Raises InputError for a value that cannot be. `to_toml` shows what each setting means.
    """

    model: str = field(metadata={"help": "architecture", "heading": "model"})
    options: dict[str, Any] = _setting({}, "options of the architecture that differ from its own")
    classes: int = _setting(0, "people that the classifier knows; 0: those of the data")
    epochs: int = _setting(120, "passes over the people's crops")
    seed: int = _setting(0, "decides every random draw")
    people_per_batch: int = _setting(16, "P, over all processes", heading="batches")
    crops_per_person: int = _setting(4, "K")
    input_hw: tuple[int, int] = _setting((256, 128), "height and width", heading="images")
    resize: str = _setting("opencv", "opencv or pillow-bilinear")
    flip: float = _setting(0.5, "probability of a mirror image")
    pad: int = _setting(10, "zero-pad by this on every side and crop back at random")
    erase: float = _setting(0.5, "probability of random erasing")
    optimizer: str = _setting("adam", "adam, amsgrad or sgd", heading="optimiser")
    learning_rate: float = _setting(3.5e-4, "at the top of the warm-up")
    momentum: float = _setting(0.9, "of sgd")
    weight_decay: float = _setting(5e-4, "L2, in the gradient")
    ema_decay: float = _setting(0.0, "keep and deploy a moving average of the weights; 0: the weights themselves")
    freeze_norm: bool = _setting(False, "batch norm keeps the statistics that it starts with")
    precision: str = _setting("auto", "fp32, bf16 or fp16 (mixed); auto: mixed on a GPU, fp32 on a CPU")
    compile: bool = _setting(False, "torch.compile the model: a minute or two first, then quicker steps")
    schedule: str = _setting("step", "step (gamma at each milestone) or cosine (to 0)", heading="schedule")
    warmup_epochs: int = _setting(10, "linear rise")
    warmup_factor: float = _setting(0.1, "where the rise begins, as a share of learning_rate")
    milestones: tuple[int, ...] = _setting((40, 70), "epochs after which gamma applies once more")
    gamma: float = _setting(0.1, "factor at each milestone")
    id_weight: float = _setting(1.0, "cross entropy over people", heading="losses")
    label_smoothing: float = _setting(0.1, "share of the target spread over all people")
    triplet_weight: float = _setting(1.0, "batch-hard triplet, euclidean")
    triplet_margin: float = _setting(0.3, "its margin")
    center_weight: float = _setting(5e-4, "center loss")
    center_learning_rate: float = _setting(0.5, "of the centers' own SGD")
    metric_after_neck: bool = _setting(False, "triplet and center see the feature after the neck instead of before")
    sigmoid_logits: bool = _setting(False, "a sigmoid before the cross entropy (a defect, kept as history)")
    distill_weight: float = _setting(1.0, "a teacher's ranking of the batch, where there is a teacher")
    distill_temperature: float = _setting(0.1, "of the cosine similarities in it")

    def __post_init__(self) -> None:
        require = self._require
        require(self.epochs >= 1, "epochs must be at least 1")
        require(self.people_per_batch >= 2, "people_per_batch must be at least 2: triplets need a negative")
        least = 2 if self.triplet_weight else 1
        require(self.crops_per_person >= least, f"crops_per_person must be at least {least}: triplets need a positive")
        require(self.learning_rate > 0, "learning_rate must be above 0")
        require(self.schedule in {"step", "cosine"}, "schedule must be step or cosine")
        require(self.optimizer in {"adam", "amsgrad", "sgd"}, "optimizer must be adam, amsgrad or sgd")
        require(self.precision in {"auto", "fp32", "bf16", "fp16"}, "precision must be auto, fp32, bf16 or fp16")
        require(0 <= self.label_smoothing < 1, "label_smoothing must be in [0, 1)")
        require(0 <= self.ema_decay < 1, "ema_decay must be in [0, 1)")
        require(self.distill_temperature > 0, "distill_temperature must be above 0")
        require(len(self.input_hw) == 2, "input_hw must be a height and a width")
        require(all(side >= 32 for side in self.input_hw), "input_hw must be at least 32 x 32 pixels")
        require(self.warmup_epochs < self.epochs or self.epochs == 1, "warmup_epochs must be below epochs")
        for name in ("flip", "erase"):
            require(0 <= getattr(self, name) <= 1, f"{name} must be a probability")
        for name in ("id_weight", "triplet_weight", "center_weight", "distill_weight", "weight_decay", "pad"):
            require(getattr(self, name) >= 0, f"{name} must not be negative")

    def for_epochs(self, epochs: int) -> TrainConfig:
        """The same recipe over another number of epochs: warm-up and milestones keep their share.

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
    def from_dict(cls, raw: Mapping[str, Any]) -> TrainConfig:
        """Read what `to_dict` wrote; what is left out has its default.

        Raises InputError naming settings that are unknown or of the wrong kind.
        """
        known = {f.name: f for f in fields(cls)}
        unknown = sorted(set(raw) - set(known))
        if unknown:
            raise InputError(f"unknown training settings {', '.join(unknown)}: the known ones are {', '.join(known)}")
        cls._require("model" in raw, "model is missing: name an architecture")
        return cls(**{name: _of_kind(known[name], value) for name, value in raw.items()})

    def to_toml(self) -> str:
        """Every setting on a line of its own with what it means, under headings; `from_toml` reads it back."""
        import tomlkit

        document = tomlkit.document()
        for each in fields(self):
            if heading := each.metadata.get("heading"):
                if document:
                    document.add(tomlkit.nl())
                document.add(tomlkit.comment(heading))
            value = getattr(self, each.name)
            item = tomlkit.item(list(value) if isinstance(value, tuple) else value)
            if isinstance(value, dict):
                item = tomlkit.inline_table()
                item.update(value)
            document.add(each.name, item.comment(each.metadata["help"]))
        return tomlkit.dumps(document)

    @classmethod
    def from_toml(cls, path: Path | str) -> TrainConfig:
        """Read a file as `to_toml` writes it; what is left out has its default.

        Raises InputError when it is missing, is no TOML, or holds what `from_dict` refuses.
        """
        import tomlkit
        from tomlkit.exceptions import TOMLKitError

        path = require_file(path, "a training recipe")
        try:
            return cls.from_dict(tomlkit.parse(path.read_text(encoding="utf-8")).unwrap())
        except (TOMLKitError, UnicodeDecodeError) as error:
            raise InputError(f"{path} is no TOML file ({' '.join(str(error).split())}): see --dump-config") from None
        except InputError as error:
            raise InputError(f"{path}: {error}") from None

    @staticmethod
    def _require(holds: bool, message: str) -> None:
        if not holds:
            raise InputError(f"bad training settings: {message}")


def _of_kind(setting: Field[Any], value: Any) -> Any:
    """``value`` in the type of the setting's default; a whole number may stand for a fraction."""
    example = setting.default_factory() if setting.default_factory is not MISSING else setting.default
    kind = str if example is MISSING else type(example)
    if kind is float and type(value) is int:
        return float(value)
    if kind is tuple and isinstance(value, list | tuple) and all(type(part) is int for part in value):
        return tuple(value)
    if type(value) is not kind:
        wanted = {tuple: "a list of whole numbers", int: "a whole number", float: "a number", bool: "true or false"}
        raise InputError(f"bad training settings: {setting.name} must be {wanted.get(kind, kind.__name__)}")
    return value
