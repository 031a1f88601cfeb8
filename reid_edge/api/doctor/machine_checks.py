"""Judge the machine itself: board, power, clocks, memory, disk, heat, GPU."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from reid_edge.device.clocks import ClockRange
from reid_edge.device.nvidia_smi import SmiGpu
from reid_edge.device.power_modes import fastest_mode

from .facts import DoctorFacts
from .findings import Finding, Level

__all__ = ["BUILD_BYTES", "check_machine"]

BUILD_BYTES = 3 << 30
"""What building an engine of one of the models here may need on a board that shares its memory: an estimate.

TensorRT's builder loads kernels of 1,227 MiB on the CPU's side and 1,235 MiB on the GPU's (10.13 on a Thor, in
https://github.com/OE4T/meta-tegra/issues/2120); half a GiB is for the model, its activations and Python.
"""

_LEAST_BYTES = 512 << 20
_LEAST_DISK = 1 << 30
_OLDEST_L4T = 36
_SWAP = "sudo fallocate -l 8G /swapfile && sudo chmod 600 /swapfile && sudo mkswap /swapfile && sudo swapon /swapfile"
_LIMITED = "the container's limit"


def check_machine(facts: DoctorFacts) -> Iterator[Finding]:
    """The findings on the machine, as they are shown."""
    if facts.jetson:
        yield _found("board", facts.jetson.board or "a Jetson")
        yield _jetpack(facts)
        yield _power_mode(facts)
    else:
        yield _found("CPU", facts.cpu or "unknown")
    yield _clocks(facts)
    yield _found("cores", _cores(facts))
    yield _memory(facts)
    yield _disk(facts)
    if heat := _heat(facts):
        yield heat
    yield from _gpus(facts)


def _found(part: str, found: str, level: Level = Level.OK, remedy: str = "") -> Finding:
    return Finding("machine", part, level, found, remedy)


def _jetpack(facts: DoctorFacts) -> Finding:
    jetson = facts.jetson
    assert jetson is not None
    linux = f"Jetson Linux {jetson.l4t or 'of an unknown version'}"
    if 0 < jetson.major < _OLDEST_L4T:
        flash = "flash JetPack 6 or newer: https://developer.nvidia.com/embedded/jetpack"
        return _found("JetPack", f"{linux}: its TensorRT and Python are too old", Level.WRONG, flash)
    if not jetson.jetpack:
        missing = f"{linux}, without the package nvidia-jetpack"
        return _found("JetPack", missing, Level.NOTE, "sudo apt install nvidia-jetpack")
    return _found("JetPack", f"{jetson.jetpack} ({linux})")


def _power_mode(facts: DoctorFacts) -> Finding:
    active, fastest = facts.power_mode, fastest_mode(facts.power_modes)
    if active is None or fastest is None:
        return _found("power mode", "unknown", Level.NOTE, "sudo nvpmodel -q && sudo nvpmodel -p --verbose")
    if active.number != fastest.number:
        slower = f"{active}, and {fastest} is the fastest"
        return _found("power mode", slower, Level.NOTE, f"sudo nvpmodel -m {fastest.number}")
    return _found("power mode", f"{active}, the fastest")


def _clocks(facts: DoctorFacts) -> Finding:
    clocks = [*facts.cpu_clocks, *([facts.gpu_clock] if facts.gpu_clock else [])]
    if not clocks:
        return _found("clocks", "not shown to this system")
    shown = "; ".join(dict.fromkeys(map(_clock, clocks)))
    if facts.jetson and not all(clock.pinned for clock in clocks):
        return _found("clocks", f"follow the load: {shown}", Level.NOTE, "sudo jetson_clocks")
    return _found("clocks", shown)


def _clock(clock: ClockRange) -> str:
    """As in "CPU 730 to 1510 of 1728 MHz (schedutil)"; groups of CPUs that are alike give the same."""
    name = clock.name.partition(" ")[0]
    least, most, limit = (_mhz(value) for value in (clock.min_mhz, clock.max_mhz, clock.limit_mhz))
    span = f"held at {most}" if clock.pinned else f"{least} to {most}"
    governor = f" ({clock.governor})" if clock.governor else ""
    return f"{name} {span}{f' of {limit}' if clock.capped else ''} MHz{governor}"


def _mhz(value: float | None) -> str:
    return "?" if value is None else f"{value:.0f}"


def _cores(facts: DoctorFacts) -> str:
    if facts.machine_cores is None or facts.machine_cores <= facts.cores:
        return f"{facts.cores} usable"
    return f"{facts.cores} of {facts.machine_cores} usable: a CPU set or a quota leaves no more"


def _memory(facts: DoctorFacts) -> Finding:
    memory = facts.memory
    if memory.total is None or memory.room is None:
        return _found("memory", "unknown")
    swap = f"{_gb(memory.swap_total)} swap" if memory.swap_total else "no swap"
    compressed = " (zram)" if memory.zram and memory.zram >= (memory.swap_total or 0) else ""
    limit = f" ({_LIMITED})" if memory.limit else ""
    shown = f"{_gb(memory.total)}{limit}, {_gb(memory.available)} free, {swap}{compressed}"
    if facts.jetson and memory.room < BUILD_BYTES:
        lacking = f"{shown}: building an engine may need {_gb(BUILD_BYTES)} (an estimate)"
        return _found("memory", lacking, Level.NOTE, _SWAP)
    if memory.room < _LEAST_BYTES:
        return _found("memory", shown, Level.NOTE, "end other programs, or give the container more memory")
    return _found("memory", shown)


def _disk(facts: DoctorFacts) -> Finding:
    elsewhere = "export REID_EDGE_CACHE=/a/folder/of/yours"
    if not facts.cache_writable:
        return _found("cache", f"{facts.cache} cannot be written", Level.NOTE, elsewhere)
    if facts.disk_free is not None and facts.disk_free < _LEAST_DISK:
        return _found("cache", f"{_gb(facts.disk_free)} free for {facts.cache}", Level.NOTE, elsewhere)
    free = "" if facts.disk_free is None else f"{_gb(facts.disk_free)} free for "
    return _found("cache", f"{free}{facts.cache}")


def _heat(facts: DoctorFacts) -> Finding | None:
    """The hottest spot, and what a Jetson draws and computes at this moment."""
    shown = [f"{zone.name} at {zone.celsius:.0f} C" for zone in facts.zones[:1]]
    if stats := facts.stats:
        heat = stats.temperatures_c
        name = "tj" if "tj" in heat else max(heat, key=lambda sensor: heat[sensor], default="")
        shown = [f"{name} at {heat[name]:.0f} C"] if name else shown
        shown += [f"{stats.total_mw / 1e3:.1f} W"] if stats.total_mw else []
        shown += [f"GPU {stats.gpu_percent} % busy"] if stats.gpu_percent is not None else []
    if any(zone.throttled for zone in facts.zones):
        hot = f"{', '.join(shown)}: so hot that clocks are lowered"
        return _found("heat", hot, Level.NOTE, "cool it, or choose a power mode of fewer watts with  sudo nvpmodel -m")
    return _found("heat", ", ".join(shown)) if shown else None


def _gpus(facts: DoctorFacts) -> Iterator[Finding]:
    if not facts.has_gpu:
        yield _found("GPU", "none of NVIDIA's")
        return
    names = [_gpu(gpu, facts.cuda) for gpu in facts.gpus] if not facts.jetson else []
    for gpu, name in zip(facts.gpus, names, strict=False):
        if gpu.slowed:
            yield _found("GPU", f"{name}: slowed by heat or power", Level.NOTE, "nvidia-smi -q -d PERFORMANCE")
        else:
            yield _found("GPU", name)
    if not names:
        yield _found("GPU", facts.cuda_gpu or _jetson_gpu(facts.gpus))


def _gpu(gpu: SmiGpu, cuda: str) -> str:
    parts = [
        gpu.name,
        _gb(gpu.memory_bytes) if gpu.memory_bytes else "",
        f"compute capability {gpu.compute_capability}" if gpu.compute_capability else "",
        f"driver {gpu.driver}" if gpu.driver else "",
        f"CUDA {cuda}" if cuda else "",
    ]
    return ", ".join(part for part in parts if part)


def _jetson_gpu(gpus: Sequence[SmiGpu]) -> str:
    """The driver of a Jetson says little more than a name."""
    return gpus[0].name if gpus else "the Jetson's own"


def _gb(size: int | None) -> str:
    return "?" if size is None else f"{size / 1e9:.1f} GB"
