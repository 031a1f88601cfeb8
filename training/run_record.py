"""``run.json``: what a run was begun with, so that ``--resume --out FOLDER`` needs nothing else.

A run that goes on is the same run: a repeated option must say what the record says.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from reid_edge.core.files import require_file, sha256_of, write_text
from reid_edge.data.datasets import Dataset, open_dataset
from reid_edge.errors import InputError
from reid_edge.training.options import DEFAULT_RUN, RunOptions, StartFrom, Teacher
from reid_edge.training.recipe.config import SCHEDULE_SETTINGS, TrainConfig, renamed_settings

__all__ = ["CHECKPOINT_NAME", "RECORD_NAME", "DataRecord", "RunRecord", "RunRequest", "read_record"]

CHECKPOINT_NAME = "checkpoint.pth"
"""Written after every epoch, and within long ones: the model and the state of the run."""

RECORD_NAME = "run.json"
"""The recipe, data and options of a run."""

_OPTIONS = {
    "seed": "--seed",
    "precision": "--precision",
    "learning_rate": "--lr",
    "identities_per_batch": "-P",
    "crops_per_identity": "-K",
    "input_hw": "--size",
}
"""The settings of a recipe that the command line has an option for."""


@dataclass(frozen=True, kw_only=True)
class RunRequest:
    """What ``train_model`` was asked for; None is what was not given. ``config`` is a recipe file's."""

    arch: str | None = None
    recipe: str | None = None
    config: TrainConfig | None = None
    epochs: int | None = None
    settings: Mapping[str, Any] = field(default_factory=dict)
    start: StartFrom = StartFrom()
    teacher: Teacher | None = None
    layout: str | None = None
    run: RunOptions = RunOptions()


@dataclass(frozen=True, kw_only=True)
class DataRecord:
    """A data set that was trained on: where it was, how it was read, and a hash of its crops' names and ids.

    The hash stays the same when the folder moves.
    """

    path: str
    layout: str
    part: str
    crops: int
    sha256: str

    @classmethod
    def of(cls, dataset: Dataset) -> DataRecord:
        """The record of an open data set."""
        digest, split = hashlib.sha256(), dataset.split
        for crops in (split.train, split.query, split.gallery):
            digest.update(b"\n".join(f"{crop.path.name}\0{crop.pid}\0{crop.camid}".encode() for crop in crops) + b"\0")
        root, sha256 = str(dataset.root.resolve()), digest.hexdigest()
        return cls(path=root, layout=dataset.layout, part=dataset.part, crops=len(split.train), sha256=sha256)

    def open(self) -> Dataset:
        """The data set where it was. Raises InputError when it is no longer there, and what `open_dataset` raises."""
        if not Path(self.path).exists():
            raise InputError(f"the data that the run was trained on is not at {self.path}: say where with --data")
        return open_dataset(self.path, self.layout, self.part)

    def __str__(self) -> str:
        return f"{self.path} ({self.crops} crops to train on, {self.sha256[:8]})"


