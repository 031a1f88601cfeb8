"""The engine that runs a TensorRT plan built by ``reid-edge export --engine``."""

from __future__ import annotations

import threading
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
from .tensorrt_api import Backend, Log, load_backend

__all__ = ["TensorRTEngine"]


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
        self._card = None
        if self._open is not None:
            self._open.close()
            self._open = None

    def _load(self, path: Path, card: EngineCard, backend: Backend, stack: ExitStack) -> None:
        api = backend.api
        self._log = Log()
        logger = self._log.logger(backend)
        with self._cuda.active():
            runtime = api.Runtime(logger)
            if card.options.get("version_compatible"):
                runtime.engine_host_code_allowed = True
            if (dla := card.options.get("dla")) is not None:
                runtime.DLA_core = dla
            engine = runtime.deserialize_cuda_engine(path.read_bytes())
            if engine is None:
                said = "; ".join(self._log.errors()) or "TensorRT gave no reason"
                raise ModelError(f"{path} cannot be loaded ({said}): {_rebuild(path)}")
            names = {engine.get_tensor_name(i) for i in range(engine.num_io_tensors)}
            if names != {"images", "embeddings"}:
                raise ModelError(
                    f"{path} has tensors {sorted(names)} and ours have images, embeddings: {_rebuild(path)}"
                )
            self._context: Any = engine.create_execution_context()
        # In the order in which they must go: the context before its engine, the engine before its runtime and logger.
        stack.callback(self._drop, [logger, runtime, engine])
        self._addresses: dict[str, int] = {}
        most, (height, width) = card.batches[2], card.model.input_hw
        pixel = 3 if card.model.layout == "nhwc-uint8" else 3 * 4
        sizes = {"images": most * height * width * pixel, "embeddings": most * card.model.embedding_dim * 4}
        for name, size in sizes.items():
            self._addresses[name] = self._cuda.allocate(size)
            stack.callback(self._cuda.free, self._addresses[name])
            self._context.set_tensor_address(name, self._addresses[name])

    def _drop(self, owners: list[Any]) -> None:
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
            raise ModelError(f"{path} was built for another {what} ({built}, here is {found}): {_rebuild(path)}")


def _rebuild(path: Path) -> str:
    return f"run  reid-edge export {path.with_suffix('.onnx').name} --engine --out {path.parent}"
