"""Device memory through PyCUDA, which JetPack images often have."""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache, partial
from typing import Any

from numpy.typing import NDArray

from reid_edge.errors import DeviceError

from .gpu import Gpu, board_model
from .lanes.contract import HostMemory
from .lanes.cuda_errors import Guard, failed_call

__all__ = ["PyCuda"]

_NON_BLOCKING = 1
"""CU_STREAM_NON_BLOCKING, which PyCUDA has no name for."""

_THREAD_LOCAL = 1
"""CU_STREAM_CAPTURE_MODE_THREAD_LOCAL."""

_ABANDONED: list[dict[int, Any]] = []
"""Objects of a lost context or a forked child: what they would free is not theirs any more."""


class PyCuda:
    """`reid_edge.engines.gpu.Cuda` over ``pycuda.driver``, which has no graphs: those are calls of libcuda itself."""

    def __init__(self, device: int) -> None:
        self._driver, self._device, self._context = _primary_context(device)
        self._guard, self._library = Guard(), _library()
        self._held: dict[int, Any] = {}  # PyCUDA's objects, which free what they stand for when they are deleted
        self._stream = self.open_stream()

    @property
    def stream(self) -> int:
        """See `Cuda.stream`."""
        return self._stream

    @property
    def gpu(self) -> Gpu:
        """See `Cuda.gpu`."""
        return Gpu(
            name=self._call(self._device.name),
            compute_capability=self._call(self._device.compute_capability),
            driver=int(self._call(self._driver.get_driver_version)),
            multiprocessors=self._fact("MULTIPROCESSOR_COUNT"),
            memory_bytes=int(self._call(self._device.total_memory)),
            board=board_model(),
        )

    @property
    def integrated(self) -> bool:
        """See `Cuda.integrated`."""
        return bool(self._fact("INTEGRATED"))

    def check(self) -> None:
        """See `Cuda.check`."""
        self._guard.check()

    def allocate(self, size: int) -> int:
        """See `Cuda.allocate`."""
        memory = self._call(self._driver.mem_alloc, max(size, 1))
        self._held[int(memory)] = memory
        return int(memory)

    def free(self, address: int) -> None:
        """See `Cuda.free`."""
        self._release(lambda: self._held.pop(address).free())

    def allocate_host(self, size: int) -> HostMemory:
        """See `Cuda.allocate_host`."""
        flags = self._driver.host_alloc_flags.DEVICEMAP
        array = self._call(self._driver.pagelocked_empty, max(size, 1), "uint8", "C", flags)
        array[:] = 0
        self._held[array.ctypes.data] = array
        try:
            return HostMemory(array, int(self._call(array.base.get_device_pointer)))
        except DeviceError:
            self.free_host(HostMemory(array, 0))
            raise

    def free_host(self, memory: HostMemory) -> None:
        """See `Cuda.free_host`."""
        self._release(lambda: self._held.pop(memory.array.ctypes.data).base.free())

    def open_stream(self) -> int:
        """See `Cuda.open_stream`."""
        stream = self._call(self._driver.Stream, _NON_BLOCKING)
        self._held[int(stream.handle)] = stream
        return int(stream.handle)

    def close_stream(self, stream: int) -> None:
        """See `Cuda.close_stream`; PyCUDA destroys a stream with its object."""
        self._release(partial(self._held.pop, stream))

    def upload(self, address: int, array: NDArray[Any], stream: int | None = None) -> None:
        """See `Cuda.upload`."""
        self._call(self._driver.memcpy_htod_async, address, array, self._on(stream))

    def download(self, array: NDArray[Any], address: int, stream: int | None = None) -> None:
        """See `Cuda.download`."""
        self._call(self._driver.memcpy_dtoh_async, array, address, self._on(stream))

    def synchronize(self, stream: int | None = None) -> None:
        """See `Cuda.synchronize`."""
        self._call(self._on(stream).synchronize)

    def begin_capture(self, stream: int) -> None:
        """See `Cuda.begin_capture`."""
        self._call(self._graphs, "cuStreamBeginCapture_v2", ctypes.c_void_p(stream), _THREAD_LOCAL)

    def end_capture(self, stream: int) -> int:
        """See `Cuda.end_capture`."""
        graph, ready = ctypes.c_void_p(), ctypes.c_void_p()
        self._call(self._graphs, "cuStreamEndCapture", ctypes.c_void_p(stream), ctypes.byref(graph))
        try:
            self._call(self._graphs, "cuGraphInstantiateWithFlags", ctypes.byref(ready), graph, ctypes.c_ulonglong(0))
        finally:
            self._release(partial(self._graphs, "cuGraphDestroy", graph))
        return int(ready.value or 0)

    def launch(self, graph: int, stream: int) -> None:
        """See `Cuda.launch`."""
        self._call(self._graphs, "cuGraphLaunch", ctypes.c_void_p(graph), ctypes.c_void_p(stream))

    def free_graph(self, graph: int) -> None:
        """See `Cuda.free_graph`."""
        self._release(partial(self._graphs, "cuGraphExecDestroy", ctypes.c_void_p(graph)))

    def open_event(self) -> int:
        """See `Cuda.open_event`."""
        event = self._call(self._driver.Event)
        self._held[id(event)] = event
        return id(event)

    def close_event(self, event: int) -> None:
        """See `Cuda.close_event`; PyCUDA destroys an event with its object."""
        self._release(partial(self._held.pop, event))

    def record(self, event: int, stream: int) -> None:
        """See `Cuda.record`."""
        self._call(self._held[event].record, self._on(stream))

    def elapsed_ms(self, begin: int, end: int) -> float:
        """See `Cuda.elapsed_ms`."""
        return float(self._call(self._held[end].time_since, self._held[begin]))

    @contextmanager
    def active(self) -> Iterator[None]:
        """See `Cuda.active`."""
        if not self._guard.usable:
            yield
            return
        self._context.push()
        try:
            yield
        finally:
            self._pop()

    def _pop(self) -> None:
        """Also after a lost context, whose error the driver may give again here."""
        try:
            self._context.pop()
        except self._driver.Error:
            if self._guard.usable:
                raise

    def close(self) -> None:
        """See `Cuda.close`; the context stays, see `_primary_context`."""
        self.close_stream(self._stream)
        if not self._guard.usable:
            _ABANDONED.append(self._held)

    def _fact(self, name: str) -> int:
        return int(self._call(self._device.get_attribute, getattr(self._driver.device_attribute, name)))

    def _on(self, stream: int | None) -> Any:
        return self._held[self._stream if stream is None else stream]

    def _call(self, call: Callable[..., Any], *arguments: Any) -> Any:
        self._guard.check()
        try:
            with self.active():
                return call(*arguments)
        except self._driver.Error as error:
            raise self._guard.noted(failed_call(str(error))) from None
        except DeviceError as error:  # of a graph
            raise self._guard.noted(error) from None

    def _release(self, free: Callable[[], Any]) -> None:
        self._guard.release(partial(self._call, free))

    def _graphs(self, name: str, *arguments: Any) -> None:
        status = getattr(self._library, name)(*arguments)
        if status != 0:
            text = ctypes.c_char_p()
            self._library.cuGetErrorString(status, ctypes.byref(text))
            raise failed_call((text.value or b"unknown error").decode(errors="replace"))


@cache
def _library() -> ctypes.CDLL:
    """The driver's library, which PyCUDA has loaded."""
    return ctypes.CDLL("libcuda.so.1")


@cache
def _primary_context(ordinal: int) -> tuple[Any, Any, Any]:
    """PyCUDA's driver module, a GPU and its primary context, retained once a process and kept to its end.

    Released, it would stay current: ``Context.detach``, which its destructor calls too, pushes a context that is not
    current and leaves the pop to cuCtxDetach, but for a primary context calls cuDevicePrimaryCtxRelease, which pops
    nothing (``context::detach`` in src/cpp/cuda.hpp of PyCUDA 2026.1; "cuDevicePrimaryCtxRelease" in the CUDA driver
    API 13). The process owns one reference; the driver drops it at the end.
    """
    try:
        import pycuda.driver as driver
    except ModuleNotFoundError:
        raise
    except ImportError as error:  # its module links against libcuda
        raise DeviceError(f"no NVIDIA driver ({error}): install the driver") from None
    try:
        driver.init()
        device = driver.Device(ordinal)
        return driver, device, device.retain_primary_context()
    except driver.Error as error:
        raise failed_call(str(error)) from None
