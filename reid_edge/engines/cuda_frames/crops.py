"""Crops of frames on the GPU, made there."""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from contextlib import ExitStack
from types import TracebackType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from reid_edge.engines.cuda import open_cuda
from reid_edge.engines.gpu import Cuda
from reid_edge.engines.lanes.cuda_errors import failed_call
from reid_edge.errors import ImageError, MissingExtraError

from .arrays import DeviceArray, open_array
from .kernel import compiled_kernel
from .work import BLOCK, MOST_CROPS, DeviceFrame, device_frame, grid_of, works

__all__ = ["CudaCrops"]


class CudaCrops:
    """Cuts crops out of frames on the first GPU and resizes them as `reid_edge.data.images.resize` does by "opencv".

    Needs ``cuda-bindings``, also beside an engine on PyCUDA: both work in the GPU's primary context, and streams and
    addresses are the driver's. Use it in a ``with`` block, one thread at a time. Every method raises DeviceError when
    the driver reports an error.
    """

    def __enter__(self) -> CudaCrops:
        """Raises MissingExtraError without cuda-bindings or NVRTC, DeviceError without a GPU or its driver."""
        try:
            from cuda.bindings import driver
        except ImportError:
            raise MissingExtraError("cuda-bindings", "cropping frames on a GPU") from None
        self._driver = driver
        with ExitStack() as stack:
            self._cuda: Cuda = open_cuda("cuda-bindings")
            stack.callback(self._cuda.close)
            self._load(stack)
            self._open = stack.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._open.close()

    def open_frame(self, image: Any, color: str = "rgb", name: str = "frame") -> DeviceFrame:
        """A frame on the GPU: uint8 with ``__dlpack__`` or ``__cuda_array_interface__``, or a pair of planes of NV12.

        Its memory is held as long as the result lives, and read after what its producer has queued by now. Raises
        ImageError for an array that cannot be read, has another shape than `device_frame` says, or is on another GPU.
        """
        given = image if isinstance(image, tuple | list) else (image,)
        planes = [open_array(plane, self._cuda.stream, name) for plane in given]
        frame = device_frame(planes, color, name)
        with self._cuda.active():
            for plane in planes:
                self._check_device(plane, name)
                if plane.producer_stream is not None:
                    self._wait(plane.producer_stream, self._cuda.stream)
        return frame

    def fill(
        self, frame: DeviceFrame, edges: NDArray[np.int64], input_hw: tuple[int, int], address: int, stream: int
    ) -> None:
        """Enqueue on ``stream`` what writes the crops, uint8 [N, height, width, 3] RGB, to the device address.

        ``edges`` int64 [N, 4] are left, top, right, bottom in pixels within the frame, as `ClippedBoxes` has them.
        Keep ``frame`` until the stream is synchronized.
        """
        with self._cuda.active():
            if stream != self._cuda.stream:
                self._wait(self._cuda.stream, stream)
            left = len(edges)
            for work in works(frame, edges, input_hw, address):
                self._launch(work, grid_of(min(left, MOST_CROPS), input_hw), stream)
                left -= MOST_CROPS

    def download(
        self, parts: Sequence[tuple[DeviceFrame, NDArray[np.int64]]], input_hw: tuple[int, int]
    ) -> NDArray[np.uint8]:
        """The crops of frames in host memory, those of each part in turn: uint8 [N, height, width, 3] RGB."""
        images = np.empty((sum(len(edges) for _, edges in parts), *input_hw, 3), np.uint8)
        start = address = self._cuda.allocate(images.nbytes)
        try:
            for frame, edges in parts:
                self.fill(frame, edges, input_hw, address, self._cuda.stream)
                address += len(edges) * images[0].nbytes
            self._cuda.download(images, start)
        finally:
            self._cuda.synchronize()
            self._cuda.free(start)
        return images

    def _load(self, stack: ExitStack) -> None:
        code = compiled_kernel(self._cuda.gpu.compute_capability)
        image = ctypes.create_string_buffer(code, len(code))
        driver = self._driver
        with self._cuda.active():
            module = self._do(driver.cuModuleLoadData(ctypes.addressof(image)))
            stack.callback(self._free, driver.cuModuleUnload, module)
            self._kernel = self._do(driver.cuModuleGetFunction(module, b"crops"))
            self._event = self._do(driver.cuEventCreate(driver.CUevent_flags.CU_EVENT_DISABLE_TIMING))
            stack.callback(self._free, driver.cuEventDestroy, self._event)

    def _launch(self, work: ctypes.Structure, grid: tuple[int, int, int], stream: int) -> None:
        """The driver copies the arguments before the call returns."""
        arguments = (ctypes.c_void_p * 1)(ctypes.addressof(work))
        on = self._driver.CUstream(stream)
        self._do(self._driver.cuLaunchKernel(self._kernel, *grid, *BLOCK, 0, on, ctypes.addressof(arguments), 0))

    def _wait(self, producer: int, consumer: int) -> None:
        """Whatever is queued on ``consumer`` from now on waits for what is queued on ``producer`` by now."""
        stream = self._driver.CUstream
        self._do(self._driver.cuEventRecord(self._event, stream(producer)))
        self._do(self._driver.cuStreamWaitEvent(stream(consumer), self._event, 0))

    def _check_device(self, plane: DeviceArray, name: str) -> None:
        kind = self._driver.CUpointer_attribute.CU_POINTER_ATTRIBUTE_DEVICE_ORDINAL
        status, device = self._driver.cuPointerGetAttribute(kind, plane.address)
        if int(status):
            raise ImageError(f"{name} is at an address that CUDA does not know: give an array of CUDA memory")
        if int(device):
            raise ImageError(f"{name} is on GPU {int(device)}, and the first one is used: move it to GPU 0")

    def _free(self, call: Any, handle: Any) -> None:
        with self._cuda.active():
            self._do(call(handle))

    def _do(self, result: Any) -> Any:
        """The value of a driver call, whose result is (status, value...)."""
        status, *values = result
        if int(status):
            text = self._driver.cuGetErrorString(status)[1]
            raise failed_call(text.decode(errors="replace") if isinstance(text, bytes) else "", status.name)
        return values[0] if values else None
