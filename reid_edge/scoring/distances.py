"""Five distances with one interface: for every one of them smaller is closer.

===========  ===============================================================================================
name         between embeddings a and b
===========  ===============================================================================================
euclidean    the square root of the sum of (a - b)^2
cosine       1 - cos(a, b); a zero vector (norm under 1e-30) is at distance 1 from everything
cityblock    the sum of |a - b|
minkowski    (the sum of |a - b|^p)^(1/p); "minkowski" is p = 3, "minkowski:1.5" any other p of at least 1
correlation  1 - Pearson's r across the dimensions, which is cosine after centring each vector; a constant
             vector is at distance 1 from everything
===========  ===============================================================================================

On L2-normalised embeddings cosine and euclidean rank alike, since then euclidean^2 = 2 cosine.

Everything is float32, and results come in blocks of queries that the caller sizes with `block_rows`, so
memory never grows with queries x gallery. Euclidean, cosine and correlation are one matrix product per block;
cityblock and minkowski have no such form (`reid_edge.scoring.tiles`).

A matrix product rounds: the same two vectors may differ in their last bits (about 1e-7 of cosine) from one
block size to another. Vectors that are whole numbers are exact with euclidean and cityblock while the
squares stay below 2^24, so their ties are ties.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial

import numpy as np
from numpy.typing import ArrayLike, NDArray

from reid_edge.core.names import did_you_mean
from reid_edge.errors import InputError

from .tiles import TILE_VALUES, Block, Rows, cityblock, minkowski

__all__ = ["DISTANCES", "Distance", "as_embeddings", "block_rows", "distance_by_name", "unit_rows"]

_DEFAULT_P = 3.0
_LARGEST = 1e15  # its square, summed over 65,536 dimensions, is still a float32
_BLOCK_BYTES = 128 << 20  # at LaST's size 267 queries: a product of 66 takes 1.4 times as long for each
_NOISE = 1e-5  # of |a|^2 + |b|^2: below it, |a - b|^2 from a float32 product is mostly rounding
_ZERO_NORM = 1e-30  # the direction of a shorter vector is not representable in float32


@dataclass(frozen=True)
class Distance:
    """One of the five distances, made by `distance_by_name`; `distance_by_name` of ``name`` is the same distance."""

    name: str
    _prepare: Callable[[Rows], Block] = field(repr=False, compare=False)

    def against(self, gallery: ArrayLike) -> Callable[[ArrayLike], Rows]:
        """Do the gallery's share of the work once; the result maps queries [Q, D] to float32 [Q, G].

        ``gallery`` [G, D] is not copied (except by correlation, which centres it): leave it unchanged while the
        result is in use. Raises InputError for embeddings that `as_embeddings`
        refuses, and when the dimensions of queries and gallery differ.

        >>> distances = distance_by_name("cityblock").against([[0, 0], [3, 4]])
        >>> distances([[0, 0], [1, 1]])
        array([[0., 7.],
               [2., 5.]], dtype=float32)
        """
        known = as_embeddings(gallery, "the gallery")
        block = self._prepare(known)

        def distances(queries: ArrayLike) -> Rows:
            asked = as_embeddings(queries, "the queries")
            if asked.shape[1] != known.shape[1]:
                raise InputError(
                    f"the queries have {asked.shape[1]} dimensions and the gallery {known.shape[1]}: "
                    "embed both with the same model"
                )
            return block(asked)

        return distances


def distance_by_name(name: str) -> Distance:
    """Find the distance called ``name``: one of `DISTANCES`, or "minkowski:P" with a finite P of at least 1.

    Raises InputError for any other name.
    """
    kind, colon, p = name.partition(":")
    if kind == "minkowski":
        exponent = _exponent(p, name) if colon else _DEFAULT_P
        return Distance(f"minkowski:{exponent:.12g}", partial(minkowski, p=exponent))
    if name not in _PREPARE:
        known = f"choose from {', '.join(DISTANCES)} (or minkowski:P)"
        raise InputError(f"no distance is called {name!r}: {known}{did_you_mean(name, DISTANCES)}")
    return Distance(name, _PREPARE[name])


def as_embeddings(values: ArrayLike, what: str = "the embeddings") -> Rows:
    """``values`` as C-ordered float32 [N, D], not copied if it is that already; ``what`` names it in errors.

    Raises InputError unless it is a table of real numbers with at least one column, all finite and within
    1e15 (so that their squares are finite too).
    """
    try:
        array = np.asarray(values)
    except ValueError:  # numpy raises it for rows of different lengths
        raise InputError(f"{what} must be numbers [N, D], and these rows differ in length: embed them again") from None
    if array.ndim != 2 or array.shape[1] == 0 or array.dtype.kind not in "fiu":
        raise InputError(f"{what} must be numbers [N, D], not {array.dtype} {list(array.shape)}: give one row per crop")
    if array.size and not (float(array.min()) >= -_LARGEST and float(array.max()) <= _LARGEST):
        within = (np.abs(array) <= _LARGEST).all(axis=1)  # NaN compares false
        raise InputError(
            f"{what}: row {int(np.argmin(within))} holds NaN, Inf or a value beyond 1e15: "
            "drop it or embed that crop again"
        )
    return np.ascontiguousarray(array, dtype=np.float32)


def block_rows(gallery: int) -> int:
    """How many queries to ask for at once of ``gallery`` entries: 128 MiB of distances, at least 1 row."""
    return max(1, _BLOCK_BYTES // (4 * max(1, gallery)))


def _cosine(gallery: Rows) -> Block:
    scale = _reciprocal(_norms(gallery)).astype(np.float32)  # [G]; avoids a normalised copy of the gallery

    def block(queries: Rows) -> Rows:
        return _one_minus(unit_rows(queries) @ gallery.T, scale)  # [Q, G]

    return block


def _correlation(gallery: Rows) -> Block:
    directions = _centred_unit(gallery)  # [G, D]; a copy, since centring after the product would cancel
    return lambda queries: _one_minus(_centred_unit(queries) @ directions.T)


def _euclidean(gallery: Rows) -> Block:
    squares = np.square(_norms(gallery)).astype(np.float32)  # [G]

    def block(queries: Rows) -> Rows:
        own = np.square(_norms(queries)).astype(np.float32)  # [Q]
        squared: Rows = (-2 * queries) @ gallery.T  # [Q, G], of |a|^2 + |b|^2 - 2ab
        squared += squares
        squared += own[:, None]
        _mend_cancellation(squared, queries, gallery, own, squares)
        np.sqrt(squared, out=squared)
        return squared

    return block


def _mend_cancellation(squared: Rows, queries: Rows, gallery: Rows, own: Rows, squares: Rows) -> None:
    """Recompute by subtraction, in place, pairs so close that only the product's rounding error is left.

    All values that rounding made negative are among them. Without this, a crop is about 1e-3 of its norm away from
    itself. Such pairs are rare unless a network has collapsed, and then this costs what cityblock does.
    """
    if squared.size == 0:
        return
    suspects = squared.min(axis=1) <= _NOISE * (own + squares.max())  # [Q], a cheap bound that rules out most rows
    step = max(1, TILE_VALUES // gallery.shape[1])
    for i in np.flatnonzero(suspects):
        near = np.flatnonzero(squared[i] <= _NOISE * (own[i] + squares))
        for part in (near[start : start + step] for start in range(0, len(near), step)):
            apart = gallery[part] - queries[i]
            squared[i, part] = np.einsum("nd,nd->n", apart, apart)


def _norms(rows: Rows) -> NDArray[np.float64]:
    """L2 norms [N], summed in float64: nothing overflows or vanishes."""
    squares: NDArray[np.float64] = np.einsum("nd,nd->n", rows, rows, dtype=np.float64)
    return np.sqrt(squares, out=squares)


def _reciprocal(norms: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.divide(1.0, norms, out=np.zeros_like(norms), where=norms > _ZERO_NORM)


def unit_rows(rows: Rows) -> Rows:
    """Rows scaled to L2 norm 1; rows without a direction become zero."""
    return np.multiply(rows, _reciprocal(_norms(rows))[:, None], out=np.empty_like(rows), casting="same_kind")


def _centred_unit(rows: Rows) -> Rows:
    """Rows minus their mean, at norm 1. In float64 a constant row's mean is exact, so the row becomes zero."""
    means = rows.mean(axis=1, dtype=np.float64, keepdims=True)
    centred: Rows = np.subtract(rows, means, out=np.empty_like(rows), casting="same_kind")
    centred *= _reciprocal(_norms(centred))[:, None]
    return centred


def _one_minus(similarity: Rows, scale: Rows | None = None) -> Rows:
    """``1 - similarity * scale`` in place, at least 0: a vector's cosine with itself may round to 1.0000001.

    A few rows at a time: what is in a core's cache passes three times at the price of one.
    """
    step = max(1, TILE_VALUES // max(1, similarity.shape[1]))
    for start in range(0, len(similarity), step):
        part = similarity[start : start + step]
        if scale is not None:
            part *= scale
        np.subtract(1, part, out=part)
        np.maximum(part, 0, out=part)
    return similarity


def _exponent(text: str, name: str) -> float:
    try:
        p = float(text)
    except ValueError:
        p = math.nan
    if not 1 <= p < math.inf:
        raise InputError(f"{name!r}: p must be a finite number of at least 1, as in minkowski:3")
    return p


_PREPARE: dict[str, Callable[[Rows], Block]] = {
    "euclidean": _euclidean,
    "cosine": _cosine,
    "cityblock": cityblock,
    "correlation": _correlation,
}

DISTANCES: tuple[str, ...] = ("euclidean", "cosine", "cityblock", "minkowski", "correlation")
"""The names that `distance_by_name` knows."""
