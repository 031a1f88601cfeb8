"""A model scored on a data set: features of query and gallery, then CMC, mAP and mINP by the data set's protocol."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np

from reid_edge.card import ModelCard
from reid_edge.data.datasets import Dataset
from reid_edge.embedder.embedder import Embedder
from reid_edge.engines.base import Engine
from reid_edge.engines.facts import EngineFacts
from reid_edge.errors import InputError

from .blocks import DistanceBlocks
from .bootstrap import Interval, interval_of
from .distances import Distance, distance_by_name
from .expansion import QueryExpansion, expanded_queries
from .extraction import dataset_of, extract_features
from .features import FeatureSet
from .metrics import Metrics, score_blocks
from .rerank import Rerank, reranked
from .roc import RocCurve, roc_blocks
from .test_set import TestSet
from .trials import mean_of_trials, single_gallery_shot_cmc

__all__ = ["PLAIN", "Evaluation", "dataset_of", "evaluate", "evaluate_features"]

PLAIN: Mapping[str, Any] = MappingProxyType({"flip": False, "query_expansion": None, "rerank": None})
"""The settings of a plain evaluation: no flip averaging, no query expansion, no re-ranking."""


@dataclass(frozen=True)
class Evaluation:
    """What a model scored, and all that the figures depend on.

    ``model`` names what was scored and ``card`` is its model card; ``resize`` is how crops got to
    its input size; ``dataset`` and ``part`` ("test" or "val") name the crops; ``settings`` names every
    trick of the test that was on or off. ``images_per_second`` counts crops from file to embedding (of a
    `TestSet`, from memory, once it has decoded them) and ``engine`` is what computed them. ``notices`` are
    the data set's, to be shown. ``roc`` is there where it was asked for.
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
    roc: RocCurve | None = field(default=None, compare=False)

    @property
    def distance(self) -> str:
        """The distance that ordered the gallery."""
        return self.metrics.distance

    @cached_property
    def intervals(self) -> dict[str, Interval]:
        """The 95 % intervals of mAP and rank1, by a bootstrap over identities (`reid_edge.scoring.bootstrap`)."""
        metrics = self.metrics
        per_query = {"mAP": metrics.average_precision, "rank1": metrics.first_match == 1}
        return {name: interval_of(values, metrics.persons) for name, values in per_query.items()}

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
            "intervals_95": {name: [each.low, each.high] for name, each in self.intervals.items()},
            **({"roc": self.roc.to_dict()} if self.roc else {}),
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
    flip: bool = False,
    query_expansion: QueryExpansion | None = None,
    rerank: Rerank | None = None,
    max_rank: int = 20,
    roc: bool = False,
    progress: bool = False,
) -> Evaluation:
    """Score ``model`` on the query and gallery crops of ``data``: `extract_features`, then `evaluate_features`.

    ``model`` is an .onnx file, an open Engine, or an Embedder, which has its own ``resize`` and
    ``batch``. ``data`` is a folder or manifest, read by ``layout`` (None: auto-detected) and ``part`` (LaST has
    "val" and "test"), an open Dataset, or a `TestSet`, whose crops are decoded once for all models scored on it.
    ``distance`` is one of `reid_edge.scoring.distances.DISTANCES`. ``resize`` replaces the card's resize
    method. ``progress`` shows a bar. For the others see `evaluate_features`.

    Raises InputError for bad input: DatasetError when a split is empty, ModelError for a model that cannot
    run, ImageError for a crop that cannot be read, and InputError when no query has a match in another
    camera.
    """
    distance_by_name(distance)  # a misspelt name is refused before minutes of embedding, not after
    features = extract_features(
        model, data, layout=layout, part=part, resize=resize, batch=batch, flip=flip, progress=progress
    )
    return evaluate_features(
        features,
        distance,
        flip=flip,
        query_expansion=query_expansion,
        rerank=rerank,
        max_rank=max_rank,
        roc=roc,
        progress=progress,
    )


def evaluate_features(
    features: FeatureSet,
    distance: str = "cosine",
    *,
    flip: bool = False,
    query_expansion: QueryExpansion | None = None,
    rerank: Rerank | None = None,
    max_rank: int = 20,
    roc: bool = False,
    progress: bool = False,
) -> Evaluation:
    """Score features; each trick of the test is off unless it is asked for, and named in `Evaluation.settings`.

    ``flip`` averages each embedding with that of the mirrored crop, ``query_expansion`` each query with what it finds,
    and ``rerank`` orders the gallery by k-reciprocal neighbours, in this order. ``max_rank`` is how far CMC goes;
    ``roc`` adds the ROC. Raises InputError for features without flipped crops, an unknown distance, and when no query
    has a match in another camera.
    """
    measure, trials = distance_by_name(distance), features.by_trial()
    if roc and len(trials) > 1:
        raise InputError(
            f"{features.dataset} is scored in {len(trials)} trials, which have no common ROC: leave --roc (roc=) out"
        )
    tricks = _Tricks(flip, query_expansion, rerank)
    scored = [_scored(trial, measure, tricks, max_rank, progress) for trial in trials]
    metrics = [each for each, _ in scored]
    return Evaluation(
        metrics=mean_of_trials(metrics, features.single_gallery_shot) if features.own_protocol else metrics[0],
        dataset=features.dataset,
        part=features.part,
        model=features.model,
        card=features.card,
        resize=features.resize,
        same_camera_filter=features.same_camera_filter,
        images_per_second=features.images_per_second,
        engine=features.engine,
        settings=tricks.to_dict(),
        notices=features.notices,
        roc=roc_blocks(scored[0][1], *trials[0].labels, progress=progress) if roc else None,
    )


@dataclass(frozen=True)
class _Tricks:
    """What is on of the test's tricks."""

    flip: bool
    query_expansion: QueryExpansion | None
    rerank: Rerank | None

    def to_dict(self) -> dict[str, Any]:
        """The keys of `PLAIN`, with the parameters of what is on."""
        on = {"query_expansion": self.query_expansion, "rerank": self.rerank}
        return {"flip": self.flip, **{name: options.to_dict() if options else None for name, options in on.items()}}


def _scored(
    features: FeatureSet, measure: Distance, tricks: _Tricks, max_rank: int, progress: bool
) -> tuple[Metrics, DistanceBlocks]:
    """The figures of one test, and its distances in blocks."""
    embeddings, count = features.averaged(tricks.flip), features.queries
    queries, gallery = embeddings[:count], embeddings[count:]
    if tricks.query_expansion:
        queries = expanded_queries(queries, gallery, tricks.query_expansion)
    if tricks.rerank:
        every = np.concatenate([queries, gallery]) if tricks.query_expansion else embeddings
        blocks = reranked(every, count, measure.name, tricks.rerank, progress=progress)
    else:
        block = measure.against(gallery)
        blocks = lambda rows: block(queries[rows])  # noqa: E731 - a name for it would stand where nobody looks
    metrics = score_blocks(blocks, *features.labels, distance=measure.name, max_rank=max_rank, progress=progress)
    if features.single_gallery_shot:
        metrics = replace(metrics, cmc=single_gallery_shot_cmc(blocks, *features.labels, max_rank=len(metrics.cmc)))
    return metrics, blocks
