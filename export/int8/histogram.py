"""Histograms of magnitudes, and activation ranges from them (Wu et al., arXiv 2004.09602, section 4).

- ``minmax``: the largest magnitude seen. Nothing is clipped; one outlier widens every step.
- ``percentile``: the magnitude below which 99.99 % of the numbers lie.
- ``mse``: the activation range with the least squared error of rounding and clipping over the histogram, by search.

A histogram counts magnitudes, because a symmetric activation range treats both signs alike. A new method is a function
and an entry of `METHODS`, here or by ``METHODS.register``.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from reid_edge.core.registry import Registry

__all__ = ["BINS", "METHODS", "PERCENTILE", "Histogram", "histogram_of", "mse_range", "peak_range", "percentile_range"]

Histogram = NDArray[np.int64]

BINS = 8192
"""Fine enough that a step of the narrowest activation range tried still spans four of them."""

PERCENTILE = 99.99
"""The share of numbers, in per cent, that ``percentile`` does not clip."""

_CANDIDATES = 256
_NARROWEST = 16
"""The search tries every 1/256 of the largest magnitude, from a sixteenth of it up."""


def histogram_of(array: NDArray[np.float32], peak: float) -> Histogram:
    """Count the magnitudes of float32 numbers of any shape in `BINS` equal bins over [0, ``peak``], peak > 0."""
    bins = (np.abs(array).ravel() * np.float32(BINS / peak)).astype(np.int32)
    return np.bincount(np.minimum(bins, BINS - 1), minlength=BINS)


def peak_range(histogram: Histogram, peak: float) -> float:
    """The largest magnitude itself."""
    return peak


def percentile_range(histogram: Histogram, peak: float, percentile: float = PERCENTILE) -> float:
    """The upper edge of the first bin up to which ``percentile`` per cent of the numbers lie.

    >>> import numpy as np
    >>> percentile_range(np.array([6, 3, 0, 1]), peak=8.0, percentile=90)
    4.0
    """
    reached = np.cumsum(histogram) >= histogram.sum() * percentile / 100
    return float((int(np.argmax(reached)) + 1) * peak / len(histogram)) if histogram.sum() else peak


def mse_range(histogram: Histogram, peak: float) -> float:
    """The activation range, of those tried, with the least squared error of rounding to 127 steps and clipping.

    A million numbers below 1 and one of 10: clipping it costs less than steps four times as wide.

    >>> import numpy as np
    >>> mse_range(np.array([10_000] * 100 + [0] * 899 + [1]), peak=10.0)
    2.5390625
    """
    if peak <= 0:
        return peak
    centres = (np.arange(len(histogram), dtype=np.float64) + 0.5) * (peak / len(histogram))
    # From the widest down, and the first of equals is taken: where nothing is gained, nothing is clipped.
    candidates: NDArray[np.float64] = peak * np.arange(_CANDIDATES, _CANDIDATES // _NARROWEST - 1, -1) / _CANDIDATES
    errors = [_squared_error(histogram, centres, float(candidate)) for candidate in candidates]
    return float(candidates[int(np.argmin(errors))])


METHODS: Registry[Callable[[Histogram, float], float]] = Registry(
    "calibration_methods", {"minmax": peak_range, "percentile": percentile_range, "mse": mse_range}
)
"""From a histogram of magnitudes over [0, peak] to an activation range, by name."""


def _squared_error(histogram: Histogram, centres: NDArray[np.float64], limit: float) -> float:
    step = limit / 127
    rounded = np.minimum(np.rint(centres / step), 127) * step
    return float(histogram @ (centres - rounded) ** 2)
