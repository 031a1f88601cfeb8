"""The contract of a GPU: its memory, streams and graphs, whichever binding gives them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from .lanes.contract import Device

__all__ = ["Cuda", "Gpu", "board_model", "gpu_differences"]

_BOARD_FILE = Path("/proc/device-tree/model")

_MEMORY_TOLERANCE = 0.1
"""Memory reserved by the system differs between releases of JetPack; boards differ by half."""


@dataclass(frozen=True, kw_only=True)
class Gpu:
    """The GPU that an engine is tied to.

    Name and ``compute_capability`` alone do not tell Jetson Orin boards apart: their number of ``multiprocessors``,
    ``memory_bytes`` and ``board`` (see `board_model`) do. ``driver`` is the version of CUDA that the driver supports,
    as CUDA gives it (12060 is 12.6).
    """

    name: str
    compute_capability: tuple[int, int]
    driver: int
    multiprocessors: int
    memory_bytes: int
    board: str = ""

    def facts(self) -> dict[str, Any]:
        """JSON-able, as an engine's card holds it."""
        major, minor = self.compute_capability
        return {
            "name": self.name,
            "compute_capability": f"{major}.{minor}",
            "multiprocessors": self.multiprocessors,
            "memory_mib": self.memory_bytes >> 20,
            "board": self.board,
            "driver": f"{self.driver // 1000}.{self.driver % 1000 // 10}",
        }


def gpu_differences(built: Mapping[str, Any], here: Mapping[str, Any]) -> list[str]:
    """How two `Gpu.facts` differ, a phrase each; empty for the same GPU.

    Drivers are not compared, and a fact that one of them lacks is not either (cards of earlier versions).

    >>> gpu_differences({"name": "Orin", "multiprocessors": 16}, {"name": "Orin", "multiprocessors": 8, "board": "x"})
    ['multiprocessors 16, here 8']
    """
    shared = [name for name in built if name in here and name != "driver"]
    return [f"{name} {built[name]}, here {here[name]}" for name in shared if not _same(name, built[name], here[name])]


def board_model() -> str:
    """The board according to the device tree, e.g. "NVIDIA Jetson Orin Nano Developer Kit"; "" where there is none."""
    try:
        text = _BOARD_FILE.read_bytes()
    except OSError:
        return ""
    return text.rstrip(b"\0").decode(errors="replace").strip()


class Cuda(Device, Protocol):
    """A GPU of this machine, with one stream of its own: see `Device` for the rules of every call."""

    @property
    def stream(self) -> int:
        """The stream on which copies are queued that name no other."""
        ...

    @property
    def gpu(self) -> Gpu:
        """The GPU."""
        ...


def _same(name: str, built: Any, here: Any) -> bool:
    if name != "memory_mib":
        return bool(built == here)
    return abs(int(built) - int(here)) <= _MEMORY_TOLERANCE * max(int(built), int(here))
