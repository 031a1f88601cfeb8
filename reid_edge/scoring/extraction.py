"""A model and a data set to features: what `reid_edge.scoring.features` keeps."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from reid_edge.core.progress import track
from reid_edge.data.datasets import Dataset, open_dataset, require
from reid_edge.data.images import read_crop
from reid_edge.embedder.embedder import Embedder
from reid_edge.engines.base import Engine
from reid_edge.errors import InputError

from .features import FeatureSet, ids_of
from .test_set import TestSet
from .trials import pooled, trial_rows

__all__ = ["dataset_of", "extract_features"]


def extract_features(
    model: Path | str | Engine | Embedder,
    data: Path | str | Dataset | TestSet,
    *,
    layout: str | None = None,
    part: str = "test",
    resize: str | None = None,
    batch: int = 32,
    flip: bool = False,
    progress: bool = False,
) -> FeatureSet:
    """Embed the query and gallery crops of ``data``, with ``flip`` their mirror images too.

    The parameters are those of `reid_edge.scoring.evaluation.evaluate`, and so are the errors.
    """
    dataset = pooled(dataset_of(data, layout, part))
    require(dataset, "query", "gallery")
    if isinstance(model, Embedder) and resize not in (None, model.resize):
        raise InputError(f"this Embedder resizes by {model.resize}, not {resize}: give resize where it is made")
    with ExitStack() as owned:
        embedder = model if isinstance(model, Embedder) else Embedder(model, batch=batch, resize=resize)
        if embedder is not model:
            owned.enter_context(embedder)
        card, facts = embedder.card, embedder.facts  # opens the model, so that the clock does not count it
        start = time.perf_counter()
        crops = _crops(data, dataset, embedder, progress)
        embeddings, flipped = _embedded(embedder, crops, flip, progress)
        seconds = time.perf_counter() - start
    pids, camids = ids_of(dataset)
    return FeatureSet(
        embeddings=embeddings,
        flipped=flipped,
        pids=pids,
        camids=camids,
        queries=len(dataset.split.query),
        model=Path(model).name if isinstance(model, Path | str) else card.architecture,
        card=card,
        engine=facts,
        dataset=dataset.name,
        part=dataset.part,
        resize=embedder.resize,
        same_camera_filter=dataset.same_camera_filter,
        images_per_second=len(embeddings) / seconds,
        notices=dataset.notices,
        trials=trial_rows(dataset, card.trained_on),
        single_gallery_shot=dataset.single_gallery_shot,
    )


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


def _embedded(
    embedder: Embedder, crops: Sequence[Path] | Sequence[NDArray[np.uint8]], flip: bool, progress: bool
) -> tuple[NDArray[np.float32], NDArray[np.float32] | None]:
    """The embeddings [N, D], and with ``flip`` those of the mirror images; each crop is decoded once."""
    if not flip:
        return embedder.embed(crops, progress=progress), None
    input_hw, resize = embedder.card.input_hw, embedder.resize

    def both_ways() -> Iterator[NDArray[np.uint8]]:
        each: Iterable[Path | NDArray[np.uint8]] = crops
        for crop in track(each, "embedding, flipped too", len(crops)) if progress else each:
            image = crop if isinstance(crop, np.ndarray) else read_crop(crop, input_hw, resize)
            yield image
            yield image[:, ::-1]

    found = embedder.embed(both_ways())
    return np.ascontiguousarray(found[::2]), np.ascontiguousarray(found[1::2])
