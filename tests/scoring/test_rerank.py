"""Re-ranking against the equations of the paper in plain loops, on cases full of ties, duplicates and zero vectors."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose

from reid_edge.errors import InputError
from reid_edge.scoring import rerank as module
from reid_edge.scoring import sparse
from reid_edge.scoring.distances import distance_by_name
from reid_edge.scoring.metrics import score, score_blocks
from reid_edge.scoring.rerank import Rerank, reranked


def naive_rerank(original: Any, queries: int, k1: int, k2: int, weight: float) -> list[list[float]]:
    """All of the paper over a dense matrix [N][N] of original distances, as lists and sets."""
    count = len(original)
    everyone = range(count)
    d = [[0.0 if i == j else original[i][j] for j in everyone] for i in everyone]
    d = [[value / (max(row) or 1.0) for value in row] for row in d]
    order = [sorted(everyone, key=lambda j, i=i: (j != i, d[i][j], j)) for i in everyone]  # type: ignore[misc]

    def nearest(i: int, k: int) -> list[int]:  # N(p, k), and p
        return order[i][: k + 1]

    def reciprocal(i: int, k: int) -> set[int]:  # R(p, k), equation 3
        return {j for j in nearest(i, k) if i in nearest(j, k)}

    codes = []
    for i in everyone:
        base = reciprocal(i, k1)
        whole = set(base)
        for j in base:  # R*(p, k), equation 4
            half = reciprocal(j, round(k1 / 2))
            if len(base & half) > 2 / 3 * len(half):
                whole |= half
        weights = [math.exp(-d[i][j]) if j in whole else 0.0 for j in everyone]  # equation 7
        codes.append([w / sum(weights) for w in weights])
    averaged = [[sum(codes[j][c] for j in order[i][:k2]) / len(order[i][:k2]) for c in everyone] for i in everyone]
    found = []
    for q in range(queries):
        row = []
        for g in range(queries, count):
            pairs = list(zip(averaged[q], averaged[g], strict=True))
            jaccard = 1 - sum(map(min, pairs)) / sum(map(max, pairs))  # equation 10
            row.append((1 - weight) * jaccard + weight * d[q][g])  # equation 12
        found.append(row)
    return found


@st.composite
def crops(draw: st.DrawFn) -> tuple[Any, ...]:
    """Whole numbers of few values: duplicates, ties and zero vectors are common, and euclidean^2 is exact."""
    count, dim = draw(st.integers(2, 24)), draw(st.integers(1, 3))
    most = draw(st.sampled_from([0, 1, 3, 40]))
    numbers = st.lists(st.integers(-most, most), min_size=dim, max_size=dim)
    rows = draw(st.lists(numbers, min_size=count, max_size=count))
    parameters = draw(st.integers(1, 9)), draw(st.integers(1, 4)), draw(st.sampled_from([0.0, 0.3, 1.0]))
    return rows, draw(st.integers(1, count - 1)), parameters, draw(st.sampled_from([1, 5, 512]))


@given(crops())
@example(([[0], [0]], 1, (1, 1, 0.3), 1))
@example(([[0, 0], [1, 0], [0, 0], [1, 1]], 2, (2, 2, 0.3), 512))
@settings(max_examples=250, deadline=None)
def test_equals_the_paper(case: tuple[Any, ...]) -> None:
    rows, queries, (k1, k2, weight), block = case
    original = [[float(sum((a - b) ** 2 for a, b in zip(x, y, strict=True))) for y in rows] for x in rows]
    expected = naive_rerank(original, queries, k1, k2, weight)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "block_rows", lambda gallery: block)
        patch.setattr(module, "_BLOCK_ROWS", block)
        patch.setattr(sparse, "_BLOCK_VALUES", block)
        distances = reranked(rows, queries, "euclidean", Rerank(k1=k1, k2=k2, lambda_=weight))
        found = np.concatenate([distances(slice(i, i + 1)) for i in range(queries)])
    assert_allclose(found, expected, atol=2e-6)
    assert_allclose(distances(slice(0, queries)), found, atol=1e-6)


@pytest.mark.parametrize("name", ["cosine", "cityblock", "correlation", "minkowski"])
def test_other_distances_are_taken_as_they_are(name: str) -> None:
    """Embeddings without ties, a zero vector among them; the reference has the same distances."""
    rng = np.random.default_rng(3)
    rows = rng.normal(size=(40, 6)).astype(np.float32) + np.repeat(rng.normal(size=(8, 6)), 5, axis=0)
    rows[7] = 0
    original = distance_by_name(name).against(rows)(rows).tolist()
    found = reranked(rows, 9, name, Rerank(k1=6, k2=3))(slice(0, 9))
    assert_allclose(found, naive_rerank(original, 9, 6, 3, 0.3), atol=1e-5)


def test_cosine_and_squared_euclidean_agree_on_normalised_embeddings() -> None:
    rng = np.random.default_rng(0)
    rows = rng.normal(size=(150, 16)) + np.repeat(rng.normal(size=(15, 16)), 10, axis=0)
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    cosine, euclidean = (reranked(rows, 30, name)(slice(0, 30)) for name in ("cosine", "euclidean"))
    assert_allclose(cosine, euclidean, atol=1e-4)


def test_it_gains_where_crops_of_a_person_form_groups() -> None:
    rng = np.random.default_rng(1)
    pids, camids = np.repeat(np.arange(30), 8), np.tile(np.arange(4), 60)
    rows = rng.normal(size=(240, 12)) + 1.6 * rng.normal(size=(30, 12))[pids]
    order = np.concatenate([np.arange(0, 240, 8), np.setdiff1d(np.arange(240), np.arange(0, 240, 8))])
    rows, pids, camids = rows[order], pids[order], camids[order]
    labels = pids[:30], camids[:30], pids[30:], camids[30:]
    plain = score(rows[:30], *labels[:2], rows[30:], *labels[2:])
    better = score_blocks(reranked(rows, 30), *labels, distance="re-ranked")
    assert better.mAP > plain.mAP + 0.05


@pytest.mark.parametrize("values", [{"k1": 0}, {"k2": 0}, {"lambda_": 1.5}, {"lambda_": float("nan")}])
def test_parameters_out_of_range(values: dict[str, Any]) -> None:
    with pytest.raises(InputError, match=r"give k1 and k2 of 1 or more, and lambda within 0\.\.1"):
        Rerank(**values)


@pytest.mark.parametrize("queries", [0, 2, 3])
def test_queries_without_a_gallery(queries: int) -> None:
    with pytest.raises(InputError, match="give both queries and a gallery"):
        reranked([[0.0], [1.0]], queries)
