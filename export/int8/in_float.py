"""What of an INT8 file is in float, and why: the record of a plan or of a search, and the share of MACs in INT8."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import asdict, dataclass
from typing import Any

from reid_edge.export.graph.graph import Graph
from reid_edge.export.graph.macs import node_macs
from reid_edge.scoring.bootstrap import PairedLoss

from .layers import depthwise_layers, gate_layers, thin_layers
from .plan import Int8Plan

__all__ = ["HALF", "LOSES_ALONE", "Int8Layers", "Shares", "Trial", "int8_share", "layers_of", "reasons"]

HALF = 0.5
"""The share of multiply-accumulates in INT8 below which a file is not called INT8."""

LOSES_ALONE = "as the only layer in INT8, a mean cosine of"
"""Begins the reason of a layer that a search put into float."""


@dataclass(frozen=True)
class Trial:
    """One set of layers in float: how many, the share of MACs in INT8, the cosines with FP32, mAP lost, the verdict.

    ``map_lost``, fractions, is None where the file was not scored. ``verdict`` is "passed", "agrees" (not written),
    "not written" or the figures outside their limits.
    """

    in_float: int
    share: float
    cosine_min: float
    cosine_p1: float
    cosine_mean: float
    map_lost: PairedLoss | None
    verdict: str


@dataclass(frozen=True, kw_only=True)
class Int8Layers:
    """The layers of an INT8 file that are in float, ``why`` by name, and the ``share`` of MACs that is in INT8.

    ``unclipped`` are the layers in INT8 whose inputs the search does not clip.
    ``trials`` are the sets of layers that were tried, in their order; ``runs`` counts the passes over crops that ranked
    layers and compared sets, and ``seconds`` is the time of all. They are empty and 0 where nothing was searched.
    ``refused`` says why no set passes, or is empty.
    """

    why: Mapping[str, str]
    share: float
    unclipped: tuple[str, ...] = ()
    trials: tuple[Trial, ...] = ()
    runs: int = 0
    seconds: float = 0.0
    refused: str = ""

    def to_dict(self) -> dict[str, Any]:
        """JSON-able: shares and mAP as fractions."""
        return asdict(self)

    def summary(self) -> str:
        """How much of the file is in INT8, and what the search added to float, in a few words."""
        added = sum(why.startswith(LOSES_ALONE) for why in self.why.values())
        searched = f", {added} of them found by search ({self.cost()})" if len(self.trials) > 1 else ""
        half = ", less than the half that makes a file INT8" if self.share < HALF else ""
        share = f"{self.share:.0%} of its multiply-accumulates are in INT8{half}"
        clipped = f"; {len(self.unclipped)} layers do not clip their inputs" if self.unclipped else ""
        return f"{share}, and {len(self.why)} layers in float{searched}{clipped}"

    def cost(self) -> str:
        """What the search cost, in a few words."""
        return f"{len(self.trials)} sets of layers tried, {self.runs} passes over crops, {self.seconds:.0f} s"


def int8_share(graph: Graph, kept: Collection[str]) -> float:
    """The share of the multiply-accumulates of an FP32 ``graph`` that INT8 computes when the layers ``kept`` do not."""
    return Shares(graph).without(kept)


def layers_of(graph: Graph, plan: Int8Plan) -> Int8Layers:
    """What a ``plan`` leaves in float and why, where nothing is searched."""
    return Int8Layers(why=reasons(graph, plan), share=int8_share(graph, plan.kept))


def reasons(graph: Graph, plan: Int8Plan) -> dict[str, str]:
    """Why each layer that the ``plan`` keeps is in float."""
    if plan.options.keep is not None:
        return dict.fromkeys(sorted(plan.kept), "--keep (keep=)")
    if plan.crops is None:
        return dict.fromkeys(sorted(plan.kept), "not trained for INT8")
    kinds = dict.fromkeys(thin_layers(graph), "few channels, or a vector a crop")
    kinds |= dict.fromkeys(depthwise_layers(graph), "depthwise convolution") | dict.fromkeys(gate_layers(graph), "gate")
    return {name: kinds[name] for name in sorted(plan.kept)}


class Shares:
    """The multiply-accumulates of each layer, counted once."""

    def __init__(self, graph: Graph) -> None:
        macs = node_macs(graph)
        self._total = sum(macs.values())
        self._by_layer = {name: sum(macs[node.output[0]] for node in nodes) for name, nodes in graph.layers.items()}

    def without(self, kept: Collection[str]) -> float:
        """The share that is in INT8 when the layers ``kept`` are not."""
        return sum(macs for name, macs in self._by_layer.items() if name not in kept) / max(self._total, 1)
