"""FeatureSet: computed once, kept in a sealed file, scored as the model is; comparisons of what was scored."""

from __future__ import annotations

import json
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers.naive import naive_metrics
from numpy.testing import assert_allclose, assert_array_equal
from numpy.typing import NDArray

from reid_edge.card import ModelCard
from reid_edge.core.arrays import write_arrays
from reid_edge.data.datasets import open_dataset
from reid_edge.data.images import read_crop
from reid_edge.data.synthetic.dataset import synthesize
from reid_edge.embedder.embedder import Embedder
from reid_edge.engines.facts import EngineFacts
from reid_edge.errors import InputError
from reid_edge.scoring.bootstrap import Interval
from reid_edge.scoring.distances import distance_by_name
from reid_edge.scoring.evaluation import evaluate, evaluate_features
from reid_edge.scoring.expansion import QueryExpansion, expanded_queries
from reid_edge.scoring.extraction import extract_features
from reid_edge.scoring.features import FeatureSet
from reid_edge.scoring.report.comparison import ModelComparison, compare_evaluations
from reid_edge.scoring.rerank import Rerank, reranked
from reid_edge.scoring.test_set import TestSet


def made(rows: Any, pids: Any, camids: Any, queries: int, **more: Any) -> FeatureSet:
    """FeatureSet of embeddings that are given."""
    embeddings = np.asarray(rows, np.float32)
    facts = EngineFacts("none", "NumPy", {"numpy": "2"}, 1, "")
    card = ModelCard("drawn", embedding_dim=embeddings.shape[1], weights_sha256="ab" * 32)
    ids = (np.asarray(each, np.int64) for each in (pids, camids))
    values = ("drawn", card, facts, "people", "test", "opencv", True, 10.0)
    return replace(FeatureSet(embeddings, None, *ids, queries, *values), **more)


def drawn(seed: int = 0, persons: int = 12, crops: int = 6, noise: float = 1.0) -> FeatureSet:
    """Persons as clusters, two crops of each as queries."""
    rng = np.random.default_rng(seed)
    pids, camids = np.tile(np.arange(persons), crops), np.repeat(np.arange(crops) % 3, persons)
    rows = np.random.default_rng(99).normal(size=(persons, 8))[pids] + noise * rng.normal(size=(len(pids), 8))
    return made(rows / np.linalg.norm(rows, axis=1, keepdims=True), pids, camids, 2 * persons)


