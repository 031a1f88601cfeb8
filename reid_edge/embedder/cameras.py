"""Camera normalisation: what a camera does to every embedding, learned from unlabelled crops and taken out.

A model that was trained in another place sees each camera's light and angle beside the persons, so that crops of one
camera are too close to each other. The mean and the deviation of a camera's embeddings, of whoever walked by, hold much
of that. What it is worth: ``docs/measurements/cameras.md``.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike, NDArray

from reid_edge.core.arrays import read_arrays, write_arrays
from reid_edge.core.files import require_file
from reid_edge.errors import InputError

__all__ = ["FEWEST", "CameraStatistics"]

FEWEST = 10
"""Crops that a camera needs: with fewer, normalising loses accuracy (measured)."""

_VERSION = 2
_NAMES = ("model", "cameras", "counts", "means", "deviations")

# Chosen on persons of the training part alone, where they hardly matter: a third or three times as many cost 0.3 mAP.
_POOLED_CROPS = 30  # what the variance of all cameras weighs, in crops of one
_EQUAL_CROPS = 300  # what "all dimensions vary alike" weighs, in crops of all cameras


@dataclass(frozen=True, eq=False)
class CameraStatistics:
    """Mean and deviation of the embeddings of each camera, float32 [C, D], in the order of ``cameras``.

    ``counts`` int64 [C] are the crops of each, ``model`` the hash of the weights that embedded them
    (`ModelCard.weights_sha256`; empty: not known).

    >>> rng = np.random.default_rng(0)
    >>> embeddings = rng.normal(size=(80, 24)) + np.repeat([[0.0], [3.0]], 40, axis=0)  # the second camera adds 3
    >>> statistics = CameraStatistics.fit(embeddings, ["door"] * 40 + ["yard"] * 40)
    >>> normalised = statistics.normalise(embeddings, ["door"] * 40 + ["yard"] * 40)
    >>> bool(abs(normalised[:40].mean() - normalised[40:].mean()) < 0.01)
    True
    """

    cameras: tuple[str, ...]
    counts: NDArray[np.int64]
    means: NDArray[np.float32]
    deviations: NDArray[np.float32]
    model: str = ""

    def __repr__(self) -> str:
        return f"<CameraStatistics of {len(self.cameras)} cameras, {int(self.counts.sum())} crops>"

    @classmethod
    def fit(cls, embeddings: ArrayLike, cameras: Sequence[object], *, model: str = "") -> CameraStatistics:
        """Learn from the embeddings [N, D] of unlabelled crops and the camera of each, a name or a number.

        Means of few crops are as wrong as what they correct, so each dimension of a camera's mean is drawn towards the
        mean of all cameras by the share of its deviation from it that chance explains: the empirical Bayes estimator of
        Efron and Morris (JASA 1975). Variances are drawn towards those of all cameras, and those towards one value.

        Raises InputError for arrays of other shapes or values that are not finite, and for a camera with fewer than
        `FEWEST` crops.
        """
        x = np.asarray(embeddings, np.float64)
        of_crop = [str(camera) for camera in cameras]
        names = tuple(sorted(set(of_crop)))
        if x.ndim != 2 or len(x) != len(of_crop) or not np.isfinite(x).all():
            raise InputError(
                f"embeddings {list(x.shape)} of {len(of_crop)} cameras: give finite numbers [N, D] and N cameras"
            )
        if not names:
            raise InputError("camera statistics of no crops: give some of each camera")
        groups = [x[[camera == name for camera in of_crop]] for name in names]
        few = [f"{name} ({len(group)})" for name, group in zip(names, groups, strict=True) if len(group) < FEWEST]
        if few:
            raise InputError(
                f"too few crops of the cameras {', '.join(few)}: give {FEWEST} or more, better 100, of each"
            )
        counts = np.array([len(group) for group in groups])  # [C]
        means, variances = _estimates(
            counts,
            np.stack([group.mean(axis=0) for group in groups]),
            np.stack([group.var(axis=0, ddof=1) for group in groups]),
        )
        return cls(names, counts, means.astype(np.float32), np.sqrt(variances).astype(np.float32), model)

    def normalise(self, embeddings: ArrayLike, cameras: Sequence[object]) -> NDArray[np.float32]:
        """Take out of each embedding [N, D] its camera's mean, and its deviation: float32 [N, D], of L2 norm 1.

        Query and gallery must both be normalised. Raises InputError for an embedding of another dimension, for another
        number of cameras than of embeddings, and for a camera that was not learned.
        """
        x = np.asarray(embeddings, np.float32)
        if x.ndim != 2 or x.shape[1] != self.means.shape[1] or len(x) != len(cameras):
            raise InputError(
                f"embeddings {list(x.shape)} of {len(cameras)} cameras: give [N, {self.means.shape[1]}] and N cameras"
            )
        row_of = {name: row for row, name in enumerate(self.cameras)}
        unknown = sorted({str(camera) for camera in cameras} - row_of.keys())
        if unknown:
            known = ", ".join(self.cameras)
            raise InputError(
                f"no statistics of camera {unknown[0]!r}, only of {known}: learn them again with crops of it"
            )
        rows = [row_of[str(camera)] for camera in cameras]
        found = (x - self.means[rows]) / self.deviations[rows]
        norms = np.linalg.norm(found, axis=1, keepdims=True)
        normalised: NDArray[np.float32] = found / np.maximum(norms, np.finfo(np.float32).tiny)
        return normalised

    def save(self, path: Path | str) -> None:
        """Write to ``path`` (.npz), sealed, whole or not at all."""
        arrays: dict[str, ArrayLike] = {
            **{"model": self.model, "cameras": np.array(self.cameras, np.str_), "counts": self.counts},
            **{"means": self.means, "deviations": self.deviations},
        }
        write_arrays(path, _VERSION, arrays)

    @classmethod
    def load(cls, path: Path | str) -> CameraStatistics:
        """Read what `save` wrote; nothing larger than the file is allocated and nothing in it is run.

        Raises InputError when it is missing, was changed since, or is something else.
        """
        path = require_file(path, "camera statistics")
        try:
            _, arrays = read_arrays(path, {_VERSION: _NAMES})
            model, cameras, counts, means, deviations = (arrays[name] for name in _NAMES)
            if model.shape != () or model.dtype.kind != "U" or cameras.dtype.kind != "U" or cameras.ndim != 1:
                raise ValueError("the names are not texts")
            shape = (len(cameras), means.shape[-1] if means.ndim else 0)
            if counts.shape != shape[:1] or counts.dtype != np.int64:
                raise ValueError("the counts are not one a camera")
            if any(each.shape != shape or each.dtype != np.float32 for each in (means, deviations)):
                raise ValueError("means and deviations are not one row a camera")
            if not (np.isfinite(means).all() and np.isfinite(deviations).all() and (deviations > 0).all()):
                raise ValueError("means or deviations are no numbers to divide by")
            names = tuple(map(str, cameras))
            if len(set(names)) != len(names):
                raise ValueError("a camera is named twice")
        except ValueError as error:
            raise InputError(f"{path} is not a file of camera statistics ({error}): learn them again") from None
        return cls(names, counts, means, deviations, str(model))


def _estimates(
    counts: NDArray[np.int64], means: NDArray[np.float64], variances: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Means and variances [C, D], with less of what is chance in those of crops ``counts`` [C]."""
    n, free = counts[:, None], (counts - 1)[:, None]  # [C, 1]
    within = np.maximum((free * variances).sum(axis=0) / free.sum(), np.finfo(np.float64).tiny)  # [D]
    centre = (n * means).sum(axis=0) / n.sum()
    chance = within / n  # [C, D], of each mean
    spread = ((means - centre) ** 2).sum(axis=0) / max(1, len(counts) - 1)
    between = np.maximum(spread - chance.mean(axis=0), 0)
    shrunk = centre + between / (between + chance) * (means - centre)
    pooled = (free * variances + _POOLED_CROPS * within) / (free + _POOLED_CROPS)
    floor = np.maximum(pooled, 1e-9 * pooled.mean(axis=1, keepdims=True) + 1e-30)  # of a dimension that never varies
    equal = floor.mean(axis=1, keepdims=True)
    own = n.sum() / (n.sum() + _EQUAL_CROPS)
    return shrunk, np.exp(own * np.log(floor) + (1 - own) * np.log(equal))
