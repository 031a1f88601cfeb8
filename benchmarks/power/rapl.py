"""The energy that a CPU counts itself: RAPL through the kernel's powercap files, of Intel and AMD."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from reid_edge.device.host import Host

__all__ = ["RaplCounter", "RaplZone", "read_rapl"]


@dataclass(frozen=True)
class RaplZone:
    """A zone: folder, name ("package-0", "dram"), its counter in microjoules and where that starts again at 0."""

    folder: str
    name: str
    energy_uj: int
    range_uj: int


def read_rapl(host: Host) -> tuple[RaplZone, ...]:
    """The zones that add up: every package, and memory beside it; empty where they are missing or only root may read.

    Cores and uncore are within their package, psys is the whole board (Documentation/power/powercap/powercap.rst; for
    what is within what, https://github.com/powercap/powercap/issues/3). Since Linux 5.10 ``energy_uj`` is root's alone
    (CVE-2020-8694).
    """
    found = []
    for folder in host.folders("sys/class/powercap/intel-rapl:*"):
        name = host.read(f"{folder}/name")[:40]
        energy, most = host.number(f"{folder}/energy_uj"), host.number(f"{folder}/max_energy_range_uj")
        if re.match(r"package|dram$", name) and energy is not None and energy >= 0 and most and most > 0:
            found.append(RaplZone(folder, name, energy, most))
    return tuple(found)


class RaplCounter:
    """Joules of all zones since it was opened. Read it at least once a minute: a counter starts again after 262 kJ."""

    source = "rapl"

    def __init__(self, host: Host, zones: tuple[RaplZone, ...]) -> None:
        self._host = host
        self._last = {zone.folder: zone for zone in zones}
        self._joules = 0.0

    @classmethod
    def open(cls, host: Host) -> RaplCounter | None:
        """The counter, or None where there is none to read."""
        zones = read_rapl(host)
        return cls(host, zones) if zones else None

    def joules(self) -> float:
        """The energy so far."""
        now = {zone.folder: zone for zone in read_rapl(self._host)}
        self._joules += _microjoules(self._last, now) / 1e6
        self._last |= now
        return self._joules

    def close(self) -> None:
        """Nothing is held open."""


def _microjoules(before: Mapping[str, RaplZone], after: Mapping[str, RaplZone]) -> int:
    """What was added, also where a counter started again at 0."""
    both = [(before[folder], after[folder]) for folder in before if folder in after]
    return sum((new.energy_uj - old.energy_uj) % (new.range_uj + 1) for old, new in both)
