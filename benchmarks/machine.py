"""The machine under a measurement: CPU, clocks, memory, GPUs, libraries.

Each may be unknown (a container hides sysfs, a Mac has no ``/proc``): then it is None, never an error.
"""

from __future__ import annotations

import os
import platform
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from importlib import metadata
from pathlib import Path
from typing import Any

from reid_edge.core.threads import usable_cores
from reid_edge.device.clocks import read_cpu_clocks
from reid_edge.device.host import Host
from reid_edge.device.jetson import read_jetson
from reid_edge.device.memory import read_memory
from reid_edge.device.nvidia_smi import read_gpus
from reid_edge.device.power_modes import read_power_modes
from reid_edge.engines.ort import import_onnxruntime
from reid_edge.errors import MissingExtraError

__all__ = ["Machine", "describe_machine"]


@dataclass(frozen=True)
class Machine:
    """One computer at one moment.

    ``cores`` are the CPUs this process may use (`reid_edge.core.threads.usable_cores`); memory is in
    bytes, also within the container's limit; frequencies are in MHz. ``clocks_pinned`` is True where every CPU's
    minimum allowed frequency equals its maximum, which is what ``jetson_clocks`` does.
    """

    cpu: str
    cores: int
    memory_bytes: int | None
    os: str
    kernel: str
    python: str
    onnxruntime: str | None
    providers: tuple[str, ...]
    gpus: tuple[str, ...]
    board: str | None
    power_mode: str | None
    governor: str | None
    frequency_mhz: float | None
    max_frequency_mhz: float | None
    clocks_pinned: bool | None
    load_average: float | None

    @property
    def busy(self) -> bool:
        """Whether the one-minute load average is above half the cores: other work disturbs the measurement."""
        return self.load_average is not None and self.load_average > self.cores / 2

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON, ``busy`` included."""
        return asdict(self) | {"providers": list(self.providers), "gpus": list(self.gpus), "busy": self.busy}

    @classmethod
    def from_dict(cls, raw: Mapping[str, Any]) -> Machine:
        """The inverse of `to_dict`; raises KeyError for a missing fact."""
        facts = {each.name: raw[each.name] for each in fields(cls)}
        return cls(**facts | {"providers": tuple(facts["providers"]), "gpus": tuple(facts["gpus"])})


def describe_machine(host: Host | Path | str = "/") -> Machine:
    """Describe ``host``, or this machine with its system files below a root; what is unknown is None."""
    host = host if isinstance(host, Host) else Host(Path(host))
    clocks = read_cpu_clocks(host)
    fastest = max((clock for clock in clocks if clock.max_mhz), key=lambda clock: clock.max_mhz or 0, default=None)
    jetson, (mode, _) = read_jetson(host), read_power_modes(host)
    return Machine(
        cpu=_cpu(host) or platform.processor() or platform.machine(),
        cores=usable_cores(host.root),
        memory_bytes=read_memory(host).total,
        os=_field(host.read("etc/os-release"), "PRETTY_NAME", "=") or platform.system(),
        kernel=platform.release(),
        python=platform.python_version(),
        onnxruntime=_onnxruntime_version(),
        providers=_providers(),
        gpus=tuple(f"{gpu.name}, driver {gpu.driver}" for gpu in read_gpus(host) if gpu.driver),
        board=(jetson and jetson.board) or " ".join(host.read("proc/device-tree/model").split()) or None,
        power_mode=mode.name if mode else None,
        governor=", ".join(sorted({clock.governor for clock in clocks if clock.governor})) or None,
        frequency_mhz=fastest.now_mhz if fastest else _now_mhz(host),
        max_frequency_mhz=fastest.max_mhz if fastest else None,
        clocks_pinned=all(clock.pinned for clock in clocks) if clocks else None,
        load_average=_load_average(),
    )


def _cpu(host: Host) -> str | None:
    # An ARM /proc/cpuinfo has numbers only; lscpu turns them into a name.
    return _field(host.read("proc/cpuinfo"), "model name", ":") or _field(
        host.run(["lscpu"], 10).text, "Model name", ":"
    )


def _now_mhz(host: Host) -> float | None:
    try:
        return float(_field(host.read("proc/cpuinfo"), "cpu MHz", ":") or "")
    except ValueError:
        return None


def _onnxruntime_version() -> str | None:
    for name in ("onnxruntime", "onnxruntime-gpu"):
        try:
            return metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return None


def _providers() -> tuple[str, ...]:
    try:
        return tuple(import_onnxruntime().get_available_providers())
    except MissingExtraError:
        return ()


def _load_average() -> float | None:
    try:
        return os.getloadavg()[0]
    except (AttributeError, OSError):
        return None


def _field(text: str, name: str, mark: str) -> str | None:
    """The value of the first ``name<mark>value`` line."""
    for line in text.splitlines():
        key, _, value = line.partition(mark)
        if key.strip() == name and value.strip():
            return value.strip().strip('"')
    return None
