"""Features: the embeddings of a data set's queries and gallery by one model, computed once and kept for any question.

Distances, re-ranking, query expansion, ROC and comparisons start from them, in seconds; embedding takes minutes.
"""

from __future__ import annotations

import json
import math
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from reid_edge.card import ModelCard
from reid_edge.core.arrays import read_arrays, write_arrays
from reid_edge.core.files import require_file, require_output
from reid_edge.data.datasets import Dataset
from reid_edge.engines.facts import EngineFacts
from reid_edge.errors import InputError, ModelError

from .distances import as_embeddings, unit_rows

__all__ = ["FEATURES_SUFFIX", "FeatureSet", "ids_of", "require_features_name"]

FEATURES_SUFFIX = ".npz"

_NAMES = ("embeddings", "flipped", "pids", "camids", "facts")
_VERSION = 2  # files of version 1 have no seal, and there are none of these
_FACTS = {
    **{"queries": int, "model": str, "dataset": str, "part": str, "resize": str, "same_camera_filter": bool},
    **{"images_per_second": float, "card": dict, "engine": dict},
}


@dataclass(frozen=True, eq=False)
class FeatureSet:
    """Embeddings float32 [N, D], rows of L2 norm 1: the ``queries`` first, then the gallery.

    ``flipped`` are those of the crops mirrored, None where they were not asked for. ``pids`` and ``camids`` int64 [N]
    are the persons and cameras (every crop its own camera where the protocol does not filter by it). The others say
    what the figures depend on, as in `Evaluation`.
    """

    embeddings: NDArray[np.float32]
    flipped: NDArray[np.float32] | None
    pids: NDArray[np.int64]
    camids: NDArray[np.int64]
    queries: int
    model: str
    card: ModelCard
    engine: EngineFacts
    dataset: str
    part: str
    resize: str
    same_camera_filter: bool
    images_per_second: float
    notices: tuple[str, ...] = field(default=())

    def __repr__(self) -> str:
        counts = f"{self.queries} queries, {len(self.pids) - self.queries} gallery crops"
        both = ", flipped too" if self.flipped is not None else ""
        return f"<FeatureSet of {self.model} on {self.dataset} ({self.part}): {counts}{both}>"

    @property
    def labels(self) -> tuple[NDArray[np.int64], ...]:
        """Person and camera ids of the queries, then of the gallery, as `score_blocks` takes them."""
        parts = slice(0, self.queries), slice(self.queries, None)
        return tuple(ids[part] for part in parts for ids in (self.pids, self.camids))

    def averaged(self, flip: bool) -> NDArray[np.float32]:
        """The embeddings, with ``flip`` the mean of a crop's and its mirror image's at L2 norm 1.

        Raises InputError where flipped crops were not embedded.
        """
        if not flip:
            return self.embeddings
        if self.flipped is None:
            raise InputError(f"{self.model} was not run on flipped crops: extract its features with --flip (flip=True)")
        return unit_rows(self.embeddings + self.flipped)

    def require_data(self, dataset: Dataset) -> None:
        """Raise InputError unless these are the features of this data set's queries and gallery, as it is now."""
        pids, camids = ids_of(dataset)
        same = (dataset.name, dataset.part, len(dataset.split.query)) == (self.dataset, self.part, self.queries)
        if not (same and np.array_equal(pids, self.pids) and np.array_equal(camids, self.camids)):
            raise InputError(
                f"{self!r} are not of the queries and gallery of {dataset!r}: extract them again, or leave --data out"
            )

    def save(self, path: Path | str) -> None:
        """Write ``path`` (.npz), sealed, whole or not at all, without pickles; a new file is its owner's alone (0600).

        Embeddings of people are biometric data: keep the file as you keep the crops. Raises InputError for another
        suffix.
        """
        require_features_name(path)
        facts: dict[str, Any] = {name: getattr(self, name) for name in _FACTS if name not in ("card", "engine")}
        facts |= {"card": asdict(self.card), "engine": asdict(self.engine)}
        none = np.empty((0, self.embeddings.shape[1]), np.float32)
        arrays: dict[str, ArrayLike] = {
            "embeddings": self.embeddings,
            "flipped": none if self.flipped is None else self.flipped,
            "pids": self.pids,
            "camids": self.camids,
            "facts": json.dumps(facts),
        }
        write_arrays(path, _VERSION, arrays, private=True)

    @classmethod
    def load(cls, path: Path | str) -> FeatureSet:
        """Read what `save` wrote; the file is untrusted input.

        Raises InputError when it is missing, was changed since, or is something else.
        """
        path = require_file(path, "a features file")
        try:
            _, arrays = read_arrays(path, {_VERSION: _NAMES})
            embeddings, flipped, pids, camids, facts = (arrays[name] for name in _NAMES)
            _check_arrays(embeddings, flipped, pids, camids)
            rows, mirrored = (as_embeddings(each) for each in (embeddings, flipped))
            parsed = _checked_facts(str(facts), len(pids))
            card, engine = ModelCard.from_dict(parsed.pop("card")), EngineFacts(**parsed.pop("engine"))
            str(engine)
        except (ValueError, TypeError, AttributeError, RecursionError, InputError, ModelError) as error:
            raise InputError(
                f"{path} holds no features ({error}): write them with reid-edge eval --save-features"
            ) from None
        return cls(
            embeddings=rows,
            flipped=mirrored if len(mirrored) else None,
            pids=pids,
            camids=camids,
            card=card,
            engine=engine,
            **parsed,
        )


