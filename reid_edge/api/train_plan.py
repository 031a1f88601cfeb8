"""What a run is to do: its settings and its data, as asked for, or as the folder of a run that goes on says."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from reid_edge.core.files import require_file
from reid_edge.core.names import require_name
from reid_edge.core.progress import phase
from reid_edge.data.datasets import Dataset, open_dataset
from reid_edge.errors import InputError
from reid_edge.training.models.names import check_architecture, check_device
from reid_edge.training.options import StartFrom, Teacher
from reid_edge.training.pretrained.locate import IMAGENET, architecture_of, find_weights, weights_name
from reid_edge.training.pretrained.rows import WEIGHTS
from reid_edge.training.recipe.config import TrainConfig
from reid_edge.training.recipe.recipes import RECIPES, recipe_for
from reid_edge.training.run_record import (
    CHECKPOINT_NAME,
    RECORD_NAME,
    DataRecord,
    RunRecord,
    RunRequest,
    read_record,
)

from .models import require_model

__all__ = ["Data", "planned_run", "recipe_in", "training_config"]

_ONE_RECIPE = "give arch (--arch NAME) for its recipe, or config (--config FILE) for an edited one"

Data = Path | str | Dataset

logger = logging.getLogger(__name__)


def planned_run(asked: RunRequest, data: Sequence[Data], out: Path) -> tuple[RunRecord, list[Dataset]]:
    """The run that is ``asked`` for, or the one in ``out`` that it resumes, and its open data sets.

    Raises InputError for bad use, such as other options than a resumed run's, and what `open_dataset` raises.
    """
    _refuse_wrong_names(asked)
    record = read_record(out) if asked.run.resume else None
    if record is not None:
        record = record.resumed(_with_files(asked, record.config.arch), out)
        layouts = [each.layout for each in record.data]
        with phase("listing the data"):
            moved = [_opened(each, asked.layout or layouts[row % len(layouts)]) for row, each in enumerate(data)]
            datasets = moved or [each.open() for each in record.data]
            return record.require_data(datasets, out), datasets
    begun = asked.run.resume and (out / CHECKPOINT_NAME).exists()
    if asked.run.resume and not begun and not data:
        raise InputError(f"{out} holds no run to resume: begin one with --arch NAME (or --config FILE) and --data PATH")
    if not (begun or asked.start.file):  # what is cheap to check first: a checkpoint's settings take seconds to read
        _config_of(asked)
    if not (begun or data):
        raise InputError("give data (--data PATH) to train on")
    with phase("listing the data"):
        datasets = [_opened(each, asked.layout) for each in data]
        records = tuple(map(DataRecord.of, datasets))
    config, base = _without_record(asked, data, out) if begun else (_config_of(asked), _base_of(asked))
    return RunRecord.of(config, base, records, _with_files(asked, config.arch)), datasets


def training_config(
    *,
    arch: str | None = None,
    recipe: str | None = None,
    config: TrainConfig | Path | str | None = None,
    epochs: int | None = None,
    settings: Mapping[str, Any] | None = None,
    start: StartFrom | None = None,
) -> TrainConfig:
    """The settings of a run: the ``recipe`` of ``arch``, or a ``config`` (also a TOML file), then what replaces them.

    ``epochs`` scales the schedule to another length, ``settings`` replace single ones. With ``start.finetune`` or
    ``start.qat`` the recipe is theirs, and a reid-edge checkpoint names the architecture; with ``start.qat`` its
    options, input size and resize are the checkpoint's too. Raises InputError unless exactly one of ``arch`` (given or
    from a checkpoint) and ``config`` is there, and for unknown or impossible settings.

    >>> training_config(arch="resnet50_bot", epochs=60, settings={"seed": 1}).milestones
    (20, 35)
    """
    start = start or StartFrom()
    if start.recipe and arch is None and config is None:
        arch = architecture_of(start.finetune or "") or _architecture_in(Path(start.file or ""))
    config = recipe_in(config, arch)
    if arch is None and config is None:
        raise InputError(_ONE_RECIPE)
    if config is None:
        resolved = recipe_for(str(arch), epochs, start.recipe or recipe or "default")
    else:
        resolved = config if epochs is None else config.for_epochs(epochs)
    resolved = TrainConfig.from_dict({**resolved.to_dict(), **(settings or {})})
    return _shaped_like(resolved, Path(start.qat)) if start.qat else resolved


def recipe_in(config: TrainConfig | Path | str | None, arch: str | None) -> TrainConfig | None:
    """The recipe in a file. Raises InputError when an ``arch`` names another one, and what `TrainConfig` raises."""
    if config is not None and arch is not None:
        raise InputError(_ONE_RECIPE)
    return TrainConfig.from_toml(config) if isinstance(config, Path | str) else config


def _refuse_wrong_names(asked: RunRequest) -> None:
    """What is wrong by its name alone, before torch is imported, which takes seconds."""
    if asked.arch is not None:
        check_architecture(asked.arch)
    if asked.config is not None:
        check_architecture(asked.config.arch)
    if asked.recipe is not None:
        require_name(asked.recipe, RECIPES, "recipe")
    if asked.run.device is not None:
        check_device(asked.run.device)
    if asked.start.file and not _named(asked.start, asked.config.arch if asked.config else asked.arch):
        require_file(asked.start.file, "the weights to start from")
    if asked.teacher and not weights_name(asked.teacher.model, asked.teacher.arch):
        require_model(asked.teacher.model, asked.teacher.arch, "a teacher")


def _named(start: StartFrom, arch: str | None) -> str | None:
    """The name of public weights in ``start``; a run that is resumed may leave out the architecture of "imagenet"."""
    given = start.weights or start.finetune
    return None if given is None else str(given) if str(given) == IMAGENET and not arch else weights_name(given, arch)


def _with_files(asked: RunRequest, arch: str) -> RunRequest:
    """The request with the files of public weights, fetched where they are not here yet, in place of their names."""
    start, teacher = asked.start, asked.teacher
    if given := start.weights or start.finetune:
        start = start.at(find_weights(given, arch))
    if teacher and (name := weights_name(teacher.model, teacher.arch)):
        teacher = Teacher(model=find_weights(name), arch=WEIGHTS[name].architecture)
    return replace(asked, start=start, teacher=teacher)


def _opened(data: Data, layout: str | None) -> Dataset:
    return data if isinstance(data, Dataset) else open_dataset(data, layout)


def _config_of(asked: RunRequest) -> TrainConfig:
    return training_config(
        arch=asked.arch,
        recipe=asked.recipe,
        config=asked.config,
        epochs=asked.epochs,
        settings=asked.settings,
        start=asked.start,
    )


def _base_of(asked: RunRequest) -> TrainConfig:
    return _config_of(replace(asked, epochs=None, settings={}))


def _without_record(asked: RunRequest, data: Sequence[Data], out: Path) -> tuple[TrainConfig, TrainConfig]:
    """The settings, and their base, of a run by an earlier version, or by `training.loop.train`: it left no record.

    Its checkpoint holds the settings alone. What it does not hold must be repeated: InputError names it.
    """
    from reid_edge.training.models.checkpoint import load_checkpoint

    saved = load_checkpoint(out / CHECKPOINT_NAME).training
    if not data:
        raise InputError(f"{out} holds a run without {RECORD_NAME}, which names its data: repeat --data to resume")
    if any("distill" in row.get("losses", ()) for row in saved.get("history", ())) and not (
        asked.teacher or asked.start.qat
    ):
        raise InputError(
            f"{out} holds a run without {RECORD_NAME}, which names its teacher: repeat --teacher to resume"
        )
    if asked.start.file:
        logger.warning("%s is not read: the run in %s goes on from its checkpoint", asked.start.file, out)
    done = TrainConfig.from_dict(saved.get("config", {}))
    if asked.arch or asked.config or asked.start.recipe:
        return _config_of(asked), _base_of(asked)
    config = TrainConfig.from_dict({**done.to_dict(), **asked.settings})
    return config if asked.epochs in (None, config.epochs) else config.for_epochs(asked.epochs), done


def _architecture_in(checkpoint: Path) -> str:
    from reid_edge.training.models.checkpoint import load_checkpoint

    return load_checkpoint(checkpoint).card.architecture


def _shaped_like(config: TrainConfig, checkpoint: Path) -> TrainConfig:
    """Settings that fit the model in a checkpoint: its options, input size and resize."""
    from reid_edge.training.models.checkpoint import load_model

    network, card = load_model(checkpoint, config.arch)
    return replace(config, options=network.options, input_hw=card.input_hw, resize=card.resize)
