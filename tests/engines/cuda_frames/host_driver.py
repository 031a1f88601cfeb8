"""A double of CUDA's driver, in host memory: it writes down its calls and runs the kernel that the host compiler built.

It stands in for ``cuda.bindings.driver``, whose functions return (status, value...). Queued work runs at once.
"""

from __future__ import annotations

import ctypes
import sys
from enum import IntEnum
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from host_kernel import host_kernel

from reid_edge.engines.cuda_frames import crops


class Status(IntEnum):
    CUDA_SUCCESS = 0
    CUDA_ERROR_INVALID_VALUE = 1
    CUDA_ERROR_OUT_OF_MEMORY = 2


class _Names:
    """Constants that go back into the driver's own calls: each is its own name."""

    def __getattr__(self, name: str) -> str:
        return name


class HostDriver(ModuleType):
    CUdevice_attribute = CUpointer_attribute = CUevent_flags = CUstream_flags = _Names()
    CUstream = int

    def __init__(self) -> None:
        super().__init__("cuda.bindings.driver")
        self.calls: list[tuple[str, Any]] = []
        self.memory: dict[int, Any] = {}
        self.contexts = self.handles = 0
        self.fails: dict[str, Status] = {}
        self.device_of: dict[int, int | None] = {}

    def cuLaunchKernel(self, kernel: Any, *sizes: Any) -> tuple[Status]:
        *numbers, stream, arguments, extra = sizes
        assert self.contexts == 1 and numbers[6] == 0 and extra == 0
        work = ctypes.c_void_p.from_address(arguments)
        host_kernel().launch(work, (ctypes.c_int * 3)(*numbers[:3]), (ctypes.c_int * 3)(*numbers[3:6]))
        return self._done("cuLaunchKernel", stream)

    def cuMemAlloc(self, size: int) -> tuple[Status, int]:
        buffer = np.full(size, 77, np.uint8)
        self.memory[buffer.ctypes.data] = buffer
        return self._done("cuMemAlloc", size, buffer.ctypes.data)  # type: ignore[return-value]

    def cuMemFree(self, address: int) -> Any:
        del self.memory[address]
        return self._done("cuMemFree", address)

    def cuMemcpyDtoHAsync(self, to: int, address: int, size: int, stream: int) -> Any:
        ctypes.memmove(to, address, size)
        return self._done("cuMemcpyDtoHAsync", stream)

    def cuCtxPushCurrent(self, _: Any) -> Any:
        self.contexts += 1
        return (Status.CUDA_SUCCESS,)

    def cuCtxPopCurrent(self) -> Any:
        self.contexts -= 1
        return (Status.CUDA_SUCCESS, 0)

    def cuPointerGetAttribute(self, kind: str, address: int) -> Any:
        assert kind == "CU_POINTER_ATTRIBUTE_DEVICE_ORDINAL"
        device = self.device_of.get(address, 0)
        return (Status.CUDA_ERROR_INVALID_VALUE, None) if device is None else (Status.CUDA_SUCCESS, device)

    def cuDeviceGetAttribute(self, kind: str, _: Any) -> Any:
        return Status.CUDA_SUCCESS, {"MAJOR": 8, "MINOR": 7}.get(kind.rpartition("_")[2], 16)

    def cuDeviceGetName(self, *_: Any) -> Any:
        return Status.CUDA_SUCCESS, b"Orin\0"

    def cuGetErrorString(self, status: Status) -> Any:
        return Status.CUDA_SUCCESS, status.name.lower().encode()

    def __getattr__(self, name: str) -> Any:
        """Whatever else: it succeeds, and gives a new handle."""
        if not name.startswith("cu"):
            raise AttributeError(name)

        def call(*arguments: Any) -> Any:
            self.handles += 1
            return self._done(name, arguments, 100 + self.handles)

        return call

    def _done(self, name: str, about: Any, *values: Any) -> Any:
        self.calls.append((name, about))
        return self.fails.get(name, Status.CUDA_SUCCESS), *values

    def names(self, *wanted: str) -> list[str]:
        """The calls of these names, in their order."""
        return [name for name, _ in self.calls if name in wanted]


def install(monkeypatch: pytest.MonkeyPatch) -> HostDriver:
    """Let this process find the double as ``cuda.bindings.driver``; code for a GPU is not compiled."""
    host_kernel()  # skips without a compiler
    driver, bindings, top = HostDriver(), ModuleType("cuda.bindings"), ModuleType("cuda")
    bindings.driver, top.bindings = driver, bindings  # type: ignore[attr-defined]
    for name, module in (("cuda", top), ("cuda.bindings", bindings), ("cuda.bindings.driver", driver)):
        monkeypatch.setitem(sys.modules, name, module)
    monkeypatch.setattr(crops, "compiled_kernel", lambda capability: f"code for {capability}".encode())
    return driver
