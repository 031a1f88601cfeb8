"""The exact gallery: enrol embeddings under labels, search them, keep them on disk."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike, NDArray

from .arrays import read_arrays
from .distances import as_embeddings, block_rows, distance_by_name
from .errors import InputError
from .files import require_file, written_whole
from .records import Ranking

__all__ = ["Gallery"]

_VERSION = 1
_FIRST_CAPACITY = 64


class Gallery:
    """Embeddings and their labels in memory, searched exactly.

    ``dim`` is the number of dimensions; None takes it from the first enrolment. ``model`` says which model
    makes the embeddings (`ModelCard.weights_sha256`); once it is known, here or from a call that names it,
    embeddings tagged with another model are refused, since distances between two models' embeddings mean
    nothing. Calls without a tag are taken on trust.

    One thread at a time may use a Gallery.

    >>> gallery = Gallery()
    >>> gallery.enrol([[1.0, 0.0], [0.0, 1.0]], ["ann", "bob"])
    >>> gallery.search([[0.9, 0.1]], k=1).named(0)[0][0]
    'ann'
    """

    def __init__(self, dim: int | None = None, model: str = "") -> None:
        if dim is not None and dim < 1:
            raise InputError(f"a gallery of {dim} dimensions holds nothing: give the model's embedding_dim, or None")
        self._rows: NDArray[np.float32] = np.empty((0, dim or 0), np.float32)  # [capacity, D], the first ones in use
        self._labels: list[str] = []
        self._model = model
        self._prepared: tuple[str, Callable[[ArrayLike], NDArray[np.float32]]] | None = None
        self._snapshot: tuple[str, ...] | None = None

    def __len__(self) -> int:
        return len(self._labels)

    @property
    def dim(self) -> int | None:
        """The number of dimensions; None until it is known."""
        return self._rows.shape[1] or None

    @property
    def model(self) -> str:
        """The hash of the weights that made the embeddings; empty when nobody said."""
        return self._model

    @property
    def labels(self) -> tuple[str, ...]:
        """The labels in the order of enrolment, one a row."""
        if self._snapshot is None:
            self._snapshot = tuple(self._labels)
        return self._snapshot

    @property
    def embeddings(self) -> NDArray[np.float32]:
        """A copy of the embeddings, float32 [len, D], in the order of enrolment."""
        return np.array(self._rows[: len(self)])

    def enrol(self, embeddings: ArrayLike, labels: Sequence[str], model: str = "") -> None:
        """Add embeddings [N, D], copied, under ``labels`` [N]; a label may be used many times.

        Takes amortised constant time a row, also one at a time. Raises InputError, with nothing added, for
        embeddings of other dimensions or another ``model``, values that are not finite, and labels that are
        not N strings.
        """
        rows = as_embeddings(embeddings, "the embeddings")
        names = _checked_labels(labels, len(rows))
        self._check_dim(rows, "embeddings")
        self._check_model(model)
        self._reserve(len(self) + len(rows), rows.shape[1])
        self._rows[len(self) : len(self) + len(rows)] = rows
        self._labels += names
        self._model = self._model or model
        self._prepared = self._snapshot = None

    def search(self, queries: ArrayLike, k: int = 10, distance: str = "cosine", model: str = "") -> Ranking:
        """Find the ``k`` entries closest to each of ``queries`` [Q, D], ties in the order of enrolment.

        ``distance`` is a name that `reid_edge.distances.distance_by_name` knows. When the gallery holds
        fewer than ``k``, all of it is ranked. The arrays are the caller's own. Raises InputError for an
        empty gallery, queries of other dimensions or another ``model``, and k below 1.
        """
        if not self._labels:
            raise InputError("the gallery is empty: enrol embeddings before searching")
        if k < 1:
            raise InputError(f"k is {k}: ask for at least 1 entry")
        rows = as_embeddings(queries, "the queries")
        self._check_dim(rows, "queries")
        self._check_model(model)
        against, k = self._against(distance), min(k, len(self))
        indices = np.empty((len(rows), k), np.int64)
        distances = np.empty((len(rows), k), np.float32)
        step = block_rows(len(self))
        for start in range(0, len(rows), step):
            for query, row in enumerate(against(rows[start : start + step]), start):
                indices[query] = _closest(row, k)
                distances[query] = row[indices[query]]
        return Ranking(indices, distances, self.labels)

    def save(self, path: Path | str) -> None:
        """Write the gallery to ``path`` (.npz), whole or not at all. It holds no pickles."""
        with written_whole(path) as beside, open(beside, "wb") as file:
            np.savez(
                file,
                version=np.array(_VERSION),
                model=np.array(self._model),
                embeddings=self._rows[: len(self)],
                labels=np.array(self._labels, np.str_),
            )

    @classmethod
    def load(cls, path: Path | str) -> Gallery:
        """Read a gallery that `save` wrote.

        The file is untrusted input: no pickle is loaded, and nothing larger than the file is allocated.
        Raises InputError when it is missing, damaged or something else.
        """
        path = require_file(path, "a saved gallery")
        try:
            version, model, embeddings, labels = read_arrays(path, ("version", "model", "embeddings", "labels"))
        except ValueError as error:
            raise _not_ours(path, str(error)) from None
        if version.shape != () or version.dtype.kind not in "iu" or int(version) != _VERSION:
            raise InputError(f"{path}: this version of reid-edge does not know its format: upgrade, or enrol again")
        if model.shape != () or model.dtype.kind != "U" or labels.ndim != 1 or labels.dtype.kind != "U":
            raise _not_ours(path, "its entries are of other kinds")
        if embeddings.dtype != np.float32 or embeddings.ndim != 2 or len(embeddings) != len(labels):
            raise _not_ours(path, "embeddings and labels do not fit together")
        gallery = cls(embeddings.shape[1] or None, str(model))
        if len(embeddings):
            gallery.enrol(as_embeddings(embeddings, str(path)), labels.tolist())
        return gallery

    def _against(self, distance: str) -> Callable[[ArrayLike], NDArray[np.float32]]:
        """Distances to all entries; the gallery's share of the work is kept until the next enrolment."""
        if self._prepared is None or self._prepared[0] != distance:
            self._prepared = (distance, distance_by_name(distance).against(self._rows[: len(self)]))
        return self._prepared[1]

    def _reserve(self, needed: int, dim: int) -> None:
        capacity = len(self._rows)
        if needed > capacity:
            grown = np.empty((max(needed, 2 * capacity, _FIRST_CAPACITY), dim), np.float32)
            if len(self):
                grown[: len(self)] = self._rows[: len(self)]
            self._rows = grown

    def _check_dim(self, rows: NDArray[np.float32], what: str) -> None:
        if self.dim not in (None, rows.shape[1]):
            raise InputError(
                f"the {what} have {rows.shape[1]} dimensions and the gallery {self.dim}: embed both with the same model"
            )

    def _check_model(self, model: str) -> None:
        if model and self._model and model != self._model:
            raise InputError(
                f"these embeddings are of model {model:.12} and the gallery's of {self._model:.12}: "
                "embed both with one model, or start a new gallery"
            )


def _closest(row: NDArray[np.float32], k: int) -> NDArray[np.intp]:
    """Find the indices of the ``k`` smallest of ``row``, in stable order.

    Ties at the k-th place are settled by index, which `numpy.argpartition` alone would not do.

    >>> _closest(np.array([2, 1, 2, 0, 2], np.float32), 3)
    array([3, 1, 0])
    """
    bound = np.partition(row, k - 1)[k - 1]
    near = np.flatnonzero(row <= bound)
    return near[np.argsort(row[near], kind="stable")[:k]]


def _checked_labels(labels: Sequence[str], count: int) -> list[str]:
    if isinstance(labels, str):
        raise InputError(f"the labels are one string, {labels[:40]!r}: give a list with one label a row")
    names = list(labels)
    if len(names) != count:
        raise InputError(f"{count} embeddings but {len(names)} labels: give one label a row")
    for name in names:
        if not isinstance(name, str) or "\0" in name:
            raise InputError(f"{name!r:.40} is no label: give strings without NUL characters")
    return [str(name) for name in names]


def _not_ours(path: Path, reason: str) -> InputError:
    return InputError(f"{path} is no gallery that Gallery.save wrote ({reason}): give another, or enrol again")
