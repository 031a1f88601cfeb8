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

from .card import ModelCard
from .datasets import Dataset, open_dataset, require
from .distances import distance_by_name
from .embedder import Embedder
from .engine import Engine
from .errors import InputError
from .metrics import Metrics, score
from .records import Crop

if TYPE_CHECKING:
    from rich.table import Table

__all__ = ["PLAIN", "Evaluation", "evaluate", "evaluation_table"]

PLAIN: Mapping[str, Any] = MappingProxyType({"flip": False, "query_expansion": None, "rerank": None})
"""The settings of a plain evaluation: no flip averaging, no query expansion, no re-ranking."""


@dataclass(frozen=True)
class Evaluation:
    """What a model scored, and all that the figures depend on.

    ``model`` names what was scored and ``card`` is its own word on itself; ``resize`` is how crops got to
    its input size; ``dataset`` and ``part`` ("test" or "val") name the crops; ``settings`` names every
    trick of the test that was on or off. ``images_per_second`` counts crops from file to embedding.
    ``notices`` are the data set's, to be shown.
    """

    metrics: Metrics
    dataset: str
    part: str
    model: str
    card: ModelCard
    resize: str
    same_camera_filter: bool
    images_per_second: float
    settings: Mapping[str, Any] = field(default_factory=lambda: PLAIN)
    notices: tuple[str, ...] = field(default=(), compare=False)

    @property
    def distance(self) -> str:
        """The distance that ordered the gallery."""
        return self.metrics.distance

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
        }


def evaluate(
    model: Path | str | Engine | Embedder,
    data: Path | str | Dataset,
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
    ``batch``. ``data`` is a folder or manifest, read by ``layout`` (None: found out) and ``part`` (LaST has
    "val" and "test"), or a Dataset. ``distance`` is one of `reid_edge.distances.DISTANCES`. ``resize``
    replaces the card's way to the input size. ``progress`` shows a bar. Nothing is flipped, expanded or
    re-ranked.

    Raises InputError for bad input: DatasetError when a split is empty, ModelError for a model that cannot
    run, ImageError for a crop that cannot be read, and InputError when no query has a match in another
    camera.
    """
    distance_by_name(distance)  # a misspelt name is told before minutes of embedding, not after
    dataset = data if isinstance(data, Dataset) else open_dataset(data, layout, part)
    require(dataset, "query", "gallery")
    query, gallery = dataset.split.query, dataset.split.gallery
    if isinstance(model, Embedder) and resize not in (None, model.resize):
        raise InputError(f"this Embedder resizes by {model.resize}, not {resize}: give resize where it is made")
    with ExitStack() as owned:
        embedder = model if isinstance(model, Embedder) else Embedder(model, batch=batch, resize=resize)
        if embedder is not model:
            owned.enter_context(embedder)
        card = embedder.card  # opens the model, so that the clock does not count it
        start = time.perf_counter()
        embeddings = embedder.embed([crop.path for crop in (*query, *gallery)], progress=progress)
        seconds = time.perf_counter() - start
    metrics = score(
        *(embeddings[: len(query)], *_ids(query, dataset, 0)),
        *(embeddings[len(query) :], *_ids(gallery, dataset, len(query))),
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
        notices=dataset.notices,
    )


def evaluation_table(result: Evaluation) -> Table:
    """The figures in per cent, under what they were measured on."""
    from rich.table import Table

    metrics = result.metrics
    ranks = [k for k in (1, 5, 10, 20) if k <= len(metrics.cmc)]
    shown = [*(metrics.rank(k) for k in ranks), metrics.mAP, metrics.mINP]
    tricks = [name.replace("_", " ") for name, value in result.settings.items() if value]
    table = Table(
        *(*(f"rank-{k}" for k in ranks), "mAP", "mINP", "queries with a match", "gallery", "crops/s"),
        title=f"{result.model} on {result.dataset} ({result.part})",
        caption=f"{result.distance} distance, {result.resize} resize, {', '.join(tricks) or 'no test-time tricks'}",
    )
    counts = f"{metrics.valid_queries} of {metrics.queries}", f"{metrics.gallery}", f"{result.images_per_second:.0f}"
    table.add_row(*(f"{100 * value:.1f}" for value in shown), *counts)
    return table


def _ids(crops: Sequence[Crop], dataset: Dataset, first: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Person and camera ids [N]; without same-camera filtering every crop, from ``first`` on, is its own camera."""
    pids = np.array([crop.pid for crop in crops], np.int64)
    if not dataset.same_camera_filter:
        return pids, np.arange(first, first + len(crops), dtype=np.int64)
    return pids, np.array([crop.camid for crop in crops], np.int64)
