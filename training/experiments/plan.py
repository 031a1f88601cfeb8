"""The paper's experiments as data: the cells of its tables, and the jobs that fill them.

A `Cell` is one figure of the tables: a model, what it was trained on, and what it was scored on. Every cell becomes an
evaluation, which stands on a training, which may stand on another; `jobs_for` lists each of them once, in an order in
which everything comes after what it needs.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from reid_edge.datasets import Dataset
from reid_edge.errors import InputError

from .config import TrainConfig
from .recipes import recipe_for

__all__ = [
    "FINETUNE_EPOCHS",
    "MODELS",
    "TITLES",
    "Cell",
    "Job",
    "Work",
    "cells_of",
    "jobs_for",
    "recipe_maker",
    "work_of",
]

MODELS = ("osnet_x0_25", "mobilenetv3_large", "resnet50_bot")
"""The paper's three, the quickest first, so that there is something to see early."""

TITLES = {"market": "Market-1501", "duke": "DukeMTMC-reID", "last": "LaST"}
"""The data sets by the name of their option, and as published."""

FINETUNE_EPOCHS = 10

_MATRIX = (
    ("market", None, "market"),
    ("duke", None, "duke"),
    ("market", None, "last"),
    # As it comes, then after fine-tuning: the second is read against the first.
    ("market", None, "duke"),
    ("market", "duke", "duke"),
    ("duke", None, "market"),
    ("duke", "market", "market"),
)
"""What the paper crossed: (trained on, fine-tuned on, scored on)."""

_BACKWARD = 3.0  # a trained crop costs about as much as three embedded ones: forward, and backward twice that


@dataclass(frozen=True)
class Cell:
    """One place of the tables. ``trained_on``, ``finetuned_on`` and ``scored_on`` are keys of `TITLES`."""

    model: str
    recipe: str
    trained_on: str
    finetuned_on: str | None
    scored_on: str

    @property
    def needs(self) -> tuple[str, ...]:
        """The data sets without which this cell stays empty."""
        used = self.trained_on, self.finetuned_on, self.scored_on
        return tuple(dict.fromkeys(name for name in used if name))


@dataclass(frozen=True)
class Job:
    """One step of the plan, in a folder of its own below the output folder.

    ``folder`` is its name too. ``kind`` is "train", "finetune" or "evaluate"; ``data`` is what it trains or scores
    on; ``after`` is the job whose model it starts from or scores; ``config`` is its recipe, None for an evaluation.
    """

    folder: str
    kind: str
    model: str
    recipe: str
    data: str
    after: str | None = None
    config: TrainConfig | None = None


@dataclass(frozen=True)
class Work:
    """How many crops jobs go through, each epoch counted."""

    trained: int
    embedded: int

    def hours(self, images_per_second: float) -> float:
        """About how long it takes at a training speed; embedding a crop counts as a third of training on it."""
        return (self.trained + self.embedded / _BACKWARD) / images_per_second / 3600

    def __str__(self) -> str:
        return f"{self.trained:,} crops to train on and {self.embedded:,} to embed"


def cells_of(models: Sequence[str], recipes: Sequence[str]) -> list[Cell]:
    """All cells, also those for which data may be missing, model after model."""
    return [Cell(model, recipe, *row) for recipe in recipes for model in models for row in _MATRIX]


def recipe_maker(epochs: int | None, change: Mapping[str, Any]) -> Callable[[str, str, bool], TrainConfig]:
    """A function of model, recipe and whether it is fine-tuning that gives the recipe.

    ``epochs`` replaces each training's own number and bounds that of fine-tuning; ``change`` replaces other settings
    of every recipe. Raises InputError for a setting that is unknown or cannot be.
    """

    def recipe_of(model: str, recipe: str, finetune: bool) -> TrainConfig:
        asked = min(epochs or FINETUNE_EPOCHS, FINETUNE_EPOCHS) if finetune else epochs
        try:
            return replace(recipe_for(model, asked, recipe), **change)
        except TypeError:
            known = ", ".join(TrainConfig.__dataclass_fields__)
            raise InputError(f"unknown training settings in {', '.join(change)}: the known ones are {known}") from None

    return recipe_of


def jobs_for(
    cells: Sequence[Cell],
    datasets: Mapping[str, Dataset],
    recipe_of: Callable[[str, str, bool], TrainConfig],
) -> dict[Cell, list[Job]]:
    """The jobs behind each cell whose data is given, in the order in which they must run; the last one scores it.

    Cells share jobs: equal jobs are one.
    """
    planned = {}
    for cell in cells:
        if not all(name in datasets for name in cell.needs):
            continue
        stem = f"{cell.model}-{cell.recipe}-{cell.trained_on}"
        config = recipe_of(cell.model, cell.recipe, False)
        jobs = [Job(f"train/{stem}", "train", cell.model, cell.recipe, cell.trained_on, config=config)]
        if cell.finetuned_on:
            stem += f"-{cell.finetuned_on}"
            config = recipe_of(cell.model, cell.recipe, True)
            after = jobs[-1].folder
            jobs.append(Job(f"finetune/{stem}", "finetune", cell.model, cell.recipe, cell.finetuned_on, after, config))
        part = datasets[cell.scored_on].part
        scored = f"evaluate/{stem}--{cell.scored_on}-{part}"
        jobs.append(Job(scored, "evaluate", cell.model, cell.recipe, cell.scored_on, jobs[-1].folder))
        planned[cell] = jobs
    return planned


def work_of(jobs: Sequence[Job], datasets: Mapping[str, Dataset]) -> Work:
    """The crops that ``jobs`` go through."""
    trained = embedded = 0
    for job in jobs:
        split = datasets[job.data].split
        if job.config is None:
            embedded += len(split.query) + len(split.gallery)
        else:
            trained += job.config.epochs * len(split.train)
    return Work(trained, embedded)
