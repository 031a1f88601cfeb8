"""The gate's limits for each precision, and how a user overrides them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from math import inf

from reid_edge.core.names import did_you_mean, require_name
from reid_edge.errors import InputError

__all__ = ["PARITY_CROPS", "THRESHOLDS", "Checks", "Thresholds", "overridden", "parse_gates"]

PARITY_CROPS = 512
"""How many crops are compared: the minimum cosine of one INT8 file on 64 was 0.944 to 0.990, by the draw."""


@dataclass(frozen=True)
class Thresholds:
    """The limits of a precision, and what to do when a file is outside them.

    ``cosine_min`` is the minimum cosine of any embedding with its reference, ``cosine_p1`` the minimum of the first
    percentile, ``max_error`` the maximum difference of any component, ``relative_error`` the maximum root mean square
    of the differences over that of the reference's spread (its embeddings' distances from their mean): where all crops
    look alike to a model, a cosine of 0.99 says nothing. ``batch_error`` is the maximum difference between two
    embeddings of one crop in different batches. ``ranking`` is the minimum share of places in the top ten that hold the
    reference's crop, or one that the reference has at the same distance to within ``tie``. ``map_loss`` is what
    the upper end of the mAP lost's 95 % interval may reach where it is measured, as a fraction.
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
        """A copy with some limits changed. Raises InputError for an unknown name and a number that limits nothing."""
        known = [one.name for one in fields(self) if one.name != "remedy"]
        for name, value in changes.items():
            require_name(name, known, "threshold")
            least = -1 if name.startswith("cosine") else 0
            if not least <= value < inf:
                raise InputError(f"threshold {name} cannot be {value:g}: give a finite number from {least} up")
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
        remedy="leave out --fp16 (precisions=), or train longer",
    ),
    # Measured on OpenVINO and trained weights: cosine 0.998, relative error 0.05, error 0.015, ranking 0.944 with ties
    # of 0.005. Hardly trained models are further off, as in INT8: cosine 0.957, relative error 0.27.
    "bf16": Thresholds(
        cosine_min=0.99,
        cosine_p1=0.995,
        max_error=5e-2,
        relative_error=0.15,
        batch_error=2e-2,
        ranking=0.93,
        tie=1e-2,
        map_loss=5e-3,
        remedy="run it without bf16 (--backend openvino, precision=), or train longer",
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
        remedy="keep more layers in float (--sensitivity, sensitivity=, says which), or fine-tune with train --qat",
    ),
    # Not measured on a GPU. The roundings are the file's, so that only sums differ, and steps that a sum tips over.
    "engine": Thresholds(
        cosine_min=0.999,
        cosine_p1=0.9995,
        max_error=1e-2,
        relative_error=0.03,
        batch_error=1e-2,
        ranking=0.98,
        tie=5e-3,
        map_loss=1e-3,
        remedy="build it again with export --engine --force (force=); if it stays, TensorRT computes another graph",
    ),
}
"""By precision: FP32 differs in the order of its sums only, FP16 keeps 11 bits of each value, bf16 and INT8 keep 8.
"bf16" is for a backend that computes in it whatever the file stores, "engine" for a TensorRT engine and ONNX Runtime on
the file that it was built from, of any precision."""


@dataclass(frozen=True, kw_only=True)
class Checks:
    """How files are checked before they get their names.

    ``gates`` overrides thresholds, as ``{"int8.cosine_min": 0.9}``; ``crops`` is how many crops embeddings are compared
    on; ``force`` keeps an INT8 file for the CPU that is slower there than FP32, and an INT8 engine that is slower than
    the FP16 one.
    """

    gates: Mapping[str, float] = field(default_factory=dict)
    crops: int = PARITY_CROPS
    force: bool = False

    def limits(self) -> dict[str, Thresholds]:
        """The thresholds by precision. Raises InputError for an unknown one, and for fewer than 2 crops."""
        if self.crops < 2:
            raise InputError(f"{self.crops} crops are too few to compare rankings on: give 2 or more, 512 are good")
        return overridden(self.gates)


def parse_gates(texts: Sequence[str]) -> dict[str, float]:
    """Read overrides such as "int8.cosine_min=0.9". Raises InputError for one without a number.

    >>> parse_gates(["int8.cosine_min=0.9"])
    {'int8.cosine_min': 0.9}
    """
    gates = {}
    for text in texts:
        name, _, value = text.partition("=")
        try:
            gates[name] = float(value)
        except ValueError:
            raise InputError(f"threshold {text!r} has no number: write it as int8.cosine_min=0.9") from None
    return gates


def overridden(gates: Mapping[str, float]) -> dict[str, Thresholds]:
    """`THRESHOLDS` with some changed. Raises InputError for a row or a name that is unknown.

    >>> overridden({"int8.cosine_min": 0.5})["int8"].cosine_min
    0.5
    """
    rows = dict(THRESHOLDS)
    for gate, limit in gates.items():
        precision, _, name = gate.partition(".")
        if precision not in rows:
            begin = f"begin with {', '.join(rows)} and a dot{did_you_mean(precision, rows)}"
            raise InputError(f"threshold {gate!r} names no row of limits: {begin}")
        rows[precision] = rows[precision].but(**{name: limit})
    return rows
