"""From an FP32 graph to an INT8 one with its card, as an `Int8Plan` says."""

from __future__ import annotations

from typing import Any

from reid_edge.card import ModelCard
from reid_edge.export.graph.fp16 import fp16_from_fp32, stores_fp16
from reid_edge.export.graph.graph import Graph

from .bias import bias_corrected
from .cpu import quantized_for_cpu
from .plan import Int8Plan
from .qdq import quantized
from .residuals import residual_adds

__all__ = ["int8_from_fp32", "rounded", "trained_ranges"]


def int8_from_fp32(graph: Graph, card: ModelCard, plan: Int8Plan) -> tuple[Graph, ModelCard]:
    """The INT8 graph of an FP32 one, and its card.

    Raises ImageError for a calibration crop that cannot be read, ModelError for activations that are not finite and
    GateError for weights that FP16 cannot hold.
    """
    if plan.options.for_runtime == "cpu":
        int8 = quantized_for_cpu(graph, plan.calibration().images, plan.kept)
    else:
        int8 = rounded(graph, plan.calibrated(graph))
        if plan.options.unquantized == "fp16":
            int8 = fp16_from_fp32(int8)
    # Where every layer is INT8, nothing is left to be FP16.
    around = "fp16" if stores_fp16(int8) else "fp32"
    note = f"{plan.options.for_runtime}: {plan.note()}; {_kept_note(plan, around)}"
    note += "; residual adds rounded" if plan.residuals - plan.kept else ""
    return int8, card.with_(precision="int8", calibration=note, parity={})


def rounded(graph: Graph, plan: Int8Plan) -> Graph:
    """The FP32 ``graph`` with the Q/DQ pairs and the corrected biases of a calibrated ``plan``."""
    return bias_corrected(quantized(graph, plan.activation_ranges(graph), plan.kept, plan.residuals), plan.errors or {})


def trained_ranges(graph: Graph, plan: Int8Plan) -> dict[str, Any]:
    """`ModelCard.quantization` for a model that is to be trained with INT8 fake quantisation.

    ``layers`` holds the activation ranges by layer, one for each call of it in a forward pass, ``residuals`` those of
    the skip inputs of adds by the layer before, and ``note`` how they were found. Raises as `int8_from_fp32`.
    """
    ranges = plan.activation_ranges(graph)
    chosen = {name: nodes for name, nodes in graph.layers.items() if name not in plan.kept}
    skips: dict[str, list[float]] = {}
    for add in residual_adds(graph):
        if add.layer in plan.residuals and add.layer not in plan.kept:
            skips.setdefault(add.layer, []).append(ranges[add.skip])
    return {
        "layers": {name: [ranges[node.input[0]] for node in nodes] for name, nodes in chosen.items()},
        **({"residuals": skips} if skips else {}),
        "note": f"{plan.note()}, then trained for it",
    }


def _kept_note(plan: Int8Plan, around: str) -> str:
    """Which layers are left unquantised, as far as a line holds their names."""
    names = sorted(plan.kept)
    around = f"no clipping in {len(plan.unclipped)} layers, {around}" if plan.unclipped else around
    added = f" ({len(plan.searched)} of them as the gates needed)" if plan.searched else ""
    return f"{around} around INT8, with {len(names)} layers{added}" + (f": {', '.join(names)}"[:2000] if names else "")
