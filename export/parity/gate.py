"""The gate of every export: a candidate engine must give the reference's embeddings for the same crops.

Each embedding must lie where the reference has it; each crop must rank the others in the same order, which is what
embeddings are for; and a crop must get the same embedding in any batch, unlike in a graph with a batch norm left in
training mode or a frozen batch axis.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from reid_edge.engine import Engine
from reid_edge.errors import GateError, InputError, ModelError
from reid_edge.metrics import Metrics

__all__ = [
    "THRESHOLDS",
    "TOP_K",
    "Comparison",
    "Parity",
    "Thresholds",
    "check_parity",
    "check_scores",
    "compare",
    "embed_in_batches",
    "overridden",
]

Embeddings = NDArray[np.float32]

TOP_K = 10
"""How many places of each ranking are compared."""


@dataclass(frozen=True)
class Thresholds:
    """What a precision must keep to, and what to do when it does not.

    ``cosine_min`` is the least cosine of any embedding with its reference, ``cosine_p1`` that below which one in a
    hundred may lie, ``max_error`` the largest difference of any number, ``relative_error`` the root mean square of the
    differences over that of the reference's own spread (its embeddings' distances from their mean): where all crops
    look alike to a model, a cosine of 0.99 says nothing. ``batch_error`` is the largest difference between two
    embeddings of one crop in different batches. ``ranking`` is the least share of places in the top ten that hold the
    reference's crop, or one that the reference has at the same distance to within ``tie``. ``map_loss`` is the most
    mAP that may be lost where it is measured, as a fraction.
    """

    cosine_min: float
    cosine_p1: float
    max_error: float
    relative_error: float
    batch_error: float
    ranking: float
    tie: float
    map_loss: float
    remedy: str

    def but(self, **changes: float) -> Thresholds:
        """A copy with other numbers. Raises InputError for a name that is no threshold."""
        known = [one.name for one in fields(self) if one.name != "remedy"]
        if unknown := [name for name in changes if name not in known]:
            raise InputError(f"threshold {unknown[0]!r} is unknown: give some of {', '.join(known)}")
        return replace(self, **changes)  # type: ignore[arg-type]


THRESHOLDS: Mapping[str, Thresholds] = {
    # Measured between PyTorch and ONNX Runtime: cosine 1 - 4e-9 and error 1.2e-5 at worst, the same ranking.
    "fp32": Thresholds(
        cosine_min=0.999999,
        cosine_p1=0.999999,
        max_error=1e-4,
        relative_error=5e-3,
        batch_error=1e-4,
        ranking=1.0,
        tie=1e-5,
        map_loss=1e-4,
        remedy="report this as a defect",
    ),
    # Measured on trained weights: cosine 0.99996, error 0.002, the same ranking up to ties of 0.002.
    "fp16": Thresholds(
        cosine_min=0.999,
        cosine_p1=0.9995,
        max_error=1e-2,
        relative_error=0.1,
        batch_error=5e-3,
        ranking=0.98,
        tie=5e-3,
        map_loss=1e-3,
        remedy="leave out --fp16, or train longer",
    ),
    # Measured on trained weights: relative error 0.07 to 0.12. Normalising twice, BGR, a lost batch norm and
    # statistics of the batch have 0.48 and more.
    "int8": Thresholds(
        cosine_min=0.85,
        cosine_p1=0.95,
        max_error=0.2,
        relative_error=0.25,
        batch_error=5e-2,
        ranking=0.90,
        tie=0.02,
        map_loss=1e-2,
        remedy="keep more layers in float (--sensitivity says which), or fine-tune with train --qat",
    ),
}
"""By precision. FP32 differs in the order of its sums only, FP16 keeps 11 bits of each value, INT8 keeps 8."""


def overridden(changes: Sequence[str]) -> dict[str, Thresholds]:
    """`THRESHOLDS` with changes such as "int8.cosine_min=0.9". Raises InputError for one that cannot be read.

    >>> overridden(["int8.cosine_min=0.5"])["int8"].cosine_min
    0.5
    """
    rows = dict(THRESHOLDS)
    for change in changes:
        where, _, value = change.partition("=")
        precision, _, name = where.partition(".")
        try:
            number = float(value)
        except ValueError:
            raise InputError(f"threshold {change!r} has no number: write it as int8.cosine_min=0.9") from None
        if precision not in rows:
            raise InputError(f"threshold {change!r} is of no precision: begin with {', '.join(rows)} and a dot")
        rows[precision] = rows[precision].but(**{name: number})
    return rows


@dataclass(frozen=True)
class Comparison:
    """How far candidate embeddings are from the reference's; see `Thresholds` for the words."""

    cosine_min: float
    cosine_p1: float
    cosine_mean: float
    max_error: float
    relative_error: float
    ranking: float
    not_finite: int


