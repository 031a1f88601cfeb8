"""Pairs of crops: drawn to train on, positives across cameras and hard negatives; and all of them, to measure on."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from reid_edge.pair_head import PairHead

from .measures import Pairs

__all__ = ["Embedded", "draw_pairs", "pairs_of"]

_NEAREST = 20


@dataclass(frozen=True)
class Embedded:
    """Embeddings float32 [N, D], rows of L2 norm 1, with ``identities`` [N] and ``cameras`` [N]."""

    embeddings: NDArray[np.float32]
    identities: NDArray[np.int64]
    cameras: NDArray[np.int64]

    def of(self, identities: NDArray[np.int64]) -> Embedded:
        """The crops of those identities alone."""
        kept = np.isin(self.identities, identities)
        return Embedded(self.embeddings[kept], self.identities[kept], self.cameras[kept])

    def split(self, shares: tuple[float, ...], rng: np.random.Generator) -> list[Embedded]:
        """The identities split at random into a part for each of ``shares``, which add up to 1."""
        identities = rng.permutation(np.unique(self.identities))
        ends = np.round(np.cumsum(shares) * len(identities)).astype(int)
        return [self.of(part) for part in np.split(identities, ends[:-1])]

    def has_pairs(self) -> bool:
        """Whether there are two identities or more, at least one of them seen by two cameras."""
        cameras: dict[int, set[int]] = {}
        for identity, camera in zip(self.identities.tolist(), self.cameras.tolist(), strict=True):
            cameras.setdefault(identity, set()).add(camera)
        return len(cameras) > 1 and any(len(own) > 1 for own in cameras.values())


def draw_pairs(
    of: Embedded, rng: np.random.Generator, hard: float
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.bool_]]:
    """For each crop a positive (its identity in another camera), if there is one, and a negative (another identity).

    Returns (first, second, same), each [2 x crops with a positive]. A negative is, with probability ``hard``, one of
    the 20 nearest crops of other identities, else any.
    """
    first, second, same = [], [], []
    for row, (identity, camera) in enumerate(zip(of.identities, of.cameras, strict=True)):
        positives = np.flatnonzero((of.identities == identity) & (of.cameras != camera))
        if not len(positives):
            continue
        others = np.flatnonzero(of.identities != identity)
        if rng.random() < hard and len(others) > _NEAREST:
            cosines = of.embeddings[others] @ of.embeddings[row]
            others = others[np.argpartition(-cosines, _NEAREST)[:_NEAREST]]
        first += [row, row]
        second += [rng.choice(positives), rng.choice(others)]
        same += [True, False]
    return np.array(first, np.int64), np.array(second, np.int64), np.array(same, np.bool_)


def pairs_of(of: Embedded, head: PairHead) -> Pairs:
    """Every pair of crops from two cameras, each once, with the head's log-odds."""
    rows = head.project(of.embeddings)
    first, second = np.triu_indices(len(rows), 1)
    kept = of.cameras[first] != of.cameras[second]
    first, second = first[kept], second[kept]
    cosines = np.concatenate([rows[k] @ rows[k + 1 :].T for k in range(len(rows))])[kept]
    identities = np.stack([of.identities[first], of.identities[second]])
    return Pairs(head.log_odds_of(cosines).astype(np.float32), identities[0] == identities[1], identities)
