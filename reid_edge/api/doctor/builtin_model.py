"""A small model of random weights in the form that ``reid-edge export`` writes, made without torch, onnx or a file.

    images uint8 [N, 256, 128, 3] -> Cast -> Transpose -> normalise -> Conv 8x8 / 8, ReLU -> mean of each of 8 stripes
    -> MatMul -> L2 norm -> embeddings float32 [N, 64]

It has what a real model asks of an engine (casts, a convolution, a product, a norm), in 90 KB, and computes in under a
millisecond. Its bytes are the same on every machine: a generator of Python's standard library draws the weights.
"""

from __future__ import annotations

import hashlib
import random
import struct
from collections.abc import Iterable, Sequence
from pathlib import Path

from reid_edge.card import CARD_KEY, IMAGENET_MEAN, IMAGENET_STD, ModelCard
from reid_edge.core.files import written_whole
from reid_edge.engines.onnx_file import seal_of

__all__ = ["BUILTIN_NAME", "builtin_model", "write_builtin_model"]

BUILTIN_NAME = "builtin"

_HW = (256, 128)
_CHANNELS, _KERNEL, _STRIPES, _DIM = 32, 8, 8, 64
_FLOAT, _UINT8, _INTS, _INT = 1, 2, 7, 2  # TensorProto.DataType, AttributeProto.AttributeType


def write_builtin_model(folder: Path) -> Path:
    """Write the model as ``builtin.onnx`` into a folder."""
    path = folder / f"{BUILTIN_NAME}.onnx"
    with written_whole(path) as beside:
        beside.write_bytes(builtin_model())
    return path


def builtin_model() -> bytes:
    """The model with its card and its seal.

    >>> from reid_edge.engines.onnx_file import check_content
    >>> card = check_content(builtin_model(), "built-in").card
    >>> card.architecture, card.input_hw, card.embedding_dim, card.sealed
    ('builtin', (256, 128), 64, True)
    """
    weights = _weights()
    digest = hashlib.sha256(b"".join(values for _, values in weights.values())).hexdigest()
    card = ModelCard(BUILTIN_NAME, _DIM, input_hw=_HW, trained_on="nothing", weights_sha256=digest, sealed=True)
    content = b"".join(
        (
            _number(1, 8),  # ModelProto: ir_version
            _text(2, "reid-edge"),  # producer_name
            _bytes(8, _number(2, 17)),  # opset_import
            _bytes(7, _graph(weights)),
            _bytes(14, _text(1, CARD_KEY) + _text(2, card.to_json())),  # metadata_props
        )
    )
    return content + seal_of(content)


_Weights = dict[str, tuple[Sequence[int], bytes]]
"""Constants by name: shape and little-endian float32."""


def _weights() -> _Weights:
    draw = random.Random(0)
    normal = [[255 * value for value in values] for values in (IMAGENET_MEAN, IMAGENET_STD)]
    kernel = (_CHANNELS, 3, _KERNEL, _KERNEL)
    projection = (_CHANNELS * _STRIPES, _DIM)
    return {
        "mean": ((1, 3, 1, 1), _floats(normal[0])),
        "std": ((1, 3, 1, 1), _floats(normal[1])),
        "kernel": (kernel, _floats(draw.uniform(-0.1, 0.1) for _ in range(_CHANNELS * 3 * _KERNEL**2))),
        "projection": (projection, _floats(draw.uniform(-0.1, 0.1) for _ in range(projection[0] * _DIM))),
        "tiny": ((), _floats([1e-12])),
    }


def _graph(weights: _Weights) -> bytes:
    """A GraphProto: nodes, name, constants, input and output."""
    height, width = _HW
    stripe = [height // _KERNEL // _STRIPES, width // _KERNEL]
    nodes = (
        _node("Cast", "images", "float", _bytes(5, _text(1, "to") + _number(3, _FLOAT) + _number(20, _INT))),
        _node("Transpose", "float", "nchw", _ints("perm", [0, 3, 1, 2])),
        _node("Sub", "nchw mean", "centred"),
        _node("Div", "centred std", "normal"),
        _node("Conv", "normal kernel", "conv", _ints("kernel_shape", [_KERNEL] * 2) + _ints("strides", [_KERNEL] * 2)),
        _node("Relu", "conv", "active"),
        _node("AveragePool", "active", "stripes", _ints("kernel_shape", stripe) + _ints("strides", stripe)),
        _node("Flatten", "stripes", "features"),
        _node("MatMul", "features projection", "projected"),
        _node("ReduceL2", "projected", "norm", _ints("axes", [1])),
        _node("Max", "norm tiny", "positive"),
        _node("Div", "projected positive", "embeddings"),
    )
    constants = (_bytes(5, _tensor(name, *value)) for name, value in weights.items())
    ends = _bytes(11, _value("images", _UINT8, [*_HW, 3])) + _bytes(12, _value("embeddings", _FLOAT, [_DIM]))
    return b"".join((*nodes, _text(2, BUILTIN_NAME), *constants, ends))


def _node(kind: str, inputs: str, output: str, attributes: bytes = b"") -> bytes:
    named = b"".join(_text(1, name) for name in inputs.split())
    return _bytes(1, named + _text(2, output) + _text(3, output) + _text(4, kind) + attributes)


def _ints(name: str, values: Iterable[int]) -> bytes:
    """An attribute of a node."""
    return _bytes(5, _text(1, name) + b"".join(_number(8, value) for value in values) + _number(20, _INTS))


def _tensor(name: str, shape: Sequence[int], values: bytes) -> bytes:
    sizes = b"".join(_number(1, size) for size in shape)
    return sizes + _number(2, _FLOAT) + _text(8, name) + _bytes(9, values)


def _value(name: str, kind: int, shape: Sequence[int]) -> bytes:
    """A ValueInfoProto of any batch: name, and type with shape."""
    axes = _bytes(1, _text(2, "N")) + b"".join(_bytes(1, _number(1, size)) for size in shape)
    return _text(1, name) + _bytes(2, _bytes(1, _number(1, kind) + _bytes(2, axes)))


# Protobuf's wire format (https://protobuf.dev/programming-guides/encoding), fields as in onnx.proto.


def _number(field: int, value: int) -> bytes:
    return _varint(field << 3) + _varint(value)


def _text(field: int, value: str) -> bytes:
    return _bytes(field, value.encode())


def _bytes(field: int, value: bytes) -> bytes:
    return _varint(field << 3 | 2) + _varint(len(value)) + value


def _varint(value: int) -> bytes:
    """7 bits a byte, the lowest first."""
    rest, low = value >> 7, value & 127
    return bytes([low]) if not rest else bytes([low | 128]) + _varint(rest)


def _floats(values: Iterable[float]) -> bytes:
    return b"".join(struct.pack("<f", value) for value in values)
