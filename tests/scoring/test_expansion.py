"""Query expansion against its definition in plain loops, with ties, duplicates and zero vectors."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose

from reid_edge.errors import InputError
from reid_edge.scoring import expansion
from reid_edge.scoring.distances import distance_by_name
from reid_edge.scoring.expansion import QueryExpansion, expanded_queries


def unit(vector: Any) -> np.ndarray:
    norm = np.linalg.norm(vector)
    return np.asarray(vector, float) / norm if norm > 1e-30 else np.zeros(len(vector))


def naive_expansion(queries: Any, gallery: Any, distances: Any, k: int, alpha: float) -> list[np.ndarray]:
    """Sort in full by the distances given (stable), weigh by cosine^alpha, average."""
    found = []
    for query, row in zip(queries, distances, strict=True):
        total = unit(query)
        for g in sorted(range(len(gallery)), key=lambda g, row=row: row[g])[:k]:  # type: ignore[misc]
            total = total + max(1 - row[g], 0) ** alpha * unit(gallery[g])
        found.append(unit(total))
    return found


@st.composite
def cases(draw: st.DrawFn) -> tuple[Any, ...]:
    dim = draw(st.integers(1, 3))
    row = st.lists(st.integers(-2, 2), min_size=dim, max_size=dim)
    queries, gallery = draw(st.lists(row, min_size=1, max_size=5)), draw(st.lists(row, min_size=1, max_size=9))
    return queries, gallery, draw(st.integers(1, 10)), draw(st.sampled_from([0.0, 1.0, 3.0])), draw(st.integers(1, 5))


@given(cases())
@settings(max_examples=250, deadline=None)
def test_equals_the_definition(case: tuple[Any, ...]) -> None:
    queries, gallery, k, alpha, rows = case
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(expansion, "block_rows", lambda gallery: rows)
        found = expanded_queries(queries, gallery, QueryExpansion(k=k, alpha=alpha))
    cosine = distance_by_name("cosine").against(gallery)
    distances = [row for start in range(0, len(queries), rows) for row in cosine(queries[start : start + rows])]
    expected = naive_expansion(queries, gallery, distances, k, alpha)
    # A sum of opposite vectors is rounding, in any direction.
    for one, other, query in zip(found, expected, queries, strict=True):
        if np.linalg.norm(np.asarray(query)) and np.linalg.norm(other):
            assert np.allclose(one, other, atol=1e-4) or _cancels(query, gallery, distances, k)


def _cancels(query: Any, gallery: Any, distances: Any, k: int) -> bool:
    parts = np.stack([unit(query), *(unit(row) for row in gallery)])
    return bool((parts @ parts.T).min() < -0.5)  # opposite vectors are among what was averaged


def test_a_query_between_two_crops() -> None:
    """At 0 degrees, crops at 20 and -20 of equal weight: it stays; with one of them it comes to lie at 10."""
    angles = np.radians([20, -20, 170])
    gallery = np.stack([np.cos(angles), np.sin(angles)], axis=1)
    assert_allclose(expanded_queries([[5.0, 0.0]], gallery, QueryExpansion(k=2)), [[1, 0]], atol=1e-6)
    ten = np.radians(10)
    found = expanded_queries([[5.0, 0.0]], gallery[:1], QueryExpansion(k=9))
    assert_allclose(found, [[np.cos(ten), np.sin(ten)]], atol=1e-6)


def test_alpha_trusts_what_is_near() -> None:
    gallery = [[1.0, 0.1], [0.3, 1.0]]
    plain, sharp = (expanded_queries([[1.0, 0.0]], gallery, QueryExpansion(k=2, alpha=a))[0] for a in (0.0, 5.0))
    assert sharp[1] < plain[1]


@pytest.mark.parametrize("values", [{"k": 0}, {"k": 1, "alpha": -1.0}, {"k": 1, "alpha": float("nan")}])
def test_parameters_out_of_range(values: dict[str, Any]) -> None:
    with pytest.raises(InputError, match="give k of 1 or more"):
        QueryExpansion(**values)


def test_it_needs_a_gallery() -> None:
    with pytest.raises(InputError, match="needs a gallery"):
        expanded_queries([[1.0]], np.empty((0, 1)), QueryExpansion(k=1))
