"""NVIDIA's management library through ``nvidia-ml-py``: a GPU's energy, clocks, heat and why clocks are lowered."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from typing import Any

__all__ = ["REASONS", "NvmlGpu", "named_reasons"]

REASONS = {
    0x002: "applications clocks setting",
    0x004: "software power cap",
    0x008: "hardware slowdown",
    0x010: "sync boost",
    0x020: "software thermal slowdown",
    0x040: "hardware thermal slowdown",
    0x080: "hardware power brake",
    0x100: "display clock setting",
}
"""nvmlClocksEventReasons of nvml.h; 0x001 is an idle GPU, which no figure suffers from."""

_LOWERED = 0x004 | 0x008 | 0x020 | 0x040 | 0x080


def named_reasons(mask: int) -> tuple[str, ...]:
    """The reasons of a bit mask for which a GPU runs slower than it was asked to.

    >>> named_reasons(0x24), named_reasons(0x1)
    (('software power cap', 'software thermal slowdown'), ())
    """
    return tuple(words for bit, words in REASONS.items() if mask & bit & _LOWERED)


class NvmlGpu:
    """One GPU, opened by `NvmlGpu.open`; its energy is that of the whole board, for Volta and later."""

    source = "nvml"

    def __init__(self, library: Any, handle: Any) -> None:
        self._nvml, self._handle = library, handle

    @classmethod
    def open(cls, device: int = 0) -> NvmlGpu | None:
        """The GPU ``device`` in nvidia-smi's order; None without the package, a driver, a GPU or an energy counter."""
        try:
            import pynvml
        except ImportError:
            return None
        try:
            pynvml.nvmlInit()
            gpu = cls(pynvml, pynvml.nvmlDeviceGetHandleByIndex(device))
            gpu.joules()
        except pynvml.NVMLError:
            return None
        return gpu

    def joules(self) -> float:
        """The energy since the driver was loaded; the counter moves every 20 to 100 ms."""
        return float(self._nvml.nvmlDeviceGetTotalEnergyConsumption(self._handle)) / 1e3

    def clocks_mhz(self) -> tuple[float | None, float | None]:
        """Of the multiprocessors, and of the memory."""
        return self._clock(self._nvml.NVML_CLOCK_SM), self._clock(self._nvml.NVML_CLOCK_MEM)

    def _clock(self, kind: int) -> float | None:
        return self._asked(lambda: self._nvml.nvmlDeviceGetClockInfo(self._handle, kind))

    def celsius(self) -> float | None:
        """Of the chip."""
        library = self._nvml
        return self._asked(lambda: library.nvmlDeviceGetTemperature(self._handle, library.NVML_TEMPERATURE_GPU))

    def lowered(self) -> tuple[str, ...]:
        """Why its clocks are lower than asked for."""
        library = self._nvml
        names = ("nvmlDeviceGetCurrentClocksEventReasons", "nvmlDeviceGetCurrentClocksThrottleReasons")
        ask = next((getattr(library, name) for name in names if hasattr(library, name)), None)
        mask = self._asked(lambda: ask(self._handle)) if ask else None
        return named_reasons(int(mask or 0))

    def close(self) -> None:
        """Let go of the library."""
        with contextlib.suppress(self._nvml.NVMLError):
            self._nvml.nvmlShutdown()

    def _asked(self, ask: Callable[[], Any]) -> float | None:
        """What the driver says; None for what this GPU does not know."""
        try:
            return float(ask())
        except self._nvml.NVMLError:
            return None
