"""Device memory behind one small interface: ``cuda-bindings``, or PyCUDA where only that is installed.

The device's *primary* context is retained, which torch and others share; ``pycuda.autoinit`` would create another one
that belongs to one thread. Every call makes the context current and restores the previous one.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from textwrap import shorten
from typing import Any

from numpy.typing import NDArray

from reid_edge.errors import DeviceError, InputError, MissingExtraError

from .cuda_pycuda import PyCuda
from .gpu import Cuda, Gpu, board_model, failed_call

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


def open_cuda(binding: str | None = None) -> Cuda:
    """The first GPU through one of `BINDINGS`.

    Raises InputError for an unknown binding, MissingExtraError without any, DeviceError without a driver or a GPU.
    """
    if binding is not None and binding not in BINDINGS:
        raise InputError(f"CUDA binding {binding!r} is unknown: give one of {', '.join(BINDINGS)}")
    for name in (binding,) if binding else BINDINGS:
        try:
            return _CudaBindings() if name == "cuda-bindings" else PyCuda()
        except ImportError:
            continue
    install = "" if binding else "pip install cuda-bindings  (CUDA 12: 'cuda-bindings<13')"
    raise MissingExtraError(binding or " or ".join(BINDINGS), "TensorRT on a GPU", install=install)


class _CudaBindings:
    """`reid_edge.engines.gpu.Cuda` over ``cuda.bindings.driver``."""

    def __init__(self) -> None:
        from cuda.bindings import driver

        self._driver = driver
        try:
            self._do(driver.cuInit(0))
        except RuntimeError as error:  # the binding loads libcuda at its first call
            reason = shorten(str(error), 120, placeholder="...")
            raise DeviceError(f"no NVIDIA driver ({reason}): install the driver") from None
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
        major, minor, multiprocessors = (
            int(self._do(driver.cuDeviceGetAttribute(one, self._device)))
            for one in (
                kind.CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR,
                kind.CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR,
                kind.CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT,
            )
        )
        return Gpu(
            name=name,
            compute_capability=(major, minor),
            driver=int(self._do(driver.cuDriverGetVersion())),
            multiprocessors=multiprocessors,
            memory_bytes=int(self._do(driver.cuDeviceTotalMem(self._device))),
            board=board_model(),
        )

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

    def _do(self, result: Any) -> Any:
        """The value of a driver call, whose result is (status, value...)."""
        status, *values = result
        if int(status) != 0:
            text = self._driver.cuGetErrorString(status)[1]
            raise failed_call(text.decode(errors="replace") if isinstance(text, bytes) else "", status.name)
        return values[0] if values else None
