"""Device memory behind one small interface: ``cuda-bindings``, or PyCUDA where only that is installed.

The device's *primary* context is retained, which torch and others share; ``pycuda.autoinit`` would create another one
that belongs to one thread. Every call makes the context current and restores the previous one.
"""

from __future__ import annotations

import ctypes
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from textwrap import shorten
from typing import Any

import numpy as np
from numpy.typing import NDArray

from reid_edge.errors import DeviceError, InputError, MissingExtraError

from .cuda_pycuda import PyCuda
from .gpu import Cuda, Gpu, board_model
from .lanes.contract import HostMemory
from .lanes.cuda_errors import Guard, failed_call

__all__ = ["BINDINGS", "find_gpu", "open_cuda"]

BINDINGS = ("cuda-bindings", "pycuda")
"""What `open_cuda` may use, in the order in which they are tried."""


def find_gpu() -> Gpu | None:
    """The first GPU, or None without a driver, a GPU or a CUDA binding."""
    try:
        cuda = open_cuda()
    except (DeviceError, MissingExtraError):
        return None
    try:
        return cuda.gpu
    finally:
        cuda.close()


def open_cuda(binding: str | None = None, device: int = 0) -> Cuda:
    """A GPU through one of `BINDINGS`.

    ``device`` counts the GPUs that CUDA_VISIBLE_DEVICES shows this process, in its order; without that variable the
    fastest is first (CUDA_DEVICE_ORDER=PCI_BUS_ID: in the order of nvidia-smi).

    Raises InputError for an unknown binding, MissingExtraError without any, DeviceError without a driver or a GPU.
    """
    if binding is not None and binding not in BINDINGS:
        raise InputError(f"CUDA binding {binding!r} is unknown: give one of {', '.join(BINDINGS)}")
    if device < 0:
        raise InputError(f"device {device} is no GPU: count them from 0")
    for name in (binding,) if binding else BINDINGS:
        try:
            return _CudaBindings(device) if name == "cuda-bindings" else PyCuda(device)
        except ImportError:
            continue
    install = "" if binding else "pip install cuda-bindings  (CUDA 12: 'cuda-bindings<13')"
    raise MissingExtraError(binding or " or ".join(BINDINGS), "TensorRT on a GPU", install=install)


