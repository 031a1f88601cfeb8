"""Differences between two sets of embeddings, worked by hand."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from reid_edge.export.parity.compare import compare


def at(*degrees: float) -> NDArray[np.float32]:
    """Unit vectors in the plane."""
    angles = np.radians(degrees)
    return np.stack([np.cos(angles), np.sin(angles)], axis=1).astype(np.float32)


def test_the_relative_error_by_hand() -> None:
    """Two crops at 0 and 90 degrees are 0.707 from their mean; turning each by 60 degrees moves it by 1."""
    found = compare(at(0, 90), at(60, 150))
    assert found.relative_error == pytest.approx(1 / np.sqrt(0.5), rel=1e-5)
    assert compare(at(10, 10), at(10, 10)).relative_error == 0
    assert compare(at(10, 10), at(10, 11)).relative_error == np.inf


def test_cosine_and_error_by_hand() -> None:
    found = compare(at(0, 90), at(60, 90))
    assert found.cosine_min == pytest.approx(0.5)
    assert found.cosine_mean == pytest.approx(0.75)
    assert found.cosine_p1 == pytest.approx(0.505)  # a hundredth of the way from 0.5 to 1
    assert found.max_error == pytest.approx(np.sin(np.radians(60)))


def test_ranking_by_hand() -> None:
    """From 0 degrees the order is 20, 50; from 20 it is 0, 50; from 50 it is 20, 0. Moved to 40, 20 prefers 50."""
    assert compare(at(0, 20, 50), at(0, 20, 50)).ranking == 1
    assert compare(at(0, 20, 50), at(0, 40, 50)).ranking == pytest.approx(4 / 6)
    assert compare(at(0, 20, 50), at(0, 40, 50), top_k=1).ranking == pytest.approx(2 / 3)


def test_neighbours_at_nearly_the_same_distance_may_change_places() -> None:
    """From 0 degrees, 20 and -20.1 differ by 0.0006 in cosine distance."""
    reference, candidate = at(0, 20, -20.1), at(0, 20.2, -20.1)
    assert compare(reference, candidate, top_k=1).ranking < 1
    assert compare(reference, candidate, top_k=1, tie=1e-3).ranking == 1


def test_one_crop_has_nothing_to_rank() -> None:
    assert compare(at(0), at(0)).ranking == 1


def test_rows_that_are_not_finite_have_the_worst_cosine() -> None:
    candidate = at(0, 90)
    candidate[1] = np.inf
    found = compare(at(0, 90), candidate)
    assert (found.not_finite, found.cosine_min, found.cosine_mean) == (1, pytest.approx(-1), pytest.approx(0))