@dataclass(frozen=True, kw_only=True)
class RunRecord:
    """A run: its settings, its data, and what it was asked for. Paths are absolute.

    ``config`` is ``base``, the recipe of ``arch`` called ``recipe`` or that of a file, over the number of epochs that
    was asked for, with ``settings`` replaced. ``start_sha256`` and ``teacher_sha256`` are of the files' bytes.
    """

    config: TrainConfig
    base: TrainConfig
    data: tuple[DataRecord, ...]
    settings: dict[str, Any] = field(default_factory=dict)
    arch: str | None = None
    recipe: str | None = None
    start: StartFrom = StartFrom()
    start_sha256: str | None = None
    teacher: Teacher | None = None
    teacher_sha256: str | None = None
    run: RunOptions = DEFAULT_RUN

    @classmethod
    def of(cls, config: TrainConfig, base: TrainConfig, data: tuple[DataRecord, ...], asked: RunRequest) -> RunRecord:
        """The record of a new run. Raises InputError when a file that it is to read is missing."""
        start, teacher, own = asked.start, asked.teacher, config.to_dict()
        return cls(
            config=config,
            base=base,
            data=data,
            settings={name: own[name] for name in renamed_settings(asked.settings) if name != "epochs"},
            arch=asked.arch,
            recipe=start.recipe or asked.recipe or ("default" if asked.arch else None),
            start=start.absolute(),
            start_sha256=_hash(start.file),
            teacher=teacher and teacher.absolute(),
            teacher_sha256=_hash(_model_of(teacher)),
            run=asked.run.over(DEFAULT_RUN),
        )

    def resumed(self, asked: RunRequest, folder: Path) -> RunRecord:
        """The run as it goes on: more ``epochs`` stretch its schedule, and what `RunOptions` gives replaces its own.

        Raises InputError for other options, which name another run, and for fewer epochs.
        """
        if differing := list(self._differing(asked)):
            raise InputError(
                f"{folder} was begun with other options ({'; '.join(differing)}): "
                "leave them out to resume, or begin another run in another --out"
            )
        epochs = asked.epochs or self.config.epochs
        config = self.config if epochs == self.config.epochs else self._over_epochs(epochs)
        start = asked.start.absolute() if asked.start.file else self.start
        start = replace(
            start,
            merged_streams=self.start.merged_streams,
            quantize_residuals=self.start.quantize_residuals,
        )
        teacher = asked.teacher.absolute() if asked.teacher else self.teacher
        return replace(self, config=config, start=start, teacher=teacher, run=asked.run.over(self.run))

    def _over_epochs(self, epochs: int) -> TrainConfig:
        """The settings with the schedule that the run would have been begun with over as many epochs."""
        longer = TrainConfig.from_dict({**self.base.for_epochs(epochs).to_dict(), **self.settings})
        schedule = {name: getattr(longer, name) for name in SCHEDULE_SETTINGS}
        return replace(self.config, **schedule)

    def require_data(self, datasets: list[Dataset], folder: Path) -> RunRecord:
        """The record with the places where its data sets are now. Raises InputError when their crops are other ones."""
        now = tuple(map(DataRecord.of, datasets))
        if [each.sha256 for each in now] != [each.sha256 for each in self.data]:
            was, is_now = (" and ".join(map(str, data)) for data in (self.data, now))
            raise InputError(
                f"{folder} was trained on other crops (--data was {was}, now {is_now}): "
                "give the data it was begun with, or begin another run in another --out"
            )
        return replace(self, data=now)

    def _differing(self, asked: RunRequest) -> Iterator[str]:
        """Each option that contradicts this run, with both values."""
        own, base = self.config.to_dict(), self.base.to_dict()
        claims: list[tuple[str, Any, Any, bool]] = [
            ("--arch", own["arch"], asked.arch, asked.arch in (own["arch"], self.arch)),
            ("--recipe", self.recipe, recipe := asked.start.recipe or asked.recipe, recipe == self.recipe),
            ("--epochs", own["epochs"], asked.epochs, (asked.epochs or 0) >= own["epochs"]),
        ]
        settings = TrainConfig.from_dict({**own, **asked.settings}).to_dict()
        claims += [(_OPTIONS.get(name, name), own[name], now, now == own[name]) for name, now in settings.items()]
        if asked.config:
            for name, now in asked.config.to_dict().items():
                claims.append((f"{name} in --config", own[name], now, now in (own[name], base[name])))
        layouts = {each.layout for each in self.data}
        claims.append(("--layout", ", ".join(sorted(layouts)), asked.layout, {asked.layout} == layouts))
        claims.append(_file_claim(asked.start.option, self.start.file, self.start_sha256, asked.start.file))
        streams = self.start.merged_streams, asked.start.merged_streams or None
        claims.append(("--merged-streams", *streams, streams == (True, True)))
        residuals = self.start.quantize_residuals, asked.start.quantize_residuals or None
        claims.append(("--quantize-residuals", *residuals, residuals == (True, True)))
        teachers = _model_of(self.teacher), self.teacher_sha256, _model_of(asked.teacher)
        claims.append(_file_claim("--teacher", *teachers))
        for option, was, now, agrees in claims:
            if now is not None and not agrees:
                yield f"{option} was {'not given' if was is None else was}, now {now}"

    def write(self, folder: Path) -> None:
        """Write ``run.json`` into ``folder``."""
        write_text(folder / RECORD_NAME, json.dumps(asdict(self), indent=1, default=str) + "\n")


def read_record(folder: Path) -> RunRecord | None:
    """The record in the folder of a run; None where there is none. Raises InputError for a damaged one."""
    path = folder / RECORD_NAME
    if not path.exists():
        return None
    try:
        raw = json.loads(path.read_text(encoding="utf-8"))
        raw["config"], raw["base"] = (TrainConfig.from_dict(raw[name]) for name in ("config", "base"))
        raw["data"] = tuple(DataRecord(**each) for each in raw["data"])
        raw["start"], raw["run"] = StartFrom(**raw["start"]), RunOptions(**raw["run"]).over(DEFAULT_RUN)
        raw["teacher"] = raw["teacher"] and Teacher(**raw["teacher"])
        return RunRecord(**raw)
    except (ValueError, LookupError, TypeError, AttributeError, InputError):
        raise InputError(f"{path} is damaged: delete it, and repeat the run's options with --resume") from None


def _model_of(teacher: Teacher | None) -> Path | None:
    return None if teacher is None else Path(teacher.model)


def _hash(path: Path | None) -> str | None:
    return None if path is None else sha256_of(require_file(path, "a model to start from, or a teacher"))


def _file_claim(option: str, was: Path | None, sha256: str | None, now: Path | None) -> tuple[str, Any, Any, bool]:
    """An option that gives a file, which may have moved: what counts are its bytes."""
    found = _hash(now)
    shown = [path and f"{path} ({hashed[:8]})" for path, hashed in ((was, sha256 or ""), (now, found or ""))]
    return option, shown[0], shown[1], found == sha256
