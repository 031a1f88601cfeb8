"""A lane: what one run on the GPU needs for itself, so that several threads run side by side."""

from __future__ import annotations

import math
from collections.abc import Callable
from contextlib import ExitStack
from typing import Any

import numpy as np
from numpy.typing import NDArray

from reid_edge.errors import ModelError

from .buffers import Buffer
from .contract import Device, ExecutionContext, LoadedEngine
from .events import LaneTimer
from .graphs import Graphs
from .profiles import choose_profile

__all__ = ["GRAPHS", "Lane", "lane_bytes"]

GRAPHS = 16
"""How many batch sizes of a lane have a CUDA graph."""


def lane_bytes(loaded: LoadedEngine) -> int:
    """The memory that a lane allocates on the GPU: activations, and crops and embeddings of the largest batch."""
    largest = max(profile[2] for profile in loaded.profiles)
    buffers = sum(largest * math.prod(shape) * np.dtype(kind).itemsize for _, shape, kind in loaded.tensors)
    return loaded.scratch_bytes + buffers


class Lane:
    """A stream with activation memory, buffers, a context for each profile, and graphs. One run at a time.

    It owns all of these; `close` frees them in the reverse order, graphs first and the stream last. The device and the
    loaded engine are not its own and outlive it. Opening frees everything again when it fails.
    """

    def __init__(
        self, device: Device, loaded: LoadedEngine, graphs: int = GRAPHS, zero_copy: bool | None = None
    ) -> None:
        """``graphs`` is how many batch sizes have one; ``zero_copy`` is for `Buffer` (None: on integrated GPUs)."""
        self._device, self._engine = device, loaded
        self._name = loaded.tensors[0][0]
        self._timer: LaneTimer | None = None
        largest = max(profile[2] for profile in loaded.profiles)
        shared = device.integrated if zero_copy is None else zero_copy
        with ExitStack() as stack, device.active():
            self.stream = device.open_stream()
            stack.callback(device.close_stream, self.stream)
            self._scratch = device.allocate(loaded.scratch_bytes)
            stack.callback(device.free, self._scratch)
            self._input, self._output = (
                Buffer(device, (largest, *shape), kind, self.stream, stack, shared) for _, shape, kind in loaded.tensors
            )
            self._contexts: list[ExecutionContext] = []
            stack.callback(self._contexts.clear)
            self._contexts += [self._context(profile) for profile in range(len(loaded.profiles))]
            why = "TensorRT-RTX keeps its own" if loaded.captures_itself else ""
            self.graphs = Graphs(device, self.stream, graphs, self._prepared, why)
            stack.callback(self.graphs.close)
            device.synchronize(self.stream)
            self._open = stack.pop_all()

    def run(self, images: NDArray[Any], mark: Callable[[int], None] = lambda moment: None) -> NDArray[np.float32]:
        """Embed ``images`` in the engine's input format -> float32 [N, D], the caller's own."""

        def fill(address: int, stream: int) -> None:
            self._input.host[: len(images)] = images
            self._input.upload(len(images))

        return self.run_filled(len(images), fill, mark)

    def run_timed(self, images: NDArray[Any]) -> tuple[NDArray[np.float32], dict[str, float]]:
        """As `run`, and the milliseconds of its parts on the GPU, by `LaneTimer`."""
        if self._timer is None:
            with self._device.active():
                self._timer = LaneTimer(self._device, self.stream, self._open)
        return self.run(images, self._timer.mark), self._timer.times_ms()

    def run_filled(
        self, count: int, fill: Callable[[int, int], None], mark: Callable[[int], None] = lambda moment: None
    ) -> NDArray[np.float32]:
        """Embed ``count`` inputs that ``fill(address, stream)`` queues on the stream -> float32 [count, D].

        ``mark`` is told each moment of `LaneTimer`. Whatever is raised, nothing that was queued is left running.
        """
        self._device.check()
        profile, batch = choose_profile(self._engine.profiles, count)
        with self._device.active():
            try:
                mark(0)
                fill(self._input.address, self.stream)
                mark(1)
                from_graph = self.graphs.launch(batch)
                if not from_graph:
                    self._execute(self._contexts[profile], batch)
                mark(2)
                self._output.download(count)
                mark(3)
            except BaseException:
                self._device.synchronize(self.stream)  # the GPU's own error, where there is one, is the reason
                raise
            self._device.synchronize(self.stream)
            embeddings: NDArray[np.float32] = self._output.host[:count].copy()
            if not from_graph:
                self.graphs.ran(batch)
        return embeddings

    def close(self) -> None:
        """Free everything; a second call does nothing."""
        with self._device.active():
            self._open.close()

    def _context(self, profile: int) -> ExecutionContext:
        context = self._engine.context(profile, self._scratch, self.stream)
        for (name, _, _), buffer in zip(self._engine.tensors, (self._input, self._output), strict=True):
            if not context.set_tensor_address(name, buffer.address):
                raise ModelError(f"{self._engine.path} does not take the buffer for {name} ({self._engine.reason()})")
        return context

    def _prepared(self, batch: int) -> ExecutionContext:
        """A context of its own for a graph, run once: changes of shape are worked off by a run before the capture."""
        profile, _ = choose_profile(self._engine.profiles, batch)
        context = self._context(profile)
        self._execute(context, batch)
        self._device.synchronize(self.stream)
        return context

    def _execute(self, context: ExecutionContext, batch: int) -> None:
        path, (name, shape, _) = self._engine.path, self._engine.tensors[0]
        if not context.set_input_shape(name, (batch, *shape)):
            raise ModelError(f"{path} does not take a batch of {batch}: build it with another --profile (batches=)")
        if not context.execute_async_v3(self.stream):
            raise ModelError(f"{path} failed: {self._engine.reason()}")
