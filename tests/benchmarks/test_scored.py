"""A scored model is the evaluation's, and its pairs and lists are what the protocol counts, one by one."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from helpers.tiny_onnx import write_tiny_model

from reid_edge.benchmarks import scored as scored_module
from reid_edge.benchmarks.occlusion import occluded, occlusion_maps
from reid_edge.benchmarks.scored import ScoredModel, score_model
from reid_edge.data.datasets import open_dataset
from reid_edge.data.synthetic.dataset import synthesize
from reid_edge.embedder.embedder import Embedder
from reid_edge.errors import InputError
from reid_edge.scoring.evaluation import evaluate
from reid_edge.scoring.test_set import TestSet

HW = (64, 32)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_model(tmp_path_factory.mktemp("model") / "tiny.onnx", input_hw=HW)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> TestSet:
    folder = tmp_path_factory.mktemp("drawn") / "set"
    return TestSet(
        open_dataset(synthesize(folder, identities=1, test_identities=6, cameras=3, size_hw=HW, seed=1, progress=False))
    )


@pytest.fixture(scope="module")
def scored(model: Path, data: TestSet) -> ScoredModel:
    return score_model(model, data, worst=1000, activation_maps=2)


def test_the_scores_are_those_of_an_evaluation(scored: ScoredModel, model: Path, data: TestSet) -> None:
    expected = evaluate(model, data).metrics
    assert scored.metrics.mAP == expected.mAP and scored.metrics.rank(1) == expected.rank(1)
    assert scored.metrics.mINP == expected.mINP and scored.metrics.valid_queries == expected.valid_queries


def test_lists_are_worst_first_with_the_ap_of_their_ranking(model: Path, data: TestSet) -> None:
    """Each list over the whole gallery: its AP by the definition, from the places of its right crops."""
    whole = score_model(model, data, worst=1000, top=10_000)
    scores = [found.average_precision for found in whole.lists]
    assert scores == sorted(scores) and len(scores) == whole.metrics.valid_queries
    for found in whole.lists:
        right = [rank for rank, (crop, _) in enumerate(found.ranked, 1) if crop.pid == found.query.pid]
        assert len(right) == found.matches == found.right
        by_hand = sum(place / rank for place, rank in enumerate(right, 1)) / len(right)
        assert found.average_precision == pytest.approx(by_hand)
        assert found.first_is_right == (right[0] == 1)
    assert np.mean(scores) == pytest.approx(whole.metrics.mAP)


def test_skipped_are_the_persons_crops_by_the_same_camera(scored: ScoredModel, data: TestSet) -> None:
    assert any(found.skipped for found in scored.lists)
    for found in scored.lists:
        query, last = found.query, found.ranked[-1][1]
        own = {crop for crop in data.dataset.split.gallery if (crop.pid, crop.camid) == (query.pid, query.camid)}
        assert {crop for crop, _ in found.skipped} <= own
        assert not own & {crop for crop, _ in found.ranked}
        assert all(distance <= last for _, distance in found.skipped)


def test_pairs_are_all_that_the_protocol_counts(scored: ScoredModel, model: Path, data: TestSet) -> None:
    """In number by their ids, and in distance by the lists over the whole gallery."""
    split = data.dataset.split
    genuine = sum(q.pid == g.pid and q.camid != g.camid for q in split.query for g in split.gallery)
    impostor = sum(q.pid != g.pid for q in split.query for g in split.gallery)
    assert (len(scored.pairs.genuine), len(scored.pairs.impostor)) == (genuine, impostor)
    assert scored.pairs.impostor_pairs == impostor
    lists = score_model(model, data, worst=1000, top=10_000).lists
    for same, pairs in ((True, scored.pairs.genuine), (False, scored.pairs.impostor)):
        listed = [d for found in lists for crop, d in found.ranked if (crop.pid == found.query.pid) == same]
        assert np.sort(pairs) == pytest.approx(np.sort(listed), abs=1e-6)


def test_of_many_impostors_every_nth_is_kept(
    scored: ScoredModel, model: Path, data: TestSet, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(scored_module, "_MOST_PAIRS", 100)
    sampled = score_model(model, data, worst=0).pairs
    split = data.dataset.split
    step = -(-len(split.query) * len(split.gallery) // 100)
    assert step > 1 and sampled.impostor_pairs == scored.pairs.impostor_pairs
    assert np.array_equal(sampled.impostor, scored.pairs.impostor[::step])
    assert np.array_equal(sampled.genuine, scored.pairs.genuine)


def test_maps_are_of_the_first_lists(scored: ScoredModel, model: Path, data: TestSet) -> None:
    """For the closest crop, and where it is wrong for the closest right one, at whatever rank."""
    assert len(scored.maps) == 2
    whole = score_model(model, data, worst=2, top=10_000).lists
    for found, maps in zip(whole, scored.maps, strict=True):
        right = [rank for rank, (crop, _) in enumerate(found.ranked, 1) if crop.pid == found.query.pid]
        assert [each.rank for each in maps] == sorted({1, *right[:1]})
        for each in maps:
            crop, distance = found.ranked[each.rank - 1]
            assert each.crop == crop and each.occlusion.similarity == pytest.approx(1 - distance, abs=1e-5)


def test_a_map_is_the_naive_one(model: Path) -> None:
    """Cover one cell and its neighbours at a time, embed, compare: as slowly as it is said."""
    rng = np.random.default_rng(0)
    crop = rng.integers(0, 256, (64, 32, 3), np.uint8)
    with Embedder(model) as embedder:
        others = embedder.embed(list(rng.integers(0, 256, (2, 64, 32, 3), np.uint8)))
        found = occlusion_maps(embedder.embed, crop, others, (8, 4))
        for index, other in enumerate(others):
            whole = float(embedder.embed(crop)[0] @ other)
            assert found[index].similarity == pytest.approx(whole, abs=1e-6)
            for row in range(8):
                for column in range(4):
                    covered = crop.copy()
                    top, left = max(0, row - 1) * 8, max(0, column - 1) * 8
                    covered[top : (row + 2) * 8, left : (column + 2) * 8] = crop.reshape(-1, 3).mean(axis=0).round()
                    expected = whole - float(embedder.embed(covered)[0] @ other)
                    assert found[index].drop[row, column] == pytest.approx(expected, abs=1e-5)


def test_only_what_a_model_sees_counts() -> None:
    """A model that sees the upper left quarter alone: covering any other part changes nothing."""

    def embed(crops: list[np.ndarray]) -> np.ndarray:
        seen = np.stack([crop[:8, :4].mean(axis=(0, 1)) for crop in crops]).astype(np.float32)
        return np.asarray(seen / np.linalg.norm(seen, axis=1, keepdims=True))

    crop = np.zeros((16, 8, 3), np.uint8)
    crop[:8, :4], crop[8:, 4:] = (200, 10, 10), (10, 10, 200)
    (found,) = occlusion_maps(embed, crop, embed([crop]), (8, 4))
    assert found.similarity == pytest.approx(1) and found.place == "upper third, left"
    assert (found.drop[5:] == 0).all() and (found.drop[:, 3:] == 0).all() and found.drop[1, 1] > 0.01


def test_a_crop_smaller_than_the_grid_is_refused() -> None:
    with pytest.raises(InputError, match="8x4 pixels has no 16x8 cells"):
        occluded(np.zeros((8, 4, 3), np.uint8))
