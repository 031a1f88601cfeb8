"""All that is asked of a machine, once: the checks judge this record and ask nothing themselves."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field

from reid_edge.core.cache import cache_folder
from reid_edge.core.threads import usable_cores
from reid_edge.device.clocks import ClockRange, read_cpu_clocks, read_gpu_clock
from reid_edge.device.heat import ThermalZone, read_zones
from reid_edge.device.host import Host
from reid_edge.device.jetson import Jetson, read_jetson
from reid_edge.device.memory import MemoryFacts, read_memory
from reid_edge.device.nvidia_smi import SmiGpu, read_cuda_version, read_gpus
from reid_edge.device.power_modes import PowerMode, read_power_modes
from reid_edge.device.python import Imported, PythonFacts, last_json, read_import, read_python
from reid_edge.device.tegrastats import TegraStats, read_tegrastats

__all__ = ["CHILD", "DoctorFacts", "ProviderFact", "read_facts"]

CHILD = "reid_edge.api.doctor.child"
_CHILD_SECONDS = 120.0

_IMPORTS = {
    "numpy": ("numpy",),
    "cv2": ("cv2",),
    "tensorrt": ("tensorrt",),
    "tensorrt_rtx": ("tensorrt_rtx", "tensorrt-rtx"),
    "cuda.bindings.driver": ("cuda-bindings",),
    "pycuda.driver": ("pycuda",),
    "openvino": ("openvino",),
}
"""The modules that are imported where one of these names is among Python's modules or packages."""


@dataclass(frozen=True)
class ProviderFact:
    """An execution provider of ONNX Runtime; ``reason`` says why it runs nothing here, and is empty where it runs.

    ``installed`` is whether the wheel has it, or the package of a plug-in is there.
    """

    name: str
    reason: str = ""
    installed: bool = True

    @property
    def title(self) -> str:
        """The name as people say it.

        >>> ProviderFact("TensorrtExecutionProvider").title, ProviderFact("CPUExecutionProvider").title
        ('TensorRT', 'CPU')
        """
        short = self.name.removesuffix("ExecutionProvider")
        return {"Tensorrt": "TensorRT", "NvTensorRTRTX": "TensorRT-RTX"}.get(short, short)


@dataclass(frozen=True)
class DoctorFacts:
    """A machine at one moment; None and empty stand for what it does not say.

    ``providers`` is None where ONNX Runtime does not load, for which ``runtime_error`` is the reason. ``gpu_error``
    says why no GPU answers through a CUDA binding, and is empty where one does, which ``cuda_gpu`` names.
    """

    jetson: Jetson | None = None
    cpu: str = ""
    cpu_flags: frozenset[str] = frozenset()
    cores: int = 1
    machine_cores: int | None = None
    cpu_clocks: tuple[ClockRange, ...] = ()
    gpu_clock: ClockRange | None = None
    power_mode: PowerMode | None = None
    power_modes: tuple[PowerMode, ...] = ()
    memory: MemoryFacts = MemoryFacts()
    zones: tuple[ThermalZone, ...] = ()
    stats: TegraStats | None = None
    cache: str = ""
    cache_writable: bool = True
    disk_free: int | None = None
    gpus: tuple[SmiGpu, ...] = ()
    cuda: str = ""
    python: PythonFacts | None = None
    system_cv2: bool = False
    imports: Mapping[str, Imported] = field(default_factory=dict)
    providers: tuple[ProviderFact, ...] | None = None
    runtime_error: str = ""
    cuda_gpu: str = ""
    gpu_error: str = ""

    @property
    def has_gpu(self) -> bool:
        """Whether there is a GPU of NVIDIA's: on every Jetson."""
        return self.jetson is not None or bool(self.gpus)

    def loads(self, module: str) -> bool:
        """Whether a module was found, and imports."""
        return module in self.imports and not self.imports[module].error


