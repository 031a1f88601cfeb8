"""Who else ran while something was timed: other processes, a hypervisor, waiting for a CPU, context switches."""

from __future__ import annotations

import os
import re
import time
from collections.abc import Sequence
from dataclasses import dataclass

from reid_edge.device.host import Host

__all__ = ["Counters", "Disturbance", "parse_cpu_times", "parse_pressure", "read_counters"]

_SHORTEST_S = 0.5
"""Of less than that the kernel's ticks of 10 ms say nothing."""

_MOST_OTHERS, _MOST_STEAL, _MOST_WAITING, _MOST_SWITCHES = 0.10, 0.02, 0.25, 200.0
"""Of the usable CPUs' time: other processes, a hypervisor; of the wall clock: some task waiting; switches a second."""


@dataclass(frozen=True)
class Counters:
    """What the kernel has counted so far, in seconds; None where it does not say.

    ``busy`` and ``steal`` are of the CPUs that this process may use, ``own`` is this process's CPU time on all of its
    threads, ``waiting`` the time in which some task of the machine had no CPU, ``switches`` how often this process had
    to leave one.
    """

    at: float
    cpus: int
    own: float
    busy: float | None = None
    steal: float | None = None
    waiting: float | None = None
    switches: int | None = None


@dataclass(frozen=True)
class Disturbance:
    """What happened between two `Counters`: shares of 1, switches a second, None where unknown.

    ``others`` and ``steal`` are shares of the time of all usable CPUs, ``waiting`` of the wall clock. ``streams`` is
    how many threads were meant to run: they displace each other, which is no disturbance.
    """

    seconds: float
    others: float | None
    steal: float | None
    waiting: float | None
    switches_per_s: float | None
    streams: int = 1

    @classmethod
    def between(cls, before: Counters, after: Counters, streams: int = 1) -> Disturbance:
        """Of the time from ``before`` to ``after``."""
        seconds = max(after.at - before.at, 1e-9)
        own = after.own - before.own
        busy, steal, waiting, switches = (
            _difference(getattr(before, name), getattr(after, name))
            for name in ("busy", "steal", "waiting", "switches")
        )
        all_cpus = seconds * after.cpus
        return cls(
            seconds=seconds,
            others=None if busy is None else max(0.0, busy - own) / all_cpus,
            steal=None if steal is None else steal / all_cpus,
            waiting=None if waiting is None else min(1.0, waiting / seconds),
            switches_per_s=None if switches is None else switches / seconds,
            streams=streams,
        )

    @property
    def reasons(self) -> tuple[str, ...]:
        """Why times taken meanwhile may be too long; empty for none, and where less than half a second passed."""
        if self.seconds < _SHORTEST_S:
            return ()
        found = [
            _reason(self.others, _MOST_OTHERS, "other processes used {:.0%} of the CPUs"),
            _reason(self.steal, _MOST_STEAL, "the hypervisor took {:.0%} of the CPUs"),
        ]
        if self.streams == 1:
            found += [
                _reason(self.waiting, _MOST_WAITING, "some task waited for a CPU {:.0%} of the time"),
                _reason(self.switches_per_s, _MOST_SWITCHES, "it was displaced {:.0f} times a second"),
            ]
        return tuple(reason for reason in found if reason)

    @property
    def severity(self) -> float:
        """How much was lost, to choose between two tries: CPU time of others and of the hypervisor."""
        return (self.others or 0.0) + (self.steal or 0.0)


def read_counters(host: Host | None = None, clock: float | None = None) -> Counters:
    """The counters now; ``clock`` is the wall clock in seconds (None: now)."""
    host = host or Host()
    cpus = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else list(range(os.cpu_count() or 1))
    busy, steal = parse_cpu_times(host.read("proc/stat"), cpus)
    return Counters(
        at=time.perf_counter() if clock is None else clock,
        cpus=len(cpus),
        own=time.process_time(),
        busy=busy,
        steal=steal,
        waiting=parse_pressure(host.read("proc/pressure/cpu")),
        switches=_switches(host.read("proc/self/status")),
    )


def parse_cpu_times(text: str, cpus: Sequence[int], ticks: float | None = None) -> tuple[float | None, float | None]:
    r"""Busy and stolen seconds of some CPUs from ``/proc/stat`` (proc_stat(5)), in whose unit a tick is 1/100 s.

    Busy is user, nice, system, irq and softirq; guests are in user already, waiting for a disk is idle.

    >>> parse_cpu_times("cpu  9 9 9 9\ncpu0 100 20 30 4000 500 6 7 8 0 0\ncpu1 1 0 0 9 0 0 0 0 0 0\n", [0], 100)
    (1.63, 0.08)
    """
    per_second = ticks or (os.sysconf("SC_CLK_TCK") if hasattr(os, "sysconf") else 100)
    rows = {int(cpu): fields.split() for cpu, fields in re.findall(r"^cpu(\d{1,5}) ([\d ]{1,300})$", text, re.M)}
    wanted = [[int(field) for field in rows[cpu]] for cpu in cpus if cpu in rows and len(rows[cpu]) >= 8]
    if not wanted:
        return None, None
    busy = sum(row[place] for row in wanted for place in (0, 1, 2, 5, 6))
    return busy / per_second, sum(row[7] for row in wanted) / per_second


def parse_pressure(text: str) -> float | None:
    """Seconds in which some task waited for a CPU, from ``/proc/pressure/cpu`` (Documentation/accounting/psi.rst).

    >>> parse_pressure("some avg10=0.10 avg60=0.21 avg300=0.25 total=73759571709")
    73759.571709
    """
    found = re.search(r"^some .*\btotal=(\d{1,18})\b", text, re.M)
    return int(found[1]) / 1e6 if found else None


def _switches(status: str) -> int | None:
    found = re.search(r"^nonvoluntary_ctxt_switches:\s+(\d{1,18})$", status, re.M)
    return int(found[1]) if found else None


def _difference(before: float | None, after: float | None) -> float | None:
    return None if before is None or after is None else max(0.0, after - before)


def _reason(value: float | None, most: float, words: str) -> str:
    return words.format(value) if value is not None and value > most else ""
