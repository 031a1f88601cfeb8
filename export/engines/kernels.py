"""What a builder made of a graph: the compiled layers, counted by kind and by the types that they read and write."""

from __future__ import annotations

import math
import re
from collections import Counter
from typing import Any

from reid_edge.engines.engine_card import EngineCard
from reid_edge.engines.tensorrt_api import Backend, Log, layer_lines, load_plan
from reid_edge.errors import ModelError

__all__ = ["KINDS", "bytes_written", "compiled_layers", "kernels_reading", "kernels_writing", "layers_writing"]

KINDS = ("Int8", "Half", "Float")
"""TensorRT's names of the types that are counted, from the narrowest."""

_SIZES = {"Bool": 1, "Int8": 1, "UInt8": 1, "FP8": 1, "Half": 2, "BFloat16": 2, "Float": 4, "Int32": 4, "Int64": 8}
"""Bytes of a number, by TensorRT's name of its type."""

_MULTIPLIES = ("correlation", "conv", "gemm", "matmul", "matrix", "caskconv", "caskgemm", "fc")
"""How TensorRT's names for convolutions, matrix products and what it fuses them into begin."""


def compiled_layers(
    plan: bytes, backend: Backend, log: Log, card: EngineCard, has_gpu: bool
) -> tuple[dict[str, int], str]:
    """The compiled layers as {"kind, types read -> types written": count}, and where they were read.

    That is the engine's inspector where there is a GPU and it says types, else the build log.
    """
    source, lines = "build log", layer_lines(log.layers())
    if has_gpu:
        inspected = layer_lines(_inspected(plan, backend, log, card))
        if any(reads for _, kind, reads, _ in inspected if _multiplies(kind)):
            source, lines = "inspector", inspected
    counted = Counter(f"{kind} {'/'.join(reads)} -> {'/'.join(writes)}" for _, kind, reads, writes in lines)
    return dict(counted.most_common()), source


def kernels_reading(layers: dict[str, int], kind: str) -> int:
    """How many compiled matmul and convolution layers read ``kind``, Float, Half or Int8, and nothing narrower.

    A convolution that an add was fused into reads two values: in INT8 it counts as INT8 whatever it adds.

    >>> kernels_reading({"conv Half -> Half": 3, "conv Float/Int8 -> Half": 2, "pool Half -> Half": 1}, "Half")
    3
    """
    return sum(n for name, n in layers.items() if _multiplies(name) and _narrowest(_types(name)[0]) == kind)


def kernels_writing(layers: dict[str, int], kind: str, *, reading: str | None = None) -> int:
    """How many compiled matmul and convolution layers write ``kind``, and nothing wider.

    ``reading`` counts those of `kernels_reading` alone.

    >>> layers = {"conv Int8 -> Float": 3, "conv Int8 -> Int8": 2, "conv Half -> Float/Int8": 1, "pool Half -> Half": 1}
    >>> kernels_writing(layers, "Float"), kernels_writing(layers, "Float", reading="Int8")
    (4, 3)
    """
    writing = {name: n for name, n in layers.items() if _multiplies(name) and _widest(_types(name)[1]) == kind}
    return sum(writing.values()) if reading is None else kernels_reading(writing, reading)


def layers_writing(layers: dict[str, int], kind: str) -> int:
    """How many compiled layers of any sort write ``kind``, and nothing wider: what the copies around INT8 cost.

    >>> layers_writing({"conv Int8 -> Float": 3, "kgen Float -> Float/Int8": 2, "kgen Float -> Int8": 4}, "Float")
    5
    """
    return sum(n for name, n in layers.items() if _widest(_types(name)[1]) == kind)


def bytes_written(text: str, batch: int = 1) -> dict[str, int]:
    """The bytes that all layers of a build log write for ``batch`` crops, by type; a free axis is that of the batch.

    What each layer writes goes to memory, and from there to the next.

    >>> line = "Name: c, LayerType: conv, Inputs: [ ], Outputs: [ { Name: y, Dimensions: [-1,2,3], Datatype: Half }]"
    >>> bytes_written(line, batch=8)
    {'Half': 96}
    """
    found: Counter[str] = Counter()
    for outputs in re.findall(r"LayerType: [^\n]*?Outputs: \[([^\n]*)", text):
        for dimensions, kind in re.findall(r"Dimensions: \[([-\d,]*)\][^}]*?Datatype: (\w+)", outputs):
            axes = [int(axis) for axis in dimensions.split(",") if axis]
            found[kind] += _SIZES.get(kind, 0) * math.prod(batch if axis < 0 else axis for axis in axes)
    return dict(found)


def _inspected(plan: bytes, backend: Backend, log: Log, card: EngineCard) -> str:
    """What the inspector says of each layer, at the optimum batch: without one, dynamic shapes have no types."""
    owners: list[Any] = [log.logger(backend)]
    engine = load_plan(plan, backend, owners[0], card.options, owners)
    if engine is None:
        raise ModelError(f"{backend.name} cannot load what it built: {'; '.join(log.errors())}")
    inspector = engine.create_engine_inspector()
    if (context := engine.create_execution_context()) is not None:
        context.set_input_shape("images", tuple(engine.get_tensor_profile_shape("images", 0)[1]))
        inspector.execution_context = context
    return str(inspector.get_engine_information(backend.api.LayerInformationFormat.ONELINE))


def _types(name: str) -> tuple[list[str], list[str]]:
    """The types that the layers of a name of `compiled_layers` read and write."""
    reads, _, writes = name.partition(" -> ")
    return reads.rpartition(" ")[2].split("/"), writes.split("/")


def _narrowest(types: list[str]) -> str | None:
    return next((kind for kind in KINDS if kind in types), None)


def _widest(types: list[str]) -> str | None:
    return next((kind for kind in reversed(KINDS) if kind in types), None)


def _multiplies(name: str) -> bool:
    return name.lower().startswith(_MULTIPLIES)
