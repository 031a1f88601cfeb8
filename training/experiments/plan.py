"""The paper's experiments as data: the cells of its tables, and the jobs that fill them.

A `Cell` is one figure of the tables: an architecture, the data it was trained on, and the data it was evaluated on.
Every cell is an evaluation of a training, which may start from another training; `jobs_for` lists each of them once, in
an order in which every job comes after those that it needs.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from reid_edge.data.datasets import Dataset
from reid_edge.errors import InputError
from reid_edge.training.recipe.config import TrainConfig
from reid_edge.training.recipe.recipes import recipe_for

__all__ = [
    "ARCHS",
    "DATA_TITLES",
    "FINETUNE_EPOCHS",
    "Cell",
    "Job",
    "Work",
    "cells_of",
    "jobs_for",
    "recipe_maker",
    "work_of",
]

ARCHS = ("osnet_x0_25", "mobilenetv3_large", "resnet50_bot")
"""The paper's three, the fastest first, so that the first figures come early."""

DATA_TITLES = {"market": "Market-1501", "duke": "DukeMTMC-reID", "last": "LaST"}
"""The data sets' published names, by the name of their option."""

FINETUNE_EPOCHS = 10

_MATRIX = (
    ("market", None, "market"),
    ("duke", None, "duke"),
    ("market", None, "last"),
    # Without and with fine-tuning, to compare the two.
    ("market", None, "duke"),
    ("market", "duke", "duke"),
    ("duke", None, "market"),
    ("duke", "market", "market"),
)
"""The paper's combinations: (trained on, fine-tuned on, scored on)."""

_TRAIN_COST = 3.0  # in embedded crops: a forward pass, and a backward pass of twice its cost


@dataclass(frozen=True)
class Cell:
    """One place of the tables. ``trained_on``, ``finetuned_on`` and ``scored_on`` are keys of `DATA_TITLES`."""

    arch: str
    recipe: str
    trained_on: str
    finetuned_on: str | None
    scored_on: str

    @property
    def needs(self) -> tuple[str, ...]:
        """The data sets that this cell cannot be filled without."""
        used = self.trained_on, self.finetuned_on, self.scored_on
        return tuple(dict.fromkeys(name for name in used if name))


@dataclass(frozen=True)
class Job:
    """One step of the plan, in a folder of its own below the output folder.

    ``folder`` is its name too. ``kind`` is "train", "finetune" or "evaluate"; ``data`` is the data set that it trains
    or scores on; ``after`` is the job whose model it starts from or scores; ``config`` is its recipe, None for an
    evaluation.
    """

    folder: str
    kind: str
    arch: str
    recipe: str
    data: str
    after: str | None = None
    config: TrainConfig | None = None


@dataclass(frozen=True)
class Work:
    """The crops that jobs train on and embed, counted in every epoch."""

    trained: int
    embedded: int

    def hours(self, images_per_second: float) -> float:
        """About how long it takes at a training speed; embedding a crop counts as a third of training on it."""
        return (self.trained + self.embedded / _TRAIN_COST) / images_per_second / 3600

    def __str__(self) -> str:
        return f"{self.trained:,} crops to train on and {self.embedded:,} to embed"


def cells_of(archs: Sequence[str], recipes: Sequence[str]) -> list[Cell]:
    """All cells, also those whose data may be missing, one architecture after the other."""
    return [Cell(arch, recipe, *row) for recipe in recipes for arch in archs for row in _MATRIX]


def recipe_maker(epochs: int | None, change: Mapping[str, Any]) -> Callable[[str, str, bool], TrainConfig]:
    """A function from (architecture, recipe name, whether it fine-tunes) to the settings.

    ``epochs`` replaces each training's own number and is the maximum for fine-tuning; ``change`` replaces other
    settings of every recipe. The function raises InputError for a setting that is unknown or out of bounds.
    """

    def recipe_of(arch: str, recipe: str, finetune: bool) -> TrainConfig:
        length = min(epochs or FINETUNE_EPOCHS, FINETUNE_EPOCHS) if finetune else epochs
        try:
            return replace(recipe_for(arch, length, recipe), **change)
        except TypeError:
            known = ", ".join(TrainConfig.__dataclass_fields__)
            raise InputError(f"unknown training settings in {', '.join(change)}: the known ones are {known}") from None

    return recipe_of


def jobs_for(
    cells: Sequence[Cell],
    datasets: Mapping[str, Dataset],
    recipe_of: Callable[[str, str, bool], TrainConfig],
) -> dict[Cell, list[Job]]:
    """The jobs of each cell whose data is given, in the order in which they must run; the last one evaluates.

    Cells share jobs: equal jobs have the same folder.
    """
    planned = {}
    for cell in cells:
        if not all(name in datasets for name in cell.needs):
            continue
        stem = f"{cell.arch}-{cell.recipe}-{cell.trained_on}"
        config = recipe_of(cell.arch, cell.recipe, False)
        jobs = [Job(f"train/{stem}", "train", cell.arch, cell.recipe, cell.trained_on, config=config)]
        if cell.finetuned_on:
            stem += f"-{cell.finetuned_on}"
            config = recipe_of(cell.arch, cell.recipe, True)
            after = jobs[-1].folder
            jobs.append(Job(f"finetune/{stem}", "finetune", cell.arch, cell.recipe, cell.finetuned_on, after, config))
        part = datasets[cell.scored_on].part
        scored = f"evaluate/{stem}--{cell.scored_on}-{part}"
        jobs.append(Job(scored, "evaluate", cell.arch, cell.recipe, cell.scored_on, jobs[-1].folder))
        planned[cell] = jobs
    return planned


def work_of(jobs: Sequence[Job], datasets: Mapping[str, Dataset]) -> Work:
    """The crops that ``jobs`` train on and embed."""
    trained = embedded = 0
    for job in jobs:
        split = datasets[job.data].split
        if job.config is None:
            embedded += len(split.query) + len(split.gallery)
        else:
            trained += job.config.epochs * len(split.train)
    return Work(trained, embedded)
