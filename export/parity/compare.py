"""How far two sets of embeddings of the same crops are apart: by value, and by the ranking that they give."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

__all__ = ["TOP_K", "Comparison", "Embeddings", "compare"]

Embeddings = NDArray[np.float32]

TOP_K = 10
"""How many places of each ranking are compared."""


@dataclass(frozen=True)
class Comparison:
    """How far candidate embeddings are from the reference's; `limits.Thresholds` says what each figure is.

    ``spread`` is the root mean square distance of the reference's embeddings from their mean: with norm 1, two crops
    have a cosine of 1 - ``spread``² on average.
    """

    cosine_min: float
    cosine_p1: float
    cosine_mean: float
    max_error: float
    relative_error: float
    spread: float
    ranking: float
    not_finite: int


def compare(reference: Embeddings, candidate: Embeddings, top_k: int = TOP_K, tie: float = 0.0) -> Comparison:
    """Compare embeddings float32 [N, D] of the same N crops, row by row.

    Rows that hold NaN or infinity are counted in ``not_finite`` and have cosine -1.

    Three crops at 0, 20 and 50 degrees, and a candidate that turns the middle one by 20 more: the minimum cosine is
    that of 20 degrees, and the middle one now ranks the third before the first, so 4 of 6 places are as they were.

    >>> import numpy as np
    >>> at = lambda *degrees: np.stack([[np.cos(d), np.sin(d)] for d in np.radians(degrees)]).astype(np.float32)
    >>> turned = compare(at(0, 20, 50), at(0, 40, 50))
    >>> round(turned.cosine_min, 4), round(turned.ranking, 4)
    (0.9397, 0.6667)
    """
    finite: NDArray[np.bool_] = np.asarray(np.isfinite(candidate).all(axis=1))
    filled = np.where(finite[:, None], candidate, -reference).astype(np.float64)
    exact = reference.astype(np.float64)
    lengths = np.linalg.norm(exact, axis=1) * np.linalg.norm(filled, axis=1)
    cosine = (exact * filled).sum(axis=1) / np.maximum(lengths, 1e-12)  # [N]
    spread = float(np.sqrt(((exact - exact.mean(axis=0)) ** 2).sum(axis=1).mean()))
    return Comparison(
        cosine_min=float(cosine.min()),
        cosine_p1=float(np.percentile(cosine, 1)),
        cosine_mean=float(cosine.mean()),
        max_error=float(np.abs(exact - filled).max()),
        relative_error=_relative_error(exact, filled, spread),
        spread=spread,
        ranking=_ranking_agreement(exact, filled, top_k, tie),
        not_finite=int((~finite).sum()),
    )


def _relative_error(reference: NDArray[np.float64], candidate: NDArray[np.float64], spread: float) -> float:
    error = float(np.sqrt(((candidate - reference) ** 2).sum(axis=1).mean()))
    return 0.0 if error == 0 else error / spread if spread > 0 else float("inf")


def _ranking_agreement(reference: NDArray[np.float64], candidate: NDArray[np.float64], top_k: int, tie: float) -> float:
    """The share of top-k places that hold the reference's crop or its equal; 1 when there are no others to rank."""
    top_k = min(top_k, len(reference) - 1)
    if top_k < 1:
        return 1.0
    distances = _distances(reference)  # [N, N]
    order = np.argsort(_distances(candidate), axis=1, kind="stable")[:, :top_k]
    found = np.take_along_axis(distances, order, axis=1)
    best = np.sort(distances, axis=1)[:, :top_k]
    return float((np.abs(found - best) <= tie).mean())


def _distances(embeddings: NDArray[np.float64]) -> NDArray[np.float64]:
    """Cosine distances [N, N]; a crop is infinitely far from itself, so that it is never ranked."""
    unit = embeddings / np.maximum(np.linalg.norm(embeddings, axis=1, keepdims=True), 1e-12)
    distances: NDArray[np.float64] = 1 - unit @ unit.T
    np.fill_diagonal(distances, np.inf)
    return distances
