"""CUDA graphs of a lane, one for each batch size that comes again; the least recently used make room."""

from __future__ import annotations

import logging
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass

from reid_edge.errors import DeviceError, ModelError

from .contract import Device, ExecutionContext

__all__ = ["Graphs"]

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class _Captured:
    """A graph and the context that it was captured from, which must live as long and must not change."""

    handle: int
    context: ExecutionContext


class Graphs:
    """The graphs of one lane, by batch size.

    A graph holds the input's size, the addresses of buffers and activation memory, and the state of its context:
    changing the context makes it undefined. So each graph has a context of its own, and they share the lane's
    activation memory ("Limitations of CUDA Graphs" in TensorRT's best practices); input shapes are set once.

    A size is captured after its second run, so that sizes which come once cost no capture. ``prepared`` makes a context
    that is ready for a batch and has run once since its shape was set, as capturing requires. Where a capture fails,
    one warning says why and the lane goes on without graphs.
    """

    def __init__(
        self, device: Device, stream: int, limit: int, prepared: Callable[[int], ExecutionContext], why: str = ""
    ) -> None:
        """``limit`` graphs at most; ``why`` not to capture at all, or ""."""
        self._device, self._stream, self._limit, self._prepared = device, stream, limit, prepared
        self._kept: OrderedDict[int, _Captured] = OrderedDict()
        self._seen: OrderedDict[int, None] = OrderedDict()
        self.off = why or ("" if limit else "switched off")

    def __len__(self) -> int:
        return len(self._kept)

    def launch(self, batch: int) -> bool:
        """Queue the graph of ``batch`` on the stream; False where there is none."""
        if (captured := self._kept.get(batch)) is None:
            return False
        self._kept.move_to_end(batch)
        self._device.launch(captured.handle, self._stream)
        return True

    def ran(self, batch: int) -> None:
        """Capture ``batch``, which has just run without a graph and is done, if it ran before."""
        if self.off or not self._again(batch):
            return
        try:
            self._kept[batch] = self._captured(batch)
        except (DeviceError, ModelError) as error:
            self.off = str(error)
            logger.warning("no CUDA graphs, each run queues its kernels one by one: %s", error)
            return
        if len(self._kept) > self._limit:
            self._drop(next(iter(self._kept)))

    def close(self) -> None:
        """Free all graphs, each before its context."""
        while self._kept:
            self._drop(next(iter(self._kept)))

    def _again(self, batch: int) -> bool:
        if batch in self._seen:
            return True
        self._seen[batch] = None
        if len(self._seen) > self._limit:
            self._seen.popitem(last=False)
        return False

    def _captured(self, batch: int) -> _Captured:
        context = self._prepared(batch)
        queued = False
        self._device.begin_capture(self._stream)
        try:
            queued = context.execute_async_v3(self._stream)
        finally:
            handle = self._device.end_capture(self._stream)
            if not queued:
                self._device.free_graph(handle)
        if not queued:
            raise ModelError(f"the engine cannot be captured for a batch of {batch}")
        return _Captured(handle, context)

    def _drop(self, batch: int) -> None:
        captured = self._kept.pop(batch)
        self._device.free_graph(captured.handle)
