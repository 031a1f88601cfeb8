"""The engine that runs a TensorRT plan built by ``reid-edge export --engine``."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable
from contextlib import AbstractContextManager, ExitStack
from pathlib import Path
from types import TracebackType

import numpy as np
from numpy.typing import NDArray

from reid_edge.card import ModelCard
from reid_edge.core.files import require_file
from reid_edge.errors import InputError, ModelError

from .base import as_input, check_batch, check_embeddings, not_open
from .cuda import open_cuda
from .engine_card import EngineCard
from .facts import EngineFacts, board_versions
from .gpu import Cuda
from .lanes.lane import GRAPHS, Lane, lane_bytes
from .lanes.pool import LanePool
from .tensorrt_api import BACKEND_TITLES, load_backend
from .tensorrt_plan import TensorRTPlan, check_built_here

__all__ = ["TensorRTEngine"]

logger = logging.getLogger(__name__)

_MOST_CONTEXTS = 16

_ABANDONED: list[ExitStack] = []
"""What a forked child left unfreed: it belongs to the parent's driver."""


class TensorRTEngine:
    """A `reid_edge.engines.base.Engine` for an engine file with its card beside it.

    ``cuda`` names one of `reid_edge.engines.cuda.BINDINGS` (None: the first one installed), ``device`` the GPU
    (`open_cuda`). ``contexts`` threads may run side by side, each on a lane of its own (`lanes.lane.Lane`); further
    ones wait. Each context has its own stream, activation memory and buffers for the largest batch, all allocated on
    entering; what one takes is logged (level info). With ``graphs``, batch sizes that come again run as a CUDA graph.
    ``zero_copy`` lets the GPU read crops in page-locked memory without a copy (None: where it shares the CPU's memory).

    Entering raises ModelError for an engine of another TensorRT or GPU before it is loaded: plans are code, and a
    foreign one may crash the process; after a driver update it logs a note. Raises DeviceError when the GPU or its
    driver fails. After an error that the GPU's context does not survive, and in a process forked since, `run` raises
    DeviceError with the remedy. Leaving waits for the runs under way.
    """

    backend = "tensorrt"

    def __init__(
        self,
        path: Path | str,
        cuda: str | None = None,
        *,
        device: int = 0,
        contexts: int = 2,
        graphs: bool = True,
        zero_copy: bool | None = None,
    ) -> None:
        if not 1 <= contexts <= _MOST_CONTEXTS:
            raise InputError(f"{contexts} contexts are not between 1 and {_MOST_CONTEXTS}: give contexts=2")
        if device < 0:
            raise InputError(f"device {device} is no GPU: give 0 or more, as CUDA counts them")
        self.path = Path(path)
        self._binding, self._device, self._contexts, self._graphs = cuda, device, contexts, graphs
        self._zero_copy = zero_copy
        self._open: ExitStack | None = None
        self._card: EngineCard | None = None

    @property
    def card(self) -> ModelCard:
        """The model's card, from the engine's card. Raises ModelError before ``__enter__``."""
        return self._engine_card().model

    @property
    def max_batch(self) -> int:
        """The largest batch of the profiles that the engine was built with."""
        return self._engine_card().batches[2]

    @property
    def provider(self) -> str:
        """The TensorRT that runs the engine, e.g. "TensorRT 10.3.0". Raises ModelError while the engine is closed."""
        return self.facts.provider

    @property
    def facts(self) -> EngineFacts:
        """What the engine runs on. Raises ModelError while the engine is closed."""
        self._engine_card()
        return self._facts

    def __repr__(self) -> str:
        return f"<TensorRTEngine {str(self.path)!r}: {'closed' if self._open is None else self._facts}>"

    def run(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Embed uint8 [N, H, W, 3] RGB, 1 <= N <= max_batch -> float32 [N, D], rows of L2 norm 1.

        Raises ModelError when the batch does not fit the model, TensorRT fails or an embedding is not finite,
        DeviceError when the GPU reports an error.
        """
        card = self._engine_card()
        check_batch(images, card.model, self.max_batch)
        given = as_input(images, card.model)
        with self._lane() as lane:
            return self._checked(lane.run(given))

    def run_timed(self, images: NDArray[np.uint8]) -> tuple[NDArray[np.float32], dict[str, float]]:
        """As `run`, and milliseconds of "host_to_device", "compute" and "device_to_host" by CUDA events."""
        card = self._engine_card()
        check_batch(images, card.model, self.max_batch)
        given = as_input(images, card.model)
        with self._lane() as lane:
            embeddings, times = lane.run_timed(given)
        return self._checked(embeddings), times

    def run_filled(self, count: int, fill: Callable[[int, int], None]) -> NDArray[np.float32]:
        """Embed ``count`` crops that are on the GPU already -> float32 [count, D], rows of L2 norm 1.

        ``fill(address, stream)`` is called once: it enqueues on the CUDA stream ``stream`` whatever writes uint8
        [count, H, W, 3] RGB at the device address ``address``, and need not wait for it. Both are integers and hold
        during the call alone. What ``fill`` raises is raised here.

        Raises ModelError when ``count`` is not in 1..max_batch or the model takes another input format than uint8
        NHWC, and what `run` raises.
        """
        card = self._engine_card()
        if card.model.input_format != "nhwc-uint8":
            remedy = "export it with  --input-format nhwc-uint8 (input_format=)"
            raise ModelError(f"{self.path} takes {card.model.input_format}: {remedy}")
        if not 1 <= count <= self.max_batch:
            raise ModelError(f"a batch of {count} is outside 1..{self.max_batch}: split it, as Embedder does")
        with self._lane() as lane:
            return self._checked(lane.run_filled(count, fill))

    def _checked(self, embeddings: NDArray[np.float32]) -> NDArray[np.float32]:
        check_embeddings(embeddings, self.path)
        return embeddings

    def __enter__(self) -> TensorRTEngine:
        path = require_file(self.path, "a TensorRT engine")
        card = EngineCard.read(path)
        backend = load_backend(card.backend)
        with ExitStack() as stack:
            self._cuda: Cuda = open_cuda(self._binding, self._device)
            stack.callback(self._cuda.close)
            check_built_here(card, backend, self._cuda, path)
            plan = TensorRTPlan(path, card, backend, self._cuda, graphs=self._graphs)
            plan.open()
            stack.callback(plan.close)
            self._pool = self._lanes(plan)
            stack.callback(self._pool.close)
            self._open = stack.pop_all()
        versions = {backend.name: backend.version, **board_versions()}
        provider = f"{BACKEND_TITLES[backend.name]} {backend.version}"
        self._facts = EngineFacts(
            self.backend, provider, versions, None, card.engine_sha256, concurrent_runs=self._contexts
        )
        self._process, self._card = os.getpid(), card
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._card = None
        opened, self._open = self._open, None
        if opened is None:
            return
        if self._process == os.getpid():
            opened.close()
        else:  # in a forked child the driver cannot be used, also not by the destructors of TensorRT
            _ABANDONED.append(opened)

    def _lanes(self, plan: TensorRTPlan) -> LanePool:
        graphs = GRAPHS if self._graphs else 0
        pool = LanePool(
            lambda: Lane(self._cuda, plan, graphs, self._zero_copy), self._contexts, lambda: not_open(self.path)
        )
        logger.info("%s: %d contexts of %.1f MiB each", self.path, self._contexts, lane_bytes(plan) / (1 << 20))
        return pool

    def _lane(self) -> AbstractContextManager[Lane]:
        """A lane for one run, where one can be had."""
        self._engine_card()
        self._cuda.check()  # before any lock: a forked child may have inherited a held one
        return self._pool.lane()

    def _engine_card(self) -> EngineCard:
        if self._card is None:
            raise not_open(self.path)
        return self._card
