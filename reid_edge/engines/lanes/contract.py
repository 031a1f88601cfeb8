"""What lanes need: of the GPU, of a loaded engine, and of an execution context."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from .profiles import Profile

__all__ = ["Device", "ExecutionContext", "HostMemory", "LoadedEngine"]


@dataclass(frozen=True)
class HostMemory:
    """Page-locked host memory: ``array`` is uint8 [size] on it, ``device_address`` where the GPU sees the same bytes.

    It belongs to whoever called `Cuda.allocate_host`; the array must not be used after `Cuda.free_host`.
    """

    array: NDArray[np.uint8]
    device_address: int


class Device(Protocol):
    """Memory, streams and graphs of one GPU. Addresses, streams and graphs are integers.

    Every call raises DeviceError when the driver reports an error, but those that free: they never raise, and log it.
    After an error that the context does not survive (`cuda_errors.ContextLostError`), and in a process forked since,
    every call raises DeviceError with the remedy, and those that free do nothing: the driver frees all with the
    process.
    """

    @property
    def integrated(self) -> bool:
        """Whether the GPU shares its memory with the CPU, as a Jetson's does."""
        ...

    def check(self) -> None:
        """Raise DeviceError where no call can succeed any more: a lost context, or a process forked since."""
        ...

    def allocate(self, size: int) -> int:
        """Allocate ``size`` bytes of device memory, at least one."""
        ...

    def free(self, address: int) -> None:
        """Free memory that `allocate` returned."""
        ...

    def allocate_host(self, size: int) -> HostMemory:
        """Allocate ``size`` bytes of page-locked memory that the GPU sees too (at least one), zeroed."""
        ...

    def free_host(self, memory: HostMemory) -> None:
        """Free memory that `allocate_host` returned."""
        ...

    def open_stream(self) -> int:
        """A new stream, which does not wait for the default stream."""
        ...

    def close_stream(self, stream: int) -> None:
        """Destroy a stream that `open_stream` returned."""
        ...

    def upload(self, address: int, array: NDArray[Any], stream: int | None = None) -> None:
        """Copy a C-contiguous array to the device; ``array`` must not change until `synchronize`."""
        ...

    def download(self, array: NDArray[Any], address: int, stream: int | None = None) -> None:
        """Copy from the device into a C-contiguous array, which is complete after `synchronize`."""
        ...

    def synchronize(self, stream: int | None = None) -> None:
        """Wait until all work queued on a stream is done; errors of that work are raised here."""
        ...

    def begin_capture(self, stream: int) -> None:
        """Record what this thread queues on ``stream``, in place of running it, until `end_capture`."""
        ...

    def end_capture(self, stream: int) -> int:
        """The recorded work as a graph that `launch` runs. Ends the capture also when it raises."""
        ...

    def launch(self, graph: int, stream: int) -> None:
        """Queue a graph's work on a stream."""
        ...

    def free_graph(self, graph: int) -> None:
        """Free a graph that `end_capture` returned."""
        ...

    def open_event(self) -> int:
        """A new event, which marks a moment of a stream for `elapsed_ms`."""
        ...

    def close_event(self, event: int) -> None:
        """Destroy an event that `open_event` returned."""
        ...

    def record(self, event: int, stream: int) -> None:
        """Queue the event: its moment is when all that was queued before it is done."""
        ...

    def elapsed_ms(self, begin: int, end: int) -> float:
        """Milliseconds between two events that have passed, to half a microsecond."""
        ...

    def active(self) -> Any:
        """A context manager in which the device's context is current, if it can be, for other libraries' calls."""
        ...

    def close(self) -> None:
        """Release stream and context."""
        ...


class ExecutionContext(Protocol):
    """The calls of TensorRT's ``IExecutionContext`` that a lane makes; the numbers are addresses and streams."""

    def set_input_shape(self, name: str, shape: tuple[int, ...]) -> bool:
        """Whether the shape fits the context's profile."""
        ...

    def set_tensor_address(self, name: str, address: int) -> bool:
        """Whether the tensor takes that buffer."""
        ...

    def execute_async_v3(self, stream: int) -> bool:
        """Queue one run on the stream; False when it failed."""
        ...


class LoadedEngine(Protocol):
    """An engine in memory, from which lanes make their contexts."""

    @property
    def path(self) -> Path:
        """The engine's file, for errors."""
        ...

    @property
    def profiles(self) -> tuple[Profile, ...]:
        """The batches of its optimisation profiles: min, opt, max of each."""
        ...

    @property
    def tensors(self) -> tuple[tuple[str, tuple[int, ...], str], ...]:
        """Input, then output: name, shape without the batch, numpy's name of the type."""
        ...

    @property
    def scratch_bytes(self) -> int:
        """The activation memory of a context, whatever its profile."""
        ...

    @property
    def captures_itself(self) -> bool:
        """Whether the library keeps CUDA graphs by itself, so that a lane must not."""
        ...

    def context(self, profile: int, scratch: int, stream: int) -> ExecutionContext:
        """A new context for one profile, with activation memory at ``scratch``. Raises ModelError when it fails."""
        ...

    def reason(self) -> str:
        """What the library said of its last failure."""
        ...
