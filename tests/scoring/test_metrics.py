"""CMC, mAP and mINP against answers worked by hand, and against the naive reference on random cases."""

from __future__ import annotations

import json
import math
import tracemalloc
from typing import Any

import numpy as np
import pytest
from helpers.naive import Naive, naive_metrics, ranking_cases
from hypothesis import example, given, settings
from numpy.testing import assert_allclose

from reid_edge.errors import InputError
from reid_edge.scoring import blocks
from reid_edge.scoring.distances import DISTANCES, distance_by_name
from reid_edge.scoring.metrics import Metrics, score, score_blocks


def by_hand(distances: Any, query: Any, gallery: Any, max_rank: int = 20) -> Metrics:
    """Score a matrix; ``query`` and ``gallery`` are lists of (pid, camid)."""
    matrix = np.asarray(distances, np.float32)
    labels = (*zip(*query, strict=True), *zip(*gallery, strict=True))
    return score_blocks(matrix.__getitem__, *labels, distance="by hand", max_rank=max_rank)


def assert_equal(fast: Metrics, naive: Naive) -> None:
    assert fast.valid_queries == naive.valid_queries
    assert_allclose(fast.cmc, naive.cmc, rtol=0, atol=1e-12)
    assert_allclose([fast.mAP, fast.mINP], [naive.mAP, naive.mINP], rtol=0, atol=1e-12)


# Worked by hand


def test_hits_at_ranks_1_and_3() -> None:
    metrics = by_hand([[1, 2, 3]], [(7, 0)], [(7, 1), (5, 1), (7, 2)])
    assert metrics.mAP == pytest.approx((1 / 1 + 2 / 3) / 2)
    assert metrics.mINP == pytest.approx(2 / 3)
    assert metrics.rank(1) == 1


def test_average_precision_is_no_trapezoid() -> None:
    """A single hit at rank 2 has precision 1/2; the trapezoid from precision 0 at rank 1 would give 1/4."""
    assert by_hand([[1, 2]], [(7, 0)], [(5, 1), (7, 1)]).mAP == 0.5


def test_embeddings_at_angles_0_20_and_40_degrees() -> None:
    """The query points at 0 degrees; the gallery's matches are at 20 and 60, a stranger at 40."""
    angles = np.radians([0, 40, 20, 60])
    embeddings = np.stack([np.cos(angles), np.sin(angles)], axis=1)
    metrics = score(embeddings[:1], [1], [0], embeddings[1:], [2, 1, 1], [1, 1, 1])
    assert metrics.mAP == pytest.approx((1 + 2 / 3) / 2)
    assert metrics.distance == "cosine"


def test_each_query_keeps_its_figures() -> None:
    """The second query has no match and is not counted."""
    distances = [[1, 2, 3], [1, 2, 3], [3, 2, 1]]
    metrics = by_hand(distances, [(7, 0), (9, 0), (5, 0)], [(5, 1), (7, 1), (7, 2)])
    assert metrics.persons.tolist() == [7, 5]
    assert metrics.first_match.tolist() == [2, 3]
    assert_allclose(metrics.average_precision, [(1 / 2 + 2 / 3) / 2, 1 / 3])
    assert metrics.mAP == pytest.approx(metrics.average_precision.mean())


def test_two_queries_average() -> None:
    """First hits at ranks 2 and 3, which are also the last: AP and INP are 1/2 and 1/3."""
    metrics = by_hand([[1, 2, 3], [1, 2, 3]], [(1, 0), (2, 0)], [(3, 1), (1, 1), (2, 1)])
    assert_allclose(metrics.cmc[:4], [0, 0.5, 1, 1])
    assert metrics.mAP == metrics.mINP == pytest.approx((1 / 2 + 1 / 3) / 2)


def test_same_person_and_camera_is_dropped_and_takes_no_rank() -> None:
    metrics = by_hand([[0, 0.5, 1]], [(1, 0)], [(1, 0), (1, 0), (1, 1)])
    assert metrics.rank(1) == metrics.mAP == metrics.mINP == 1


def test_same_camera_stranger_keeps_its_rank() -> None:
    assert by_hand([[0, 1]], [(1, 0)], [(2, 0), (1, 1)]).mAP == 0.5


def test_a_query_with_same_camera_matches_only_is_not_counted() -> None:
    metrics = by_hand([[0, 1], [0, 1]], [(1, 0), (2, 0)], [(1, 0), (2, 1)])
    assert (metrics.queries, metrics.valid_queries, metrics.gallery) == (2, 1, 2)
    assert metrics.mAP == 0.5


