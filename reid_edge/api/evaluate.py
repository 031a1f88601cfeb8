"""The door to scoring: any model file on any data set."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from reid_edge.api.models import open_model, require_model
from reid_edge.core.progress import phase
from reid_edge.data.datasets import Dataset
from reid_edge.data.images import check_method
from reid_edge.embedder.embedder import Embedder
from reid_edge.engines.base import Engine
from reid_edge.errors import InputError
from reid_edge.scoring.distances import distance_by_name
from reid_edge.scoring.evaluation import Evaluation, dataset_of
from reid_edge.scoring.evaluation import evaluate as evaluate_engine
from reid_edge.scoring.test_set import TestSet

__all__ = ["evaluate"]


def evaluate(
    model: Path | str | Engine | Embedder,
    data: Path | str | Dataset | TestSet,
    *,
    arch: str | None = None,
    distance: str = "cosine",
    layout: str | None = None,
    part: str = "test",
    resize: str | None = None,
    batch: int = 32,
    threads: int | None = None,
    backend: str | None = None,
    progress: bool = False,
) -> Evaluation:
    """Score a model on the query and gallery crops of a data set: CMC, mAP and mINP by the data set's protocol.

    ``model`` is any model file (``.onnx``, an engine, a checkpoint; a torchreid or torchvision ``.pth`` with its
    ``arch``), or an open Engine or Embedder. ``data`` is a folder or manifest, read by ``layout`` (None: auto-detected)
    and ``part`` ("test"; LaST also has "val"), an open `Dataset`, or a `TestSet`, which decodes its crops once for all
    models. ``distance`` is one of `reid_edge.scoring.distances.DISTANCES`; ``resize`` replaces the model card's;
    ``threads`` bounds the CPU threads of a model file, ``backend`` names what runs it (`reid_edge.open_engine`).
    ``progress`` shows a bar.

    Raises InputError for bad use, DatasetError when a split is empty, ModelError for a model that cannot run,
    ImageError for a crop that cannot be read, and MissingExtraError for a checkpoint where torch is not installed.

    >>> import reid_edge
    >>> from reid_edge.data.synthetic.dataset import synthesize
    >>> people = synthesize(scratch / "people", identities=2, test_identities=4, cameras=2, progress=False)
    >>> result = reid_edge.evaluate(model_file, people)
    >>> result.metrics.queries, 0 < result.metrics.mAP <= 1
    (8, True)
    """
    if not isinstance(model, Path | str):
        if arch or threads or backend:
            raise InputError("an open model has these: leave arch, threads and backend out")
        return evaluate_engine(
            model, data, distance=distance, layout=layout, part=part, resize=resize, batch=batch, progress=progress
        )
    name = require_model(model, arch, backend=backend).name
    distance_by_name(distance)
    if resize is not None:
        check_method(resize)
    with phase(f"scoring {name}", shown=progress):
        opened = data if isinstance(data, TestSet) else dataset_of(data, layout, part)
        with open_model(model, arch, threads, backend) as engine:
            result = evaluate_engine(engine, opened, distance=distance, resize=resize, batch=batch, progress=progress)
    return replace(result, model=name)
