"""The machine under a measurement: CPU, clocks, memory, GPUs, libraries.

Each may be unknown (a container hides sysfs, a Mac has no ``/proc``): then it is None, never an error.
"""

from __future__ import annotations

import os
import platform
import subprocess
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from importlib import metadata
from pathlib import Path
from typing import Any

from reid_edge.core.threads import usable_cores
from reid_edge.engines.ort import import_onnxruntime
from reid_edge.errors import MissingExtraError

__all__ = ["Machine", "describe_machine"]

_COMMAND_SECONDS = 10


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


def describe_machine(root: Path | str = "/") -> Machine:
    """Describe this machine from the system files below ``root`` and the commands on PATH; what is unknown is None."""
    root = Path(root)
    board = _text(root / "proc/device-tree/model")
    frequency, highest, pinned = _frequencies(root)
    return Machine(
        cpu=_cpu(root) or platform.processor() or platform.machine(),
        cores=usable_cores(root),
        memory_bytes=_memory_bytes(root),
        os=_field(root / "etc/os-release", "PRETTY_NAME", "=") or platform.system(),
        kernel=platform.release(),
        python=platform.python_version(),
        onnxruntime=_onnxruntime_version(),
        providers=_providers(),
        gpus=_gpus(),
        board=board,
        power_mode=_power_mode(),
        governor=_governor(root),
        frequency_mhz=frequency,
        max_frequency_mhz=highest,
        clocks_pinned=pinned,
        load_average=_load_average(),
    )


def _cpu(root: Path) -> str | None:
    # An ARM /proc/cpuinfo has numbers only; lscpu turns them into a name.
    return _field(root / "proc/cpuinfo", "model name", ":") or _match(_output("lscpu"), "Model name", ":")


def _memory_bytes(root: Path) -> int | None:
    total = _whole((_field(root / "proc/meminfo", "MemTotal", ":") or "").removesuffix("kB"))
    limit = _whole(_text(root / "sys/fs/cgroup/memory.max"))
    known = [value for value in (total and total * 1024, limit) if value]
    return min(known, default=None)


def _frequencies(root: Path) -> tuple[float | None, float | None, bool | None]:
    """Current and maximum frequency of the fastest cluster, and whether all clusters are pinned."""
    clusters = sorted((root / "sys/devices/system/cpu/cpufreq").glob("policy*"))
    names = ("scaling_cur_freq", "scaling_min_freq", "scaling_max_freq")
    rows = [tuple(_whole(_text(cluster / name)) for name in names) for cluster in clusters]
    whole = [(now, low, high) for now, low, high in rows if now and low and high]
    if whole:
        now, _, high = max(whole, key=lambda row: row[2])
        return now / 1e3, high / 1e3, all(low == high for _, low, high in whole)
    try:
        return float(_field(root / "proc/cpuinfo", "cpu MHz", ":") or ""), None, None
    except ValueError:
        return None, None, None


def _governor(root: Path) -> str | None:
    files = (root / "sys/devices/system/cpu/cpufreq").glob("policy*/scaling_governor")
    return ", ".join(sorted({text for file in files if (text := _text(file))})) or None


def _gpus() -> tuple[str, ...]:
    rows = _output("nvidia-smi", "--query-gpu=name,driver_version", "--format=csv,noheader").splitlines()
    return tuple(f"{name}, driver {driver}" for name, _, driver in (row.partition(", ") for row in rows) if driver)


def _power_mode() -> str | None:
    return _match(_output("nvpmodel", "-q"), "NV Power Mode", ":")


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


def _output(*command: str) -> str:
    """The output of a command; empty where it is absent, fails or hangs."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=_COMMAND_SECONDS, errors="replace")
    except (OSError, subprocess.SubprocessError):
        return ""
    return done.stdout if done.returncode == 0 else ""


def _text(path: Path) -> str | None:
    try:
        return path.read_text(errors="replace").strip("\0 \n\t") or None
    except OSError:
        return None


def _field(path: Path, name: str, mark: str) -> str | None:
    return _match(_text(path) or "", name, mark)


def _match(text: str, name: str, mark: str) -> str | None:
    """The value of the first ``name<mark>value`` line."""
    for line in text.splitlines():
        key, _, value = line.partition(mark)
        if key.strip() == name and value.strip():
            return value.strip().strip('"')
    return None


def _whole(text: str | None) -> int | None:
    text = (text or "").strip()
    return int(text) if text.isascii() and text.isdigit() else None
