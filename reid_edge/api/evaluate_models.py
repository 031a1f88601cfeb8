"""Several models, distances and settings on one test set: features once, an evaluation each, and what is better."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from reid_edge.api.evaluate import features_of, is_features
from reid_edge.data.datasets import Dataset
from reid_edge.errors import InputError
from reid_edge.scoring.distances import distance_by_name
from reid_edge.scoring.evaluation import Evaluation, evaluate_features
from reid_edge.scoring.expansion import QueryExpansion
from reid_edge.scoring.extraction import dataset_of
from reid_edge.scoring.features import FeatureSet, require_features_name
from reid_edge.scoring.report.comparison import ModelComparison, compare_evaluations, names_of
from reid_edge.scoring.rerank import Rerank
from reid_edge.scoring.test_set import TestSet

__all__ = ["Evaluations", "evaluate_models"]


@dataclass(frozen=True)
class Evaluations:
    """Evaluations of one test set, and the paired comparison of each but the first with the first."""

    results: tuple[Evaluation, ...]
    comparisons: tuple[ModelComparison, ...]

    def to_dict(self) -> dict[str, Any]:
        """JSON-able: that of a single evaluation, or lists of "evaluations" and "comparisons"."""
        if len(self.results) == 1:
            return self.results[0].to_dict()
        return {
            "evaluations": [each.to_dict() for each in self.results],
            "comparisons": [each.to_dict() for each in self.comparisons],
        }


def evaluate_models(
    models: Sequence[Path | str | FeatureSet],
    data: Path | str | Dataset | TestSet | None = None,
    *,
    distances: Sequence[str] = ("cosine",),
    flip: bool = False,
    query_expansion: QueryExpansion | None = None,
    rerank: Rerank | None = None,
    max_rank: int = 20,
    roc: bool = False,
    save_features: Path | str | None = None,
    layout: str | None = None,
    part: str = "test",
    progress: bool = False,
    **options: Any,
) -> Evaluations:
    """Evaluate each model by each distance, plainly and, where a trick is on, with it; crops are decoded once.

    ``models`` and ``data`` are what `reid_edge.evaluate` takes, and so are the other parameters; ``options`` are those
    of a model (``arch``, ``resize``, ``batch``, ``threads``, ``backend``) and hold for each. ``save_features`` keeps
    the features of a single model for later calls. Raises InputError for models of different test sets, and what
    `reid_edge.evaluate` raises.

    >>> from reid_edge.data.synthetic.dataset import synthesize
    >>> people = synthesize(scratch / "many", identities=2, test_identities=4, cameras=2, progress=False)
    >>> found = evaluate_models([model_file], people, rerank=Rerank(k1=3, k2=2))
    >>> [each.settings["rerank"] for each in found.results], len(found.comparisons)
    ([None, {'k1': 3, 'k2': 2, 'lambda': 0.3}], 1)
    """
    if not models:
        raise InputError("there is nothing to evaluate: give a model or a features file")
    for distance in distances:
        distance_by_name(distance)
    if save_features is not None:
        if len(models) > 1:
            raise InputError("--save-features (save_features=) keeps the features of one model: give one")
        require_features_name(save_features)
    tricks: dict[str, Any] = {"flip": flip, "query_expansion": query_expansion, "rerank": rerank}
    settings: list[dict[str, Any]] = [{}, tricks] if any(tricks.values()) else [{}]
    results: list[Evaluation] = []
    with ExitStack() as opened:
        if data is not None and not isinstance(data, TestSet):
            data = opened.enter_context(TestSet(dataset_of(data, layout, part))) if len(models) > 1 else data
        for features in _each(models, data, flip=flip, layout=layout, part=part, progress=progress, options=options):
            if save_features is not None:
                features.save(save_features)
            results += [
                evaluate_features(features, distance, **setting, max_rank=max_rank, roc=roc, progress=progress)
                for distance in distances
                for setting in settings
            ]
    names = names_of(results)
    compared = (
        compare_evaluations(results[0], other, names=(names[0], name))
        for other, name in zip(results[1:], names[1:], strict=True)
    )
    return Evaluations(tuple(results), tuple(compared))


def _each(
    models: Sequence[Path | str | FeatureSet], data: Any, *, options: dict[str, Any], **shared: Any
) -> Iterator[FeatureSet]:
    """The features of each model; options of a model are no use to those that are kept beside one."""
    for model in models:
        kept = isinstance(model, FeatureSet) or is_features(model)
        yield features_of(model, data, **shared, **({} if kept and len(models) > 1 else options))
