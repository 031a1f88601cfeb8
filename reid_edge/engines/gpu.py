"""The contract of device memory: one GPU, its memory and one stream, whichever binding gives them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from numpy.typing import NDArray

from reid_edge.errors import DeviceError

__all__ = ["Cuda", "Gpu", "board_model", "failed_call", "gpu_differences"]

_BOARD_FILE = Path("/proc/device-tree/model")

_MEMORY_TOLERANCE = 0.1
"""Memory reserved by the system differs between releases of JetPack; boards differ by half."""


@dataclass(frozen=True, kw_only=True)
class Gpu:
    """The GPU that an engine is tied to.

    Name and ``compute_capability`` alone do not tell Jetson Orin boards apart: their number of ``multiprocessors``,
    ``memory_bytes`` and ``board`` (see `board_model`) do. ``driver`` is the version of CUDA that the driver supports,
    as CUDA gives it (12060 is 12.6).
    """

    name: str
    compute_capability: tuple[int, int]
    driver: int
    multiprocessors: int
    memory_bytes: int
    board: str = ""

    def facts(self) -> dict[str, Any]:
        """JSON-able, as an engine's card holds it."""
        major, minor = self.compute_capability
        return {
            "name": self.name,
            "compute_capability": f"{major}.{minor}",
            "multiprocessors": self.multiprocessors,
            "memory_mib": self.memory_bytes >> 20,
            "board": self.board,
            "driver": f"{self.driver // 1000}.{self.driver % 1000 // 10}",
        }


def gpu_differences(built: Mapping[str, Any], here: Mapping[str, Any]) -> list[str]:
    """How two `Gpu.facts` differ, a phrase each; empty for the same GPU.

    Drivers are not compared, and a fact that one of them lacks is not either (cards of earlier versions).

    >>> gpu_differences({"name": "Orin", "multiprocessors": 16}, {"name": "Orin", "multiprocessors": 8, "board": "x"})
    ['multiprocessors 16, here 8']
    """
    shared = [name for name in built if name in here and name != "driver"]
    return [f"{name} {built[name]}, here {here[name]}" for name in shared if not _same(name, built[name], here[name])]


def board_model() -> str:
    """The board according to the device tree, e.g. "NVIDIA Jetson Orin Nano Developer Kit"; "" where there is none."""
    try:
        text = _BOARD_FILE.read_bytes()
    except OSError:
        return ""
    return text.rstrip(b"\0").decode(errors="replace").strip()


class Cuda(Protocol):
    """Memory and one stream on the first GPU. Addresses and the stream are integers.

    Every call raises DeviceError when the driver reports an error.
    """

    @property
    def stream(self) -> int:
        """The stream on which all copies and runs are queued."""
        ...

    @property
    def gpu(self) -> Gpu:
        """The GPU."""
        ...

    def allocate(self, size: int) -> int:
        """Allocate ``size`` bytes of device memory, at least one."""
        ...

    def free(self, address: int) -> None:
        """Free memory that `allocate` returned."""
        ...

    def upload(self, address: int, array: NDArray[Any]) -> None:
        """Copy a C-contiguous array to the device; ``array`` must not change until `synchronize`."""
        ...

    def download(self, array: NDArray[Any], address: int) -> None:
        """Copy from the device into a C-contiguous array, which is complete after `synchronize`."""
        ...

    def synchronize(self) -> None:
        """Wait until all queued work is done; errors of that work are raised here."""
        ...

    def active(self) -> Any:
        """A context manager in which the device's context is current, for calls of other libraries."""
        ...

    def close(self) -> None:
        """Release stream and context."""
        ...


def failed_call(reason: str, name: str = "") -> DeviceError:
    """The error for a failed driver call, with advice by its code.

    ``reason`` are the driver's words; ``name`` is CUDA's, e.g. "CUDA_ERROR_ILLEGAL_ADDRESS" ("" for PyCUDA, whose
    errors carry the words alone: the code is found by them).
    """
    words = " ".join(reason.split())
    known = next((row for row in _KNOWN if row[0] == name or (not name and row[1] in words)), None)
    label = name or (known[0] if known else "")
    remedy = known[2] if known else "see whether nvidia-smi finds the GPU"
    return DeviceError(f"the CUDA driver reports {f'{label} ({words})' if label else words}: {remedy}")


def _same(name: str, built: Any, here: Any) -> bool:
    if name != "memory_mib":
        return bool(built == here)
    return abs(int(built) - int(here)) <= _MEMORY_TOLERANCE * max(int(built), int(here))


_SMALLER = "free GPU memory, or give a smaller batch"
_HIDDEN = "see whether nvidia-smi finds a GPU, and whether CUDA_VISIBLE_DEVICES hides it"
_UPDATE = "the driver is older than this CUDA: update the NVIDIA driver, and restart after an update"
_REBUILD = "it was compiled for another GPU: build the engine again here"
_RESTART = "this process cannot use the GPU any more: start it again, and build the engine again if that recurs"
_FAULTY = "GPU memory is faulty: look at  nvidia-smi -q  and restart the machine"

_KNOWN = (
    ("CUDA_ERROR_OUT_OF_MEMORY", "out of memory", _SMALLER),
    ("CUDA_ERROR_NO_DEVICE", "no CUDA-capable device is detected", _HIDDEN),
    ("CUDA_ERROR_INVALID_DEVICE", "invalid device ordinal", _HIDDEN),
    ("CUDA_ERROR_UNSUPPORTED_PTX_VERSION", "compiled with an unsupported toolchain", _UPDATE),
    ("CUDA_ERROR_CALL_REQUIRES_NEWER_DRIVER", "requires newer CUDA driver", _UPDATE),
    ("CUDA_ERROR_SYSTEM_DRIVER_MISMATCH", "unsupported display driver / cuda driver combination", _UPDATE),
    ("CUDA_ERROR_COMPAT_NOT_SUPPORTED_ON_DEVICE", "forward compatibility was attempted", _UPDATE),
    ("CUDA_ERROR_NO_BINARY_FOR_GPU", "no kernel image is available", _REBUILD),
    ("CUDA_ERROR_ILLEGAL_ADDRESS", "an illegal memory access was encountered", _RESTART),
    ("CUDA_ERROR_MISALIGNED_ADDRESS", "misaligned address", _RESTART),
    ("CUDA_ERROR_ILLEGAL_INSTRUCTION", "an illegal instruction was encountered", _RESTART),
    ("CUDA_ERROR_LAUNCH_FAILED", "unspecified launch failure", _RESTART),
    ("CUDA_ERROR_ECC_UNCORRECTABLE", "uncorrectable ECC error", _FAULTY),
)
"""CUDA's name, words of cuGetErrorString, and the remedy (CUDA driver API 13, "CUresult")."""
