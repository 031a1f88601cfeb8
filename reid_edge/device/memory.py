"""Memory and swap, within the limit of a container."""

from __future__ import annotations

import re
from dataclasses import dataclass

from .host import Host

__all__ = ["MemoryFacts", "parse_meminfo", "parse_swaps", "read_memory"]


@dataclass(frozen=True)
class MemoryFacts:
    """Bytes of memory and swap, and how much of each is free; None where the system does not say.

    ``limit`` is what the control group of this process may use (None: all), and bounds ``total`` and ``available``.
    ``zram`` is the part of the swap that is compressed memory, which most Jetsons have: it is no room for a GPU.
    """

    total: int | None = None
    available: int | None = None
    swap_total: int | None = None
    swap_free: int | None = None
    zram: int = 0
    limit: int | None = None

    @property
    def room(self) -> int | None:
        """What a large process may get: free memory, and free swap on a disk."""
        if self.available is None:
            return None
        return self.available + max(0, (self.swap_free or 0) - self.zram)


def read_memory(host: Host) -> MemoryFacts:
    """The memory of ``host``, and of it what the control groups of this process leave."""
    facts = parse_meminfo(host.read("proc/meminfo"))
    limit, used = _limit(host)
    if limit is not None and (facts.get("total") is None or limit < facts["total"]):
        facts["total"], facts["limit"] = limit, limit
        facts["available"] = min(facts.get("available", limit), max(0, limit - used))
    return MemoryFacts(**facts, zram=parse_swaps(host.read("proc/swaps")).get("zram", 0))


def parse_meminfo(text: str) -> dict[str, int]:
    r"""Bytes from ``/proc/meminfo``, by the fields of `MemoryFacts`.

    >>> parse_meminfo("MemTotal:        7802880 kB\nSwapFree:        3901436 kB\n")
    {'total': 7990149120, 'swap_free': 3995070464}
    """
    names = {"MemTotal": "total", "MemAvailable": "available", "SwapTotal": "swap_total", "SwapFree": "swap_free"}
    rows = re.findall(r"^(\w+): +(\d{1,15}) kB$", text, re.M)
    return {names[name]: int(size) << 10 for name, size in rows if name in names}


def parse_swaps(text: str) -> dict[str, int]:
    r"""Bytes of swap from ``/proc/swaps``, compressed memory ("zram") and on disks ("disk").

    >>> parse_swaps("Filename  Type  Size\n/dev/zram0  partition  650240\n/swap  file  4\n")
    {'zram': 665845760, 'disk': 4096}
    """
    sizes: dict[str, int] = {}
    for name, size in re.findall(r"^(\S+)\s+(?:partition|file)\s+(\d{1,15})\b", text, re.M):
        kind = "zram" if "zram" in name else "disk"
        sizes[kind] = sizes.get(kind, 0) + (int(size) << 10)
    return sizes


def _limit(host: Host) -> tuple[int | None, int]:
    """The smallest limit on the way from this process's group to the top, and what is used of it."""
    found = []
    for line in host.read("proc/self/cgroup").splitlines()[:64] or ["0::/", "1:memory:/"]:
        _, _, rest = line.partition(":")
        controllers, _, path = rest.partition(":")
        top = "sys/fs/cgroup" + ("/memory" if controllers else "")
        names = ("memory.limit_in_bytes", "memory.usage_in_bytes") if controllers else ("memory.max", "memory.current")
        if not controllers or "memory" in controllers.split(","):
            parts = [part for part in path.split("/") if part not in ("", "..")]
            for depth in range(len(parts), -1, -1):
                folder = "/".join((top, *parts[:depth]))
                limit, used = (host.number(f"{folder}/{name}") for name in names)
                found += [(limit, max(0, used or 0))] if limit and limit > 0 else []
    return min(found, default=(None, 0))
