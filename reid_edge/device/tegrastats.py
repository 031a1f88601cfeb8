"""A line of a Jetson's ``tegrastats``: memory, the GPU's load, temperatures and power, from JetPack 4 to 7."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from .host import Host

__all__ = ["TegraStats", "parse_tegrastats", "read_tegrastats"]

_OFF_C = -40.0
"""A sensor that is switched off says -256 C."""


@dataclass(frozen=True)
class TegraStats:
    """One moment of a Jetson; None for what the line does not say.

    ``temperatures_c`` are by sensor ("tj" is the hottest spot of an Orin), ``power_mw`` by rail ("VDD_IN" is all of it
    on most boards, momentary, in milliwatts).
    """

    ram_used_mb: int | None
    ram_total_mb: int | None
    gpu_percent: int | None
    gpu_mhz: int | None
    temperatures_c: Mapping[str, float]
    power_mw: Mapping[str, int]

    @property
    def total_mw(self) -> int | None:
        """What the whole module draws, where one rail says that."""
        rails = (self.power_mw.get(name) for name in ("VDD_IN", "VIN", "POM_5V_IN"))
        return next((rail for rail in rails if rail is not None), None)


def read_tegrastats(host: Host) -> TegraStats | None:
    """The first line of ``tegrastats``, which never ends by itself; None where there is none."""
    printed = host.run(["tegrastats", "--interval", "200"], 1.0).text
    return parse_tegrastats(printed.partition("\n")[0])


def parse_tegrastats(line: str) -> TegraStats | None:
    """What a line says, or None for one that is no line of tegrastats.

    >>> stats = parse_tegrastats("RAM 6185/7620MB (lfb 8x2MB) GR3D_FREQ 63%@[621] tj@53.968C VDD_IN 12479mW/12479mW")
    >>> stats.ram_used_mb, stats.gpu_percent, stats.gpu_mhz, stats.temperatures_c, stats.total_mw
    (6185, 63, 621, {'tj': 53.968}, 12479)
    """
    line = line[:4096]
    ram = re.search(r"\bRAM (\d{1,9})/(\d{1,9})MB", line)
    if ram is None:
        return None
    gpu = re.search(r"\bGR3D_FREQ (?:(\d{1,3})%)?(?:@\[?(\d{1,6}))?", line)
    heat = re.findall(r"([\w-]{1,40})@(-?\d{1,4}(?:\.\d{1,6})?)C\b", line)
    # VDD_IN 4824mW/4824mW: momentary and mean; JetPack 4 and older leave the unit out.
    rails = re.findall(r"\b((?:VDD|VIN|POM)\w{0,40}) (\d{1,9})(?:mW)?/\d{1,9}(?:mW)?", line)
    return TegraStats(
        ram_used_mb=int(ram[1]),
        ram_total_mb=int(ram[2]),
        gpu_percent=_whole(gpu and gpu[1]),
        gpu_mhz=_whole(gpu and gpu[2]),
        temperatures_c={name: float(degrees) for name, degrees in heat if float(degrees) > _OFF_C},
        power_mw={name: int(milliwatts) for name, milliwatts in rails},
    )


def _whole(digits: str | None) -> int | None:
    return int(digits) if digits else None