class _CudaBindings:
    """`reid_edge.engines.gpu.Cuda` over ``cuda.bindings.driver``."""

    def __init__(self, device: int) -> None:
        from cuda.bindings import driver

        self._driver, self._guard = driver, Guard()
        try:
            self._call("cuInit", 0)
        except RuntimeError as error:  # the binding loads libcuda at its first call
            reason = shorten(str(error), 120, placeholder="...")
            raise DeviceError(f"no NVIDIA driver ({reason}): install the driver") from None
        self._device = self._call("cuDeviceGet", device)
        self._context = self._call("cuDevicePrimaryCtxRetain", self._device)
        try:
            self._stream = self.open_stream()
        except DeviceError:
            self._guard.release(partial(self._call, "cuDevicePrimaryCtxRelease", self._device))
            raise

    @property
    def stream(self) -> int:
        return self._stream

    @property
    def gpu(self) -> Gpu:
        name = self._call("cuDeviceGetName", 128, self._device).split(b"\0")[0].decode(errors="replace")
        return Gpu(
            name=name,
            compute_capability=(self._fact("COMPUTE_CAPABILITY_MAJOR"), self._fact("COMPUTE_CAPABILITY_MINOR")),
            driver=int(self._call("cuDriverGetVersion")),
            multiprocessors=self._fact("MULTIPROCESSOR_COUNT"),
            memory_bytes=int(self._call("cuDeviceTotalMem", self._device)),
            board=board_model(),
        )

    @property
    def integrated(self) -> bool:
        return bool(self._fact("INTEGRATED"))

    def check(self) -> None:
        self._guard.check()

    def allocate(self, size: int) -> int:
        return int(self._active_call("cuMemAlloc", max(size, 1)))

    def free(self, address: int) -> None:
        self._release("cuMemFree", address)

    def allocate_host(self, size: int) -> HostMemory:
        address = int(self._active_call("cuMemHostAlloc", max(size, 1), self._driver.CU_MEMHOSTALLOC_DEVICEMAP))
        try:
            device_address = int(self._active_call("cuMemHostGetDevicePointer", address, 0))
        except DeviceError:
            self._release("cuMemFreeHost", address)
            raise
        array = np.ctypeslib.as_array((ctypes.c_uint8 * max(size, 1)).from_address(address))
        array[:] = 0
        return HostMemory(array, device_address)

    def free_host(self, memory: HostMemory) -> None:
        self._release("cuMemFreeHost", memory.array.ctypes.data)

    def open_stream(self) -> int:
        return int(self._active_call("cuStreamCreate", self._driver.CUstream_flags.CU_STREAM_NON_BLOCKING))

    def close_stream(self, stream: int) -> None:
        self._release("cuStreamDestroy", stream)

    def upload(self, address: int, array: NDArray[Any], stream: int | None = None) -> None:
        self._active_call("cuMemcpyHtoDAsync", address, array.ctypes.data, array.nbytes, self._on(stream))

    def download(self, array: NDArray[Any], address: int, stream: int | None = None) -> None:
        self._active_call("cuMemcpyDtoHAsync", array.ctypes.data, address, array.nbytes, self._on(stream))

    def synchronize(self, stream: int | None = None) -> None:
        self._active_call("cuStreamSynchronize", self._on(stream))

    def begin_capture(self, stream: int) -> None:
        # Thread-local: what other threads do meanwhile (torch allocates) neither fails nor is captured.
        mode = self._driver.CUstreamCaptureMode.CU_STREAM_CAPTURE_MODE_THREAD_LOCAL
        self._active_call("cuStreamBeginCapture", stream, mode)

    def end_capture(self, stream: int) -> int:
        graph = self._active_call("cuStreamEndCapture", stream)
        try:
            return int(self._active_call("cuGraphInstantiate", graph, 0))
        finally:
            self._release("cuGraphDestroy", graph)

    def launch(self, graph: int, stream: int) -> None:
        self._active_call("cuGraphLaunch", graph, stream)

    def free_graph(self, graph: int) -> None:
        self._release("cuGraphExecDestroy", graph)

    def open_event(self) -> int:
        return int(self._active_call("cuEventCreate", self._driver.CUevent_flags.CU_EVENT_DEFAULT))

    def close_event(self, event: int) -> None:
        self._release("cuEventDestroy", event)

    def record(self, event: int, stream: int) -> None:
        self._active_call("cuEventRecord", event, stream)

    def elapsed_ms(self, begin: int, end: int) -> float:
        return float(self._active_call("cuEventElapsedTime", begin, end))

    @contextmanager
    def active(self) -> Iterator[None]:
        if not self._guard.usable:
            yield
            return
        self._call("cuCtxPushCurrent", self._context)
        try:
            yield
        finally:
            self._driver.cuCtxPopCurrent()  # also after an error, so that nothing of ours stays current

    def close(self) -> None:
        self.close_stream(self._stream)
        self._guard.release(partial(self._call, "cuDevicePrimaryCtxRelease", self._device))

    def _on(self, stream: int | None) -> int:
        return self._stream if stream is None else stream

    def _fact(self, name: str) -> int:
        attribute = getattr(self._driver.CUdevice_attribute, f"CU_DEVICE_ATTRIBUTE_{name}")
        return int(self._call("cuDeviceGetAttribute", attribute, self._device))

    def _active_call(self, name: str, *arguments: Any) -> Any:
        self._guard.check()
        with self.active():
            return self._call(name, *arguments)

    def _release(self, name: str, *arguments: Any) -> None:
        self._guard.release(partial(self._active_call, name, *arguments))

    def _call(self, name: str, *arguments: Any) -> Any:
        """The value of a driver call, whose result is (status, value...)."""
        self._guard.check()
        status, *values = getattr(self._driver, name)(*arguments)
        if int(status) != 0:
            text = self._driver.cuGetErrorString(status)[1]
            words = text.decode(errors="replace") if isinstance(text, bytes) else ""
            raise self._guard.noted(failed_call(words, status.name))
        return values[0] if values else None
