"""Query expansion: a query becomes the mean of itself and what it finds.

Average query expansion is from Chum et al., "Total Recall", ICCV 2007; weights of similarity^alpha from Radenovic,
Tolias and Chum, "Fine-tuning CNN Image Retrieval with No Human Annotation", TPAMI 2019. What is found may be wrong, and
then pulls the query away: it helps a model that is right at the first ranks.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from reid_edge.errors import InputError

from .blocks import nearest
from .distances import as_embeddings, block_rows, distance_by_name, unit_rows

__all__ = ["QueryExpansion", "expanded_queries"]


@dataclass(frozen=True, kw_only=True)
class QueryExpansion:
    """Average over the ``k`` gallery crops of largest cosine, each with the weight cosine^``alpha``; the query has 1.

    With ``alpha`` 0 all weights are 1; negative cosines have the weight 0 above that. Raises InputError for values out
    of range.
    """

    k: int
    alpha: float = 0.0

    def __post_init__(self) -> None:
        if self.k < 1 or not 0 <= self.alpha < np.inf:
            raise InputError(f"query expansion with {self}: give k of 1 or more, and a finite alpha of at least 0")

    def __str__(self) -> str:
        return f"k {self.k}" + (f", alpha {self.alpha:g}" if self.alpha else "")

    def to_dict(self) -> dict[str, float | int]:
        """JSON-able."""
        return asdict(self)


def expanded_queries(queries: ArrayLike, gallery: ArrayLike, options: QueryExpansion) -> NDArray[np.float32]:
    """Expanded queries float32 [Q, D] of L2 norm 1, from embeddings [Q, D] and [G, D], whose norms are ignored.

    All of the gallery is searched, crops of the query's own camera among it: labels are not looked at. A gallery
    smaller than ``options.k`` is taken whole. Raises InputError for embeddings that do not fit together.

    The query at 0 degrees finds the crop at 60, and comes to lie halfway between:

    >>> expanded_queries([[1, 0]], [[0.5, 0.75**0.5], [-1, 0]], QueryExpansion(k=1)).round(3)
    array([[0.866, 0.5  ]], dtype=float32)
    """
    asked = unit_rows(as_embeddings(queries, "the query embeddings"))
    known = as_embeddings(gallery, "the gallery embeddings")
    if not len(known):
        raise InputError("query expansion needs a gallery: give at least one crop")
    cosine, k, step = distance_by_name("cosine").against(known), min(options.k, len(known)), block_rows(len(known))
    found = np.empty_like(asked)
    for start in range(0, len(asked), step):
        part = asked[start : start + step]
        apart = cosine(part)
        near = nearest(apart, k)  # [n, k]
        weights = np.maximum(1 - np.take_along_axis(apart, near, axis=1), 0) ** np.float32(options.alpha)
        for query, of, weight, out in zip(part, near, weights, found[start:], strict=False):
            out[:] = query + weight @ unit_rows(known[of])
    return unit_rows(found)
