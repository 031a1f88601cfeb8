"""Features: the embeddings of a data set's queries and gallery by one model, computed once and kept for any question.

Distances, re-ranking, query expansion, ROC and comparisons start from them, in seconds; embedding takes minutes.
"""

from __future__ import annotations

import json
import math
from dataclasses import asdict, dataclass, field, replace
from itertools import cycle
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
from .trials import TrialRows, crop_ids, pooled

__all__ = ["FEATURES_SUFFIX", "FeatureSet", "ids_of", "require_features_name"]

FEATURES_SUFFIX = ".npz"

_NAMES = ("embeddings", "flipped", "pids", "camids", "trial_rows", "trial_sizes", "facts")
_VERSION = 2  # files of version 1 have no seal, and there are none of these
_FACTS = {
    **{"queries": int, "model": str, "dataset": str, "part": str, "resize": str, "same_camera_filter": bool},
    "single_gallery_shot": bool,
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
    trials: tuple[TrialRows, ...] = ()
    single_gallery_shot: bool = False

    def __repr__(self) -> str:
        counts = f"{self.queries} queries, {len(self.pids) - self.queries} gallery crops"
        both = ", flipped too" if self.flipped is not None else ""
        return f"<FeatureSet of {self.model} on {self.dataset} ({self.part}): {counts}{both}>"

    @property
    def labels(self) -> tuple[NDArray[np.int64], ...]:
        """Person and camera ids of the queries, then of the gallery, as `score_blocks` takes them."""
        parts = slice(0, self.queries), slice(self.queries, None)
        return tuple(ids[part] for part in parts for ids in (self.pids, self.camids))

    @property
    def own_protocol(self) -> bool:
        """Whether the figures are a mean over trials, or count one gallery crop a person."""
        return bool(self.trials) or self.single_gallery_shot

    def by_trial(self) -> tuple[FeatureSet, ...]:
        """The features of each trial; of the usual protocol there is one, these."""
        return tuple(self._of(*trial) for trial in self.trials) or (self,)

    def _of(self, queries: NDArray[np.int64], gallery: NDArray[np.int64]) -> FeatureSet:
        rows = np.concatenate([queries, gallery])
        flipped = None if self.flipped is None else self.flipped[rows]
        ids = {"pids": self.pids[rows], "camids": self.camids[rows]}
        return replace(self, embeddings=self.embeddings[rows], flipped=flipped, **ids, queries=len(queries), trials=())

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
        dataset = pooled(dataset)
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
            "trial_rows": np.concatenate([np.empty(0, np.int64), *(rows for trial in self.trials for rows in trial)]),
            "trial_sizes": np.array([[len(rows) for rows in trial] for trial in self.trials], np.int64).reshape(-1, 2),
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
            embeddings, flipped, pids, camids, trial_rows, trial_sizes, facts = (arrays[name] for name in _NAMES)
            _check_arrays(embeddings, flipped, pids, camids)
            rows, mirrored = (as_embeddings(each) for each in (embeddings, flipped))
            parsed = _checked_facts(str(facts), len(pids))
            trials = _checked_trials(trial_rows, trial_sizes, parsed["queries"], len(pids))
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
            trials=trials,
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
    queries, gallery = dataset.split.query, dataset.split.gallery
    both = crop_ids(queries, dataset, 0), crop_ids(gallery, dataset, len(queries))
    pids, camids = (np.concatenate(each) for each in zip(*both, strict=True))
    return pids, camids


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


def _checked_trials(
    rows: NDArray[Any], sizes: NDArray[Any], queries: int, count: int
) -> tuple[tuple[NDArray[np.int64], NDArray[np.int64]], ...]:
    """The trials of a file; raises ValueError unless each has queries and a gallery, and rows are of those."""
    if rows.dtype != np.int64 or sizes.dtype != np.int64 or rows.ndim != 1 or sizes.ndim != 2 or sizes.shape[1] != 2:
        raise ValueError("its trials are no rows")
    if (sizes < 1).any() or (sizes > count).any() or int(sizes.sum()) != len(rows):
        raise ValueError("its trials do not fit their rows")
    parts = np.split(rows, np.cumsum(sizes.ravel())[:-1]) if len(sizes) else []
    for part, (low, high) in zip(parts, cycle(((0, queries), (queries, count))), strict=False):
        if part.min() < low or part.max() >= high:
            raise ValueError("a trial has crops that are not there")
    return tuple(zip(parts[::2], parts[1::2], strict=True))
