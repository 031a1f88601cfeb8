"""Crops in, embeddings out: the door that most programs use."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from itertools import islice
from pathlib import Path
from types import TracebackType

import numpy as np
from numpy.typing import NDArray

from .card import ModelCard
from .engine import Engine, open_engine
from .errors import InputError
from .images import Source, check_method, crops_of
from .progress import track

__all__ = ["Embedder"]


class Embedder:
    """Embeds files, arrays and frames with one model.

    ::

        with Embedder("osnet_x0_25_fp32.onnx") as embedder:
            embeddings = embedder.embed(["a.jpg", frame[40:300, 80:190]])  # float32 [2, D]

    ``model`` is a model file, which the Embedder opens and closes, or an open Engine, which its maker closes.
    Without ``with`` a file is opened by the first use and closed by `close` or with the process. ``batch`` is
    the most crops to run at once. ``resize`` replaces the card's way to the input size
    (`reid_edge.images.RESIZES`), ``threads`` bounds the CPU threads of a model file.

    One thread at a time may use an Embedder: give each its own, on one shared engine if that allows it.
    """

    def __init__(
        self,
        model: Path | str | Engine,
        *,
        batch: int = 32,
        resize: str | None = None,
        threads: int | None = None,
    ) -> None:
        if batch < 1:
            raise InputError(f"a batch of {batch} takes no crops: give 1 or more")
        if threads is not None and not isinstance(model, Path | str):
            raise InputError("threads is for model files: set it where the engine is made")
        self._model = model
        self._batch = batch
        self._resize = None if resize is None else check_method(resize)
        self._threads = threads
        self._engine: Engine | None = None
        self._card: ModelCard | None = None
        self._owned = ExitStack()

    @property
    def card(self) -> ModelCard:
        """What the model says of itself; opens a model file that was not open yet."""
        if self._card is None:
            self._opened()
        assert self._card is not None
        return self._card

    @property
    def resize(self) -> str:
        """How crops come to the input size: what was asked for, else what the card says."""
        return self._resize or self.card.resize

    def embed(
        self,
        sources: Source | Iterable[Source],
        channel_order: str = "RGB",
        progress: bool = False,
    ) -> NDArray[np.float32]:
        """Embed crops: float32 [N, D], rows of L2 norm 1, in the order given; the caller's own.

        ``sources`` are paths of files and arrays that `reid_edge.images.as_rgb` takes, mixed as they come,
        from any iterable; or one array [N, h, w, 3]; or a single crop, for [1, D]. No crops give [0, D].
        ``channel_order`` is that of the arrays ("BGR" for OpenCV's frames). However many there are, about two
        batches are in memory at once. ``progress`` shows a bar on standard error.

        Raises ImageError for a source that cannot be read and ModelError for a model that cannot be run;
        either ends the call without a result.
        """
        engine = self._opened()
        crops = _as_many(sources)
        if progress:
            crops = track(crops, "embedding")
        parts = [engine.run(images) for images in self._batches(crops, channel_order)]
        return np.concatenate([np.empty((0, engine.card.embedding_dim), np.float32), *parts])

    def close(self) -> None:
        """Free the model, if the Embedder opened it. The next use opens it again."""
        self._engine = None
        self._owned.close()

    def __enter__(self) -> Embedder:
        self._opened()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _opened(self) -> Engine:
        if self._engine is None:
            engine = self._model
            with ExitStack() as on_failure:
                if isinstance(engine, Path | str):
                    engine = on_failure.enter_context(open_engine(engine, threads=self._threads))
                check_method(self._resize or engine.card.resize)
                self._owned = on_failure.pop_all()
            self._engine, self._card = engine, engine.card
        return self._engine

    def _batches(self, sources: Iterable[Source], channel_order: str) -> Iterator[NDArray[np.uint8]]:
        input_hw, resize = self.card.input_hw, self.resize

        def prepared(first: int, chunk: list[Source]) -> NDArray[np.uint8]:
            return crops_of(chunk, input_hw, resize, channel_order, first)

        return _one_ahead(prepared, _chunks(sources, min(self._batch, self._opened().max_batch)))


def _as_many(sources: Source | Iterable[Source]) -> Iterable[Source]:
    """Make an iterable of what may be one image."""
    if isinstance(sources, np.ndarray):
        return [sources] if sources.ndim < 4 else list(sources)
    if isinstance(sources, str | Path) or not isinstance(sources, Iterable):
        return [sources]
    return sources


def _chunks(sources: Iterable[Source], size: int) -> Iterator[tuple[int, list[Source]]]:
    """Split into lists of ``size``, the last one ragged, each with the number of its first source."""
    first, rest = 0, iter(sources)
    while chunk := list(islice(rest, size)):
        yield first, chunk
        first += len(chunk)


def _one_ahead(
    prepare: Callable[[int, list[Source]], NDArray[np.uint8]], chunks: Iterator[tuple[int, list[Source]]]
) -> Iterator[NDArray[np.uint8]]:
    """Prepare each chunk; while the caller uses one batch, a thread prepares the next.

    It saves up to half the time where the engine does not run on the CPU, and costs nothing where it does.
    The first batch has nothing to overlap with, so a single one never starts the thread.
    """
    start = next(chunks, None)
    if start is None:
        return
    batch = prepare(*start)
    with ThreadPoolExecutor(1) as pool:
        for chunk in chunks:
            following = pool.submit(prepare, *chunk)
            yield batch
            batch = following.result()
        yield batch
