"""Errors of the CUDA driver: the advice for each, and which of them end all use of the GPU by this process."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable

from reid_edge.errors import DeviceError

__all__ = ["ContextLostError", "Guard", "failed_call"]

logger = logging.getLogger(__name__)


class ContextLostError(DeviceError):
    """An error after which every call of the process on this GPU fails: CUDA's "sticky" errors."""


class Guard:
    """Refuses calls that cannot succeed: after a lost context, and in a process forked since it was made.

    CUDA cannot be used in a child that was forked after its initialisation ("CUDA Initialization" and "fork" in the
    CUDA C++ Programming Guide): a call there fails, or waits for threads that only the parent has.
    """

    def __init__(self) -> None:
        self._process = os.getpid()
        self._lost: ContextLostError | None = None

    @property
    def usable(self) -> bool:
        """Whether calls may succeed."""
        return self._lost is None and not self.forked

    @property
    def forked(self) -> bool:
        """Whether this process is a child forked since."""
        return os.getpid() != self._process

    def check(self) -> None:
        """Raise DeviceError unless calls may succeed."""
        if self.forked:
            raise DeviceError(
                "the GPU was opened before this process was forked: open the engine in the child, or start processes "
                "with multiprocessing's method 'spawn'"
            )
        if self._lost is not None:
            raise ContextLostError(str(self._lost))

    def release(self, free: Callable[[], None]) -> None:
        """Call what frees something, where calls may succeed; its error is logged, as nothing is left to be done."""
        if not self.usable:
            return
        try:
            free()
        except DeviceError as error:
            logger.warning("while freeing: %s", error)

    def noted(self, error: DeviceError) -> DeviceError:
        """The same error; one that lost the context is remembered."""
        if isinstance(error, ContextLostError):
            self._lost = error
        return error


def failed_call(reason: str, name: str = "") -> DeviceError:
    """The error for a failed driver call, with advice by its code.

    ``reason`` are the driver's words; ``name`` is CUDA's, e.g. "CUDA_ERROR_ILLEGAL_ADDRESS" ("" for PyCUDA, whose
    errors carry the words alone: the code is found by them).
    """
    words = " ".join(reason.split())
    known = next((row for row in _KNOWN if row[0] == name or (not name and row[1] in words)), None)
    label = name or (known[0] if known else "")
    remedy = known[2] if known else "see whether nvidia-smi finds the GPU"
    kind = ContextLostError if label in _LOST else DeviceError
    return kind(f"the CUDA driver reports {f'{label} ({words})' if label else words}: {remedy}")


_SMALLER = "free GPU memory, or give a smaller batch"
_HIDDEN = "see whether nvidia-smi finds a GPU, and whether CUDA_VISIBLE_DEVICES hides it"
_UPDATE = "the driver is older than this CUDA: update the NVIDIA driver, and restart after an update"
_REBUILD = "it was compiled for another GPU: build the engine again here"
_RESTART = "this process cannot use the GPU any more: start it again, and build the engine again if that recurs"
_FORKED = "a process forked after the GPU was opened cannot use it: start it with multiprocessing's method 'spawn'"
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
    ("CUDA_ERROR_LAUNCH_FAILED", "unspecified launch failure", _RESTART),
    ("CUDA_ERROR_ILLEGAL_INSTRUCTION", "an illegal instruction was encountered", _RESTART),
    ("CUDA_ERROR_HARDWARE_STACK_ERROR", "hardware stack error", _RESTART),
    ("CUDA_ERROR_INVALID_ADDRESS_SPACE", "operation not supported on global/shared address space", _RESTART),
    ("CUDA_ERROR_INVALID_PC", "invalid program counter", _RESTART),
    ("CUDA_ERROR_LAUNCH_TIMEOUT", "the launch timed out and was terminated", _RESTART),
    ("CUDA_ERROR_ASSERT", "device-side assert triggered", _RESTART),
    ("CUDA_ERROR_CONTEXT_IS_DESTROYED", "context is destroyed", _RESTART),
    ("CUDA_ERROR_NOT_INITIALIZED", "initialization error", _FORKED),
    ("CUDA_ERROR_ECC_UNCORRECTABLE", "uncorrectable ECC error", _FAULTY),
)
"""CUDA's name, words of cuGetErrorString, and the remedy (CUDA driver API 13, "CUresult")."""

_LOST = frozenset(row[0] for row in _KNOWN if row[2] in (_RESTART, _FAULTY))
"""Errors that "leave the process in an inconsistent state": any further call returns the same one ("CUresult")."""
