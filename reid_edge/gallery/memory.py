"""The gallery in memory, which can be saved to a file."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from reid_edge.core.arrays import read_arrays, write_arrays
from reid_edge.core.files import require_file
from reid_edge.errors import InputError
from reid_edge.scoring.distances import as_embeddings, distance_by_name

from .base import GalleryStore

__all__ = ["Gallery"]

_FORMATS = {
    1: ("model", "embeddings", "labels"),
    2: ("model", "embeddings", "labels", "label_ends"),
}
_VERSION = 2
_FIRST_CAPACITY = 64


class Gallery(GalleryStore):
    """Embeddings and their labels in memory, searched exactly; see `GalleryStore` for its methods.

    ``dim`` is the number of dimensions; None takes it from the first enrolment. ``model`` is the hash of the model
    that makes the embeddings (`ModelCard.weights_sha256`). Enrolling takes amortised constant time a row, also one
    at a time. One thread at a time may use a Gallery.

    >>> gallery = Gallery()
    >>> gallery.enrol([[1.0, 0.0], [0.0, 1.0]], ["ann", "bob"])
    >>> gallery.search([[0.9, 0.1]], k=1).named(0)[0][0]
    'ann'
    >>> gallery.forget(["ann"]), gallery.labels
    (1, ('bob',))
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
        """The hash of the weights that made the embeddings; empty until it is known."""
        return self._model

    @property
    def labels(self) -> tuple[str, ...]:
        """The labels in the order of enrolment, one per row."""
        if self._snapshot is None:
            self._snapshot = tuple(self._labels)
        return self._snapshot

    def save(self, path: Path | str) -> None:
        """Write the gallery to ``path`` (.npz), sealed, whole or not at all; a new file is its owner's alone (0600).

        It holds no pickles. Labels are UTF-8; the surrogates that stand for undecodable bytes in a file name are kept.
        """
        encoded = [label.encode("utf-8", "surrogatepass") for label in self._labels]
        arrays: dict[str, ArrayLike] = {
            "model": self._model,
            "embeddings": self._rows[: len(self)],
            "labels": np.frombuffer(b"".join(encoded), np.uint8),
            "label_ends": np.cumsum([len(label) for label in encoded], dtype=np.int64),
        }
        write_arrays(path, _VERSION, arrays, private=True)

    @classmethod
    def load(cls, path: Path | str) -> Gallery:
        """Read a gallery that `save` wrote.

        The file is untrusted input: no pickle is loaded, and nothing larger than the file is allocated. A file of an
        earlier version has no seal and is read with a note.

        Raises InputError when it is missing, was changed since, or is something else.
        """
        path = require_file(path, "a saved gallery")
        try:
            version, arrays = read_arrays(path, _FORMATS)
            labels = _labels_of(arrays) if version == _VERSION else _labels_of_version_1(arrays["labels"])
            model, embeddings = arrays["model"], arrays["embeddings"]
            if model.shape != () or model.dtype.kind != "U":
                raise ValueError("the model is not a text")
            if embeddings.dtype != np.float32 or embeddings.ndim != 2 or len(embeddings) != len(labels):
                raise ValueError("the number of embeddings and labels differs")
            gallery = cls(embeddings.shape[1] or None, str(model))
            if len(embeddings):
                gallery.enrol(as_embeddings(embeddings, "the embeddings"), labels)
        except (ValueError, InputError) as error:
            raise InputError(
                f"{path} is not a gallery written by Gallery.save ({error}): give another, or enrol again"
            ) from None
        return gallery

    def blocks(self) -> Iterator[NDArray[np.float32]]:
        """All rows as one block."""
        if self._labels:
            yield self._rows[: len(self)]

    def _add(self, rows: NDArray[np.float32], labels: Sequence[str], model: str) -> None:
        self._reserve(len(self) + len(rows), rows.shape[1])
        self._rows[len(self) : len(self) + len(rows)] = rows
        self._labels += labels
        self._model = self._model or model
        self._prepared = self._snapshot = None

    def _remove(self, labels: frozenset[str]) -> None:
        kept = [row for row, label in enumerate(self._labels) if label not in labels]
        self._rows = self._rows[kept]  # a new array: nothing of what was removed stays in memory
        self._labels = [self._labels[row] for row in kept]
        self._prepared = self._snapshot = None

    def _against(self, distance: str) -> Iterator[tuple[int, Callable[[ArrayLike], NDArray[np.float32]]]]:
        """The gallery's share of the work is kept until the rows change."""
        if self._prepared is None or self._prepared[0] != distance:
            self._prepared = (distance, distance_by_name(distance).against(self._rows[: len(self)]))
        yield len(self), self._prepared[1]

    def _reserve(self, needed: int, dim: int) -> None:
        capacity = len(self._rows)
        if needed > capacity:
            grown = np.empty((max(needed, 2 * capacity, _FIRST_CAPACITY), dim), np.float32)
            if len(self):
                grown[: len(self)] = self._rows[: len(self)]
            self._rows = grown


def _labels_of(arrays: dict[str, NDArray[Any]]) -> list[str]:
    """The labels; raises ValueError unless they are UTF-8 bytes, all of them between ends that ascend."""
    encoded, ends = arrays["labels"], arrays["label_ends"]
    if encoded.dtype != np.uint8 or encoded.ndim != 1 or ends.dtype != np.int64 or ends.ndim != 1:
        raise ValueError("the labels are not UTF-8 bytes and their ends")
    starts = np.concatenate([[0], ends])
    if (starts[1:] < starts[:-1]).any() or starts[-1] != len(encoded):
        raise ValueError("the ends of the labels do not ascend to the last byte")
    content = encoded.tobytes()
    return [content[a:b].decode("utf-8", "surrogatepass") for a, b in pairwise(starts.tolist())]


def _labels_of_version_1(labels: NDArray[Any]) -> list[str]:
    """The labels of a file in which the longest sets the width of all."""
    if labels.ndim != 1 or labels.dtype.kind != "U":
        raise ValueError("the labels are not a list of texts")
    return [str(label) for label in labels]
