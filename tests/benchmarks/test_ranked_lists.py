"""Ranked lists follow the protocol of the scores."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from helpers.tiny_onnx import write_tiny_model

from reid_edge.benchmarks.ranked_lists import RankedList, rank_by_protocol
from reid_edge.data.datasets import Dataset, open_dataset
from reid_edge.data.synthetic.dataset import synthesize
from reid_edge.embedder.embedder import Embedder
from reid_edge.scoring.evaluation import evaluate

HW = (64, 32)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_model(tmp_path_factory.mktemp("model") / "tiny.onnx", input_hw=HW)


@pytest.fixture(scope="module")
def people(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    folder = tmp_path_factory.mktemp("drawn") / "set"
    return open_dataset(
        synthesize(folder, identities=1, test_identities=6, cameras=3, size_hw=HW, seed=1, progress=False)
    )


@pytest.fixture(scope="module")
def lists(model: Path, people: Dataset) -> list[RankedList]:
    return rank_by_protocol(model, people, people.split.query, top=1000)


def test_every_list_is_the_naive_one(model: Path, people: Dataset, lists: list[RankedList]) -> None:
    with Embedder(model) as embedder:
        for found in lists:
            kept = [
                crop for crop in people.split.gallery if (crop.pid, crop.camid) != (found.query.pid, found.query.camid)
            ]
            asked = embedder.embed(found.query.path)[0]
            near = {crop: 1 - float(np.dot(asked, embedder.embed(crop.path)[0])) for crop in kept}
            assert {crop for crop, _ in found.ranked} == set(kept)
            assert [distance for _, distance in found.ranked] == pytest.approx(sorted(near.values()), abs=1e-5)
            assert all(distance == pytest.approx(near[crop], abs=1e-5) for crop, distance in found.ranked)
            assert found.matches == sum(crop.pid == found.query.pid for crop in kept)


def test_the_cmc_of_the_lists_is_that_of_the_scores(model: Path, people: Dataset, lists: list[RankedList]) -> None:
    right = [[crop.pid == found.query.pid for crop, _ in found.ranked] for found in lists if found.matches]
    metrics = evaluate(model, people).metrics
    cmc = [np.mean([any(row[:rank]) for row in right]) for rank in range(1, 21)]
    assert len(right) == metrics.valid_queries and cmc == pytest.approx(metrics.cmc[:20].tolist())
    assert 0 < cmc[-1] and len(set(cmc)) > 2


def test_the_top_is_the_beginning(model: Path, people: Dataset, lists: list[RankedList]) -> None:
    (found,) = rank_by_protocol(model, people, people.split.query[:1], top=3)
    assert [crop for crop, _ in found.ranked] == [crop for crop, _ in lists[0].ranked[:3]]
