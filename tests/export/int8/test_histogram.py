"""From histograms to activation ranges, against sorting and against trying each."""

from __future__ import annotations

import numpy as np
import pytest

from reid_edge.export.int8.histogram import BINS, histogram_of, mse_range, percentile_range


def test_percentile_against_sorting() -> None:
    numbers = np.random.default_rng(0).standard_normal(20000).astype(np.float32)
    peak = float(np.abs(numbers).max())
    found = percentile_range(histogram_of(numbers, peak), peak, 99)
    assert found == pytest.approx(np.sort(np.abs(numbers))[19799], abs=1.01 * peak / BINS)


def test_the_search_against_trying_every_range_on_the_numbers_themselves() -> None:
    """Most within 1 and one outlier at 10: keeping it would make every step eight times as wide."""
    numbers = np.append(np.random.default_rng(0).uniform(-1, 1, 50000), 10).astype(np.float32)
    tried = 10 * np.arange(16, 257) / 256
    errors = [float(((numbers - np.clip(np.rint(numbers * 127 / t), -127, 127) * t / 127) ** 2).sum()) for t in tried]
    found = mse_range(histogram_of(numbers, 10.0), 10.0)
    # Rounding to the histogram's bins may prefer a neighbour of equal worth, not another region.
    assert errors[int(np.argmin(np.abs(tried - found)))] <= min(errors) * 1.01
    assert found < 10


def test_the_search_clips_nothing_where_nothing_is_gained() -> None:
    even = np.full(BINS, 7)
    assert mse_range(even, 4.0) == pytest.approx(4.0, rel=0.02)
    assert mse_range(np.zeros(BINS, np.int64), 0.0) == 0


def test_a_histogram_counts_every_number_once() -> None:
    counts = histogram_of(np.array([[0, -1.0], [0.5, 1.0]], np.float32), 1.0)
    assert counts.sum() == 4
    assert (counts[0], counts[BINS // 2], counts[-1]) == (1, 1, 2)
