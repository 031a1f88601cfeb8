"""A network with the structure of OSNet in small, as an exported graph, for tests without torch.

images uint8 [N, 64, 32, 3] -> normalise -> Conv 3x3 -> MaxPool
    -> 2 blocks (1x1, two streams of depthwise 3x3, one shared gate each, 1x1, residual) -> AveragePool between
    -> Conv 1x1 -> mean -> Gemm -> L2 norm
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from onnx import NodeProto, TensorProto, helper, numpy_helper

from reid_edge.card import IMAGENET_MEAN, IMAGENET_STD, ModelCard
from reid_edge.export.graph.graph import Graph
from reid_edge.export.graph.session import embed_graph

__all__ = ["STREAMS_CARD", "streams_network"]

_CHANNELS, _DIM = 12, 32
_INPUT_HW = (64, 32)
STREAMS_CARD = ModelCard("streams", _DIM, input_hw=_INPUT_HW, weights_sha256="ab" * 32)


def streams_network(crops: NDArray[np.uint8], seed: int = 0, gate_units: int | None = None) -> Graph:
    """Random weights; the last bias centres the features of ``crops`` uint8 [N, 64, 32, 3], so that they lie apart.

    With ``gate_units``, the hidden units of a gate, streams are of Lites as OSNet's: a 1x1 before each depthwise 3x3.
    """
    made = _Network(np.random.default_rng(seed), gate_units)
    features = embed_graph(made.graph(normalised=False), crops, threads=1)
    made.constants["model.fc.0.bias"] = -0.8 * features.mean(axis=0)
    return made.graph()


class _Network:
    def __init__(self, rng: np.random.Generator, gate_units: int | None) -> None:
        self._rng = rng
        self._gate_units = gate_units
        self._nodes: list[NodeProto] = []
        mean, std = (np.array(x, np.float32).reshape(1, 3, 1, 1) * 255 for x in (IMAGENET_MEAN, IMAGENET_STD))
        self.constants: dict[str, NDArray[Any]] = {"mean": mean, "std": std}
        self.constants |= {"area": np.array([2, 3]), "axis": np.array([1]), "tiny": np.array(1e-12, np.float32)}
        value = self._node("Cast", "images", to=TensorProto.FLOAT)
        value = self._node("Transpose", value, perm=[0, 3, 1, 2])
        value = self._node("Div", self._node("Sub", value, "mean"), "std")
        value = self._node("Relu", self._conv(value, "backbone.conv1", 3, _CHANNELS, 3, strides=[2, 2]))
        value = self._node("MaxPool", value, kernel_shape=[3, 3], strides=[2, 2], pads=[1, 1, 1, 1])
        value = self._block(value, "backbone.conv2.0")
        value = self._node("AveragePool", value, kernel_shape=[2, 2], strides=[2, 2])
        value = self._block(value, "backbone.conv3.0")
        value = self._node("Relu", self._conv(value, "backbone.conv5", _CHANNELS, 2 * _CHANNELS, 1))
        value = self._node("ReduceMean", value, "area", keepdims=0)
        self.constants["model.fc.0.weight"] = self._draw(_DIM, 2 * _CHANNELS)
        self.constants["model.fc.0.bias"] = np.zeros(_DIM, np.float32)
        self._feature = self._node("Gemm", value, "model.fc.0.weight", "model.fc.0.bias", transB=1)

    def graph(self, normalised: bool = True) -> Graph:
        after = [
            helper.make_node("ReduceL2", [self._feature, "axis"], ["norm"], name="norm"),
            helper.make_node("Max", ["norm", "tiny"], ["positive"], name="positive"),
            helper.make_node("Div", [self._feature, "positive"], ["embeddings"], name="unit"),
        ]
        plain = [helper.make_node("Identity", [self._feature], ["embeddings"])]
        floats = {name: array for name, array in self.constants.items() if normalised or name != "tiny"}
        graph = helper.make_graph(
            [*self._nodes, *(after if normalised else plain)],
            "streams",
            [helper.make_tensor_value_info("images", TensorProto.UINT8, ["N", *_INPUT_HW, 3])],
            [helper.make_tensor_value_info("embeddings", TensorProto.FLOAT, ["N", _DIM])],
            [numpy_helper.from_array(array, name) for name, array in floats.items()],
        )
        return Graph(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8))

    def _block(self, value: str, name: str) -> str:
        """Two streams of one and two depthwise convolutions, weighed by one gate, and the block's input added."""
        narrow = self._node("Relu", self._conv(value, f"{name}.conv1", _CHANNELS, _CHANNELS, 1))
        units = self._gate_units or _CHANNELS
        gates = {"fc1": self._draw(units, _CHANNELS, 1, 1), "fc2": self._draw(_CHANNELS, units, 1, 1)}
        self.constants |= {f"model.{name}.gate.{part}.weight": weights for part, weights in gates.items()}
        self.constants |= {f"model.{name}.gate.{part}.bias": 0.5 * self._draw(len(gates[part])) for part in gates}
        streams = []
        for length in (1, 2):
            stream = narrow
            for step in range(length):
                if self._gate_units:
                    weights = f"{name}.stream{length}.{step}.pointwise"
                    self.constants[f"model.{weights}.weight"] = self._draw(_CHANNELS, _CHANNELS, 1, 1)
                    stream = self._node("Conv", stream, f"model.{weights}.weight")
                stream = self._conv(stream, f"{name}.stream{length}.{step}", _CHANNELS, _CHANNELS, 3, _CHANNELS)
                stream = self._node("Relu", stream)
            weight = self._node("ReduceMean", stream, "area")
            for part, operator in (("fc1", "Relu"), ("fc2", "Sigmoid")):
                layer = f"model.{name}.gate.{part}"
                weight = self._node(operator, self._node("Conv", weight, f"{layer}.weight", f"{layer}.bias"))
            streams.append(self._node("Mul", stream, weight))
        wide = self._conv(self._node("Add", *streams), f"{name}.conv3", _CHANNELS, _CHANNELS, 1)
        return self._node("Relu", self._node("Add", wide, value))

    def _conv(self, value: str, name: str, inputs: int, outputs: int, side: int, group: int = 1, **options: Any) -> str:
        self.constants[f"model.{name}.weight"] = self._draw(outputs, inputs // group, side, side)
        self.constants[f"model.{name}.bias"] = 0.3 * self._draw(outputs)
        pads = [side // 2] * 4
        return self._node(
            "Conv", value, f"model.{name}.weight", f"model.{name}.bias", group=group, pads=pads, **options
        )

    def _draw(self, *shape: int) -> NDArray[np.float32]:
        """Normal values that keep the size of what they are multiplied with."""
        fan_in = max(1, int(np.prod(shape[1:])))
        return (self._rng.standard_normal(shape) * np.sqrt(2 / fan_in)).astype(np.float32)

    def _node(self, operator: str, *inputs: str, **attributes: Any) -> str:
        output = f"v{len(self._nodes)}"
        self._nodes.append(helper.make_node(operator, inputs, [output], name=f"n{output}", **attributes))
        return output
