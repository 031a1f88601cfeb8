"""Bias correction (Nagel et al., *Data-Free Quantization*, ICCV 2019, section 4.2): the mean error of a layer goes.

Rounding and clipping move the mean of a layer's outputs, channel by channel, and what follows adds these shifts up. A
network that has hardly learned suffers most: what tells crops apart is small there beside what they share. The mean
error is measured on calibration crops and subtracted from the bias, which is in float, so that it costs nothing.

The paper rounds one layer after the other and measures each behind the rounded ones before it. Here all are measured in
one pass, each on the FP32 model's own values: with every mean put right the next layer's inputs have theirs. Figures of
the two, and of what else was tried, are in docs/measurements/models.md.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray
from onnx import NodeProto, helper, numpy_helper

from reid_edge.core.progress import track
from reid_edge.errors import ModelError
from reid_edge.export.graph.graph import Array, Graph, finish, set_nodes
from reid_edge.export.graph.session import open_session, require_memory
from reid_edge.export.parity.structure import largest_correction

__all__ = ["CORRECTED", "bias_corrected", "mean_errors"]

CORRECTED = ".corrected"
"""Ends the name of a bias that holds a correction; the rest is its name in the FP32 graph."""

_BATCH = 4
_CROPS = 256
_MARGIN = 0.99
"""FP32 rounds the sum of bias and correction."""


def mean_errors(
    graph: Graph, int8: Graph, images: NDArray[np.uint8], threads: int | None = None
) -> dict[str, NDArray[np.float64]]:
    """What rounding adds to each output channel on average, float64 [C] by the bias of each layer.

    ``int8`` is the FP32 ``graph`` with Q/DQ pairs. Each of its layers reads the FP32 values of uint8 ``images``
    [N, H, W, 3], of which at most 256 are taken, evenly spread. Layers without a bias of their own are left out. Raises
    ModelError where an error is not finite, or where the outputs take more memory than there may be.
    """
    pairs = _layers_in_both(graph, int8)
    if not pairs:
        return {}
    require_memory(graph, (node.output[0] for node in pairs.values()), _BATCH)
    session = open_session(_side_by_side(graph, int8, pairs), threads)
    images = images[np.unique(np.linspace(0, len(images) - 1, _CROPS).astype(int))]
    sums = {bias: np.zeros(graph.constants[bias].shape, np.float64) for bias in pairs}
    names = [f"{node.output[0]}.error" for node in pairs.values()]
    for start in track(range(0, len(images), _BATCH), "measuring what rounding adds on average"):
        arrays = session.run(names, {"images": images[start : start + _BATCH]})
        for bias, error in zip(pairs, arrays, strict=True):
            if not np.isfinite(error).all():
                raise ModelError(
                    f"what rounding adds to {pairs[bias].output[0]!r} is not finite on these crops: the FP32 model's "
                    "values are at the end of what float32 holds; train or import it again"
                )
            sums[bias] += error.mean(axis=tuple(range(2, error.ndim)), dtype=np.float64).sum(axis=0)
    return {bias: total / len(images) for bias, total in sums.items()}


def bias_corrected(int8: Graph, errors: Mapping[str, Array]) -> Graph:
    """An INT8 graph whose layers have the `mean_errors` of their outputs subtracted from their biases.

    No more than `structure.largest_correction`: an error beyond it comes of clipping, which is no matter of means.
    """
    edited = int8.copy()
    for node in edited.graph.node:
        if _is_int8_layer(node, int8) and len(node.input) > 2 and (bias := node.input[2]) in errors:
            most = _MARGIN * largest_correction(node, int8)
            value = (int8.constants[bias] - np.clip(errors[bias], -most, most)).astype(np.float32)
            edited.graph.initializer.append(numpy_helper.from_array(value, f"{bias}{CORRECTED}"))
            node.input[2] = f"{bias}{CORRECTED}"
    return finish(edited)


def _layers_in_both(graph: Graph, int8: Graph) -> dict[str, NodeProto]:
    """The nodes of ``int8`` that compute in INT8, by their bias, where no other node reads that."""
    return {
        node.input[2]: node
        for node in int8.nodes
        if _is_int8_layer(node, int8) and len(node.input) > 2 and len(graph.consumers[node.input[2]]) == 1
    }


def _is_int8_layer(node: NodeProto, int8: Graph) -> bool:
    weights = int8.producers.get(node.input[1]) if node.op_type in {"Conv", "Gemm"} else None
    return weights is not None and weights.op_type == "DequantizeLinear"


def _side_by_side(graph: Graph, int8: Graph, pairs: Mapping[str, NodeProto]) -> Graph:
    """The FP32 ``graph`` with each of the ``pairs`` beside it on rounded inputs; its outputs are the errors."""
    edited = graph.copy()
    nodes: list[NodeProto] = []
    for node in int8.nodes:
        value = node.output[0]
        nodes.append(graph.producers.get(value, node))
        if len(node.input) > 2 and pairs.get(node.input[2]) is node:
            twin = NodeProto.FromString(node.SerializeToString())
            twin.name = twin.output[0] = f"{value}.rounded"
            nodes += [twin, helper.make_node("Sub", [twin.output[0], value], [f"{value}.error"], name=f"{value}.error")]
    set_nodes(edited, nodes)
    known = {tensor.name for tensor in edited.graph.initializer}
    edited.graph.initializer.extend(tensor for tensor in int8.model.graph.initializer if tensor.name not in known)
    del edited.graph.output[:]
    return finish(edited).with_outputs(f"{node.output[0]}.error" for node in pairs.values())