def compare(reference: Embeddings, candidate: Embeddings, top_k: int = TOP_K, tie: float = 0.0) -> Comparison:
    """Compare embeddings float32 [N, D] of the same N crops, row by row.

    Rows that hold NaN or infinity are counted in ``not_finite`` and have cosine -1.

    Three crops at 0, 20 and 50 degrees, and a candidate that turns the middle one by 20 more: the least cosine is that
    of 20 degrees, and the middle one now ranks the third before the first, so 4 of 6 places are as they were.

    >>> import numpy as np
    >>> at = lambda *degrees: np.stack([[np.cos(d), np.sin(d)] for d in np.radians(degrees)]).astype(np.float32)
    >>> turned = compare(at(0, 20, 50), at(0, 40, 50))
    >>> round(turned.cosine_min, 4), round(turned.ranking, 4)
    (0.9397, 0.6667)
    """
    finite: NDArray[np.bool_] = np.asarray(np.isfinite(candidate).all(axis=1))
    filled = np.where(finite[:, None], candidate, -reference).astype(np.float64)
    exact = reference.astype(np.float64)
    lengths = np.linalg.norm(exact, axis=1) * np.linalg.norm(filled, axis=1)
    cosine = (exact * filled).sum(axis=1) / np.maximum(lengths, 1e-12)  # [N]
    return Comparison(
        cosine_min=float(cosine.min()),
        cosine_p1=float(np.percentile(cosine, 1)),
        cosine_mean=float(cosine.mean()),
        max_error=float(np.abs(exact - filled).max()),
        relative_error=_relative_error(exact, filled),
        ranking=_ranking_agreement(exact, filled, top_k, tie),
        not_finite=int((~finite).sum()),
    )


def _relative_error(reference: NDArray[np.float64], candidate: NDArray[np.float64]) -> float:
    error = float(((candidate - reference) ** 2).sum(axis=1).mean())
    spread = float(((reference - reference.mean(axis=0)) ** 2).sum(axis=1).mean())
    return 0.0 if error == 0 else float(np.sqrt(error / spread)) if spread > 0 else float("inf")


def _ranking_agreement(reference: NDArray[np.float64], candidate: NDArray[np.float64], top_k: int, tie: float) -> float:
    """The share of top-k places that hold the reference's crop or its equal; 1 when there are no others to rank."""
    top_k = min(top_k, len(reference) - 1)
    if top_k < 1:
        return 1.0
    distances = _distances(reference)  # [N, N]
    ours = np.take_along_axis(distances, np.argsort(_distances(candidate), axis=1, kind="stable")[:, :top_k], axis=1)
    best = np.sort(distances, axis=1)[:, :top_k]
    return float((np.abs(ours - best) <= tie).mean())


def _distances(embeddings: NDArray[np.float64]) -> NDArray[np.float64]:
    """Cosine distances [N, N]; a crop is infinitely far from itself, so that it is never ranked."""
    unit = embeddings / np.maximum(np.linalg.norm(embeddings, axis=1, keepdims=True), 1e-12)
    distances: NDArray[np.float64] = 1 - unit @ unit.T
    np.fill_diagonal(distances, np.inf)
    return distances


