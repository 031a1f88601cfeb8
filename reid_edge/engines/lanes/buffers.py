"""Where a lane's crops and embeddings lie: page-locked host memory, and the GPU's copy of it where it needs one."""

from __future__ import annotations

import math
from contextlib import ExitStack
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .contract import Device

__all__ = ["Buffer"]


class Buffer:
    """One tensor of a lane, on the host and where the GPU reads or writes it. The lane owns both, and frees them last.

    - A GPU with memory of its own: page-locked host memory (``cuMemHostAlloc``), so that copies run beside kernels of
      other streams, and device memory.
    - An integrated GPU (Jetson): one block of page-locked memory that CPU and GPU share (zero-copy), and no copies.
      The CPU caches it from compute capability 7.2 on (Xavier, Orin, Thor); the GPU does not, but reads each crop once
      ("CUDA for Tegra", Memory Selection: pinned memory where the GPU accesses a buffer once, in order). Managed memory
      (``cuMemAllocManaged``) would not do: where ``concurrentManagedAccess`` is 0, the CPU must not touch it while any
      kernel runs, so that lanes would exclude each other (there, Effective Usage of Unified Memory). NVIDIA's advice
      for TensorRT-RTX is the same ("Zero-Copy I/O for Unified Memory" in its best practices).

    ``host`` is [max batch, ...] on the host memory; it starts zeroed, on both sides, so that rows which only pad a
    batch are always images.
    """

    def __init__(
        self, device: Device, shape: tuple[int, ...], kind: str, stream: int, stack: ExitStack, shared: bool
    ) -> None:
        """Allocate for ``shape`` with the batch, numpy's type ``kind``; ``stack`` frees it. ``shared``: no copies."""
        self._device, self._stream, self.shared = device, stream, shared
        size = math.prod(shape) * np.dtype(kind).itemsize
        memory = device.allocate_host(size)
        stack.callback(device.free_host, memory)
        self.host: NDArray[Any] = memory.array[:size].view(kind).reshape(shape)
        self.address = memory.device_address
        if not self.shared:
            self.address = device.allocate(size)
            stack.callback(device.free, self.address)
            device.upload(self.address, self.host, stream)

    def upload(self, count: int) -> None:
        """Queue the copy of the first ``count`` rows to the GPU, where they are not there already."""
        if not self.shared:
            self._device.upload(self.address, self.host[:count], self._stream)

    def download(self, count: int) -> None:
        """Queue the copy of the first ``count`` rows from the GPU, where they are not here already."""
        if not self.shared:
            self._device.download(self.host[:count], self.address, self._stream)
