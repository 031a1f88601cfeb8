"""The gate of every export: a candidate engine must give the reference's embeddings for the same crops.

Each embedding must lie where the reference has it; each crop must rank the others in the same order, which is what
embeddings are for; and a crop must get the same embedding in any batch up to the largest, and in any place of it,
unlike in a graph with a batch norm left in training mode, a frozen batch axis or rows that change places.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from reid_edge.core.progress import track
from reid_edge.engines.base import Engine
from reid_edge.errors import GateError, InputError, ModelError

from .compare import Comparison, Embeddings, compare
from .limits import THRESHOLDS, Thresholds

__all__ = ["BATCHES", "Parity", "check_parity", "embed_in_batches", "outside", "require_close"]

BATCHES = (1, 2, 8, 32, 64)
"""Batch sizes that a file is run in beside the largest that its engine takes."""

_ONE_POINT = 0.1
"""A spread below it, a mean cosine between crops above 0.99, ranks by what rounding leaves."""


@dataclass(frozen=True)
class Parity(Comparison):
    """What the gate measured of a candidate, on how many crops and in which batches; it is part of the ModelCard."""

    batch_error: float
    crops: int
    batches: tuple[int, ...]

    def to_dict(self) -> dict[str, Any]:
        """For the card, as plain JSON values."""
        return {**asdict(self), "batches": list(self.batches)}


def embed_in_batches(engine: Engine, crops: NDArray[np.uint8], batch: int, what: str = "embedding") -> Embeddings:
    """Embed uint8 [N, H, W, 3] in batches, the last one ragged: float32 [N, D]. ``what`` is shown meanwhile."""
    starts = range(0, len(crops), batch)
    return np.concatenate([engine.run(crops[start : start + batch]) for start in track(starts, what)])


def check_parity(
    reference: Embeddings,
    candidate: Engine,
    crops: NDArray[np.uint8],
    precision: str = "fp32",
    batches: Sequence[int] | None = None,
    limits: Thresholds | None = None,
) -> Parity:
    """Run an open ``candidate`` on ``crops``, uint8 [N, H, W, 3], and compare with the ``reference``, float32 [N, D].

    All crops run in the largest of ``batches`` (None: `BATCHES` and the largest that the candidate takes), and the
    first ones in each smaller batch with a ragged one after it, and in the largest in another order. ``limits`` are the
    row of `THRESHOLDS` for the ``precision`` unless given. Raises GateError with the figures and their thresholds when
    the candidate does not agree, or fails on a batch, and InputError for fewer than two crops.
    """
    if len(crops) < 2:
        raise InputError(f"{len(crops)} crops are too few to compare rankings on: give 2 or more, 512 are good")
    limits = limits or THRESHOLDS[precision]
    batches = batches or (*(size for size in BATCHES if size < candidate.max_batch), candidate.max_batch)
    largest = max(batches)
    rows = _distinct(crops, largest)
    whole = _embed(candidate, rows, largest)
    others = [_embed(candidate, rows[: size + size // 2 + 1], size) for size in batches if size < largest]
    order = np.random.default_rng(0).permutation(largest)
    others.append(_embed(candidate, rows[order], largest)[np.argsort(order)])
    found = compare(reference, whole[: len(crops)], tie=limits.tie)
    batch_error = max(float(np.abs(part - whole[: len(part)]).max()) for part in others)
    parity = Parity(**asdict(found), batch_error=batch_error, crops=len(crops), batches=tuple(batches))
    require_close(parity, limits, precision, len(crops))
    return parity


def require_close(found: Comparison, limits: Thresholds, name: str, crops: int) -> None:
    """Raise GateError, for a file called ``name``, with each figure outside its limit. NaN is outside of any."""
    if failed := outside(found, limits):
        difference = f"{name} differs from the reference on {crops} crops: {', '.join(failed.values())}"
        raise GateError(f"{difference}: {_one_point(found) or limits.remedy}")


def outside(found: Comparison, limits: Thresholds) -> dict[str, str]:
    """Each figure outside its limit, by its name, with both in words."""
    figures = asdict(found)
    low = [key for key in ("cosine_min", "cosine_p1", "ranking") if not figures[key] >= getattr(limits, key)]
    errors = [key for key in ("max_error", "relative_error", "batch_error") if key in figures]
    high = [key for key in errors if not figures[key] <= getattr(limits, key)]
    failed = {key: f"{key} {figures[key]:.6g} (at least {getattr(limits, key)})" for key in low}
    failed |= {key: f"{key} {figures[key]:.6g} (at most {getattr(limits, key)})" for key in high}
    return failed | ({"not_finite": f"{found.not_finite} embeddings not finite"} if found.not_finite else {})


def _one_point(found: Comparison) -> str:
    """What is wrong with a model that cannot tell crops apart, in any precision; empty for one that can."""
    if not found.spread < _ONE_POINT:
        return ""
    cosine = f"{1 - found.spread**2:.5f}"
    return f"the model maps nearly all crops to one point (their cosine is {cosine} on average): train longer"


def _embed(candidate: Engine, crops: NDArray[np.uint8], batch: int) -> Embeddings:
    try:
        return embed_in_batches(candidate, crops, batch, f"in batches of {batch}")
    except ModelError as error:
        raise GateError(f"{error} (batches of {batch})") from None


def _distinct(crops: NDArray[np.uint8], count: int) -> NDArray[np.uint8]:
    """At least ``count`` rows: the crops, then the same shifted more and more, so that rows that change places show."""
    copies = [np.roll(crops, (11 * turn, 17 * turn), axis=(1, 2)) for turn in range(-(-count // len(crops)))]
    return np.concatenate(copies)[: max(count, len(crops))]
