"""The Engine contract, and the door that opens one.

An engine turns uint8 crops into embeddings, and knows its ModelCard. `open_engine` chooses by what the file is.
"""

from __future__ import annotations

from pathlib import Path
from types import TracebackType
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from .card import ModelCard
from .errors import ModelError
from .files import require_file

__all__ = ["CHECKPOINT_SUFFIXES", "Engine", "as_input", "check_batch", "open_engine"]

CHECKPOINT_SUFFIXES = frozenset({".pth", ".pt", ".tar"})
"""Files that `reid_edge.training.checkpoint.load_model` reads, and no engine does."""


class Engine(Protocol):
    """What runs a model. Construction stores; ``__enter__`` allocates; ``__exit__`` always frees."""

    @property
    def card(self) -> ModelCard:
        """What the model says of itself; known after ``__enter__``."""
        ...

    @property
    def max_batch(self) -> int:
        """The largest batch `run` takes; `Embedder` splits above it."""
        ...

    def run(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Embed a batch: uint8 [N, H, W, 3] RGB, 1 <= N <= max_batch -> float32 [N, D], rows of L2 norm 1.

        The result is the caller's own: no later call writes into it.
        """
        ...

    def __enter__(self) -> Engine: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...


def open_engine(path: Path | str, *, threads: int | None = None, max_batch: int = 256) -> Engine:
    """Choose the engine for a model file; use it in a ``with`` statement, which opens and frees it.

    ``threads`` bounds the CPU threads (None: the backend's default). Raises InputError when the file is missing and
    ModelError when it is of a kind that no engine here runs.
    """
    path = require_file(path, "a model")
    suffix = path.suffix.lower()
    if suffix == ".onnx":
        from .engine_onnx import OnnxEngine

        return OnnxEngine(path, threads=threads, max_batch=max_batch)
    if suffix in {".engine", ".plan"}:
        from .engine_tensorrt import TensorRTEngine

        return TensorRTEngine(path)
    if suffix in CHECKPOINT_SUFFIXES:
        raise ModelError(
            f"{path} is a checkpoint: run  reid-edge export {path} --out DIR  and open the .onnx it writes"
        )
    raise ModelError(
        f"{path}: unknown kind of model file {suffix!r}: give an .onnx or .engine written by reid-edge export"
    )


def as_input(images: NDArray[np.uint8], card: ModelCard) -> NDArray[Any]:
    """uint8 [N, H, W, 3] as the graph of ``card`` takes them: as they are, or float32 [N, 3, H, W], 0..255."""
    if card.layout == "nhwc-uint8":
        return images
    return np.ascontiguousarray(images.transpose(0, 3, 1, 2), np.float32)


def check_batch(images: NDArray[np.uint8], card: ModelCard, max_batch: int) -> None:
    """Raise ModelError unless ``images`` is a batch that the engine of ``card`` takes."""
    height, width = card.input_hw
    if images.dtype != np.uint8 or images.ndim != 4 or images.shape[1:] != (height, width, 3):
        raise ModelError(
            f"this model takes uint8 [N, {height}, {width}, 3] RGB, not {images.dtype} {list(images.shape)}: "
            "prepare crops with reid_edge.images"
        )
    if not 1 <= len(images) <= max_batch:
        raise ModelError(f"a batch of {len(images)} is outside 1..{max_batch}: split it, as Embedder does")
