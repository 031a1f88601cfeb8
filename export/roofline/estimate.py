"""The roofline of a file on a device: the least time of each layer, and what bounds it (an estimate, nothing was run).

A layer takes at least as long as its multiply-accumulates at the peak of the arithmetic, its bytes at the peak of the
memory, and a kernel launch, whichever is longest (Williams et al., *Roofline*, CACM 2009, and a floor for launches).
Real kernels reach a part of either peak; activations that stay in a cache cost less than is counted here.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from reid_edge.export.graph.traffic import LayerCost

from .devices import DeviceLimits

__all__ = ["BOUNDS", "LAUNCH_US", "LayerTime", "Roofline", "roofline"]

BOUNDS = ("compute", "memory", "launch")

LAUNCH_US = 4.0
"""Microseconds that the shortest kernel takes, launch included: 3.8 in NVIDIA's example, on a server's GPU and CPU.

https://developer.nvidia.com/blog/cuda-graphs/ ("Getting Started with CUDA Graphs"); 3.4 within a CUDA graph. Nobody has
measured it on a Jetson for this table.
"""


@dataclass(frozen=True)
class LayerTime:
    """The estimated least time of a layer, in microseconds; ``bound`` is the one of `BOUNDS` that is longest."""

    layer: LayerCost
    compute_us: float
    memory_us: float
    launch_us: float

    @property
    def time_us(self) -> float:
        """The longest of the three."""
        return max(self.compute_us, self.memory_us, self.launch_us)

    @property
    def bound(self) -> str:
        """What the layer waits for; launches where nothing takes longer."""
        if self.launch_us >= max(self.compute_us, self.memory_us):
            return "launch"
        return "compute" if self.compute_us > self.memory_us else "memory"


@dataclass(frozen=True)
class Roofline:
    """The layers of a file on a ``device``, in the order of running."""

    device: DeviceLimits
    layers: tuple[LayerTime, ...]

    @property
    def time_us(self) -> float:
        """The estimated least time of a batch, one layer after the other."""
        return sum(each.time_us for each in self.layers)

    @property
    def shares(self) -> dict[str, float]:
        """The part of the time that is bound by each of `BOUNDS`, in 0..1."""
        total = self.time_us
        return {
            bound: sum(each.time_us for each in self.layers if each.bound == bound) / total if total else 0.0
            for bound in BOUNDS
        }

    def slowest(self, count: int) -> list[LayerTime]:
        """The ``count`` layers that take longest, longest first."""
        return sorted(self.layers, key=lambda each: -each.time_us)[:count]

    def to_dict(self) -> dict[str, Any]:
        """JSON-able: the device, its estimated time and shares, and each layer's times."""
        return {
            "device": self.device.name,
            "mode": self.device.mode,
            "estimated_us": self.time_us,
            "shares": self.shares,
            "layers": [
                {
                    "name": each.layer.name,
                    "compute_us": each.compute_us,
                    "memory_us": each.memory_us,
                    "bound": each.bound,
                }
                for each in self.layers
            ],
        }


def roofline(layers: Sequence[LayerCost], device: DeviceLimits, launch_us: float = LAUNCH_US) -> Roofline:
    """The estimated times of ``layers`` on a ``device``, where a kernel takes ``launch_us`` at least."""
    return Roofline(
        device,
        tuple(
            LayerTime(each, device.compute_us(each.macs, each.precision), device.memory_us(each.bytes), launch_us)
            for each in layers
        ),
    )
