"""Clocks, heat and power mode: what a figure depends on, and a sentence when a machine is held below its best."""

from __future__ import annotations

import re

from reid_edge.benchmarks.timing.measurement import Clocks
from reid_edge.device.clocks import read_cpu_clocks, read_gpu_clock
from reid_edge.device.heat import read_zones
from reid_edge.device.host import Host
from reid_edge.device.jetson import read_jetson
from reid_edge.device.nvidia_smi import read_gpus
from reid_edge.device.power_modes import fastest_mode, read_power_modes

from .nvml import NvmlGpu

__all__ = ["parse_memory_mhz", "power_warnings", "read_clocks"]


def read_clocks(host: Host | None = None) -> Clocks:
    """The clocks now, under the load that was just there: of the fastest CPU cluster, the GPU and its memory.

    Memory's clock is NVML's, or tegrastats' EMC_FREQ, which only root sees.
    """
    host = host or Host()
    cpus = [clock.now_mhz for clock in read_cpu_clocks(host) if clock.now_mhz]
    zones = read_zones(host)
    hottest = max((zone.celsius for zone in zones), default=None)
    reasons = [f"{zone.name} at {zone.celsius:.0f} C" for zone in zones if zone.throttled]
    if read_jetson(host):
        gpu = read_gpu_clock(host)
        active, _ = read_power_modes(host)
        memory = parse_memory_mhz(host.run(["tegrastats", "--interval", "200"], 0.5).text)
        return Clocks(
            max(cpus, default=None), gpu.now_mhz if gpu else None, memory, hottest, tuple(reasons), str(active or "")
        )
    card = NvmlGpu.open()
    if card is None:
        return Clocks(max(cpus, default=None), celsius=hottest, throttled=tuple(reasons))
    try:
        graphics, memory = card.clocks_mhz()
        return Clocks(max(cpus, default=None), graphics, memory, card.celsius(), (*reasons, *card.lowered()))
    finally:
        card.close()


def parse_memory_mhz(line: str) -> float | None:
    """The clock of a Jetson's memory in a line of tegrastats.

    >>> parse_memory_mhz("CPU [15%@729] EMC_FREQ 43%@2133 GR3D_FREQ 63%@[621]"), parse_memory_mhz("EMC_FREQ 0% GR3D")
    (2133.0, None)
    """
    found = re.search(r"\bEMC_FREQ \d{1,3}%@(\d{1,5})\b", line)
    return float(found[1]) if found else None


def power_warnings(host: Host | None = None) -> tuple[str, ...]:
    """Why this machine is slower now than it can be, each with what mends it; empty where nothing is known.

    A Jetson in a slower power mode, clocks that may fall, a sensor or a GPU hot enough that clocks are lowered.
    """
    host = host or Host()
    found = []
    active, modes = read_power_modes(host)
    fastest = fastest_mode(modes)
    if active and fastest and active != fastest:
        found.append(
            f"this board is in power mode {active}, its fastest is {fastest}: run  sudo nvpmodel -m {fastest.number}"
        )
    if read_jetson(host) and any(not clock.pinned for clock in read_cpu_clocks(host)):
        found.append("the clocks of this board rise and fall with the load: run  sudo jetson_clocks  before measuring")
    for zone in read_zones(host):
        if zone.throttled:
            found.append(f"{zone.name} is at {zone.celsius:.0f} C, where clocks are lowered: let it cool, or add a fan")
    slowed = [gpu.name for gpu in read_gpus(host) if gpu.slowed]
    if slowed:
        found.append(f"{slowed[0]} lowers its clocks for heat or power: see  nvidia-smi -q -d PERFORMANCE")
    return tuple(found)
