"""What the passes over an ONNX graph share: reading it, tidying it, and making it a file of ours.

A pass takes an `onnx.ModelProto` in memory; `write_onnx` is the one door through which a graph becomes a file.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import onnx
from numpy.typing import NDArray
from onnx import GraphProto, ModelProto, NodeProto, helper, numpy_helper

from reid_edge.card import CARD_KEY, ModelCard
from reid_edge.errors import ModelError
from reid_edge.files import require_file, written_whole

__all__ = ["attribute", "constants", "consumers", "read_fp32", "read_ours", "tidied", "write_onnx"]

_IR_VERSION = 8
"""The oldest that opset 18 may have: ONNX Runtime 1.17 and TensorRT 10.3 read it."""


def constants(graph: GraphProto) -> dict[str, NDArray[Any]]:
    """A graph's constants (its initializers) by name."""
    return {tensor.name: numpy_helper.to_array(tensor) for tensor in graph.initializer}


def consumers(graph: GraphProto) -> dict[str, list[NodeProto]]:
    """The nodes that read each value."""
    readers: dict[str, list[NodeProto]] = {}
    for node in graph.node:
        for name in node.input:
            readers.setdefault(name, []).append(node)
    return readers


def attribute(node: NodeProto, name: str, default: Any) -> Any:
    """An attribute of a node, or what the operator takes without it."""
    for own in node.attribute:
        if own.name == name:
            return helper.get_attribute_value(own)
    return default


def tidied(model: ModelProto) -> ModelProto:
    """A copy that holds the operators and their weights, and nothing of the machine that made them.

    Exporters write source paths, stack traces and class names into metadata and doc strings. The inferred shapes go
    too: every runtime infers them again, and a pass that changes a type would leave them wrong. So do constants that
    nobody reads.
    """
    graph = model.graph
    read = {name for node in graph.node for name in node.input} | {value.name for value in graph.output}
    bare = helper.make_graph(
        [_bare_node(node) for node in graph.node],
        "reid_edge",
        [_bare_value(value) for value in graph.input],
        [_bare_value(value) for value in graph.output],
        [numpy_helper.from_array(array, name) for name, array in constants(graph).items() if name in read],
    )
    return helper.make_model(bare, opset_imports=model.opset_import, ir_version=_IR_VERSION)


def write_onnx(model: ModelProto, card: ModelCard, path: Path | str) -> None:
    """Write a tidied ``model`` with its ``card`` in the metadata to ``path``, whole or not at all.

    The file is self-contained. Raises onnx.checker.ValidationError for a graph that breaks ONNX's rules, which is a
    defect of ours and not of the caller's.
    """
    file = tidied(model)
    file.producer_name = "reid-edge"
    file.producer_version = card.made_with
    described = {
        CARD_KEY: card.to_json(),
        "architecture": card.architecture,
        "precision": card.precision,
        "input": f"images: {_shape(card)}, RGB, 0..255; normalised inside",
        "output": f"embeddings: float32 [N, {card.embedding_dim}], rows of L2 norm 1",
    }
    helper.set_model_props(file, described)
    onnx.checker.check_model(file, full_check=True)
    with written_whole(path) as beside:
        beside.write_bytes(file.SerializeToString(deterministic=True))


def read_ours(path: Path | str) -> tuple[ModelProto, ModelCard]:
    """The graph and the card of one of our ONNX files. Raises ModelError for a file that is damaged or not ours."""
    file = require_file(path, "an ONNX model")
    try:
        model = onnx.load(str(file), load_external_data=False)
    except Exception as error:  # protobuf's errors share no base with each other
        reason = " ".join(str(error).split())[:200]
        raise ModelError(f"{path} is no ONNX file ({reason}): copy or export the model again") from None
    text = next((prop.value for prop in model.metadata_props if prop.key == CARD_KEY), None)
    if text is None:
        raise ModelError(f"{path} was not written by reid-edge export: export its checkpoint to get a file that was")
    return model, ModelCard.from_json(text, str(path))


def read_fp32(path: Path | str) -> tuple[ModelProto, ModelCard]:
    """Like `read_ours`, for FP32, which other precisions are made from; raises ModelError for another precision."""
    model, card = read_ours(path)
    if card.layout != "nhwc-uint8":
        raise ModelError(f"{path} takes {card.layout}, and others are made from nhwc-uint8: give that fp32 file")
    if card.precision != "fp32":
        raise ModelError(f"{path} is {card.precision}, and other precisions are made from FP32: give the fp32 file")
    return model, card


def _shape(card: ModelCard) -> str:
    height, width = card.input_hw
    return f"uint8 [N, {height}, {width}, 3]" if card.layout == "nhwc-uint8" else f"float32 [N, 3, {height}, {width}]"


def _bare_node(node: NodeProto) -> NodeProto:
    bare = NodeProto(op_type=node.op_type, domain=node.domain, name=node.name, input=node.input, output=node.output)
    bare.attribute.extend(node.attribute)
    for own in bare.attribute:
        own.ClearField("doc_string")
    return bare


def _bare_value(value: onnx.ValueInfoProto) -> onnx.ValueInfoProto:
    return onnx.ValueInfoProto(name=value.name, type=value.type)