@pytest.fixture(scope="module")
def people(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("features") / "people"
    return synthesize(folder, identities=2, test_identities=4, cameras=2, progress=False)


class Halves:
    """The mean colour of the left and the right half: a mirrored crop has them exchanged."""

    def __init__(self) -> None:
        self.card = ModelCard("halves", embedding_dim=6, input_hw=(32, 16))
        self.max_batch = 8
        self.facts = EngineFacts("halves", "NumPy", {}, 1, "")

    def run(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        means = [half.mean(axis=(1, 2), dtype=np.float32) + 1 for half in (images[:, :, :8], images[:, :, 8:])]
        rows = np.concatenate(means, axis=1)
        return rows / np.linalg.norm(rows, axis=1, keepdims=True)

    def __enter__(self) -> Halves:
        return self

    def __exit__(self, *error: object) -> None:
        pass


@pytest.mark.parametrize("decoded", [False, True])
def test_a_flipped_crop_is_the_mirror_image(people: Path, decoded: bool) -> None:
    data: Any = TestSet.open(people) if decoded else people
    features = extract_features(Halves(), data, flip=True)
    assert features.flipped is not None
    assert_allclose(features.flipped, np.roll(features.embeddings, 3, axis=1), atol=1e-6)
    split = open_dataset(people).split
    first = Halves().run(read_crop(split.query[0].path, (32, 16), "opencv")[None])
    assert_allclose(features.embeddings[0], first[0])
    means = features.averaged(flip=True)
    assert_allclose(np.linalg.norm(means, axis=1), 1, rtol=1e-6)
    assert_allclose(means, np.roll(means, 3, axis=1), atol=1e-6)


def test_the_plain_embeddings_are_the_same_with_and_without_flip(people: Path) -> None:
    with Embedder(Halves(), batch=3) as embedder:
        plain, both = (extract_features(embedder, people, flip=flip) for flip in (False, True))
    assert_array_equal(plain.embeddings, both.embeddings)
    with pytest.raises(InputError, match="was not run on flipped crops"):
        evaluate_features(plain, flip=True)


def test_every_trick_is_off_unless_it_is_asked_for_and_is_named() -> None:
    features = drawn()
    assert evaluate_features(features).settings == {"flip": False, "query_expansion": None, "rerank": None}
    result = evaluate_features(
        replace(features, flipped=features.embeddings),
        flip=True,
        query_expansion=QueryExpansion(k=2, alpha=1),
        rerank=Rerank(k1=4, k2=2),
    )
    assert result.settings == {
        "flip": True,
        "query_expansion": {"k": 2, "alpha": 1},
        "rerank": {"k1": 4, "k2": 2, "lambda": 0.3},
    }


@pytest.mark.parametrize("distance", ["cosine", "cityblock"])
@pytest.mark.parametrize("expand", [None, QueryExpansion(k=3)])
@pytest.mark.parametrize("rerank", [None, Rerank(k1=5, k2=3)])
def test_tricks_are_applied_in_order_and_scored_by_the_protocol(
    distance: str, expand: QueryExpansion | None, rerank: Rerank | None
) -> None:
    features = drawn()
    count = features.queries
    rows = features.embeddings.copy()
    if expand:
        rows[:count] = expanded_queries(rows[:count], rows[count:], expand)
    if rerank:
        matrix = reranked(rows, count, distance, rerank)(slice(0, count))
    else:
        matrix = distance_by_name(distance).against(rows[count:])(rows[:count])
    expected = naive_metrics(matrix.tolist(), *(ids.tolist() for ids in features.labels), max_rank=7)
    assert expected is not None
    found = evaluate_features(features, distance, query_expansion=expand, rerank=rerank, max_rank=7, roc=True)
    assert_allclose(found.metrics.cmc, expected.cmc)
    assert (found.metrics.mAP, found.metrics.mINP) == pytest.approx((expected.mAP, expected.mINP))
    assert found.roc is not None and 0 < found.roc.eer < 0.5
    assert found.to_dict()["roc"]["eer"] == found.roc.eer


# Kept in a file


def test_a_file_gives_the_same_figures(tmp_path: Path, people: Path) -> None:
    features = extract_features(Halves(), people, flip=True)
    features.save(tmp_path / "kept.npz")
    kept = FeatureSet.load(tmp_path / "kept.npz")
    kept.require_data(open_dataset(people))
    assert kept.card == features.card and kept.engine == features.engine
    for flip in (False, True):
        assert evaluate_features(kept, flip=flip).to_dict() == evaluate_features(features, flip=flip).to_dict()
    plain = evaluate(Halves(), people)
    assert evaluate_features(kept).metrics.mAP == plain.metrics.mAP
    assert (tmp_path / "kept.npz").stat().st_mode & 0o077 == 0, "embeddings of people are their owner's alone"


def test_features_of_other_crops_are_refused(tmp_path: Path, people: Path) -> None:
    other = synthesize(tmp_path / "people", identities=2, test_identities=5, cameras=2, progress=False)
    features = extract_features(Halves(), people)
    with pytest.raises(InputError, match="extract them again, or leave --data out"):
        features.require_data(open_dataset(other))


def test_another_suffix_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"ends in \.npz"):
        drawn().save(tmp_path / "kept.bin")


def test_a_changed_file_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "kept.npz"
    drawn().save(path)
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    with pytest.raises(InputError, match="holds no features.*reid-edge eval --save-features") as caught:
        FeatureSet.load(path)
    assert "\n" not in str(caught.value)


def _arrays(**changes: Any) -> dict[str, Any]:
    features = drawn()
    facts = {
        **{name: getattr(features, name) for name in ("queries", "model", "dataset", "part", "resize")},
        **{"same_camera_filter": True, "single_gallery_shot": False, "images_per_second": 10.0},
        **{"card": asdict(features.card), "engine": asdict(features.engine)},
    }
    facts |= changes.pop("facts", {})
    arrays = {"embeddings": features.embeddings, "pids": features.pids, "camids": features.camids}
    arrays |= {"trial_rows": np.array([0, 24, 25]), "trial_sizes": np.array([[1, 2]])}
    arrays |= {"flipped": np.empty((0, 8), np.float32), "facts": json.dumps(facts)}
    return arrays | changes


@pytest.mark.parametrize(
    "changes",
    [
        {"embeddings": np.zeros((72, 8))},
        {"embeddings": np.full((72, 8), np.nan, np.float32)},
        {"embeddings": np.zeros((0, 8), np.float32)},
        {"embeddings": np.zeros((71, 8), np.float32)},
        {"flipped": np.zeros((3, 8), np.float32)},
        {"pids": np.zeros(72, np.float64)},
        {"camids": np.zeros(71, np.int64)},
        {"trial_rows": np.array([24, 24, 25])},
        {"trial_rows": np.array([0, 23, 25])},
        {"trial_rows": np.array([0, 24, 72])},
        {"trial_rows": np.array([-1, 24, 25])},
        {"trial_rows": np.array([0, 24])},
        {"trial_sizes": np.array([[3, 0]])},
        {"trial_sizes": np.array([[1 << 62, 1 << 62], [1 << 62, (1 << 62) + 3]])},
        {"trial_sizes": np.array([1, 2])},
        {"facts": "[1]"},
        {"facts": "{"},
        {"facts": "[" * 100_000},
        {"facts": {"queries": 0}},
        {"facts": {"queries": 72}},
        {"facts": {"queries": True}},
        {"facts": {"model": None}},
        {"facts": {"images_per_second": float("nan")}},
        {"facts": {"card": {}}},
        {"facts": {"engine": {}}},
        {"facts": {"engine": {"versions": 3}}},
        {"facts": {"more": 1}},
    ],
    ids=lambda changes: f"{next(iter(changes))}",
)
def test_a_file_of_something_else_is_refused(tmp_path: Path, changes: dict[str, Any]) -> None:
    text = changes.get("facts")
    arrays = _arrays(**changes) if not isinstance(text, str) else {**_arrays(), "facts": text}
    write_arrays(tmp_path / "kept.npz", 2, arrays)
    with pytest.raises(InputError, match="holds no features") as caught:
        FeatureSet.load(tmp_path / "kept.npz")
    assert "\n" not in str(caught.value)


def test_the_arrays_of_these_cases_are_good_without_a_change(tmp_path: Path) -> None:
    write_arrays(tmp_path / "kept.npz", 2, _arrays())
    assert FeatureSet.load(tmp_path / "kept.npz").queries == 24


# Which is better


@pytest.mark.parametrize(
    ("gain", "sentence"),
    [
        ((0.008, 0.002, 0.015), "B is better than A: +0.8 mAP, 95 % [0.2, 1.5]"),
        ((-0.008, -0.015, -0.002), "A is better than B: +0.8 mAP, 95 % [0.2, 1.5]"),
        ((0.001, -0.002, 0.004), "no difference shown between A and B: +0.1 mAP, 95 % [-0.2, 0.4]"),
        ((-0.0001, -0.002, 0.0), "no difference shown between A and B: +0.0 mAP, 95 % [-0.2, 0.0]"),
    ],
)
def test_the_sentence(gain: tuple[float, float, float], sentence: str) -> None:
    interval = Interval(*gain, 750)
    assert str(ModelComparison("A", "B", interval, interval)) == sentence


def test_less_noise_is_better_and_other_crops_are_no_comparison() -> None:
    noisy, clean = evaluate_features(drawn(noise=1.6)), evaluate_features(replace(drawn(noise=0.7), model="clean"))
    compared = compare_evaluations(noisy, clean)
    assert str(compared).startswith("clean is better than drawn: +")
    assert compared.mAP.mean == pytest.approx(clean.metrics.mAP - noisy.metrics.mAP)
    assert compared.rank1.mean == pytest.approx(clean.metrics.rank(1) - noisy.metrics.rank(1))
    with pytest.raises(InputError, match="scored on other queries"):
        compare_evaluations(noisy, evaluate_features(drawn(persons=11)))
    with pytest.raises(InputError, match="scored on other queries"):
        compare_evaluations(noisy, evaluate_features(replace(drawn(), dataset="others")))
