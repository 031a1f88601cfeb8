"""How many kernels a builder makes of a graph, where there is one: built and thrown away."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from reid_edge.card import ModelCard
from reid_edge.engines.engine_card import EngineCard
from reid_edge.engines.tensorrt_api import Log
from reid_edge.export.graph.graph import Graph

from .build import builder_for
from .compile import compiled
from .kernels import compiled_layers
from .options import EngineOptions

__all__ = ["KernelCount", "count_kernels"]


@dataclass(frozen=True)
class KernelCount:
    """The kernels that ``builder`` made, by kind and types (`kernels.compiled_layers`)."""

    builder: str
    layers: Mapping[str, int]

    @property
    def total(self) -> int:
        """All kernels that move data."""
        return sum(self.layers.values())


def count_kernels(graph: Graph, card: ModelCard, options: EngineOptions | None = None) -> KernelCount:
    """Build an engine of a ``graph`` and count its kernels; nothing is written.

    Raises MissingExtraError without TensorRT, InputError where it cannot build here, ModelError for a graph that it
    cannot read or build.
    """
    options = options or EngineOptions()
    backend, _ = builder_for(options)
    log = Log()
    plan = compiled(graph.model.SerializeToString(), card, backend, options, log)
    built = EngineCard(card, "", backend.name, backend.version, {}, options=options.facts())
    layers, _ = compiled_layers(plan, backend, log, built, has_gpu=False)
    return KernelCount(f"{backend.name} {backend.version}", layers)
