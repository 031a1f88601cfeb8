"""P x K batches: P people, K crops of each (Hermans et al., *In Defense of the Triplet Loss*, 2017, section 2)."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from reid_edge.errors import InputError

__all__ = ["pk_batches"]


def pk_batches(
    labels: Sequence[int] | NDArray[np.int64],
    people_per_batch: int,
    crops_per_person: int,
    rng: np.random.Generator,
) -> list[NDArray[np.int64]]:
    """One epoch of batches: each an int64 array [P*K] of indices into ``labels``, K in a row of each of P people.

    Every person's crops are shuffled and dealt out in groups of K (a person with fewer than K repeats some; a rest of
    fewer than K is dropped), and batches take one group from P people drawn at random until fewer than P people have
    a group left. So a person with many crops is seen in many batches: one group per person and epoch is not enough
    (92.5/82.3 against 94.5/85.9 on Market-1501). About 183 batches of 16 x 4 an epoch there.

    Raises InputError when there are fewer than ``people_per_batch`` people.

    >>> batches = pk_batches([0, 0, 0, 1, 1, 2, 2], 2, 2, np.random.default_rng(0))
    >>> [len(batch) for batch in batches]
    [4]
    """
    groups = _groups(np.asarray(labels), crops_per_person, rng)
    if len(groups) < people_per_batch:
        raise InputError(
            f"{len(groups)} people to train on, and a batch takes {people_per_batch}: "
            "lower people_per_batch or give more people"
        )
    batches = []
    while len(groups) >= people_per_batch:
        people = rng.choice(np.fromiter(groups, dtype=np.int64), size=people_per_batch, replace=False)
        batches.append(np.concatenate([groups[int(person)].pop() for person in people]))
        for person in people:
            if not groups[int(person)]:
                del groups[int(person)]
    return batches


def _groups(labels: NDArray[np.int64], size: int, rng: np.random.Generator) -> dict[int, list[NDArray[np.int64]]]:
    """Each person's crops, shuffled, in groups of ``size``."""
    order = np.argsort(labels, kind="stable")
    people, starts = np.unique(labels[order], return_index=True)
    groups: dict[int, list[NDArray[np.int64]]] = {}
    for person, own in zip(people, np.split(order, starts[1:]), strict=True):
        if len(own) < size:
            own = rng.choice(own, size=size, replace=True)
        shuffled = rng.permutation(own)
        whole = len(shuffled) // size
        groups[int(person)] = list(shuffled[: whole * size].reshape(whole, size))
    return groups
