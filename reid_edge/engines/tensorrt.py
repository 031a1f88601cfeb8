"""The engine that runs a TensorRT plan built by ``reid-edge export --engine``."""

from __future__ import annotations

import hashlib
import math
import threading
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .card import ModelCard
from .cuda import Cuda, open_cuda
from .engine import as_input, check_batch
from .engine_card import EngineCard
from .errors import ModelError
from .files import require_file
from .tensorrt_api import Backend, Log, load_backend, load_plan

__all__ = ["TensorRTEngine"]

_SIZES = {"UINT8": 1, "FLOAT": 4}


class TensorRTEngine:
    """A `reid_edge.engine.Engine` for an engine file with its card beside it.

    ``cuda`` names one of `reid_edge.cuda.BINDINGS` (None: the first there is). Entering raises ModelError for an engine
    of another TensorRT or GPU, before it is loaded: plans are code, and a foreign one may crash the process.

    Device memory for the largest batch is allocated once, on entering. Several threads may call `run`; they take turns.
    """

    def __init__(self, path: Path | str, cuda: str | None = None) -> None:
        self.path = Path(path)
        self._binding = cuda
        self._lock = threading.Lock()
        self._open: ExitStack | None = None
        self._card: EngineCard | None = None

    @property
    def card(self) -> ModelCard:
        """What the model says of itself. Raises ModelError before ``__enter__``."""
        return self._engine_card().model

    @property
    def max_batch(self) -> int:
        """The largest batch of the profile that the engine was built with."""
        return self._engine_card().batches[2]

    def run(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Embed uint8 [N, H, W, 3] RGB, 1 <= N <= max_batch -> float32 [N, D], rows of L2 norm 1.

        A batch below the profile's least is padded. Raises ModelError when the batch does not fit the model, the GPU
        reports an error, or an embedding is not finite.
        """
        card = self._engine_card()
        check_batch(images, card.model, self.max_batch)
        count = len(images)
        shown = np.ascontiguousarray(as_input(images, card.model))
        if count < card.batches[0]:
            shown = np.resize(shown, (card.batches[0], *shown.shape[1:]))
        answer = np.empty((len(shown), card.model.embedding_dim), np.float32)
        with self._lock, self._cuda.active():
            self._engine_card()  # nobody closed it while this thread waited
            self._cuda.upload(self._addresses["images"], shown)
            if not self._context.set_input_shape("images", shown.shape):
                raise ModelError(f"{self.path} does not take a batch of {len(shown)}: build it with other --batch")
            if not self._context.execute_async_v3(self._cuda.stream):
                raise ModelError(f"{self.path} failed: {'; '.join(self._log.errors()) or 'TensorRT gave no reason'}")
            self._cuda.download(answer, self._addresses["embeddings"])
            self._cuda.synchronize()
        if not np.isfinite(answer[:count]).all():
            raise ModelError(f"{self.path}: embeddings are not finite: use the model's fp32 engine or export it again")
        return answer[:count]

    def __enter__(self) -> TensorRTEngine:
        path = require_file(self.path, "a TensorRT engine")
        card = EngineCard.read(path)
        backend = load_backend(card.backend)
        with ExitStack() as stack:
            self._cuda: Cuda = open_cuda(self._binding)
            stack.callback(self._cuda.close)
            _check_home(card, backend, self._cuda, path)
            self._load(path, card, backend, stack)
            self._open = stack.pop_all()
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
            raise ModelError(f"{path} is not the engine that its card tells of: {_rebuild(path, card)}")
        self._log = Log()
        owners: list[Any] = [self._log.logger(backend)]
        # Before anything is made, so that an error leaves nothing behind that outlives the GPU's context.
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
                said = "; ".join(self._log.errors()) or "is GPU memory left?"
                raise ModelError(f"{path} cannot be run ({said}): free GPU memory, or build it with a smaller --batch")
        self._addresses: dict[str, int] = {}
        for name, shape, kind in _tensors(card):
            self._addresses[name] = self._cuda.allocate(card.batches[2] * math.prod(shape) * _SIZES[kind])
            stack.callback(self._cuda.free, self._addresses[name])
            self._context.set_tensor_address(name, self._addresses[name])

    def _drop(self, owners: list[Any]) -> None:
        """In the order in which they must go: the context, its engine, its runtime, the logger."""
        with self._cuda.active():
            self._context = None
            while owners:
                owners.pop()

    def _engine_card(self) -> EngineCard:
        if self._card is None:
            raise ModelError(f"{self.path} is not open: use  with open_engine({str(self.path)!r}) as engine")
        return self._card


def _check_home(card: EngineCard, backend: Backend, cuda: Cuda, path: Path) -> None:
    """Raise ModelError unless the engine was built by this TensorRT and for this GPU."""
    loose = bool(card.options.get("version_compatible"))
    here = [("TensorRT", f"{card.backend} {card.version}", f"{backend.name} {backend.version}")] if not loose else []
    if card.gpu:
        here.append(("GPU", card.gpu, cuda.gpu.described()))
    for what, built, found in here:
        if built != found:
            raise ModelError(f"{path} was built for another {what} ({built}, here is {found}): {_rebuild(path, card)}")


def _tensors(card: EngineCard) -> list[tuple[str, tuple[int, ...], str]]:
    """What the model's card says goes in and out: name, shape without the batch, TensorRT's name of the type."""
    height, width = card.model.input_hw
    image = ((height, width, 3), "UINT8") if card.model.layout == "nhwc-uint8" else ((3, height, width), "FLOAT")
    return [("images", *image), ("embeddings", (card.model.embedding_dim,), "FLOAT")]


def _tensors_of(engine: Any, backend: Backend) -> dict[str, tuple[tuple[int, ...], str]]:
    """What an engine takes and gives, by name: shape with the batch, TensorRT's name of the type."""
    api = backend.api
    kinds = {api.DataType.UINT8: "UINT8", api.DataType.FLOAT: "FLOAT"}
    names = [engine.get_tensor_name(i) for i in range(engine.num_io_tensors)]
    return {
        name: (tuple(engine.get_tensor_shape(name)), kinds.get(engine.get_tensor_dtype(name), "another type"))
        for name in names
    }


def _differs(found: Mapping[str, tuple[tuple[int, ...], str]], batches: tuple[int, ...], card: EngineCard) -> str:
    """How an engine's tensors and batches differ from its card's, whose sizes the buffers have; empty when not."""
    wanted = _tensors(card)
    if set(found) != {name for name, _, _ in wanted}:
        return f"tensors {', '.join(sorted(found))} where ours have embeddings, images"
    for name, shape, kind in wanted:
        own_shape, own_kind = found[name]
        # A batch that is always the same may be reported as such.
        if own_shape[1:] != shape or own_shape[0] not in (-1, card.batches[2]) or own_kind != kind:
            return f"{name} of {own_kind} {list(own_shape)} where its card says {kind} {list(shape)}"
    return "" if batches == card.batches else f"batches {batches} where its card says {card.batches}"


def _rebuild(path: Path, card: EngineCard) -> str:
    """The command that builds an engine as it was built, as far as its card knows."""
    onnx = path.with_suffix(".onnx")
    options = f"--backend {card.backend} --batch {':'.join(map(str, card.batches))}"
    if (workspace := card.options.get("workspace_mib")) is not None:
        options += f" --workspace {workspace}"
    if card.options.get("version_compatible"):
        options += " --version-compatible"
    if (dla := card.options.get("dla")) is not None:
        options += f" --dla {dla}"
    return f"run  reid-edge export {onnx if onnx.is_file() else onnx.name} --engine {options} --out {path.parent}"
