"""The Engine contract, and the checks and preparation that every engine shares.

A backend is a class that satisfies `Engine` and a row of `reid_edge.engines.registry.ENGINE_BACKENDS`, here in a file
of its own or in another package: ``docs/extend/engine.md`` adds one.
"""

from __future__ import annotations

from pathlib import Path
from types import TracebackType
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from reid_edge.card import ModelCard
from reid_edge.errors import ModelError

from .facts import EngineFacts

__all__ = ["COLLAPSED", "Engine", "as_input", "check_batch", "check_embeddings", "not_open"]

_NORM_TOLERANCE = 1e-3
"""Of the squared norm. The L2 norm at a graph's end is computed in FP32: it is within 1e-6 of 1 in every precision."""


class Engine(Protocol):
    """Runs a model. The constructor stores its options, ``__enter__`` allocates, ``__exit__`` always frees."""

    @property
    def card(self) -> ModelCard:
        """The card of the model; known after ``__enter__``."""
        ...

    @property
    def max_batch(self) -> int:
        """The largest batch `run` takes; `Embedder` splits above it."""
        ...

    @property
    def backend(self) -> str:
        """The backend's name, e.g. "onnxruntime"; that of its row in the registry where it has one."""
        ...

    @property
    def provider(self) -> str:
        """What really runs the model, e.g. "CPUExecutionProvider" or "TensorRT 10.3.0"; known after ``__enter__``."""
        ...

    @property
    def facts(self) -> EngineFacts:
        """What runs the model, for every row of figures; known after ``__enter__``."""
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


def as_input(images: NDArray[np.uint8], card: ModelCard) -> NDArray[Any]:
    """Convert uint8 [N, H, W, 3] to the graph's input format: unchanged, or float32 [N, 3, H, W] on 0..255."""
    if card.input_format == "nhwc-uint8":
        return images
    return np.ascontiguousarray(images.transpose(0, 3, 1, 2), np.float32)


def check_batch(images: NDArray[np.uint8], card: ModelCard, max_batch: int) -> None:
    """Raise ModelError unless ``images`` is uint8 [N, H, W, 3] of the card's size and 1 <= N <= ``max_batch``."""
    height, width = card.input_hw
    if images.dtype != np.uint8 or images.ndim != 4 or images.shape[1:] != (height, width, 3):
        raise ModelError(
            f"this model takes uint8 [N, {height}, {width}, 3] RGB, not {images.dtype} {list(images.shape)}: "
            "prepare crops with reid_edge.data.images"
        )
    if not 1 <= len(images) <= max_batch:
        raise ModelError(f"a batch of {len(images)} is outside 1..{max_batch}: split it, as Embedder does")


COLLAPSED = "its training collapsed or was too short, train again with a lower --lr or more --epochs"
"""What zero embeddings mean: OSNet ends in a ReLU, which can be zero for every crop."""


def check_embeddings(embeddings: NDArray[np.float32], path: Path) -> None:
    """Raise ModelError, naming the rows of the batch, where embeddings [N, D] are not finite or not of L2 norm 1."""
    with np.errstate(over="ignore", invalid="ignore"):
        # A row at a time: of one embedding, right after a model has run, a third of the time of arrays' operations.
        unit = [abs(float(np.dot(row, row)) - 1) <= _NORM_TOLERANCE for row in embeddings]  # of NaN: False
    if not all(unit):
        wrong = ~np.array(unit)
        finite = bool(np.isfinite(embeddings).all())
        rows = np.flatnonzero(wrong if finite else ~np.isfinite(embeddings).all(axis=1)).tolist()
        named = ", ".join(map(str, rows[:5])) + (", ..." if len(rows) > 5 else "")
        where = f"{path}: {len(rows)} of {len(embeddings)} embeddings of a batch are"
        if finite and not embeddings[rows].any():
            raise ModelError(f"{where} zero (rows {named}): use the model's fp32 file; if that is one, {COLLAPSED}")
        fault = "of norm 1" if finite else "finite"
        raise ModelError(f"{where} not {fault} (rows {named}): use the model's fp32 file or export it again")


def not_open(path: Path) -> ModelError:
    """The error for an engine that is used outside of its ``with`` block."""
    return ModelError(f"{path} is not open: use  with open_engine({str(path)!r}) as engine")
