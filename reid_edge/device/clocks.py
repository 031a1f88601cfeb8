"""Clocks of CPU and GPU: what they may be, and whether something holds them at their highest."""

from __future__ import annotations

import re
from dataclasses import dataclass

from .host import Host

__all__ = ["ClockRange", "read_cpu_clocks", "read_gpu_clock"]


@dataclass(frozen=True)
class ClockRange:
    """A clock in MHz: now, the least and the most that it may be, and what the chip can do; None where unknown."""

    name: str
    governor: str
    now_mhz: float | None
    min_mhz: float | None
    max_mhz: float | None
    limit_mhz: float | None

    @property
    def pinned(self) -> bool:
        """Whether it cannot fall, as after ``jetson_clocks``."""
        return self.min_mhz is not None and self.min_mhz == self.max_mhz

    @property
    def capped(self) -> bool:
        """Whether it may not reach what the chip can do, as in a power mode of few watts."""
        return self.max_mhz is not None and self.limit_mhz is not None and self.max_mhz < self.limit_mhz


def read_cpu_clocks(host: Host) -> tuple[ClockRange, ...]:
    """One for each group of CPUs that share a clock (cpufreq); empty where a container or the firmware hides them."""
    folders = host.folders("sys/devices/system/cpu/cpufreq/policy[0-9]*")
    return tuple(_cpu_clock(host, folder) for folder in folders)


def read_gpu_clock(host: Host) -> ClockRange | None:
    """The GPU of a Jetson (devfreq): 17000000.gpu, .ga10b before JetPack 6, gpu-gpc-0 on Thor; None elsewhere."""
    names = ("*.gpu", "*.g[avp]*b", "gpu-gpc-0")
    folders = [folder for name in names for folder in host.folders(f"sys/class/devfreq/{name}")]
    return _gpu_clock(host, folders[0]) if folders else None


def _cpu_clock(host: Host, folder: str) -> ClockRange:
    files = ("scaling_cur_freq", "scaling_min_freq", "scaling_max_freq", "cpuinfo_max_freq")
    now, least, most, limit = (_mhz(host.number(f"{folder}/{file}"), 1e3) for file in files)
    return ClockRange(f"CPU {folder.rpartition('policy')[2]}", _governor(host, folder), now, least, most, limit)


def _gpu_clock(host: Host, folder: str) -> ClockRange:
    now, least, most = (_mhz(host.number(f"{folder}/{file}"), 1e6) for file in ("cur_freq", "min_freq", "max_freq"))
    steps = [
        int(step) for step in host.read(f"{folder}/available_frequencies").split() if re.fullmatch(r"[0-9]{1,15}", step)
    ]
    return ClockRange("GPU", _governor(host, folder), now, least, most, _mhz(max(steps, default=None), 1e6))


def _governor(host: Host, folder: str) -> str:
    return (host.read(f"{folder}/scaling_governor") or host.read(f"{folder}/governor"))[:40]


def _mhz(value: int | None, unit: float) -> float | None:
    return None if value is None else value / unit
