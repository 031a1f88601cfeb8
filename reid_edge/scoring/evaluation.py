"""A model scored on a data set: embed its query and gallery, then CMC, mAP and mINP by the data set's protocol."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from reid_edge.card import ModelCard
from reid_edge.data.datasets import Dataset, open_dataset, require
from reid_edge.embedder.embedder import Embedder
from reid_edge.engines.base import Engine
from reid_edge.engines.facts import EngineFacts
from reid_edge.errors import InputError

from .distances import distance_by_name
from .metrics import Metrics
from .test_set import TestSet
from .trials import crop_ids, pooled, protocol_note, score_by_protocol

if TYPE_CHECKING:
    from rich.table import Table

__all__ = ["PLAIN", "Evaluation", "dataset_of", "evaluate", "evaluation_table"]

PLAIN: Mapping[str, Any] = MappingProxyType({"flip": False, "query_expansion": None, "rerank": None})
"""The settings of a plain evaluation: no flip averaging, no query expansion, no re-ranking."""


@dataclass(frozen=True)
class Evaluation:
    """What a model scored, and all that the figures depend on.

    ``model`` names what was scored and ``card`` is its model card; ``resize`` is how crops got to
    its input size; ``dataset`` and ``part`` ("test" or "val") name the crops; ``settings`` names every
    trick of the test that was on or off. ``images_per_second`` counts crops from file to embedding (of a
    `TestSet`, from memory, once it has decoded them) and ``engine`` is what computed them. ``notices`` are
    the data set's, to be shown.
    """

    metrics: Metrics
    dataset: str
    part: str
    model: str
    card: ModelCard
    resize: str
    same_camera_filter: bool
    images_per_second: float
    engine: EngineFacts
    settings: Mapping[str, Any] = field(default_factory=lambda: PLAIN)
    notices: tuple[str, ...] = field(default=(), compare=False)

    @property
    def distance(self) -> str:
        """The distance that ordered the gallery."""
        return self.metrics.distance

    def __repr__(self) -> str:
        scores = f"rank-1 {100 * self.metrics.rank(1):.1f} %, mAP {100 * self.metrics.mAP:.1f} %"
        return f"<Evaluation of {self.model} on {self.dataset} ({self.part}): {scores}, {self.distance} distance>"

    def to_dict(self) -> dict[str, Any]:
        """JSON-able: the figures of `Metrics.to_dict` (fractions), then what they were measured on."""
        return {
            **self.metrics.to_dict(),
            "dataset": self.dataset,
            "part": self.part,
            "model": self.model,
            "architecture": self.card.architecture,
            "precision": self.card.precision,
            "weights_sha256": self.card.weights_sha256,
            "resize": self.resize,
            "settings": {**self.settings, "same_camera_filter": self.same_camera_filter},
            "images_per_second": self.images_per_second,
            **self.engine.to_dict(),
        }


def evaluate(
    model: Path | str | Engine | Embedder,
    data: Path | str | Dataset | TestSet,
    distance: str = "cosine",
    *,
    layout: str | None = None,
    part: str = "test",
    resize: str | None = None,
    batch: int = 32,
    progress: bool = False,
) -> Evaluation:
    """Score ``model`` on the query and gallery crops of ``data``.

    ``model`` is an .onnx file, an open Engine, or an Embedder, which has its own ``resize`` and
    ``batch``. ``data`` is a folder or manifest, read by ``layout`` (None: auto-detected) and ``part`` (LaST has
    "val" and "test"), an open Dataset, or a `TestSet`, whose crops are decoded once for all models scored on it.
    ``distance`` is one of `reid_edge.scoring.distances.DISTANCES`. ``resize`` replaces the card's resize
    method. ``progress`` shows a bar. Nothing is flipped, expanded or re-ranked.

    Raises InputError for bad input: DatasetError when a split is empty, ModelError for a model that cannot
    run, ImageError for a crop that cannot be read, and InputError when no query has a match in another
    camera.
    """
    distance_by_name(distance)  # a misspelt name is refused before minutes of embedding, not after
    dataset = pooled(dataset_of(data, layout, part))
    require(dataset, "query", "gallery")
    query, gallery = dataset.split.query, dataset.split.gallery
    if isinstance(model, Embedder) and resize not in (None, model.resize):
        raise InputError(f"this Embedder resizes by {model.resize}, not {resize}: give resize where it is made")
    with ExitStack() as owned:
        embedder = model if isinstance(model, Embedder) else Embedder(model, batch=batch, resize=resize)
        if embedder is not model:
            owned.enter_context(embedder)
        card, facts = embedder.card, embedder.facts  # opens the model, so that the clock does not count it
        start = time.perf_counter()
        embeddings = embedder.embed(_crops(data, dataset, embedder, progress), progress=progress)
        seconds = time.perf_counter() - start
    metrics = score_by_protocol(
        dataset,
        card.trained_on,
        (embeddings[: len(query)], *crop_ids(query, dataset, 0)),
        (embeddings[len(query) :], *crop_ids(gallery, dataset, len(query))),
        distance=distance,
        progress=progress,
    )
    return Evaluation(
        metrics=metrics,
        dataset=dataset.name,
        part=dataset.part,
        model=Path(model).name if isinstance(model, Path | str) else card.architecture,
        card=card,
        resize=embedder.resize,
        same_camera_filter=dataset.same_camera_filter,
        images_per_second=len(embeddings) / seconds,
        engine=facts,
        notices=dataset.notices,
    )


def evaluation_table(result: Evaluation) -> Table:
    """The figures in per cent, under what they were measured on."""
    from rich.box import SIMPLE_HEAD
    from rich.table import Table

    metrics = result.metrics
    ranks = [k for k in (1, 5, 10, 20) if k <= len(metrics.cmc)]
    shown = [*(metrics.rank(k) for k in ranks), metrics.mAP, metrics.mINP]
    tricks = [name.replace("_", " ") for name, value in result.settings.items() if value]
    table = Table(
        box=SIMPLE_HEAD,
        title_justify="left",
        caption_justify="left",
        padding=0,
        title=f"{result.model} on {result.dataset} ({result.part})",
        caption=f"{result.distance} distance, {result.resize} resize, {', '.join(tricks) or 'no test-time tricks'}\n"
        f"{result.engine}{protocol_note(metrics)}",
    )
    titles = (*(f"rank-{k}" for k in ranks), "mAP", "mINP", "queries with\na match", "gallery", "crops/s")
    for title in titles:
        table.add_column(title, justify="right")
    counts = f"{metrics.valid_queries} of {metrics.queries}", f"{metrics.gallery}", f"{result.images_per_second:.0f}"
    table.add_row(*(f"{100 * value:.1f}" for value in shown), *counts)
    return table


def dataset_of(data: Path | str | Dataset | TestSet, layout: str | None = None, part: str = "test") -> Dataset:
    """The data set in what `evaluate` takes: opened by `open_dataset` where it is a path, else as it is."""
    if isinstance(data, TestSet):
        return data.dataset
    return data if isinstance(data, Dataset) else open_dataset(data, layout, part)


def _crops(
    data: object, dataset: Dataset, embedder: Embedder, progress: bool
) -> Sequence[Path] | Sequence[NDArray[np.uint8]]:
    """The query crops, then the gallery's: files to decode on the way, or what a `TestSet` has decoded."""
    paths = [crop.path for crop in (*dataset.split.query, *dataset.split.gallery)]
    if isinstance(data, TestSet):
        return data.decoded(paths, embedder.card.input_hw, embedder.resize, progress)
    return paths
