"""Single-gallery-shot CMC beside all draws one by one, and the mean over trials beside each trial scored alone."""

from __future__ import annotations

import json
from dataclasses import replace
from itertools import product
from pathlib import Path

import numpy as np
import pytest
from helpers.drawn_layouts import paint_crops
from helpers.tiny_onnx import write_tiny_model
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from reid_edge.api.models import open_model
from reid_edge.card import ModelCard
from reid_edge.data.datasets import Dataset, open_dataset
from reid_edge.data.records import Crop, Listing, Split
from reid_edge.engines.facts import EngineFacts
from reid_edge.errors import InputError
from reid_edge.scoring.evaluation import evaluate, evaluate_features
from reid_edge.scoring.extraction import extract_features
from reid_edge.scoring.features import FeatureSet, ids_of
from reid_edge.scoring.metrics import score
from reid_edge.scoring.report.table import evaluation_table
from reid_edge.scoring.rerank import Rerank
from reid_edge.scoring.test_set import TestSet
from reid_edge.scoring.trials import TrialMetrics, pooled, single_gallery_shot_cmc, trial_rows

PERSONS = st.lists(st.tuples(st.integers(-1, 3), st.integers(0, 1)), min_size=1, max_size=7)


def every_draw(
    row: NDArray[np.float32], pid: int, camid: int, pids: list[int], camids: list[int], ranks: int
) -> list[float] | None:
    """CMC of one query over every way to draw a crop of each person, from the definition; None without a match."""
    persons: dict[int, list[int]] = {}
    for j, person in enumerate(pids):
        if not (person == pid and camids[j] == camid):
            persons.setdefault(person if person >= 0 else -1 - j, []).append(j)
    if pid < 0 or pid not in persons:
        return None
    found = []
    for drawn in product(*persons.values()):
        order = sorted(drawn, key=lambda j: (row[j], j))
        rank = [pids[j] for j in order].index(pid)
        found.append([float(rank < k) for k in range(1, ranks + 1)])
    return [sum(column) / len(found) for column in zip(*found, strict=True)]


@settings(max_examples=150, deadline=None)
@given(query=PERSONS, gallery=PERSONS, seed=st.integers(0, 99), levels=st.integers(2, 20))
def test_the_mean_over_all_draws(
    query: list[tuple[int, int]], gallery: list[tuple[int, int]], seed: int, levels: int
) -> None:
    """Few levels of distance make ties, ids of -1 distractors, shared cameras crops to drop."""
    matrix = np.random.default_rng(seed).integers(0, levels, (len(query), len(gallery))).astype(np.float32)
    pids, camids = [each[0] for each in gallery], [each[1] for each in gallery]
    naive = [every_draw(row, *each, pids, camids, 4) for row, each in zip(matrix, query, strict=True)]
    counted = [each for each in naive if each is not None]
    labels = [each[0] for each in query], [each[1] for each in query], pids, camids
    if not counted:
        with pytest.raises(InputError, match="no query has a match"):
            single_gallery_shot_cmc(matrix.__getitem__, *labels, max_rank=4)
        return
    found = single_gallery_shot_cmc(matrix.__getitem__, *labels, max_rank=4)
    np.testing.assert_allclose(found, np.mean(counted, axis=0), atol=1e-12)


def test_with_one_crop_of_each_person_it_is_cmc() -> None:
    random = np.random.default_rng(0)
    queries, gallery, pids = random.random((30, 4)), random.random((30, 4)), np.arange(30)
    plain = score(queries, pids, pids * 0, gallery, pids, pids * 0 + 1, distance="euclidean").cmc
    matrix = np.linalg.norm(queries[:, None] - gallery, axis=2).astype(np.float32)
    shot = single_gallery_shot_cmc(matrix.__getitem__, pids, pids * 0, pids, pids * 0 + 1)
    np.testing.assert_allclose(shot, plain, atol=1e-12)


def test_a_distance_that_is_no_number_is_refused() -> None:
    with pytest.raises(InputError, match="NaN or infinite"):
        single_gallery_shot_cmc(np.full((1, 1), np.nan).__getitem__, [1], [0], [1], [1])


def trials_of(folder: Path, *, single_gallery_shot: bool = False) -> tuple[Dataset, NDArray[np.float32]]:
    """Six persons by two cameras, halved twice; and an embedding for each crop of `pooled`, queries first."""
    crops = {(pid, camera): Crop(folder / f"{pid}_{camera}.png", pid, camera) for pid in range(6) for camera in (1, 2)}

    def trial(tested: tuple[int, ...]) -> Split:
        train = tuple(crop for crop in crops.values() if crop.pid not in tested)
        return Split(train, *(tuple(crops[pid, camera] for pid in tested) for camera in (1, 2)))

    trials = trial((0, 1, 2)), trial((2, 3, 4, 5))
    listing = Listing(trials[0], trials=trials)
    dataset = Dataset("set", "viper", folder, listing, single_gallery_shot=single_gallery_shot)
    return pooled(dataset), np.random.default_rng(3).random((12, 5)).astype(np.float32)


def scored(dataset: Dataset, embeddings: NDArray[np.float32], trained_on: str = "") -> TrialMetrics:
    card = ModelCard("drawn", embedding_dim=5, weights_sha256="ab" * 32)
    values = ("drawn", card, EngineFacts("none", "NumPy", {}, 1, ""), "set", "test", "opencv", True, 10.0)
    protocol = {"trials": trial_rows(dataset, trained_on), "single_gallery_shot": dataset.single_gallery_shot}
    features = replace(FeatureSet(embeddings, None, *ids_of(dataset), 6, *values), **protocol)
    found = evaluate_features(features, "euclidean").metrics
    assert isinstance(found, TrialMetrics)
    return found


