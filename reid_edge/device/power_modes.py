"""A Jetson's power modes: which one is active, and which is the fastest.

Mode 0 is MAXN on some boards, and on others the slowest but one: an Orin Nano has 15W as 0 and MAXN_SUPER as 2.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from .host import Host

__all__ = ["PowerMode", "fastest_mode", "parse_active_mode", "parse_power_modes", "read_power_modes"]

_MOST_MODES = 64


@dataclass(frozen=True)
class PowerMode:
    """A mode of nvpmodel: the ``number`` that ``nvpmodel -m`` takes, and its name."""

    number: int
    name: str

    def __str__(self) -> str:
        return f"{self.name} ({self.number})"


def read_power_modes(host: Host) -> tuple[PowerMode | None, tuple[PowerMode, ...]]:
    """The active mode, None where it is unknown, and all modes of this board."""
    active = parse_active_mode(host.run(["nvpmodel", "-q"], 10).text)
    listed = host.run(["nvpmodel", "-p", "--verbose"], 10)
    modes = parse_power_modes(listed.text + "\n" + listed.errors)
    return active, modes or parse_power_modes(host.read("etc/nvpmodel.conf"))


def parse_active_mode(text: str) -> PowerMode | None:
    r"""The mode that ``nvpmodel -q`` names, with its number in the line below.

    >>> parse_active_mode("NV Power Mode: 15W\n0\n")
    PowerMode(number=0, name='15W')
    """
    found = re.search(r"NV Power Mode: *(\w{1,40})\s+(\d{1,3})\b", text)
    return PowerMode(int(found[2]), found[1]) if found else None


def parse_power_modes(text: str) -> tuple[PowerMode, ...]:
    """The modes that ``nvpmodel -p --verbose`` lists, or its configuration ``/etc/nvpmodel.conf`` has.

    >>> parse_power_modes("NVPM VERB: POWER_MODEL: ID=2 NAME=MAXN_SUPER")
    (PowerMode(number=2, name='MAXN_SUPER'),)
    """
    found = re.findall(r"POWER_MODEL:? +ID=(\d{1,3}) +NAME=(\w{1,40})", text)
    modes = {int(number): PowerMode(int(number), name) for number, name in found[:_MOST_MODES]}
    return tuple(modes[number] for number in sorted(modes))


def fastest_mode(modes: Sequence[PowerMode]) -> PowerMode | None:
    """The mode without limits (MAXN_SUPER, else MAXN), else that of most watts, and of those most CPU cores.

    >>> fastest_mode([PowerMode(0, "MODE_15W_6CORE"), PowerMode(7, "MODE_20W_4CORE"), PowerMode(8, "MODE_20W_6CORE")])
    PowerMode(number=8, name='MODE_20W_6CORE')
    """
    return max(modes, key=_speed, default=None)


def _speed(mode: PowerMode) -> tuple[int, int, int]:
    unlimited = {"MAXN_SUPER": 2, "MAXN": 1}.get(mode.name, 0)
    watts, cores = (re.search(rf"(\d{{1,4}}){unit}", mode.name) for unit in ("W", "CORE"))
    return unlimited, int(watts[1]) if watts else 0, int(cores[1]) if cores else 0