@dataclass(frozen=True)
class Parity(Comparison):
    """What the gate measured of a candidate, on how many crops and in which batches; it goes into the ModelCard."""

    batch_error: float
    crops: int
    batches: tuple[int, ...]

    def to_dict(self) -> dict[str, Any]:
        """For the card, as plain JSON values."""
        return {**asdict(self), "batches": list(self.batches)}


def embed_in_batches(engine: Engine, crops: NDArray[np.uint8], batch: int) -> Embeddings:
    """Embed uint8 [N, H, W, 3] in batches, the last one ragged: float32 [N, D]."""
    return np.concatenate([engine.run(crops[start : start + batch]) for start in range(0, len(crops), batch)])


def check_parity(
    reference: Embeddings,
    candidate: Engine,
    crops: NDArray[np.uint8],
    precision: str = "fp32",
    batches: Sequence[int] = (1, 8, 32),
    limits: Thresholds | None = None,
) -> Parity:
    """Run an open ``candidate`` on ``crops``, uint8 [N, H, W, 3], and compare with the ``reference``, float32 [N, D].

    All crops run in the largest batch, and the first few in each of ``batches``, with a ragged batch after it.
    ``limits`` are the row of `THRESHOLDS` for the ``precision`` unless given. Raises GateError with the figures and
    their thresholds when the candidate does not agree, or fails on a batch, and InputError for fewer than two crops.
    """
    if len(crops) < 2:
        raise InputError(f"{len(crops)} crops are too few to compare rankings on: give 2 or more, 64 are good")
    limits, largest = limits or THRESHOLDS[precision], max(batches)
    count = max(len(crops), largest)  # fewer crops than a batch are repeated
    shown = np.resize(crops, (count, *crops.shape[1:]))
    whole = _answer(candidate, shown, largest)
    others = [_answer(candidate, shown[: batch + batch // 2 + 1], batch) for batch in batches]
    others.append(_answer(candidate, shown[largest - 1 :: -1], largest)[::-1])  # the same neighbours in another order
    found = compare(np.resize(reference, whole.shape), whole, tie=limits.tie)
    batch_error = max(float(np.abs(part - whole[: len(part)]).max()) for part in others)
    parity = Parity(**asdict(found), batch_error=batch_error, crops=len(crops), batches=tuple(batches))
    _require(parity, limits, precision)
    return parity


def check_scores(base: Metrics, found: Metrics, limits: Thresholds, precision: str) -> None:
    """Raise GateError when a file's mAP is more than ``limits.map_loss`` below the FP32 model's."""
    if not base.mAP - found.mAP <= limits.map_loss:
        scores = f"mAP {found.mAP:.2%} where fp32 has {base.mAP:.2%} (at most {limits.map_loss:.2%} may be lost)"
        raise GateError(f"{precision} scores {scores}: {limits.remedy}")


def _answer(candidate: Engine, crops: NDArray[np.uint8], batch: int) -> Embeddings:
    try:
        return embed_in_batches(candidate, crops, batch)
    except ModelError as error:
        raise GateError(f"{error} (batches of {batch})") from None


def _require(parity: Parity, limits: Thresholds, precision: str) -> None:
    """Raise GateError naming what is out of bounds, with its bound. NaN is out of any."""
    found = asdict(parity)
    low = [name for name in ("cosine_min", "cosine_p1", "ranking") if not found[name] >= getattr(limits, name)]
    high = [name for name in ("max_error", "relative_error", "batch_error") if not found[name] <= getattr(limits, name)]
    failed = [f"{name} {found[name]:.6g} (at least {getattr(limits, name)})" for name in low]
    failed += [f"{name} {found[name]:.6g} (at most {getattr(limits, name)})" for name in high]
    failed += [f"{parity.not_finite} embeddings not finite"] if parity.not_finite else []
    if failed:
        difference = f"{precision} differs from the reference on {parity.crops} crops: {', '.join(failed)}"
        raise GateError(f"{difference}: {limits.remedy}")
