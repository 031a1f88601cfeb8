"""Device memory, behind one small interface: `cuda-bindings` by default, PyCUDA where that is what the device has.

The device's *primary* context is retained, which torch and others share; ``pycuda.autoinit`` would make another that
belongs to one thread. Every call makes the context current and puts the former one back.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Protocol

from numpy.typing import NDArray

from .errors import InputError, MissingExtraError, ModelError

__all__ = ["BINDINGS", "Cuda", "Gpu", "find_gpu", "open_cuda"]

BINDINGS = ("cuda-bindings", "pycuda")
"""What `open_cuda` may use, in the order in which they are looked for."""


@dataclass(frozen=True)
class Gpu:
    """What an engine is tied to."""

    name: str
    compute_capability: tuple[int, int]
    driver: int

    def described(self) -> str:
        """One line: name, compute capability, and the CUDA version of the driver."""
        major, minor = self.compute_capability
        cuda = f"{self.driver // 1000}.{self.driver % 1000 // 10}"
        return f"{self.name}, compute capability {major}.{minor}, driver CUDA {cuda}"


class Cuda(Protocol):
    """Memory and one stream on the first GPU. Addresses and the stream are plain integers."""

    @property
    def stream(self) -> int:
        """The stream on which everything here happens in order."""
        ...

    @property
    def gpu(self) -> Gpu:
        """Which GPU this is."""
        ...

    def allocate(self, size: int) -> int:
        """``size`` bytes of device memory, at least one. Raises ModelError when there are none left."""
        ...

    def free(self, address: int) -> None:
        """Give back what `allocate` gave."""
        ...

    def upload(self, address: int, array: NDArray[Any]) -> None:
        """Copy a C-contiguous array to the device; ``array`` must stay as it is until `synchronize`."""
        ...

    def download(self, array: NDArray[Any], address: int) -> None:
        """Copy from the device into a C-contiguous array, which is filled after `synchronize`."""
        ...

    def synchronize(self) -> None:
        """Wait until all that was asked for has happened. Raises ModelError when some of it failed."""
        ...

    def active(self) -> Any:
        """A context manager in which the device is current, for calls of other libraries."""
        ...

    def close(self) -> None:
        """Let go of stream and context."""
        ...


def find_gpu() -> Gpu | None:
    """The first GPU, or None where there is no driver, no GPU or no binding to ask."""
    try:
        cuda = open_cuda()
    except (InputError, MissingExtraError):
        return None
    try:
        return cuda.gpu
    finally:
        cuda.close()


def open_cuda(binding: str | None = None) -> Cuda:
    """The first GPU through one of `BINDINGS`.

    Raises InputError for an unknown binding, MissingExtraError without any, ModelError without a driver or a GPU.
    """
    if binding is not None and binding not in BINDINGS:
        raise InputError(f"CUDA binding {binding!r} is unknown: give one of {', '.join(BINDINGS)}")
    for name in (binding,) if binding else BINDINGS:
        try:
            return _CudaBindings() if name == "cuda-bindings" else _PyCuda()
        except ImportError:
            continue
    raise MissingExtraError(binding or " or ".join(BINDINGS), "tensorrt", "TensorRT on a GPU")


class _CudaBindings:
    """`Cuda` over ``cuda.bindings.driver``."""

    def __init__(self) -> None:
        from cuda.bindings import driver

        self._driver = driver
        try:
            self._do(driver.cuInit(0))
        except RuntimeError as error:  # the binding looks for libcuda when it is first called
            raise ModelError(f"no NVIDIA driver ({' '.join(str(error).split())[:120]}): install one") from None
        self._device = self._do(driver.cuDeviceGet(0))
        self._context = self._do(driver.cuDevicePrimaryCtxRetain(self._device))
        with self.active():
            self._stream = self._do(driver.cuStreamCreate(driver.CUstream_flags.CU_STREAM_NON_BLOCKING))

    @property
    def stream(self) -> int:
        return int(self._stream)

    @property
    def gpu(self) -> Gpu:
        driver, kind = self._driver, self._driver.CUdevice_attribute
        name = self._do(driver.cuDeviceGetName(128, self._device)).split(b"\0")[0].decode(errors="replace")
        both = (
            kind.CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR,
            kind.CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR,
        )
        major, minor = (int(self._do(driver.cuDeviceGetAttribute(one, self._device))) for one in both)
        return Gpu(name, (major, minor), int(self._do(driver.cuDriverGetVersion())))

    def allocate(self, size: int) -> int:
        with self.active():
            return int(self._do(self._driver.cuMemAlloc(max(size, 1))))

    def free(self, address: int) -> None:
        with self.active():
            self._do(self._driver.cuMemFree(address))

    def upload(self, address: int, array: NDArray[Any]) -> None:
        with self.active():
            self._do(self._driver.cuMemcpyHtoDAsync(address, array.ctypes.data, array.nbytes, self._stream))

    def download(self, array: NDArray[Any], address: int) -> None:
        with self.active():
            self._do(self._driver.cuMemcpyDtoHAsync(array.ctypes.data, address, array.nbytes, self._stream))

    def synchronize(self) -> None:
        with self.active():
            self._do(self._driver.cuStreamSynchronize(self._stream))

    @contextmanager
    def active(self) -> Iterator[None]:
        self._do(self._driver.cuCtxPushCurrent(self._context))
        try:
            yield
        finally:
            self._do(self._driver.cuCtxPopCurrent())

    def close(self) -> None:
        with self.active():
            self._do(self._driver.cuStreamDestroy(self._stream))
        self._do(self._driver.cuDevicePrimaryCtxRelease(self._device))

    def _do(self, answer: Any) -> Any:
        """The value of a driver call, which answers (status, value...)."""
        status, *values = answer
        if int(status) != 0:
            text = self._driver.cuGetErrorString(status)[1]
            said = text.decode(errors="replace") if isinstance(text, bytes) else str(status)
            raise ModelError(f"the CUDA driver says: {said}: free GPU memory or give a smaller batch")
        return values[0] if values else None


class _PyCuda:
    """`Cuda` over ``pycuda.driver``, as JetPack images often have it."""

    def __init__(self) -> None:
        import pycuda.driver as driver

        self._driver = driver
        try:
            driver.init()
            self._device = driver.Device(0)
        except driver.Error as error:
            raise ModelError(f"no NVIDIA driver or GPU ({error}): install one") from None
        self._context = self._device.retain_primary_context()
        with self.active():
            self._stream = driver.Stream()
        self._held: dict[int, Any] = {}

    @property
    def stream(self) -> int:
        return int(self._stream.handle)

    @property
    def gpu(self) -> Gpu:
        major, minor = self._device.compute_capability()
        return Gpu(self._device.name(), (major, minor), int(self._driver.get_driver_version()))

    def allocate(self, size: int) -> int:
        with self.active():
            memory = self._do(self._driver.mem_alloc, max(size, 1))
        self._held[int(memory)] = memory
        return int(memory)

    def free(self, address: int) -> None:
        with self.active():
            self._held.pop(address).free()

    def upload(self, address: int, array: NDArray[Any]) -> None:
        with self.active():
            self._do(self._driver.memcpy_htod_async, address, array, self._stream)

    def download(self, array: NDArray[Any], address: int) -> None:
        with self.active():
            self._do(self._driver.memcpy_dtoh_async, array, address, self._stream)

    def synchronize(self) -> None:
        with self.active():
            self._do(self._stream.synchronize)

    @contextmanager
    def active(self) -> Iterator[None]:
        self._context.push()
        try:
            yield
        finally:
            self._context.pop()

    def close(self) -> None:
        with self.active():
            del self._stream
        self._context.detach()

    def _do(self, call: Any, *arguments: Any) -> Any:
        try:
            return call(*arguments)
        except self._driver.Error as error:
            raise ModelError(f"the CUDA driver says: {error}: free GPU memory or give a smaller batch") from None
