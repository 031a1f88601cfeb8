"""An exported graph in torch, operator by operator, so that plain and merged forms are timed where only torch is."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from reid_edge.export.graph.graph import Graph, attribute

from .parts import CannotRunError

if TYPE_CHECKING:
    import torch
    from onnx import NodeProto
    from torch import Tensor

__all__ = ["torch_forward"]

_TO = {1: "float32", 10: "float16"}
"""ONNX's numbers of the types that a graph is cast to."""


def torch_forward(graph: Graph, device: torch.device) -> Callable[[Tensor], Tensor]:
    """The function of an FP32 or FP16 ``graph``: uint8 [N, H, W, 3] on ``device`` -> float32 [N, D].

    Maps are channels_last, as cuDNN's FP16 kernels want them. Raises CannotRunError for an operator without a form
    here.
    """
    import torch

    table = _operators()
    if missing := sorted({node.op_type for node in graph.nodes} - set(table)):
        raise CannotRunError(f"no form in torch of {', '.join(missing)}")
    constants = {name: torch.from_numpy(np.array(array)).to(device) for name, array in graph.constants.items()}
    for name, value in constants.items():
        if value.ndim == 4:
            constants[name] = value.contiguous(memory_format=torch.channels_last)
    integers = {name: array.tolist() for name, array in graph.constants.items() if array.dtype.kind == "i"}
    last_use = {name: place for place, node in enumerate(graph.nodes) for name in node.input}

    def forward(images: Tensor) -> Tensor:
        values: dict[str, Any] = {**constants, "images": images}
        for place, node in enumerate(graph.nodes):
            read = [integers.get(name, values.get(name)) for name in node.input]
            written = table[node.op_type](node, read)
            values.update(zip(node.output, written if isinstance(written, tuple) else (written,), strict=True))
            for name in node.input:
                if last_use[name] == place and name not in graph.outputs:
                    values.pop(name, None)
        output: Tensor = values["embeddings"]
        return output

    return forward


def _operators() -> dict[str, Callable[[NodeProto, Sequence[Any]], Any]]:
    """A function of a node and its inputs for each operator that export writes."""
    import torch
    from torch.nn import functional

    def cast(node: NodeProto, read: Sequence[Any]) -> Any:
        return read[0].to(getattr(torch, _TO[attribute(node, "to", 1)]))

    def transpose(node: NodeProto, read: Sequence[Any]) -> Any:
        moved = read[0].permute(attribute(node, "perm", None))
        return moved.contiguous(memory_format=torch.channels_last) if moved.ndim == 4 else moved

    def conv(node: NodeProto, read: Sequence[Any]) -> Any:
        bias = read[2] if len(read) > 2 else None
        strides, dilations = attribute(node, "strides", [1, 1]), attribute(node, "dilations", [1, 1])
        return functional.conv2d(
            read[0], read[1], bias, strides, _padding(node), dilations, attribute(node, "group", 1)
        )

    def max_pool(node: NodeProto, read: Sequence[Any]) -> Any:
        return functional.max_pool2d(
            read[0], attribute(node, "kernel_shape", None), attribute(node, "strides", [1, 1]), _padding(node)
        )

    def average_pool(node: NodeProto, read: Sequence[Any]) -> Any:
        return functional.avg_pool2d(
            read[0], attribute(node, "kernel_shape", None), attribute(node, "strides", [1, 1]), _padding(node)
        )

    def reduced(function: Callable[..., Any]) -> Callable[[NodeProto, Sequence[Any]], Any]:
        return lambda node, read: function(read[0], dim=read[1], keepdim=bool(attribute(node, "keepdims", 1)))

    def gemm(node: NodeProto, read: Sequence[Any]) -> Any:
        weight = read[1] if attribute(node, "transB", 0) else read[1].T
        return functional.linear(read[0], weight, read[2] if len(read) > 2 else None)

    def clip(node: NodeProto, read: Sequence[Any]) -> Any:
        low, high = (read[place] if len(read) > place else None for place in (1, 2))
        return torch.clamp(read[0], low, high)

    def hard_sigmoid(node: NodeProto, read: Sequence[Any]) -> Any:
        return torch.clamp(read[0] * attribute(node, "alpha", 0.2) + attribute(node, "beta", 0.5), 0, 1)

    def reshaped(node: NodeProto, read: Sequence[Any]) -> Any:
        return read[0].reshape([size or read[0].shape[axis] for axis, size in enumerate(read[1])])

    def sliced(node: NodeProto, read: Sequence[Any]) -> Any:
        whole = [slice(None)] * read[0].ndim
        steps = read[4] if len(read) > 4 else [1] * len(read[1])
        axes = read[3] if len(read) > 3 else range(len(read[1]))
        for start, end, axis, step in zip(read[1], read[2], axes, steps, strict=True):
            whole[axis] = slice(start, end, step)
        return read[0][tuple(whole)]

    return {
        "Add": lambda node, read: read[0] + read[1],
        "AveragePool": average_pool,
        "Cast": cast,
        "Clip": clip,
        "Concat": lambda node, read: torch.cat(list(read), attribute(node, "axis", 0)),
        "Conv": conv,
        "Div": lambda node, read: read[0] / read[1],
        "Gemm": gemm,
        "GlobalAveragePool": lambda node, read: read[0].mean((2, 3), keepdim=True),
        "HardSigmoid": hard_sigmoid,
        "HardSwish": lambda node, read: functional.hardswish(read[0]),
        "Max": lambda node, read: torch.maximum(read[0], read[1]),
        "MaxPool": max_pool,
        "Mul": lambda node, read: read[0] * read[1],
        "Pow": lambda node, read: read[0] ** read[1],
        "ReduceL2": reduced(torch.linalg.vector_norm),
        "ReduceMean": reduced(torch.mean),
        "ReduceSum": reduced(torch.sum),
        "Relu": lambda node, read: torch.relu(read[0]),
        "Reshape": reshaped,
        "Sigmoid": lambda node, read: torch.sigmoid(read[0]),
        "Slice": sliced,
        "Split": lambda node, read: torch.split(read[0], read[1], attribute(node, "axis", 0)),
        "Sqrt": lambda node, read: torch.sqrt(read[0]),
        "Sub": lambda node, read: read[0] - read[1],
        "Transpose": transpose,
    }


def _padding(node: NodeProto) -> list[int]:
    """Rows and columns of padding, which export writes the same on both sides."""
    top, left, bottom, right = attribute(node, "pads", [0, 0, 0, 0])
    assert (top, left) == (bottom, right), f"{node.name} pads one side more than the other"
    return [top, left]
