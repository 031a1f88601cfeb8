"""The door: models and data sets in, a report out; each crop is decoded and embedded once a model."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from reid_edge.api.models import open_model, require_model
from reid_edge.core.progress import phase
from reid_edge.data.datasets import Dataset, require
from reid_edge.data.records import Crop
from reid_edge.embedder.cameras import CameraStatistics
from reid_edge.embedder.embedder import Embedder
from reid_edge.errors import InputError
from reid_edge.scoring.distances import distance_by_name
from reid_edge.scoring.evaluation import evaluate_features
from reid_edge.scoring.extraction import extract_features
from reid_edge.scoring.features import FeatureSet
from reid_edge.scoring.test_set import TestSet
from reid_edge.scoring.trials import pooled, trained_on

from .cameras import statistics_crops
from .report import CrossDomainCell, CrossDomainReport

__all__ = ["cross_domain"]

Rows = NDArray[np.float32]


def cross_domain(
    models: Sequence[Path | str],
    data: Sequence[Path | str | Dataset],
    *,
    flip: bool = False,
    cameras: bool = False,
    arch: str | None = None,
    distance: str = "cosine",
    batch: int = 32,
    threads: int | None = None,
    progress: bool = False,
) -> CrossDomainReport:
    """Score every model on every data set, each by its own protocol, plain and with the settings asked for.

    ``models`` are model files (``arch`` for foreign ``.pth``), ``data`` folders, manifests or open data sets. ``flip``
    also scores the mean of a crop's and its mirror image's embedding; ``cameras`` also scores embeddings normalised by
    camera (`reid_edge.embedder.cameras`), by statistics of training crops where each camera has 100, else of the
    gallery, and not where the set has no cameras. Each is a setting by itself. A model is at home on a set that its
    card names.

    Raises InputError for no or repeated names, and what `reid_edge.evaluate` raises.

    >>> import reid_edge
    >>> from reid_edge.data.synthetic.dataset import synthesize
    >>> sets = [synthesize(scratch / f"town{i}", identities=2, test_identities=3, cameras=2, seed=i) for i in (0, 1)]
    >>> report = reid_edge.cross_domain([model_file], sets, flip=True)
    >>> report.datasets, report.settings, len(report.cells)
    (('town0', 'town1'), ('plain', 'flip'), 4)
    """
    distance_by_name(distance)
    names = _names([require_model(model, arch) for model in models])
    sets = [TestSet.open(each) for each in data]
    datasets = [pooled(each.dataset) for each in sets]
    _check_names([each.name for each in datasets], "a data set")
    for dataset in datasets:
        require(dataset, "query", "gallery")
    cells: list[CrossDomainCell] = []
    for test_set, dataset in zip(sets, datasets, strict=True):
        with test_set:
            for model, name in zip(models, names, strict=True):
                with phase(f"{name} on {dataset.name}", shown=progress), open_model(model, arch, threads) as engine:
                    with Embedder(engine, batch=batch) as embedder:
                        scored = _Scored(embedder, test_set, dataset, name, distance, progress)
                        cells += scored.cells(flip=flip, cameras=cameras)
    order = sorted(cells, key=lambda cell: names.index(cell.model))  # stable: data sets and settings stay in order
    notices = tuple(dict.fromkeys(notice for each in datasets for notice in each.notices))
    return CrossDomainReport(tuple(order), distance, notices)


class _Scored:
    """One model on one data set."""

    def __init__(
        self, embedder: Embedder, test_set: TestSet, dataset: Dataset, name: str, distance: str, progress: bool
    ) -> None:
        self._embedder, self._test_set, self._dataset = embedder, test_set, dataset
        self._name, self._distance, self._progress = name, distance, progress
        self._crops = (*dataset.split.query, *dataset.split.gallery)

    def cells(self, *, flip: bool, cameras: bool) -> Iterator[CrossDomainCell]:
        """Plain, then what was asked for, from features that are computed once."""
        features = extract_features(self._embedder, self._test_set, flip=flip, progress=self._progress)
        yield self._cell("plain", features)
        if flip:
            yield self._cell("flip", features, flip=True)
        source, known = statistics_crops(self._dataset) if cameras else ("", ())
        if known:
            row = {crop: i for i, crop in enumerate(self._crops)}
            rows = features.embeddings
            seen = self._embed(known) if source == "train" else rows[[row[crop] for crop in known]]
            statistics = CameraStatistics.fit(seen, [crop.camid for crop in known])
            normalised = statistics.normalise(rows, [crop.camid for crop in self._crops])
            yield self._cell("cameras", replace(features, embeddings=normalised), source)

    def _embed(self, crops: Sequence[Crop]) -> Rows:
        """Embeddings of norm 1, float32 [N, D]."""
        paths, card = [crop.path for crop in crops], self._embedder.card
        pixels = self._test_set.decoded(paths, card.input_hw, self._embedder.resize, self._progress)
        return self._embedder.embed(pixels, progress=self._progress)

    def _cell(self, setting: str, features: FeatureSet, statistics: str = "", *, flip: bool = False) -> CrossDomainCell:
        return CrossDomainCell(
            model=self._name,
            dataset=features.dataset,
            part=features.part,
            setting=setting,
            home=trained_on(self._dataset, features.card.trained_on),
            metrics=evaluate_features(features, self._distance, flip=flip).metrics,
            statistics=statistics,
        )


def _names(models: Sequence[Path]) -> list[str]:
    """What to call the models: their files without suffix, with the folder where two are alike."""
    stems = [model.stem for model in models]
    names = [
        stem if stems.count(stem) == 1 else f"{model.parent.name}/{stem}"
        for stem, model in zip(stems, models, strict=True)
    ]
    _check_names(names, "a model")
    return names


def _check_names(names: Sequence[str], what: str) -> None:
    if not names:
        raise InputError(f"there is nothing to score: give {what}")
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise InputError(f"{', '.join(twice)} is given twice: name each once, and rename folders that are called alike")