def test_fewer_survivors_than_max_rank() -> None:
    """One survivor, at rank 1: CMC stays at 1 up to rank 20, and a missing rank is not a miss."""
    metrics = by_hand([[0, 1]], [(1, 0)], [(1, 0), (1, 1)])
    assert_allclose(metrics.cmc, np.ones(20))


def test_ties_go_in_gallery_order() -> None:
    assert by_hand([[1, 1, 1]], [(1, 0)], [(2, 1), (1, 1), (3, 1)]).mINP == 0.5
    assert by_hand([[1, 1, 1]], [(1, 0)], [(2, 1), (3, 1), (1, 1)]).mINP == pytest.approx(1 / 3)


def test_dropped_crops_do_not_count_in_a_tie() -> None:
    assert by_hand([[1, 1, 1]], [(1, 0)], [(1, 0), (1, 0), (1, 1)]).mINP == 1


def test_distractors_of_pid_0_cost_ranks() -> None:
    assert by_hand([[0, 1]], [(1, 0)], [(0, 1), (1, 1)]).mAP == 0.5


def test_pid_0_is_a_person_where_a_query_shows_it() -> None:
    """MSMT17 numbers people from 0."""
    assert by_hand([[0, 1]], [(0, 0)], [(0, 1), (1, 1)]).mAP == 1


def test_a_negative_pid_matches_nobody() -> None:
    metrics = by_hand([[0, 1, 2], [0, 1, 2]], [(-1, 0), (1, 0)], [(-1, 1), (-1, 0), (1, 1)])
    assert metrics.valid_queries == 1
    assert metrics.mAP == pytest.approx(1 / 3)


# Against the reference


@given(ranking_cases())
@example(([[0, 0, 0]], ([1], [0], [1, 2, 1], [0, 1, 1]), 20, 1))
@settings(max_examples=400, deadline=None)
def test_equals_the_naive_reference(case: tuple[Any, ...]) -> None:
    matrix, labels, max_rank, rows = case
    expected = naive_metrics(matrix, *labels, max_rank=max_rank)
    array = np.array(matrix, np.float32)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(blocks, "block_rows", lambda gallery: rows)
        if expected is None:
            with pytest.raises(InputError, match="has a match in another camera"):
                score_blocks(array.__getitem__, *labels, distance="", max_rank=max_rank)
        else:
            assert_equal(score_blocks(array.__getitem__, *labels, distance="", max_rank=max_rank), expected)


@pytest.mark.parametrize("name", DISTANCES)
@pytest.mark.parametrize("levels", [2, 1000])
def test_embeddings_of_whole_numbers_equal_the_reference(name: str, levels: int) -> None:
    """The reference is given the same distances, so that a tie here is a tie there."""
    rng = np.random.default_rng(levels)
    queries, gallery = (rng.integers(0, levels, (n, 5)) for n in (25, 120))
    labels = [rng.integers(low, high, n) for n in (25, 120) for low, high in ((-1, 12), (0, 3))]
    matrix = distance_by_name(name).against(gallery)(queries)
    expected = naive_metrics(matrix.tolist(), *(ids.tolist() for ids in labels), max_rank=10)
    assert expected is not None
    assert_equal(score(queries, labels[0], labels[1], gallery, labels[2], labels[3], name, max_rank=10), expected)


def test_cosine_and_euclidean_agree_on_normalised_embeddings() -> None:
    rng = np.random.default_rng(0)
    embeddings = rng.normal(size=(300, 64)) + np.repeat(rng.normal(size=(30, 64)), 10, axis=0)
    embeddings /= np.linalg.norm(embeddings, axis=1, keepdims=True)
    pids, camids = np.repeat(np.arange(30), 10), np.tile(np.arange(5), 60)
    case = (embeddings[::7], pids[::7], camids[::7], embeddings, pids, camids)
    cosine, euclidean = score(*case, distance="cosine"), score(*case, distance="euclidean")
    assert 0.2 < cosine.mAP < 0.98
    assert_allclose(cosine.mAP, euclidean.mAP, atol=1e-6)
    assert_allclose(cosine.cmc, euclidean.cmc)


# The rest of the contract


