"""What a builder made of a graph: the compiled layers, counted by kind and by the types that they read and write."""

from __future__ import annotations

from collections import Counter
from typing import Any

from reid_edge.engines.engine_card import EngineCard
from reid_edge.engines.tensorrt_api import Backend, Log, layer_lines, load_plan
from reid_edge.errors import ModelError

__all__ = ["compiled_layers", "kernels_reading", "kernels_writing"]

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
    """How many compiled matmul and convolution layers read ``kind``: Float, Half or Int8.

    >>> kernels_reading({"conv Half -> Half": 3, "conv Int8/Float -> Half": 2, "pool Half -> Half": 1}, "Half")
    3
    """
    return sum(n for name, n in layers.items() if _multiplies(name) and f" {kind}" in name.split("->")[0])


def kernels_writing(layers: dict[str, int], kind: str, *, reading: str) -> int:
    """How many of the compiled matmul and convolution layers that read ``reading`` also write ``kind``.

    >>> kernels_writing({"conv Int8 -> Float": 3, "conv Int8 -> Int8": 2}, "Int8", reading="Int8")
    2
    """
    return kernels_reading({name: n for name, n in layers.items() if f" {kind}" in name.split("->")[1]}, reading)


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


def _multiplies(name: str) -> bool:
    return name.lower().startswith(_MULTIPLIES)
