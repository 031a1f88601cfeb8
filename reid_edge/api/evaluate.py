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
from reid_edge.scoring.evaluation import Evaluation, evaluate_features
from reid_edge.scoring.expansion import QueryExpansion
from reid_edge.scoring.extraction import dataset_of, extract_features
from reid_edge.scoring.features import FEATURES_SUFFIX, FeatureSet
from reid_edge.scoring.rerank import Rerank
from reid_edge.scoring.test_set import TestSet

__all__ = ["evaluate", "features_of", "is_features"]


def evaluate(
    model: Path | str | Engine | Embedder | FeatureSet,
    data: Path | str | Dataset | TestSet | None = None,
    *,
    arch: str | None = None,
    distance: str = "cosine",
    layout: str | None = None,
    part: str = "test",
    resize: str | None = None,
    batch: int = 32,
    threads: int | None = None,
    backend: str | None = None,
    flip: bool = False,
    query_expansion: QueryExpansion | None = None,
    rerank: Rerank | None = None,
    max_rank: int = 20,
    roc: bool = False,
    progress: bool = False,
) -> Evaluation:
    """Score a model on the query and gallery crops of a data set: CMC, mAP and mINP by the data set's protocol.

    ``model`` is any model file (``.onnx``, an engine, a checkpoint; a torchreid or torchvision ``.pth`` with its
    ``arch``), an open Engine or Embedder, or `FeatureSet` that were kept, which need no ``data`` (an ``.npz`` of
    `FeatureSet.save` too). ``data`` is a folder or manifest, read by ``layout`` (None: auto-detected)
    and ``part`` ("test"; LaST also has "val"), an open `Dataset`, or a `TestSet`, which decodes its crops once for all
    models. ``distance`` is one of `reid_edge.scoring.distances.DISTANCES`; ``resize`` replaces the model card's;
    ``threads`` bounds the CPU threads of a model file, ``backend`` names what runs it (`reid_edge.open_engine`).
    ``progress`` shows a bar.

    Tricks of the test are off unless asked for, and named in the result's ``settings``: ``flip`` averages each
    embedding with that of the mirrored crop, ``query_expansion`` (`reid_edge.scoring.expansion.QueryExpansion`) each
    query with what it finds, ``rerank`` (`reid_edge.scoring.rerank.Rerank`) orders the gallery by k-reciprocal
    neighbours. CMC goes to ``max_rank``; ``roc`` adds error rates of a threshold on the distance
    (`reid_edge.scoring.roc.RocCurve`).

    Raises InputError for bad use, DatasetError when a split is empty, ModelError for a model that cannot run,
    ImageError for a crop that cannot be read, and MissingExtraError for a checkpoint where torch is not installed.

    >>> import reid_edge
    >>> from reid_edge.data.synthetic.dataset import synthesize
    >>> people = synthesize(scratch / "people", identities=2, test_identities=4, cameras=2, progress=False)
    >>> result = reid_edge.evaluate(model_file, people)
    >>> result.metrics.queries, 0 < result.metrics.mAP <= 1
    (8, True)
    """
    distance_by_name(distance)
    features = features_of(
        model,
        data,
        arch=arch,
        layout=layout,
        part=part,
        resize=resize,
        batch=batch,
        threads=threads,
        backend=backend,
        flip=flip,
        progress=progress,
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


def features_of(
    model: Path | str | Engine | Embedder | FeatureSet,
    data: Path | str | Dataset | TestSet | None = None,
    *,
    arch: str | None = None,
    layout: str | None = None,
    part: str = "test",
    resize: str | None = None,
    batch: int = 32,
    threads: int | None = None,
    backend: str | None = None,
    flip: bool = False,
    progress: bool = False,
) -> FeatureSet:
    """Embed the query and gallery crops of a data set once, for any number of calls of `evaluate`.

    The parameters and errors are those of `evaluate`. Features that were kept are given back; with ``data`` their
    names and crops are held against it. With ``flip`` the mirrored crops are embedded too: `evaluate` then scores both
    ways.

    >>> from reid_edge.data.synthetic.dataset import synthesize
    >>> people = synthesize(scratch / "kept", identities=2, test_identities=4, cameras=2, progress=False)
    >>> features = features_of(model_file, people, flip=True)
    >>> features.save(scratch / "features.npz")
    >>> for distance in ("euclidean", "cityblock"):
    ...     print(evaluate(scratch / "features.npz", distance=distance, flip=True).distance)
    euclidean
    cityblock
    """
    options: dict[str, object] = {"arch": arch, "threads": threads, "backend": backend, "resize": resize}
    if isinstance(model, Path | str) and is_features(model):
        model = FeatureSet.load(model)
    if isinstance(model, FeatureSet):
        return _kept(model, data, layout, part, options)
    if data is None:
        raise InputError("a model needs crops to embed: give --data DATASET (data=)")
    if not isinstance(model, Path | str):
        if arch or threads or backend:
            raise InputError("an open model has these: leave arch, threads and backend out")
        return extract_features(
            model, data, layout=layout, part=part, resize=resize, batch=batch, flip=flip, progress=progress
        )
    name = require_model(model, arch, backend=backend).name
    if resize is not None:
        check_method(resize)
    with phase(f"embedding with {name}", shown=progress):
        opened = data if isinstance(data, TestSet) else dataset_of(data, layout, part)
        with open_model(model, arch, threads, backend) as engine:
            found = extract_features(engine, opened, resize=resize, batch=batch, flip=flip, progress=progress)
    return replace(found, model=name)


def is_features(model: object) -> bool:
    """Whether this is a file of `FeatureSet.save`, by its suffix.

    >>> is_features("osnet.npz"), is_features("osnet.onnx")
    (True, False)
    """
    return isinstance(model, Path | str) and Path(model).suffix.lower() == FEATURES_SUFFIX


def _kept(
    features: FeatureSet,
    data: Path | str | Dataset | TestSet | None,
    layout: str | None,
    part: str,
    options: dict[str, object],
) -> FeatureSet:
    """The features, if they are of this data set; raises InputError otherwise, and for options of a model."""
    if unused := [name for name, value in options.items() if value is not None]:
        raise InputError(f"features are embeddings already: leave --{unused[0]} ({unused[0]}=) out")
    if data is not None:
        features.require_data(dataset_of(data, layout, part))
    return features