def test_memory_does_not_grow_with_queries_times_gallery(monkeypatch: pytest.MonkeyPatch) -> None:
    """3,000 x 3,000 distances are 36 MB; blocks of 1 MiB must do, with room for working copies of one."""
    monkeypatch.setattr("reid_edge.scoring.distances._BLOCK_BYTES", 1 << 20)
    rng = np.random.default_rng(0)
    embeddings = rng.normal(size=(3000, 8)).astype(np.float32)
    pids, camids = rng.integers(0, 500, 3000), rng.integers(0, 4, 3000)
    for name in ("euclidean", "cosine", "cityblock", "minkowski", "correlation"):
        tracemalloc.start()
        score(embeddings, pids, camids, embeddings, pids, camids, distance=name)
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert peak < 8 << 20, f"{name} took {peak / 2**20:.1f} MiB"


def test_to_dict_has_the_scripted_names_and_is_json() -> None:
    report = by_hand([[1, 2, 3]], [(7, 0)], [(7, 1), (5, 1), (7, 2)]).to_dict()
    assert json.loads(json.dumps(report)) == {
        "rank1": 1.0,
        "rank5": 1.0,
        "rank10": 1.0,
        "rank20": 1.0,
        "mAP": pytest.approx(5 / 6),
        "mINP": pytest.approx(2 / 3),
        "queries": 1,
        "valid_queries": 1,
        "gallery": 3,
        "distance": "by hand",
    }


def test_to_dict_leaves_out_ranks_that_were_not_measured() -> None:
    report = by_hand([[1, 2]], [(7, 0)], [(7, 1), (5, 1)], max_rank=6).to_dict()
    assert [key for key in report if key.startswith("rank")] == ["rank1", "rank5"]


@pytest.mark.parametrize("k", [0, -1, 21])
def test_a_rank_that_was_not_measured(k: int) -> None:
    with pytest.raises(InputError, match=r"ask for 1\.\.20"):
        by_hand([[1]], [(7, 0)], [(7, 1)]).rank(k)


def test_no_query_with_a_match_is_an_error_with_a_remedy() -> None:
    with pytest.raises(InputError, match="none of 2 queries has a match in another camera.*check person"):
        by_hand([[0, 1], [0, 1]], [(1, 0), (3, 0)], [(1, 0), (2, 1)])


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_a_distance_that_is_not_finite(bad: float) -> None:
    with pytest.raises(InputError, match="NaN or infinite"):
        by_hand([[0, bad]], [(1, 0)], [(1, 1), (2, 1)])


def test_blocks_are_not_written_to() -> None:
    matrix = np.array([[0.0, 1.0, 2.0]], np.float32)
    matrix.flags.writeable = False
    score_blocks(matrix.__getitem__, [1], [0], [1, 2, 1], [0, 1, 1], distance="")


TWO = [[0.0, 1.0], [1.0, 0.0]]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((TWO, [1], [0, 0], TWO, [1, 2], [1, 1]), "2 query embeddings but 1 person ids"),
        ((TWO, [1, 2], [0], TWO, [1, 2], [1, 1]), "2 query person ids but 1 camera ids"),
        ((TWO, [1, 2], [0, 0], TWO, [1, 2, 3], [1, 1, 1]), "2 gallery embeddings but 3 person ids"),
        ((TWO, [1.5, 2.0], [0, 0], TWO, [1, 2], [1, 1]), "must be whole numbers"),
        ((TWO, [[1], [2]], [0, 0], TWO, [1, 2], [1, 1]), "must be whole numbers"),
        ((np.zeros((0, 2)), [], [], TWO, [1, 2], [1, 1]), "at least one, not"),
        ((TWO, [1, 2], [0, 0], np.zeros((0, 2)), [], []), "at least one, not"),
        ((TWO, [1, 2], [0, 0], [[1.0]] * 2, [1, 2], [1, 1]), "2 dimensions and the gallery 1"),
        (([[0.0, math.nan]] * 2, [1, 2], [0, 0], TWO, [1, 2], [1, 1]), "query embeddings: row 0"),
    ],
)
def test_input_that_does_not_fit_together(arguments: tuple[Any, ...], message: str) -> None:
    with pytest.raises(InputError, match=message) as caught:
        score(*arguments)
    assert "\n" not in str(caught.value)


def test_max_rank_starts_at_one() -> None:
    with pytest.raises(InputError, match="max_rank is 0"):
        by_hand([[1]], [(7, 0)], [(7, 1)], max_rank=0)


def test_a_block_of_the_wrong_width() -> None:
    with pytest.raises(InputError, match=r"give \[queries, 2\]"):
        by_hand([[1, 2, 3]], [(7, 0)], [(7, 1), (5, 1)])
