"""A foreign graph in the form that every pass here expects: constants apart, plain names, one opset, a free batch."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
import onnx
from onnx import ModelProto, NodeProto, numpy_helper, shape_inference, version_converter

from reid_edge.errors import ModelError
from reid_edge.export.graph.graph import LAYER_TYPES, OPSET, Array, attribute

from .read import Foreign, failure

__all__ = ["Plain", "plain_graph"]

_TAKEN = re.compile(r"(\.(int8|scale|zero|dq|q|fp16)|_(quantized|fp16|fp32|read|exact))$")
"""Ends of names that later passes give to what they add."""


@dataclass
class Plain:
    """The operators that ``output`` is computed by, in their order, and their ``constants`` by name.

    The pixels come in as ``images``; ``opset`` is what the operators are of.
    """

    nodes: list[NodeProto]
    constants: dict[str, Array] = field(repr=False)
    images: str
    output: str
    opset: int


def plain_graph(foreign: Foreign, embedding: str, size: tuple[int, int]) -> Plain:
    """The part of a foreign graph that computes ``embedding``, for images of ``size``, with a free batch.

    A graph with a fixed batch has sizes of it in its reshapes: those are freed; whether it then holds in other batches
    is for the caller to try. Raises ModelError for an opset that cannot be brought to `OPSET`, and for a value that
    does not depend on the images.
    """
    model = _at_opset(_sized(foreign, size), foreign)
    plain = _with_constants(model, foreign, embedding)
    if foreign.shape[0]:
        _free_batch(plain, _shapes(model))
    _drop_unread(plain)
    if plain.images not in {name for node in plain.nodes for name in node.input}:
        raise ModelError(
            f"{foreign.path}: {embedding!r} does not depend on the images: name another --embedding (embedding=)"
        )
    _rename(plain)
    return plain


def _sized(foreign: Foreign, size: tuple[int, int]) -> ModelProto:
    """A copy without what is known of shapes, whose input has the height and width of ``size``."""
    model: ModelProto = ModelProto.FromString(foreign.model.SerializeToString())
    del model.graph.value_info[:]
    value = next(value for value in model.graph.input if value.name == foreign.input)
    for axis, length in zip(value.type.tensor_type.shape.dim[1:], (3, *size), strict=True):
        axis.dim_value = length
    imports = [one for one in model.opset_import if one.domain in ("", "ai.onnx")]
    del model.opset_import[:]
    model.opset_import.extend([onnx.helper.make_opsetid("", max(one.version for one in imports))])
    return model


def _at_opset(model: ModelProto, foreign: Foreign) -> ModelProto:
    """The model in `OPSET`; one of a newer opset whose operators are not in it stays as it is."""
    if foreign.opset == OPSET:
        return model
    try:
        converted: ModelProto = version_converter.convert_version(model, OPSET)
    except Exception as error:  # the converter's errors share no base with each other
        if foreign.opset > OPSET:
            return model
        failed = f"its opset {foreign.opset} cannot be brought to {OPSET} ({failure(error)})"
        raise ModelError(f"{foreign.path}: {failed}: export it again with opset_version={OPSET}") from None
    return converted


def _with_constants(model: ModelProto, foreign: Foreign, embedding: str) -> Plain:
    """Nodes without those that only name a constant or pass a value on."""
    constants = {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer}
    passed: dict[str, str] = {}
    nodes = []
    for node in model.graph.node:
        for place, name in enumerate(node.input):
            node.input[place] = passed.get(name, name)
        if node.op_type == "Constant":
            constants[node.output[0]] = _value_of(node, foreign)
        elif node.op_type == "Identity" or _is_idle_dropout(node, constants):
            passed[node.output[0]] = node.input[0]
        else:
            nodes.append(node)
    output = passed.get(embedding, embedding)
    opset = next(one.version for one in model.opset_import)
    return Plain(nodes, constants, foreign.input, output, opset)


def _value_of(node: NodeProto, foreign: Foreign) -> Array:
    for name, kind in (("value_float", np.float32), ("value_int", np.int64)):
        for attribute_name in (name, f"{name}s"):
            if (found := attribute(node, attribute_name, None)) is not None:
                return np.asarray(found, kind)
    tensor = attribute(node, "value", None)
    if tensor is None:
        raise ModelError(f"{foreign.path}: constant {node.output[0]!r:.100} is text or sparse: export it again")
    return numpy_helper.to_array(tensor)


def _is_idle_dropout(node: NodeProto, constants: Mapping[str, Array]) -> bool:
    if node.op_type != "Dropout":
        return False
    trains = node.input[2] if len(node.input) > 2 else ""
    return not trains or (trains in constants and not constants[trains])


def _shapes(model: ModelProto) -> dict[str, list[int]]:
    """The shapes of values as far as ONNX infers them; 0 for a free axis."""
    graph = shape_inference.infer_shapes(model).graph
    values = (*graph.input, *graph.value_info, *graph.output)
    return {value.name: [axis.dim_value for axis in value.type.tensor_type.shape.dim] for value in values}


def _free_batch(plain: Plain, shapes: Mapping[str, list[int]]) -> None:
    """Let reshapes take over the axes that they leave as they are, and find the length of a first axis that is left."""
    batch = shapes[plain.images][0]
    for number, node in enumerate(plain.nodes):
        target = plain.constants.get(node.input[1]) if node.op_type == "Reshape" else None
        before = shapes.get(node.input[0])
        if target is None or before is None or attribute(node, "allowzero", 0):
            continue
        same = [place < len(before) and batch == length == before[place] for place, length in enumerate(target)]
        freed = [0 if kept else int(length) for kept, length in zip(same, target, strict=True)]
        if freed and freed[0] == batch and -1 not in freed:
            freed[0] = -1
        name = f"{node.input[1]}.free{number}"
        plain.constants[name] = np.array(freed, np.int64)
        node.input[1] = name


def _drop_unread(plain: Plain) -> None:
    """Leave out what the output is not computed of: classifiers, and outputs for training."""
    read = {plain.output}
    kept = []
    for node in reversed(plain.nodes):
        if read.intersection(node.output):
            kept.append(node)
            read.update(node.input)
    plain.nodes = kept[::-1]
    plain.constants = {name: array for name, array in plain.constants.items() if name in read}


def _rename(plain: Plain) -> None:
    """Plain names: a value is its operator and a number, a constant ``model.`` and the name of its module."""
    names = {"": "", plain.images: "pixels"}
    taken: set[str] = set()
    for node in plain.nodes:
        for place, name in enumerate(node.input):
            if name in plain.constants and name not in names:
                module = _module_of(node) if place == 1 and node.op_type in LAYER_TYPES else ""
                names[name] = _unique(_constant_name(name, module), taken)
    for number, node in enumerate(plain.nodes):
        several = len(node.output) > 1
        for place, name in enumerate(node.output):
            if name:
                names[name] = f"{node.op_type}_{number}" + (f"_{place}" if several else "")
    for node in plain.nodes:
        node.input[:] = [names[name] for name in node.input]
        node.output[:] = [names[name] for name in node.output]
        node.name, node.domain = f"node_{next(filter(None, node.output))}", ""
    plain.constants = {names[name]: array for name, array in plain.constants.items()}
    plain.images, plain.output = names[plain.images], names[plain.output]


def _module_of(node: NodeProto) -> str:
    """The module of a layer, as PyTorch's two exporters write it; empty where they do not.

    >>> _module_of(onnx.helper.make_node("Conv", ["x", "w"], ["y"], name="/conv2/conv2.0/conv1/conv/Conv"))
    'conv2.0.conv1.conv'
    >>> _module_of(onnx.helper.make_node("Conv", ["x", "w"], ["y"], name="Conv_0"))
    ''
    """
    scopes = next((one.value for one in node.metadata_props if one.key == "pkg.torch.onnx.name_scopes"), "")
    if len(found := re.findall(r"'([\w.]*)'", scopes)) > 1:
        return str(found[-2])
    parts = node.name.split("/")[1:-1]
    pairs = zip(parts, [*parts[1:], ""], strict=False)  # of conv2 and conv2.0, a place in it, the second says both
    return ".".join(part for part, after in pairs if not after.startswith(f"{part}."))


def _constant_name(name: str, module: str) -> str:
    """``model.`` and the constant's own name, unless an exporter made that up and the ``module`` of its layer is known.

    >>> _constant_name("onnx::MatMul_494", "encoder.mlp.0"), _constant_name("fc.weight", "head")
    ('model.encoder.mlp.0.weight', 'model.fc.weight')
    """
    own = f"{module}.weight" if module and not name.endswith(".weight") else name
    plain = re.sub(r"[^\w.:/-]", "_", own, flags=re.ASCII)[:160].removeprefix("model.")
    return f"model.{plain}_" if _TAKEN.search(plain) else f"model.{plain}"


def _unique(name: str, taken: set[str]) -> str:
    number, stem, suffix = 1, name.removesuffix(".weight"), ".weight" if name.endswith(".weight") else ""
    while name in taken:
        number += 1
        name = f"{stem}_{number}{suffix}"
    taken.add(name)
    return name
