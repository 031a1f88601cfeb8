"""The engine that runs a TensorRT plan built by ``reid-edge export --engine``."""

from __future__ import annotations

import hashlib
import logging
import math
import threading
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from reid_edge.card import ModelCard
from reid_edge.core.files import require_file
from reid_edge.errors import ModelError

from .base import as_input, check_batch, check_embeddings, not_open
from .cuda import open_cuda
from .engine_card import EngineCard
from .facts import EngineFacts, board_versions
from .gpu import Cuda, gpu_differences
from .tensorrt_api import BACKEND_TITLES, Backend, Log, load_backend, load_plan

__all__ = ["TensorRTEngine"]

logger = logging.getLogger(__name__)

_SIZES = {"UINT8": 1, "FLOAT": 4}


class TensorRTEngine:
    """A `reid_edge.engines.base.Engine` for an engine file with its card beside it.

    ``cuda`` names one of `reid_edge.engines.cuda.BINDINGS` (None: the first one installed). Entering raises ModelError
    for an engine of another TensorRT or GPU before it is loaded: plans are code, and a foreign one may crash the
    process; after a driver update it logs a note. Raises DeviceError when the GPU or its driver fails.

    Device memory for the largest batch is allocated once, on entering. Several threads may call `run`; they take turns.
    """

    backend = "tensorrt"

    def __init__(self, path: Path | str, cuda: str | None = None) -> None:
        self.path = Path(path)
        self._binding = cuda
        self._lock = threading.Lock()
        self._open: ExitStack | None = None
        self._card: EngineCard | None = None

    @property
    def card(self) -> ModelCard:
        """The model's card, from the engine's card. Raises ModelError before ``__enter__``."""
        return self._engine_card().model

    @property
    def max_batch(self) -> int:
        """The largest batch of the profile that the engine was built with."""
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
        given = np.ascontiguousarray(as_input(images, card.model))
        return self._run(len(given), lambda address, stream: self._cuda.upload(address, given))

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
            raise ModelError(f"{self.path} takes {card.model.input_format}: export it with  --input-format nhwc-uint8")
        if not 1 <= count <= self.max_batch:
            raise ModelError(f"a batch of {count} is outside 1..{self.max_batch}: split it, as Embedder does")
        return self._run(count, fill)

    def _run(self, count: int, fill: Callable[[int, int], None]) -> NDArray[np.float32]:
        card = self._engine_card()
        batch = max(count, card.batches[0])  # rows that only pad keep what was there
        output = np.empty((count, card.model.embedding_dim), np.float32)
        with self._lock, self._cuda.active():
            self._engine_card()  # another thread may have closed it meanwhile
            try:
                fill(self._addresses["images"], self._cuda.stream)
                self._execute(batch)
                self._cuda.download(output, self._addresses["embeddings"])
            finally:
                self._cuda.synchronize()  # what fill enqueued must not outlive the call
        check_embeddings(output, self.path)
        return output

    def _execute(self, batch: int) -> None:
        (_, shape, _), _ = _tensors(self._engine_card())
        if not self._context.set_input_shape("images", (batch, *shape)):
            raise ModelError(
                f"{self.path} does not take a batch of {batch}: build it with another --profile (batches=)"
            )
        if not self._context.execute_async_v3(self._cuda.stream):
            raise ModelError(f"{self.path} failed: {'; '.join(self._log.errors()) or 'TensorRT gave no reason'}")

    def __enter__(self) -> TensorRTEngine:
        path = require_file(self.path, "a TensorRT engine")
        card = EngineCard.read(path)
        backend = load_backend(card.backend)
        with ExitStack() as stack:
            self._cuda: Cuda = open_cuda(self._binding)
            stack.callback(self._cuda.close)
            _check_built_here(card, backend, self._cuda, path)
            self._load(path, card, backend, stack)
            self._open = stack.pop_all()
        versions = {backend.name: backend.version, **board_versions()}
        provider = f"{BACKEND_TITLES[backend.name]} {backend.version}"
        self._facts = EngineFacts(self.backend, provider, versions, None, card.engine_sha256)
        self._card = card
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with self._lock:
            self._card = None
            if self._open is not None:
                self._open.close()
                self._open = None

    def _load(self, path: Path, card: EngineCard, backend: Backend, stack: ExitStack) -> None:
        plan = path.read_bytes()
        if hashlib.sha256(plan).hexdigest() != card.engine_sha256:
            raise ModelError(f"{path} is not the engine that its card describes: {_rebuild(path, card)}")
        self._log = Log()
        owners: list[Any] = [self._log.logger(backend)]
        # Registered before anything is made, so that after an error nothing outlives the GPU's context.
        stack.callback(self._drop, owners)
        with self._cuda.active():
            if load_plan(plan, backend, owners[0], card.options, owners) is None:
                said = "; ".join(self._log.errors()) or "TensorRT gave no reason"
                raise ModelError(f"{path} cannot be loaded ({said}): {_rebuild(path, card)}")
            tensors = _tensors_of(owners[-1], backend)
            profile = owners[-1].get_tensor_profile_shape("images", 0) if "images" in tensors else ()
            if differs := _differs(tensors, tuple(shape[0] for shape in profile), card):
                raise ModelError(f"{path} has {differs}: {_rebuild(path, card)}")
            self._context: Any = owners[-1].create_execution_context()
            if self._context is None:
                said = "; ".join(self._log.errors()) or "TensorRT gave no reason"
                raise ModelError(
                    f"{path} cannot be run ({said}): free GPU memory, or build it with a smaller --profile (batches=)"
                )
        self._addresses: dict[str, int] = {}
        for name, shape, kind in _tensors(card):
            self._addresses[name] = self._cuda.allocate(card.batches[2] * math.prod(shape) * _SIZES[kind])
            stack.callback(self._cuda.free, self._addresses[name])
            if not self._context.set_tensor_address(name, self._addresses[name]):
                said = "; ".join(self._log.errors()) or "TensorRT gave no reason"
                raise ModelError(f"{path} does not take the buffer for {name} ({said}): {_rebuild(path, card)}")

    def _drop(self, owners: list[Any]) -> None:
        """Free in the required order: the context, its engine, its runtime, the logger."""
        with self._cuda.active():
            self._context = None
            while owners:
                owners.pop()

    def _engine_card(self) -> EngineCard:
        if self._card is None:
            raise not_open(self.path)
        return self._card


