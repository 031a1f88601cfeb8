"""Which nodes of a graph a builder is expected to run as one kernel, and what each of these layers reads and writes.

The rules are those of every fusing builder: a convolution, matrix product, pooling or reduction takes the pointwise
operators after it, also the sum with a value that is there already (a skip connection); a value that grows or shrinks
begins another layer. A rounding (QuantizeLinear, a Cast to fewer bits) belongs to the layer before it, as TensorRT
fuses it; its opposite, reshapes and slices move nothing. What a builder really makes of a file is in its log
(`export.engines.kernels`): this is an estimate, which tests hold beside it for the three models. An attention that a
builder runs as one kernel counts as several.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from math import prod

from onnx import NodeProto, TensorProto, helper

from reid_edge.errors import ModelError

from .graph import Graph, attribute
from .macs import shapes_of_one_crop

__all__ = ["FusedLayer", "fused_layers"]

_VIEWS = set("DequantizeLinear Dropout Flatten Identity Reshape Slice Split Squeeze Unsqueeze".split())
_POINTWISE = set(
    "Abs Add BatchNormalization Cast Clip Div Elu Erf Exp Gelu HardSigmoid HardSwish LeakyRelu Log Max Min Mish Mul "
    "Neg PRelu Pow QuantizeLinear Reciprocal Relu Selu Sigmoid Softplus Sqrt Sub Tanh Transpose Where".split()
)
_SHAPES = {TensorProto.INT64, TensorProto.BOOL}
"""Types of axes, sizes and conditions: no values of a crop."""


@dataclass
class FusedLayer:
    """Nodes that are expected to run as one kernel, and the values that cross its border.

    ``weights`` are constants; ``reads`` are values of other layers, or the input; ``writes`` are those of its own that
    others read: all by name, with the elements of one crop, and of a view its own. A value stands under the name in
    which it is stored: a dequantised one under that of its integers.
    """

    nodes: list[NodeProto] = field(default_factory=list)
    weights: dict[str, int] = field(default_factory=dict)
    reads: dict[str, int] = field(default_factory=dict)
    writes: dict[str, int] = field(default_factory=dict)


def fused_layers(graph: Graph) -> list[FusedLayer]:
    """The layers of a ``graph`` in the order in which they run.

    Raises ModelError for a graph whose shapes are not known with a batch of 1.

    >>> from onnx import helper
    >>> nodes = [helper.make_node("MatMul", ["x", "w"], ["p"]), helper.make_node("Relu", ["p"], ["y"])]
    >>> ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["N", n]) for name, n in (("x", 3), ("y", 5))]
    >>> weight = helper.make_tensor("w", TensorProto.FLOAT, [3, 5], [0.0] * 15)
    >>> (layer,) = fused_layers(Graph(helper.make_model(helper.make_graph(nodes, "one", ends[:1], ends[1:], [weight]))))
    >>> layer.weights, layer.reads, layer.writes
    ({'w': 15}, {'x': 3}, {'y': 5})
    """
    return _Fusion(graph).layers()


class _Fusion:
    """The layers so far; ``stored`` leads from a view to the value that it shows, ``owner`` to the layer of a value."""

    def __init__(self, graph: Graph) -> None:
        self._graph = graph
        self._elements = {name: prod(shape) for name, shape in shapes_of_one_crop(graph).items()}
        self._stored: dict[str, str] = {}
        self._owner: dict[str, int] = {}
        self._layers: list[FusedLayer] = []
        self._spans: list[set[int]] = []  # how many elements a pointwise node may have to join each layer
        self._is_pointwise: list[bool] = []

    def layers(self) -> list[FusedLayer]:
        for node in self._graph.nodes:
            self._place(node)
        for end in self._graph.outputs:
            value = self._stored.get(end, end)
            if value in self._owner:
                self._layers[self._owner[value]].writes[value] = self._count(value)
        return self._layers

    def _place(self, node: NodeProto) -> None:
        inputs = [self._stored.get(name, name) for name in node.input if name]
        owners = [self._owner[value] for value in inputs if value in self._owner]
        images = self._graph.model.graph.input[0].name
        if self._graph.types.get(node.output[0]) in _SHAPES:
            return
        of_constants = not owners and images not in inputs
        if of_constants or node.op_type in _VIEWS or node.op_type == "Cast" and self._widens(node):
            self._stored.update(dict.fromkeys(node.output, inputs[0] if inputs else node.output[0]))
            return
        layer = self._joined(node, owners)
        if layer is None:
            layer = self._begun(node)
        self._layers[layer].nodes.append(node)
        self._owner.update(dict.fromkeys(node.output, layer))
        for name in filter(None, node.input):
            self._read(layer, name)

    def _widens(self, cast: NodeProto) -> bool:
        kinds = (self._graph.types.get(cast.input[0], TensorProto.FLOAT), attribute(cast, "to", TensorProto.FLOAT))
        before, after = (helper.tensor_dtype_to_np_dtype(kind).itemsize for kind in kinds)
        return before <= after

    def _joined(self, node: NodeProto, owners: list[int]) -> int | None:
        """The layer that takes the node: the latest that computes an input, if the two fit."""
        if not owners:
            return None
        latest = max(owners)
        elements = self._count(node.output[0])
        if node.op_type in _POINTWISE:
            turned = node.op_type == "Transpose"
            fits = elements in self._spans[latest] and (self._is_pointwise[latest] or not turned)
            return latest if fits else None
        if _reduces(node) and self._is_pointwise[latest]:  # of the pixels, or of the squares of a norm
            self._spans[latest].add(elements)
            self._is_pointwise[latest] = False
            return latest
        return None

    def _begun(self, node: NodeProto) -> int:
        """A new layer; what follows a reduction may have the size of its input again, as the division by a norm."""
        spans = {self._count(node.output[0])}
        if _reduces(node):
            spans.add(self._count(node.input[0]))
        self._layers.append(FusedLayer())
        self._spans.append(spans)
        self._is_pointwise.append(node.op_type in _POINTWISE)
        return len(self._layers) - 1

    def _read(self, layer: int, name: str) -> None:
        """Note what crosses the border of a layer when it reads the value or constant ``name``."""
        value = self._stored.get(name, name)
        owner = self._owner.get(value)
        if owner == layer or self._graph.types.get(value, _kind(self._graph, value)) in _SHAPES:
            return
        if value in self._graph.constants:
            if (size := self._graph.constants[value].size) > 1:  # a lone scale or bound is a parameter of the kernel
                self._layers[layer].weights[value] = size
            return
        reads = self._layers[layer].reads
        reads[value] = max(reads.get(value, 0), self._count(name))
        if owner is not None:
            self._layers[owner].writes[value] = self._count(value)

    def _count(self, value: str) -> int:
        """The elements of a value of one crop."""
        if not (count := self._elements.get(value, 0)):
            raise ModelError(f"the shape of {value!r} is not known: export the model again")
        return count


def _reduces(node: NodeProto) -> bool:
    return node.op_type.startswith("Reduce") or node.op_type in {"Softmax", "LpNormalization", "LayerNormalization"}


def _kind(graph: Graph, constant: str) -> int | None:
    array = graph.constants.get(constant)
    return TensorProto.INT64 if array is not None and array.dtype.kind == "i" and array.dtype.itemsize == 8 else None
