"""A stream of crops or frames to embeddings: reading, preparing and running overlap, and order is kept.

    source -> [feeder] -> [preparing pool] -> waiting crops -> [a thread for each run] -> results in order -> consumer

One lock guards what is between the stages. The source is read only as far as `_Flow.capacity` allows, so that memory
is bounded whoever is slow.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from reid_edge.core.threads import usable_cores
from reid_edge.engines.base import Engine
from reid_edge.errors import InputError, ModelError, ReidEdgeError

from .batching import BatchPolicy
from .stream import Prepared, StreamItem, StreamResult, no_crops

__all__ = ["stream_embeddings"]

logger = logging.getLogger(__name__)

_SOURCE_PATIENCE_S = 5.0
_MOST_FAILED = 64
"""Crops in a row that the engine may fail on: more, and it is the engine that is wrong, not a crop."""


def stream_embeddings(
    items: Iterable[StreamItem],
    engine: Engine,
    prepare: Callable[[int, Any], Prepared],
    policy: BatchPolicy,
) -> Iterator[StreamResult]:
    """Embed ``items`` as they come, each after ``prepare``; see `reid_edge.embedder.embedder.Embedder.stream`.

    Threads start with the first ``next``; closing the generator, or an error, ends all of them.
    """
    flow = _Flow(engine, prepare, policy)
    try:
        flow.start(items)
        while (result := flow.next_result()) is not None:
            yield result
    finally:
        flow.stop()


@dataclass(eq=False)
class _Item:
    """An item on its way: ``unfinished`` crops have no embedding yet; 1 stands for all of them until they are known."""

    index: int
    item: Any
    arrived: float
    unfinished: int = 1
    error: ReidEdgeError | None = None
    prepared: Prepared = field(init=False)
    embeddings: NDArray[np.float32] = field(init=False)
    failed: NDArray[np.bool_] = field(init=False)
    ready: float = field(init=False)

    def result(self) -> StreamResult:
        """What the consumer gets, when nothing is unfinished."""
        rows, of = ~self.failed, self.prepared
        facts = (of.kept[rows], of.clipped[rows], of.too_small[rows])
        return StreamResult(
            self.index, self.item, self.embeddings[rows], *facts, self.error, 1e3 * (self.ready - self.arrived)
        )


@dataclass(eq=False)
class _Flow:
    """The stages of one stream and what is between them."""

    engine: Engine
    prepare: Callable[[int, Any], Prepared]
    policy: BatchPolicy
    changed: threading.Condition = field(default_factory=threading.Condition)
    in_order: deque[_Item] = field(default_factory=deque)  # read and not yet given to the consumer
    waiting: deque[tuple[_Item, int]] = field(default_factory=deque)  # prepared crops: an item, the crop's row
    preparing: int = 0
    taken: int = 0  # batches that run or are copied together; above the number of runs only full ones
    held: int = 0  # crops of what is in order; an item counts as 1 until they are known, and without any
    failed_in_a_row: int = 0
    source_ended: bool = False
    stopping: bool = False
    source_error: BaseException | None = None  # raised after all that came before it
    failure: BaseException | None = None  # of no single item: raised at once

    def start(self, items: Iterable[StreamItem]) -> None:
        runs = max(1, self.engine.facts.concurrent_runs)
        self.capacity = (1 + runs) * self.policy.max_batch
        self.pool = ThreadPoolExecutor(min(4, usable_cores()), thread_name_prefix="reid-edge prepare")
        self.threads: list[threading.Thread] = []
        self.free_runs = threading.Semaphore(runs)
        self.runs = runs
        for number in range(runs + 1):  # the one more copies the next batch together meanwhile
            self._start(f"reid-edge run {number}", self._run)
        self._start("reid-edge source", self._feed, items)

    def _start(self, name: str, work: Callable[..., None], *arguments: Any) -> None:
        thread = threading.Thread(target=work, args=arguments, name=name, daemon=True)
        thread.start()
        self.threads.append(thread)

    def next_result(self) -> StreamResult | None:
        """The result of the next item, when it is there; None after the last one. Raises what ended the stream."""
        with self.changed:
            while not self._first_is_ready():
                ended = self.source_ended and not self.in_order
                if error := self.failure or (self.source_error if ended else None):
                    raise error
                if ended:
                    return None
                self.changed.wait()
            item = self.in_order.popleft()
            self.held -= max(1, len(item.prepared.crops))
            self.changed.notify_all()
        return item.result()

    def stop(self) -> None:
        """End all threads; what they have in hand is finished and dropped."""
        with self.changed:
            self.stopping = True
            self.changed.notify_all()
        self.pool.shutdown(cancel_futures=True)
        *runners, feeder = self.threads
        for runner in runners:
            runner.join()
        feeder.join(_SOURCE_PATIENCE_S)
        if feeder.is_alive():  # in the user's own code, which nothing can interrupt
            logger.warning("the source of a stream gave nothing for %.0f s: its thread is left", _SOURCE_PATIENCE_S)

    def _first_is_ready(self) -> bool:
        return bool(self.in_order) and not self.in_order[0].unfinished and self.failure is None

    # The source

    def _feed(self, items: Iterable[StreamItem]) -> None:
        try:
            with ExitStack() as stack:
                source = iter(items)
                if hasattr(source, "close"):
                    stack.callback(source.close)
                numbered = enumerate(source)
                while self._has_room() and (following := next(numbered, None)) is not None:
                    self._submit(_Item(*following, time.perf_counter()))
        except BaseException as error:
            self.source_error = error
        with self.changed:
            self.source_ended = True
            self.changed.notify_all()

    def _has_room(self) -> bool:
        """Wait until another item may be read; False when the stream is stopping."""
        with self.changed:
            self.changed.wait_for(lambda: self.stopping or self.held < self.capacity)
            return not self.stopping

    def _submit(self, item: _Item) -> None:
        with self.changed:
            if self.stopping:
                return
            self.in_order.append(item)
            self.held += 1
            self.preparing += 1
            self.pool.submit(self._prepare, item)

    # Preparing

    def _prepare(self, item: _Item) -> None:
        try:
            prepared = self.prepare(item.index, item.item)
        except InputError as error:
            item.error = error
            prepared = no_crops(self.engine.card.input_hw)
        except BaseException as error:
            self._fail(error)
            return
        number = len(prepared.crops)
        item.embeddings = np.empty((number, self.engine.card.embedding_dim), np.float32)
        item.failed = np.zeros(number, np.bool_)
        with self.changed:
            self.preparing -= 1
            self.held += max(1, number) - 1
            item.prepared, item.unfinished, item.ready = prepared, number, time.perf_counter()
            self.waiting.extend((item, row) for row in range(number))
            self.changed.notify_all()

    # Running

    def _run(self) -> None:
        while batch := self._next_batch():
            try:
                crops = np.stack([item.prepared.crops[row] for item, row in batch])
                with self.free_runs:
                    if self.stopping:
                        return
                    start = time.perf_counter()
                    rows = self._embed(crops)
                    seconds = time.perf_counter() - start
                self._deliver(batch, rows, seconds)
                del batch, rows  # or the items would live until the next batch
            except BaseException as error:
                self._fail(error)
                return

    def _next_batch(self) -> list[tuple[_Item, int]]:
        """The crops to run next, when they should leave; empty when there will be no more."""
        with self.changed:
            while not self.stopping and self.failure is None:
                patience: float | None = None
                if self.waiting and (self.taken < self.runs or len(self.waiting) >= self.policy.limit):
                    oldest = time.perf_counter() - self.waiting[0][0].arrived
                    number = self.policy.to_run(len(self.waiting), oldest, more=self.preparing > 0)
                    if number:
                        self.taken += 1
                        return [self.waiting.popleft() for _ in range(number)]
                    patience = min(self.policy.patience_s(len(self.waiting), oldest), 1.0)
                elif self.source_ended and not self.preparing and not self.waiting:
                    return []
                self.changed.wait(patience)
            return []

    def _embed(self, crops: NDArray[np.uint8]) -> list[NDArray[np.float32] | ReidEdgeError]:
        """A row or an error for each crop: where the batch fails, each is run alone."""
        try:
            return list(self.engine.run(crops))
        except ModelError as error:
            if len(crops) == 1:
                return [error]
        return [row for number in range(len(crops)) for row in self._embed(crops[number : number + 1])]

    def _deliver(
        self, batch: list[tuple[_Item, int]], rows: list[NDArray[np.float32] | ReidEdgeError], seconds: float
    ) -> None:
        with self.changed:
            self.taken -= 1
            self.policy.ran(len(batch), seconds)
            for (item, row), embedding in zip(batch, rows, strict=True):
                if isinstance(embedding, ReidEdgeError):
                    item.failed[row], item.error = True, item.error or embedding
                else:
                    item.embeddings[row] = embedding
                item.unfinished -= 1
                item.ready = time.perf_counter()
            errors = [row for row in rows if isinstance(row, ReidEdgeError)]
            self.failed_in_a_row = self.failed_in_a_row + len(errors) if len(errors) == len(rows) else 0
            if self.failed_in_a_row > _MOST_FAILED:
                self.failure = self.failure or errors[-1]
            self.changed.notify_all()

    def _fail(self, error: BaseException) -> None:
        """End the stream with an error that is of no single item."""
        with self.changed:
            self.failure = self.failure or error
            self.changed.notify_all()