def read_facts(host: Host) -> DoctorFacts:
    """Ask ``host`` for everything; what takes long are Python's modules, each imported in a process of its own."""
    jetson = read_jetson(host)
    active, modes = read_power_modes(host) if jetson else (None, ())
    cpu, flags = _cpu(host)
    python = read_python(host)
    cache = cache_folder()
    writable, free = _disk(host, str(cache))
    gpus = read_gpus(host)
    providers, runtime_error = _providers(host)
    gpu, gpu_error = _cuda_gpu(host) if jetson or gpus else ("", "")
    return DoctorFacts(
        jetson=jetson,
        cpu=cpu,
        cpu_flags=flags,
        cores=usable_cores(host.root),
        machine_cores=_machine_cores(host),
        cpu_clocks=read_cpu_clocks(host),
        gpu_clock=read_gpu_clock(host),
        power_mode=active,
        power_modes=modes,
        memory=read_memory(host),
        zones=read_zones(host),
        stats=read_tegrastats(host) if jetson else None,
        cache=str(cache),
        cache_writable=writable,
        disk_free=free,
        gpus=gpus,
        cuda=read_cuda_version(host) if gpus else "",
        python=python,
        system_cv2=bool(host.folders("usr/lib/python3*/dist-packages/cv2*")),
        imports=_imports(host, python),
        providers=providers,
        runtime_error=runtime_error,
        cuda_gpu=gpu,
        gpu_error=gpu_error,
    )


def _cpu(host: Host) -> tuple[str, frozenset[str]]:
    """Name and instructions of the CPU; an Arm's name is in ``lscpu`` alone."""
    text = host.read("proc/cpuinfo")
    name = re.search(r"^model name\s*: *(.{1,100})$", text, re.M) or re.search(
        r"^Model name: *(.{1,100})$", host.run(["lscpu"], 10).text, re.M
    )
    flags = re.search(r"^(?:flags|Features)\s*:(.*)$", text, re.M)
    return name[1].strip() if name else "", frozenset(flags[1].split() if flags else ())


def _machine_cores(host: Host) -> int | None:
    """The CPUs that are online: "0-5" or "0,2-3"."""
    text = host.read("sys/devices/system/cpu/online")
    if not re.fullmatch(r"(\d{1,5}(-\d{1,5})?,?)+", text):
        return None
    ends = [(int(first), int(last or first)) for first, last in re.findall(r"(\d+)(?:-(\d+))?", text)]
    return sum(last - first + 1 for first, last in ends)


def _disk(host: Host, cache: str) -> tuple[bool, int | None]:
    """Whether the cache can be written, and the free bytes of its disk: those of its nearest folder that exists."""
    folder = host.root / cache.lstrip("/")
    while not folder.exists() and folder != folder.parent:
        folder = folder.parent
    try:
        status = os.statvfs(folder)
    except (OSError, AttributeError):
        return True, None
    return os.access(folder, os.W_OK), status.f_bavail * status.f_frsize


def _imports(host: Host, python: PythonFacts | None) -> dict[str, Imported]:
    known = {*python.places, *python.packages} if python else set()
    return {module: read_import(host, module) for module, names in _IMPORTS.items() if known & {module, *names}}


def _providers(host: Host) -> tuple[tuple[ProviderFact, ...] | None, str]:
    raw = last_json(host.run([host.python, "-m", CHILD, '{"do": "providers"}'], _CHILD_SECONDS))
    found = raw.get("providers")
    if not isinstance(found, list):
        return None, str(raw.get("error", "its import ended the process"))
    rows = [row for row in found if isinstance(row, list) and len(row) == 3]
    return tuple(ProviderFact(str(name), str(reason), bool(installed)) for name, reason, installed in rows), ""


def _cuda_gpu(host: Host) -> tuple[str, str]:
    raw = last_json(host.run([host.python, "-m", CHILD, '{"do": "gpu"}'], _CHILD_SECONDS))
    return str(raw.get("gpu", "")), str(raw.get("error", "" if "gpu" in raw else "asking for it ended the process"))