def require_features_name(path: Path | str) -> Path:
    """The path, if features can be kept there; raises InputError for another suffix and where nothing can be written.

    >>> require_features_name("osnet.npz").name
    'osnet.npz'
    """
    if Path(path).suffix.lower() != FEATURES_SUFFIX:
        raise InputError(f"features are kept in a file that ends in {FEATURES_SUFFIX}, not in {path}")
    return require_output(path)


def ids_of(dataset: Dataset) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Person and camera ids [N], queries first; without same-camera filtering every crop is its own camera."""
    crops = (*dataset.split.query, *dataset.split.gallery)
    pids = np.array([crop.pid for crop in crops], np.int64)
    if not dataset.same_camera_filter:
        return pids, np.arange(len(crops), dtype=np.int64)
    return pids, np.array([crop.camid for crop in crops], np.int64)


def _check_arrays(embeddings: NDArray[Any], flipped: NDArray[Any], pids: NDArray[Any], camids: NDArray[Any]) -> None:
    """Raise ValueError unless the arrays have the types and shapes that `FeatureSet.save` writes."""
    if embeddings.dtype != np.float32 or embeddings.ndim != 2 or not embeddings.size:
        raise ValueError("the embeddings are no table of float32")
    if flipped.dtype != np.float32 or flipped.shape not in (embeddings.shape, (0, embeddings.shape[1])):
        raise ValueError("the flipped embeddings do not fit the others")
    for ids in (pids, camids):
        if ids.dtype != np.int64 or ids.shape != (len(embeddings),):
            raise ValueError("there is not one person and one camera id for each embedding")


def _checked_facts(text: str, count: int) -> dict[str, Any]:
    """The facts of a file with ``count`` embeddings; raises ValueError unless each is there, of its type."""
    facts = json.loads(text)
    if not isinstance(facts, dict) or facts.keys() != _FACTS.keys():
        raise ValueError("its facts are others than those of features")
    if wrong := [name for name, kind in _FACTS.items() if type(facts[name]) is not kind]:
        raise ValueError(f"{wrong[0]} has the wrong type")
    if not 0 < facts["queries"] < count or not math.isfinite(facts["images_per_second"]):
        raise ValueError("its counts do not fit its embeddings")
    return facts