def _check_built_here(card: EngineCard, backend: Backend, cuda: Cuda, path: Path) -> None:
    """Raise ModelError unless the engine was built by this TensorRT and for this GPU."""
    rebuild = _rebuild(path, card)
    built, found = f"{card.backend} {card.version}", f"{backend.name} {backend.version}"
    if built != found and not card.options.get("version_compatible"):
        raise ModelError(f"{path} was built for another TensorRT ({built}, here is {found}): {rebuild}")
    here = cuda.gpu.facts()
    if differences := gpu_differences(card.gpu, here):
        raise ModelError(f"{path} was built for another GPU ({'; '.join(differences)}): {rebuild}")
    if card.gpu and card.gpu.get("driver") != here["driver"]:
        drivers = f"the driver of CUDA {card.gpu.get('driver', 'unknown')}, here is {here['driver']}"
        logger.warning("%s was built with %s: to tune its kernels again, %s", path, drivers, rebuild)


def _tensors(card: EngineCard) -> list[tuple[str, tuple[int, ...], str]]:
    """Input and output according to the card: name, shape without the batch, TensorRT's name of the type."""
    height, width = card.model.input_hw
    image = ((height, width, 3), "UINT8") if card.model.input_format == "nhwc-uint8" else ((3, height, width), "FLOAT")
    return [("images", *image), ("embeddings", (card.model.embedding_dim,), "FLOAT")]


def _tensors_of(engine: Any, backend: Backend) -> dict[str, tuple[tuple[int, ...], str]]:
    """Input and output of an engine, by name: shape with the batch, TensorRT's name of the type."""
    api = backend.api
    kinds = {api.DataType.UINT8: "UINT8", api.DataType.FLOAT: "FLOAT"}
    names = [engine.get_tensor_name(i) for i in range(engine.num_io_tensors)]
    return {
        name: (tuple(engine.get_tensor_shape(name)), kinds.get(engine.get_tensor_dtype(name), "another type"))
        for name in names
    }


def _differs(found: Mapping[str, tuple[tuple[int, ...], str]], batches: tuple[int, ...], card: EngineCard) -> str:
    """How an engine's tensors and batches differ from its card, by which buffers are allocated; "" if they do not."""
    wanted = _tensors(card)
    if set(found) != {name for name, _, _ in wanted}:
        return f"tensors {', '.join(sorted(found))} in place of embeddings, images"
    for name, shape, kind in wanted:
        own_shape, own_kind = found[name]
        # A profile with one batch size may be reported as a fixed shape.
        if own_shape[1:] != shape or own_shape[0] not in (-1, card.batches[2]) or own_kind != kind:
            return f"{name} of {own_kind} {list(own_shape)} where its card says {kind} {list(shape)}"
    return "" if batches == card.batches else f"batches {batches} where its card says {card.batches}"


def _rebuild(path: Path, card: EngineCard) -> str:
    """The command that builds the engine again with the options in its card."""
    onnx = path.with_suffix(".onnx")
    options = f"--backend {card.backend} --profile {':'.join(map(str, card.batches))}"
    if (workspace := card.options.get("workspace_mib")) is not None:
        options += f" --workspace {workspace}"
    if card.options.get("version_compatible"):
        options += " --version-compatible"
    if (dla := card.options.get("dla")) is not None:
        options += f" --dla {dla}"
    return f"run  reid-edge export {onnx if onnx.is_file() else onnx.name} --engine {options} --out {path.parent}"