def test_each_trial_is_scored_by_itself_and_the_mean_counts(tmp_path: Path) -> None:
    dataset, embeddings = trials_of(tmp_path)
    assert [crop.pid for crop in dataset.split.query] == [0, 1, 2, 3, 4, 5], "each crop is embedded once"
    found = scored(dataset, embeddings)
    alone = []
    for pids in ([0, 1, 2], [2, 3, 4, 5]):
        rows = np.array(pids)
        alone.append(
            score(
                embeddings[rows],
                pids,
                [1] * len(pids),
                embeddings[6 + rows],
                pids,
                [2] * len(pids),
                distance="euclidean",
            )
        )
    assert [trial.to_dict() for trial in found.trials] == [each.to_dict() for each in alone]
    assert found.mAP == pytest.approx((alone[0].mAP + alone[1].mAP) / 2, abs=1e-15)
    np.testing.assert_allclose(found.cmc, (alone[0].cmc + alone[1].cmc) / 2)
    assert found.deviation["mAP"] == pytest.approx(abs(alone[0].mAP - alone[1].mAP) / 2**0.5)
    assert (found.queries, found.valid_queries, found.gallery, len(found.average_precision)) == (7, 7, 4, 7)
    assert json.loads(json.dumps(found.to_dict()))["trials"] == 2


@pytest.mark.parametrize(
    ("card", "trials"),
    [("", 2), ("other: 3 crops", 2), ("set: 6 crops of 3 identities", 1), ("other + set: 9 crops", 1)],
)
def test_a_model_trained_here_is_scored_where_its_training_persons_are_not(
    tmp_path: Path, card: str, trials: int
) -> None:
    dataset, embeddings = trials_of(tmp_path)
    found = scored(dataset, embeddings, card)
    assert len(found.trials) == trials
    assert found.trials[0].queries == 3 and (trials == 2 or found.deviation["rank1"] == 0)


def test_single_gallery_shot_changes_cmc_alone(tmp_path: Path) -> None:
    """The gallery of a trial is doubled: of each person a second, random crop that may be drawn as well."""
    dataset, embeddings = trials_of(tmp_path, single_gallery_shot=True)
    doubled = tuple(
        Crop(tmp_path / f"{crop.path.stem}_again.png", crop.pid, crop.camid) for crop in dataset.split.gallery
    )
    split = replace(dataset.split, gallery=(*dataset.split.gallery, *doubled))
    dataset = replace(dataset, listing=Listing(split))
    embeddings = np.concatenate([embeddings, np.random.default_rng(4).random((6, 5)).astype(np.float32)])
    shot, plain = (
        scored(dataset, embeddings),
        scored(replace(dataset, listing=Listing(split, trials=(split,)), single_gallery_shot=False), embeddings),
    )
    assert (shot.mAP, shot.mINP, shot.single_gallery_shot) == (plain.mAP, plain.mINP, True)
    distances = np.linalg.norm(embeddings[:6, None] - embeddings[None, 6:], axis=2).astype(np.float32)
    pids = [crop.pid for crop in split.gallery]
    naive = [every_draw(row, pid, 1, pids, [2] * 12, 20) for pid, row in enumerate(distances)]
    np.testing.assert_allclose(shot.cmc, np.mean([each for each in naive if each], axis=0), atol=1e-12)
    assert shot.rank(1) != plain.rank(1)


def test_evaluate_follows_the_protocol_of_the_set(tmp_path: Path) -> None:
    """VIPeR painted: persons have the same grey in both cameras, so every trial is perfect but those of two twins."""
    levels = {0: 10, 3: 60, 5: 120, 8: 180, 9: 240, 11: 240}
    names = {
        f"{camera}/{pid:03}_{angle}.png": level
        for pid, level in levels.items()
        for camera, angle in (("cam_a", 0), ("cam_b", 90))
    }
    dataset = open_dataset(paint_crops(tmp_path / "VIPeR", names))
    model = write_tiny_model(tmp_path / "tiny.onnx", input_hw=(32, 16))
    with TestSet.open(dataset) as data, open_model(model) as engine:
        features = extract_features(engine, data)
        result = evaluate(engine, data)
    features.save(tmp_path / "kept.npz")
    kept = FeatureSet.load(tmp_path / "kept.npz")
    kept.require_data(dataset)
    assert evaluate_features(kept).to_dict() == evaluate_features(features).to_dict()
    assert evaluate_features(kept).metrics.to_dict() == result.metrics.to_dict()
    alone = [evaluate_features(trial, rerank=Rerank(k1=2, k2=1)).metrics for trial in kept.by_trial()]
    every = evaluate_features(kept, rerank=Rerank(k1=2, k2=1)).metrics
    assert every.mAP == pytest.approx(np.mean([each.mAP for each in alone])) and len(alone) == 20
    with pytest.raises(InputError, match="scored in 20 trials, which have no common ROC"):
        evaluate_features(kept, roc=True)
    together = [{9, 11} <= {crop.pid for crop in trial.query} for trial in dataset.listing.trials]
    assert 0 < sum(together) < 20
    ones = [2 / 3 if twins else 1.0 for twins in together]  # of the twins, the earlier in the gallery comes first
    assert isinstance(result.metrics, TrialMetrics) and len(result.metrics.trials) == 20
    assert result.metrics.rank(1) == pytest.approx(np.mean(ones))
    assert result.to_dict()["deviation"]["rank1"] == pytest.approx(np.std(ones, ddof=1))
    caption = str(evaluation_table(result).caption)
    assert "mean of 20 trials, deviation of rank-1" in caption
