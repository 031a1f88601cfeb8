"""How many CPU cores this process may use, for every backend that would otherwise count the machine's."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

__all__ = ["THREAD_VARIABLES", "limit_threads", "usable_cores"]

THREAD_VARIABLES = ("OMP_NUM_THREADS", "OPENCV_FOR_THREADS_NUM")
"""What OpenMP, and with it every BLAS and torch, and OpenCV read once, when they are loaded."""


def usable_cores(root: Path | str = "/") -> int:
    """The CPUs this process may run on, within the CPU time that its control groups have; at least 1.

    The CPUs are those of its affinity, the time is the smallest quota on the way from its own group up to the top, of
    version 1 or 2. A quota of 1.5 CPUs is 1: a second thread would use the time up early, and the first would wait for
    it at the end of every operator. ``root`` is where ``/proc`` and ``/sys`` are. What cannot be read is no limit.
    """
    affinity = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, min([affinity, *_quotas(Path(root))]))


def limit_threads(root: Path | str = "/") -> None:
    """Bound the threads of libraries that this process or its children load from now on, unless the user has.

    They are set in the environment (`THREAD_VARIABLES`): call it in a program of its own, before numpy is imported.
    """
    for name in THREAD_VARIABLES:
        os.environ.setdefault(name, str(usable_cores(root)))


def _quotas(root: Path) -> Iterator[int]:
    """The whole CPUs of each quota that holds for this process."""
    groups = root / "sys/fs/cgroup"
    for line in _text(root / "proc/self/cgroup").splitlines() or ["0::/", "1:cpu:/"]:
        _, _, rest = line.partition(":")
        controllers, _, path = rest.partition(":")
        # A container may see the path on its host beside its own mount: folders that are not there hold no quota.
        folders = [Path(path.lstrip("/")), *Path(path.lstrip("/")).parents]
        for folder in folders:
            if not controllers:
                yield from _cpus(_text(groups / folder / "cpu.max"))
            elif "cpu" in controllers.split(","):
                names = (f"cpu/{folder}/cpu.cfs_{name}_us" for name in ("quota", "period"))
                yield from _cpus(" ".join(_text(groups / name) for name in names))


def _cpus(text: str) -> Iterator[int]:
    """The quota over the period, rounded down: "150000 100000" -> 1. Nothing for "max", "-1" and odd content."""
    parts = text.split()
    if len(parts) == 2 and all(part.isascii() and part.isdigit() and int(part) for part in parts):
        yield int(parts[0]) // int(parts[1])


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except (OSError, ValueError):
        return ""
