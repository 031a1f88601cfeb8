"""Intervals hold the truth as often as they say, for a model and for a difference of two; the whole study is long."""

from __future__ import annotations

import numpy as np
import pytest
from helpers.naive import naive_metrics
from scoring.coverage_trial import POPULATIONS, Population, average_precision, coverage


def test_the_trial_scores_by_the_protocol() -> None:
    """Its own AP, which is quick, equals the reference: five persons in two cameras, the first crop of each a query."""
    rng = np.random.default_rng(0)
    person, camera = np.repeat(np.arange(5), 6), np.tile(np.repeat([0, 1], 3), 5)
    rows, query = rng.normal(size=(30, 3)) + rng.normal(size=(5, 3))[person], np.arange(0, 30, 3)
    gallery = np.setdiff1d(np.arange(30), query)
    apart = ((rows[query][:, None] - rows[gallery]) ** 2).sum(axis=2)
    ids = person[query], camera[query], person[gallery], camera[gallery]
    expected = naive_metrics(apart.tolist(), *(each.tolist() for each in ids), max_rank=1)
    assert expected is not None
    assert average_precision(rows, person, camera, query).mean() == pytest.approx(expected.mAP)


def test_an_interval_is_neither_always_right_nor_rarely() -> None:
    found = coverage(Population(24, 0.9), truths=300, draws=120)
    assert 0.85 <= found["held"] <= 0.99 and 0.85 <= found["gain held"] <= 0.99


@pytest.mark.long
@pytest.mark.parametrize("name", POPULATIONS)
def test_92_to_98_of_100_intervals_hold_the_truth(name: str) -> None:
    found = coverage(POPULATIONS[name])
    assert 0.92 <= found["held"] <= 0.98
