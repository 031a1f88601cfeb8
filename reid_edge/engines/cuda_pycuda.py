"""Device memory through PyCUDA, which JetPack images often have."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any

from numpy.typing import NDArray

from reid_edge.errors import DeviceError

from .gpu import Gpu, board_model, failed_call

__all__ = ["PyCuda"]


class PyCuda:
    """`reid_edge.engines.gpu.Cuda` over ``pycuda.driver``."""

    def __init__(self) -> None:
        self._driver, self._device, self._context = _primary_context()
        with self.active():
            self._stream = self._do(self._driver.Stream)
        self._held: dict[int, Any] = {}

    @property
    def stream(self) -> int:
        """The stream's handle."""
        return int(self._stream.handle)

    @property
    def gpu(self) -> Gpu:
        """The GPU."""
        return Gpu(
            name=self._device.name(),
            compute_capability=self._device.compute_capability(),
            driver=int(self._driver.get_driver_version()),
            multiprocessors=int(self._device.get_attribute(self._driver.device_attribute.MULTIPROCESSOR_COUNT)),
            memory_bytes=int(self._device.total_memory()),
            board=board_model(),
        )

    def allocate(self, size: int) -> int:
        """See `Cuda.allocate`."""
        with self.active():
            memory = self._do(self._driver.mem_alloc, max(size, 1))
        self._held[int(memory)] = memory
        return int(memory)

    def free(self, address: int) -> None:
        """See `Cuda.free`."""
        with self.active():
            self._do(self._held.pop(address).free)

    def upload(self, address: int, array: NDArray[Any]) -> None:
        """See `Cuda.upload`."""
        with self.active():
            self._do(self._driver.memcpy_htod_async, address, array, self._stream)

    def download(self, array: NDArray[Any], address: int) -> None:
        """See `Cuda.download`."""
        with self.active():
            self._do(self._driver.memcpy_dtoh_async, array, address, self._stream)

    def synchronize(self) -> None:
        """See `Cuda.synchronize`."""
        with self.active():
            self._do(self._stream.synchronize)

    @contextmanager
    def active(self) -> Iterator[None]:
        """See `Cuda.active`."""
        self._do(self._context.push)
        try:
            yield
        finally:
            self._do(self._context.pop)

    def close(self) -> None:
        """See `Cuda.close`; the context stays, see `_primary_context`."""
        with self.active():
            del self._stream

    def _do(self, call: Any, *arguments: Any) -> Any:
        try:
            return call(*arguments)
        except self._driver.Error as error:
            raise failed_call(str(error)) from None


@cache
def _primary_context() -> tuple[Any, Any, Any]:
    """PyCUDA's driver module, the first GPU and its primary context, retained once a process and kept to its end.

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
        device = driver.Device(0)
        return driver, device, device.retain_primary_context()
    except driver.Error as error:
        raise failed_call(str(error)) from None
