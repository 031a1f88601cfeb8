"""Which counter of energy a machine has, and what a window of it took."""

from __future__ import annotations

from typing import Protocol

from reid_edge.device.host import Host
from reid_edge.device.tegrastats import TegraStats, read_tegrastats

from .nvml import NvmlGpu
from .rails import INPUTS, board_power, read_rails
from .rapl import RaplCounter
from .sampler import PowerSampler

__all__ = ["EnergyCounter", "open_energy"]


class EnergyCounter(Protocol):
    """Joules since some moment, of what ``source`` names: "nvml", "rapl", or a Jetson's rails such as "VDD_IN"."""

    @property
    def source(self) -> str:
        """Only figures of the same source compare."""
        ...

    def joules(self) -> float:
        """The energy so far; a window is the difference of two."""
        ...

    def close(self) -> None:
        """Stop counting."""
        ...


def open_energy(host: Host | None = None, *, gpu: bool = False) -> EnergyCounter | None:
    """The counter for what computes, or None where nothing can be read.

    A Jetson's board comes first, for CPU and GPU alike: one rail feeds both. Then, for a model on a GPU (``gpu``),
    NVML's counter of the card; for one on the CPU the packages' RAPL. A card's figure has no CPU in it, and a
    package's no GPU: they are never added.
    """
    host = host or Host()
    if board := board_power(read_rails(host)):
        source = board[0]
        return PowerSampler(source, lambda: _watts(host, source)).start()
    if (stats := read_tegrastats(host)) and (found := _input_of(stats)):
        rail = found[0]
        return PowerSampler(f"tegrastats {rail}", lambda: _tegrastats_watts(host, rail)).start()
    return NvmlGpu.open() if gpu else RaplCounter.open(host)


def _watts(host: Host, source: str) -> float | None:
    """What ``source`` draws now; None where its rails cannot all be read at the moment."""
    board = board_power(read_rails(host))
    return board[1] if board and board[0] == source else None


def _input_of(stats: TegraStats) -> tuple[str, float] | None:
    return next(((name, stats.power_mw[name] / 1e3) for name in INPUTS if name in stats.power_mw), None)


def _tegrastats_watts(host: Host, rail: str) -> float | None:
    """The rail in a new line of tegrastats; it takes about a second, so such a figure is a coarse one."""
    stats = read_tegrastats(host)
    return stats.power_mw[rail] / 1e3 if stats and rail in stats.power_mw else None
