"""TrainConfig: a whole training recipe as one frozen record, which is also a TOML file.

`to_toml` writes every setting with a comment, `from_toml` reads an edited file. The recipes themselves are in
`recipes`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import MISSING, Field, asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import Any

from reid_edge.core.files import require_file
from reid_edge.core.names import did_you_mean
from reid_edge.data.images import RESIZES
from reid_edge.errors import InputError

__all__ = ["OPTIMIZERS", "SCHEDULES", "SCHEDULE_SETTINGS", "TRAIN_PRECISIONS", "TrainConfig", "renamed_settings"]

TRAIN_PRECISIONS = ("auto", "fp32", "bf16", "fp16")
OPTIMIZERS = ("adam", "amsgrad", "sgd")
SCHEDULES = ("step", "cosine")
SCHEDULE_SETTINGS = ("epochs", "warmup_epochs", "milestones")
"""What `TrainConfig.for_epochs` changes."""

_CHOICES = {"schedule": SCHEDULES, "optimizer": OPTIMIZERS, "precision": TRAIN_PRECISIONS, "resize": tuple(RESIZES)}

_BOUNDS = {
    "classes": "[0, 1000000]",
    "epochs": "[1, 10000]",
    "seed": "[0, 4294967295]",
    "identities_per_batch": "[2, 65536]",
    "crops_per_identity": "[1, 65536]",
    "max_batches": "[0, 1000000000]",
    "input_hw": "[32, 2048]",
    "flip": "[0, 1]",
    "pad": "[0, 1024]",
    "erase": "[0, 1]",
    "color_jitter": "[0, 1]",
    "low_resolution": "[0, 1]",
    "learning_rate": "(0, 1e30]",
    "momentum": "[0, 1)",
    "weight_decay": "[0, 1e6]",
    "ema_decay": "[0, 1)",
    "warmup_epochs": "[0, 10000]",
    "warmup_factor": "[0, 1]",
    "milestones": "[0, 10000]",
    "gamma": "[0, 1]",
    "id_weight": "[0, 1e6]",
    "label_smoothing": "[0, 1)",
    "triplet_weight": "[0, 1e6]",
    "triplet_margin": "[0, 1e6]",
    "center_weight": "[0, 1e6]",
    "center_learning_rate": "[0, 1e6]",
    "distill_weight": "[0, 1e6]",
    "distill_temperature": "(0, 1e6]",
    "embedding_weight": "[0, 1e6]",
}
"""Where each number must lie; of a list, each of its numbers."""

_FORMER = {
    "model": "arch",
    "people_per_batch": "identities_per_batch",
    "crops_per_person": "crops_per_identity",
}


def renamed_settings(raw: Mapping[str, Any]) -> dict[str, Any]:
    """Settings saved under former names, by the present ones; others stay as they are.

    >>> renamed_settings({"model": "osnet_x0_25", "people_per_batch": 16, "pad": 10})
    {'arch': 'osnet_x0_25', 'identities_per_batch': 16, 'pad': 10}
    """
    return {_FORMER.get(name, name): value for name, value in raw.items()}


def _setting(default: Any, help: str, *, heading: str = "") -> Any:
    """A field with its comment in TOML, and the heading above it where a section begins."""
    facts = {"help": help, "heading": heading}
    if isinstance(default, dict):
        return field(default_factory=dict, metadata=facts)
    return field(default=default, metadata=facts)


@dataclass(frozen=True, repr=False)
class TrainConfig:
    """Everything that decides what a run computes. Lengths are in epochs, ``input_hw`` and ``pad`` in pixels.

    Raises InputError for a value out of bounds. `to_toml` shows what each setting means; ``repr`` those that differ
    from their defaults.

    >>> TrainConfig("osnet_x0_25", epochs=20, seed=1)
    TrainConfig(arch='osnet_x0_25', epochs=20, seed=1)
    """

    arch: str = field(metadata={"help": "architecture", "heading": "model"})
    options: dict[str, Any] = _setting({}, "options of the architecture that differ from its defaults")
    classes: int = _setting(0, "classes of the classifier; 0: the identities of the data")
    epochs: int = _setting(120, "passes over the training crops")
    seed: int = _setting(0, "decides every random draw")
    identities_per_batch: int = _setting(16, "P, over all processes", heading="batches")
    crops_per_identity: int = _setting(4, "K")
    balance_domains: bool = _setting(False, "as many identities of each data set in a batch, where there are several")
    max_batches: int = _setting(0, "batches of an epoch at most; 0: as many as the crops make")
    input_hw: tuple[int, int] = _setting((256, 128), "height and width", heading="images")
    resize: str = _setting("opencv", "opencv, pillow-bilinear or opencv-fast")
    flip: float = _setting(0.5, "probability of a horizontal flip")
    pad: int = _setting(10, "zero-pad by this on every side and crop back at random")
    erase: float = _setting(0.5, "probability of random erasing")
    color_jitter: float = _setting(0.0, "brightness, contrast and saturation each times 1 - this to 1 + this")
    low_resolution: float = _setting(0.0, "probability of a crop as if it had 2, 3 or 4 times fewer pixels a side")
    optimizer: str = _setting("adam", "adam, amsgrad or sgd", heading="optimiser")
    learning_rate: float = _setting(3.5e-4, "after warm-up")
    momentum: float = _setting(0.9, "of sgd")
    weight_decay: float = _setting(5e-4, "L2, in the gradient")
    ema_decay: float = _setting(
        0.0, "deploy a moving average of the weights with this decay; 0: the weights themselves"
    )
    freeze_norm: bool = _setting(False, "batch norm keeps its running statistics")
    sync_norm: bool = _setting(False, "batch norm over the crops of all GPUs, not of each")
    precision: str = _setting("auto", "fp32, bf16 or fp16 (mixed); auto: mixed on a GPU, measured on a CPU")
    compile: bool = _setting(False, "torch.compile the model: one or two minutes at the start, then faster steps")
    schedule: str = _setting("step", "step (gamma at each milestone) or cosine (to 0)", heading="schedule")
    warmup_epochs: int = _setting(10, "linear rise")
    warmup_factor: float = _setting(0.1, "learning rate at the start of the warm-up, as a share of learning_rate")
    milestones: tuple[int, ...] = _setting((40, 70), "epochs after which the learning rate is multiplied by gamma")
    gamma: float = _setting(0.1, "factor at each milestone")
    id_weight: float = _setting(1.0, "weight of the cross entropy over identities", heading="losses")
    label_smoothing: float = _setting(0.1, "share of the target spread over all identities")
    triplet_weight: float = _setting(1.0, "weight of the batch-hard triplet loss, euclidean")
    triplet_margin: float = _setting(0.3, "its margin")
    center_weight: float = _setting(5e-4, "weight of the center loss")
    center_learning_rate: float = _setting(0.5, "of the centers' own SGD")
    metric_after_neck: bool = _setting(
        False, "triplet and center loss take the feature after the neck instead of before"
    )
    sigmoid_logits: bool = _setting(False, "a sigmoid before the cross entropy (a defect, kept as history)")
    distill_weight: float = _setting(
        1.0, "weight of the distillation of a teacher's similarities, where there is a teacher"
    )
    distill_temperature: float = _setting(0.1, "of the softmax over cosine similarities in it")
    embedding_weight: float = _setting(
        0.0, "weight of the cosine distance to a teacher's own embedding, which must be as wide"
    )

    def __post_init__(self) -> None:
        require = self._require
        for name, interval in _BOUNDS.items():
            value = getattr(self, name)
            for number in value if isinstance(value, tuple) else (value,):
                require(_lies_in(number, interval), f"{name} must be in {interval}, not {number}")
        require(
            self.crops_per_identity >= 2 or not self.triplet_weight,
            "crops_per_identity must be at least 2: triplets need a positive",
        )
        for name, known in _CHOICES.items():
            require(getattr(self, name) in known, f"{name} must be one of {', '.join(known)}")
        require(len(self.input_hw) == 2, "input_hw must be a height and a width")
        require(self.warmup_epochs < self.epochs or self.epochs == 1, "warmup_epochs must be below epochs")

    def __repr__(self) -> str:
        own = [f for f in fields(self) if f.default is MISSING or getattr(self, f.name) != f.default]
        shown = (f"{f.name}={getattr(self, f.name)!r}" for f in own if f.name != "options" or self.options)
        return f"TrainConfig({', '.join(shown)})"

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
        """Read what `to_dict` wrote, now or under former names; settings left out have their defaults.

        Raises InputError naming settings that are unknown or of the wrong kind.
        """
        raw = renamed_settings(raw)
        known = {f.name: f for f in fields(cls)}
        unknown = sorted(set(raw) - set(known))
        if unknown:
            names = f"{', '.join(known)}{did_you_mean(unknown[0], known)}"
            raise InputError(f"unknown training settings {', '.join(unknown)}: the known ones are {names}")
        cls._require("arch" in raw, "arch is missing: name an architecture")
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
        """Read a file as `to_toml` writes it; settings left out have their defaults.

        Raises InputError when it is missing, is not TOML, or holds what `from_dict` refuses.
        """
        import tomlkit
        from tomlkit.exceptions import TOMLKitError

        path = require_file(path, "a training recipe")
        try:
            return cls.from_dict(tomlkit.parse(path.read_text(encoding="utf-8")).unwrap())
        except (TOMLKitError, UnicodeDecodeError) as error:
            raise InputError(f"{path} is not a TOML file ({' '.join(str(error).split())}): see --dump-config") from None
        except InputError as error:
            raise InputError(f"{path}: {error}") from None

    @staticmethod
    def _require(holds: bool, message: str) -> None:
        if not holds:
            raise InputError(f"bad training settings: {message}")


def _lies_in(number: float, interval: str) -> bool:
    """Whether a number lies in an interval; nan lies in none.

    >>> _lies_in(1, "[0, 1]"), _lies_in(1, "[0, 1)"), _lies_in(float("nan"), "[0, 1e6]")
    (True, False, False)
    """
    low, high = (float(end) for end in interval[1:-1].split(","))
    above = low <= number if interval[0] == "[" else low < number
    return above and (number <= high if interval[-1] == "]" else number < high)


def _of_kind(setting: Field[Any], value: Any) -> Any:
    """``value`` in the type of the setting's default; a whole number may stand for a fraction."""
    example = setting.default_factory() if setting.default_factory is not MISSING else setting.default
    kind = str if example is MISSING else type(example)
    if kind is float and type(value) is int and abs(value) < 1 << 63:
        return float(value)
    if kind is tuple and isinstance(value, list | tuple) and all(type(part) is int for part in value):
        return tuple(value)
    if type(value) is not kind:
        wanted = {tuple: "a list of whole numbers", int: "a whole number", float: "a number", bool: "true or false"}
        raise InputError(f"bad training settings: {setting.name} must be {wanted.get(kind, kind.__name__)}")
    return value
