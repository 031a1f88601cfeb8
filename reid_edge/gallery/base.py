"""The gallery contract: enrol embeddings under labels, search them exactly, forget them.

To add a store (SQLite, say), subclass `GalleryStore` and implement where embeddings and labels are kept.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from reid_edge.data.records import Ranking
from reid_edge.errors import InputError
from reid_edge.scoring.distances import as_embeddings, block_rows, distance_by_name

__all__ = ["GalleryStore"]

_Found = tuple[NDArray[np.int64], NDArray[np.float32]]  # gallery rows and distances, [Q, k] each, closest first


class GalleryStore(ABC):
    """Embeddings under labels, one a row in the order of enrolment, searched exactly.

    A subclass implements `__len__`, `dim`, `model`, `labels`, `blocks`, `_add` and `_remove`; one that has a search of
    its own overrides `search`. `model` is the hash of the weights that made the embeddings
    (`ModelCard.weights_sha256`): once it is known, embeddings of another model are refused, since distances between
    the embeddings of two models mean nothing. Calls that name no model are accepted.
    """

    @abstractmethod
    def __len__(self) -> int: ...

    @property
    @abstractmethod
    def dim(self) -> int | None:
        """The number of dimensions; None until it is known."""

    @property
    @abstractmethod
    def model(self) -> str:
        """The hash of the weights that made the embeddings; empty until it is known."""

    @property
    @abstractmethod
    def labels(self) -> Sequence[str]:
        """The label of each row. Later enrolments and removals do not change what was returned."""

    @abstractmethod
    def blocks(self) -> Iterator[NDArray[np.float32]]:
        """The embeddings in order, as blocks float32 [n, D], none empty, each small enough for memory; read only."""

    @abstractmethod
    def _add(self, rows: NDArray[np.float32], labels: Sequence[str], model: str) -> None:
        """Append checked embeddings [N, D], copied, and their labels [N]; set `model` where it is not known yet."""

    @abstractmethod
    def _remove(self, labels: frozenset[str]) -> None:
        """Drop every row with one of ``labels``; the others keep their order."""

    @property
    def embeddings(self) -> NDArray[np.float32]:
        """A copy of the embeddings, float32 [len, D], in the order of enrolment."""
        return np.concatenate([np.empty((0, self.dim or 0), np.float32), *self.blocks()])

    def __repr__(self) -> str:
        size = f"{len(self)} embeddings" + (f" of {self.dim} dimensions" if self.dim else "")
        return f"<{type(self).__name__}: {size}{f', model {self.model:.12}' if self.model else ''}>"

    def enrol(self, embeddings: ArrayLike, labels: Sequence[str], model: str = "") -> None:
        """Add embeddings [N, D], copied, under ``labels`` [N]; a label may be used many times.

        Raises InputError, with nothing added, for embeddings of other dimensions or another ``model``, values that are
        not finite, and labels that are not N strings.
        """
        rows = as_embeddings(embeddings, "the embeddings")
        names = _checked_labels(labels, len(rows))
        self._check_dim(rows, "embeddings")
        self._check_model(model)
        self._add(rows, names, model)

    def search(self, queries: ArrayLike, k: int = 10, distance: str = "cosine", model: str = "") -> Ranking:
        """Find the ``k`` entries closest to each of ``queries`` [Q, D], ties in the order of enrolment.

        ``distance`` is a name that `reid_edge.scoring.distances.distance_by_name` knows. When the gallery holds
        fewer than ``k``, all of it is ranked. The arrays are the caller's own. Raises InputError for an
        empty gallery, queries of other dimensions or another ``model``, and k that is not a whole number of 1 or more.
        """
        if not len(self):
            raise InputError("the gallery is empty: enrol embeddings before searching")
        _check_k(k)
        rows = as_embeddings(queries, "the queries")
        self._check_dim(rows, "queries")
        self._check_model(model)
        best: _Found | None = None
        first = 0
        for size, distances_to in self._against(distance):
            found = _closest_in_block(distances_to, rows, k, size, first)
            best = found if best is None else _merged(best, found, k)
            first += size
        assert best is not None, "a gallery that is not empty has a block"
        return Ranking(*best, self.labels)

    def forget(self, labels: Sequence[str]) -> int:
        """Remove every embedding under one of ``labels`` and return how many there were.

        Labels that are not enrolled are passed over. Raises InputError for labels that are not strings.
        """
        names = frozenset(_checked_labels(labels, None))
        before = len(self)
        self._remove(names)
        return before - len(self)

    def _against(self, distance: str) -> Iterator[tuple[int, Callable[[ArrayLike], NDArray[np.float32]]]]:
        """For each block its number of rows, and the function from queries [Q, D] to distances [Q, rows]."""
        measure = distance_by_name(distance)
        for block in self.blocks():
            yield len(block), measure.against(block)

    def _check_dim(self, rows: NDArray[np.float32], what: str) -> None:
        if self.dim not in (None, rows.shape[1]):
            raise InputError(
                f"the {what} have {rows.shape[1]} dimensions and the gallery {self.dim}: embed both with the same model"
            )

    def _check_model(self, model: str) -> None:
        if model and self.model and model != self.model:
            raise InputError(
                f"these embeddings are of model {model:.12} and the gallery's of {self.model:.12}: "
                "embed both with one model, or start a new gallery"
            )


def _check_k(k: object) -> None:
    if not isinstance(k, (int, np.integer)) or isinstance(k, bool) or k < 1:
        raise InputError(f"k is {k!r:.40}: give a whole number of at least 1")


def _closest_in_block(
    distances_to: Callable[[ArrayLike], NDArray[np.float32]],
    queries: NDArray[np.float32],
    k: int,
    size: int,
    first: int,
) -> _Found:
    """The ``k`` closest of a block of ``size`` gallery rows, the first of which is row ``first`` of the gallery."""
    k = min(k, size)
    indices = np.empty((len(queries), k), np.int64)
    distances = np.empty((len(queries), k), np.float32)
    step = block_rows(size)
    for start in range(0, len(queries), step):
        for query, row in enumerate(distances_to(queries[start : start + step]), start):
            closest = _closest(row, k)
            indices[query] = closest + first
            distances[query] = row[closest]
    return indices, distances


def _merged(earlier: _Found, later: _Found, k: int) -> _Found:
    """The ``k`` closest of two results, of which ``earlier`` comes first in the gallery and so wins ties."""
    indices = np.concatenate([earlier[0], later[0]], axis=1)
    distances = np.concatenate([earlier[1], later[1]], axis=1)
    order = np.argsort(distances, axis=1, kind="stable")[:, :k]
    return np.take_along_axis(indices, order, axis=1), np.take_along_axis(distances, order, axis=1)


def _closest(row: NDArray[np.float32], k: int) -> NDArray[np.intp]:
    """Find the indices of the ``k`` smallest of ``row``, in stable order.

    Ties at the k-th place are settled by index, which `numpy.argpartition` alone would not do.

    >>> _closest(np.array([2, 1, 2, 0, 2], np.float32), 3)
    array([3, 1, 0])
    """
    bound = np.partition(row, k - 1)[k - 1]
    near = np.flatnonzero(row <= bound)
    return near[np.argsort(row[near], kind="stable")[:k]]


def _checked_labels(labels: Sequence[str], count: int | None) -> list[str]:
    """The labels as a list of strings; ``count`` is how many there must be, None for any number."""
    if isinstance(labels, str):
        raise InputError(f"the labels are one string, {labels[:40]!r}: give a list with one label a row")
    names = list(labels)
    if count is not None and len(names) != count:
        raise InputError(f"{count} embeddings but {len(names)} labels: give one label a row")
    for name in names:
        if not isinstance(name, str) or "\0" in name:
            raise InputError(f"{name!r:.40} is not a label: give strings without NUL characters")
    return [str(name) for name in names]
