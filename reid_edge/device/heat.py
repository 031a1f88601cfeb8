"""Temperatures of the kernel's thermal zones, and whether one has reached the point where clocks are lowered."""

from __future__ import annotations

from dataclasses import dataclass

from .host import Host

__all__ = ["ThermalZone", "read_zones"]

_PLAUSIBLE_C = (-40.0, 200.0)


@dataclass(frozen=True)
class ThermalZone:
    """A sensor; ``throttles_c`` is where the kernel lowers clocks (its passive trip point), None where unknown."""

    name: str
    celsius: float
    throttles_c: float | None = None

    @property
    def throttled(self) -> bool:
        """Whether it is as hot as that."""
        return self.throttles_c is not None and self.celsius >= self.throttles_c


def read_zones(host: Host) -> tuple[ThermalZone, ...]:
    """The zones that can be read, hottest first: sensors that are off refuse, or say -256 C."""
    found = []
    for folder in host.folders("sys/class/thermal/thermal_zone[0-9]*"):
        heat = host.number(f"{folder}/temp")
        if heat is not None and _PLAUSIBLE_C[0] < heat / 1e3 < _PLAUSIBLE_C[1]:
            found.append(ThermalZone(host.read(f"{folder}/type")[:40], heat / 1e3, _passive_trip(host, folder)))
    return tuple(sorted(found, key=lambda zone: -zone.celsius))


def _passive_trip(host: Host, folder: str) -> float | None:
    for file in host.folders(f"{folder}/trip_point_[0-9]*_type"):
        trip = host.number(file.removesuffix("type") + "temp")
        if host.read(file) == "passive" and trip is not None and trip > 0:
            return trip / 1e3
    return None
