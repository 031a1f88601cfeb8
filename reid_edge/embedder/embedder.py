"""Crops in, embeddings out: what most programs use."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import ExitStack, closing, nullcontext
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, overload

import numpy as np
from numpy.typing import NDArray

from reid_edge.card import ModelCard
from reid_edge.core.progress import track
from reid_edge.data.colors import check_color
from reid_edge.data.images import Source, check_method, crops_of
from reid_edge.engines.base import Engine
from reid_edge.engines.facts import EngineFacts
from reid_edge.engines.registry import open_engine
from reid_edge.errors import InputError

from .batching import BatchPolicy
from .boxes import BoxEmbeddings, Boxes, FrameCrops
from .flow import stream_embeddings
from .gpu_frames import CropMaker, check_resize, embed_gpu_frames, gpu_frames, host_arrays
from .sources import as_many, chunks, is_one, one_ahead
from .stream import StreamItem, StreamResult, prepare_item

__all__ = ["Embedder"]


class Embedder:
    """Embeds files, arrays and frames with one model.

    >>> frame = np.zeros((480, 640, 3), np.uint8)  # a video frame, with two detections
    >>> with Embedder(model_file) as embedder:
    ...     embeddings = embedder.embed([frame[40:300, 80:190], frame[60:290, 300:400]])
    >>> embeddings.shape, embeddings.dtype
    ((2, 24), dtype('float32'))

    ``model`` is a model file, which the Embedder opens and closes, or an open Engine, which the caller closes.
    Without ``with`` a file is opened by the first use and closed by `close` or with the process. A closed Embedder is
    not opened again; its `card` stays known. ``batch`` is the maximum number of crops to run at once. ``resize``
    replaces the card's resize method (`reid_edge.data.images.RESIZES`). For a model file, ``threads`` bounds the CPU
    threads and ``backend`` names what runs it, as `reid_edge.open_engine` takes them.

    One thread at a time may use an Embedder: give each its own, on one shared engine if that allows it.
    """

    def __init__(
        self,
        model: Path | str | Engine,
        *,
        batch: int = 32,
        resize: str | None = None,
        threads: int | None = None,
        backend: str | None = None,
    ) -> None:
        if batch < 1:
            raise InputError(f"a batch of {batch} takes no crops: give 1 or more")
        if not isinstance(model, Path | str):
            for name, value in (("threads", threads), ("backend", backend)):
                if value is not None:
                    raise InputError(f"{name} is for model files: give it to open_engine instead")
        self._model = model
        self._batch = batch
        self._resize = None if resize is None else check_method(resize)
        self._threads = threads
        self._backend = backend
        self._engine: Engine | None = None
        self._card: ModelCard | None = None
        self._owned = ExitStack()
        self._crop_maker: CropMaker | None = None
        self._closed = False

    @property
    def card(self) -> ModelCard:
        """The model's card; opens the model file if it is not open yet."""
        if self._card is None:
            self._opened()
        assert self._card is not None
        return self._card

    @property
    def facts(self) -> EngineFacts:
        """What computes the embeddings; opens the model file if it is not open yet."""
        return self._opened().facts

    @property
    def resize(self) -> str:
        """The resize method: the one asked for, else the card's."""
        return self._resize or self.card.resize

    @overload
    def embed(
        self,
        sources: Source | Iterable[Source],
        color: str = "rgb",
        progress: bool = False,
        *,
        boxes: Boxes | None = None,
        details: Literal[False] = False,
    ) -> NDArray[np.float32]: ...

    @overload
    def embed(
        self,
        sources: Source | Iterable[Source],
        color: str = "rgb",
        progress: bool = False,
        *,
        boxes: Boxes,
        details: Literal[True],
    ) -> BoxEmbeddings: ...

    def embed(
        self,
        sources: Source | Iterable[Source],
        color: str = "rgb",
        progress: bool = False,
        *,
        boxes: Boxes | None = None,
        details: bool = False,
    ) -> NDArray[np.float32] | BoxEmbeddings:
        """Embed crops: float32 [N, D], rows of L2 norm 1, in the order given; the caller's own.

        ``sources`` are paths of files, arrays and Pillow images that `reid_edge.data.colors.as_rgb` takes, in any
        mixture, from any iterable; or one array [N, h, w, 3]; or a single crop, for [1, D]. The result without crops
        is [0, D]. ``color`` is that of the arrays ("bgr" for OpenCV's frames). However many there are, about two
        batches are in memory at once. ``progress`` shows a bar on standard error.

        With ``boxes`` the sources are frames, and a row is a box with area inside its frame: [M, D]. For one frame,
        ``boxes`` are [N, 4], x1, y1, x2, y2 in pixels, or a detector's `reid_edge.embedder.boxes.Boxes`; for several
        frames, those of each frame in turn. ``details`` gives a `BoxEmbeddings` instead, which knows the frame and the
        box of each row, and which boxes the frame clips or are too small (`reid_edge.embedder.boxes.MIN_HEIGHT`) to be
        trusted.

        Frames may be on the GPU, as one array or a list: cropped there, see `reid_edge.embedder.gpu_frames`.

        >>> frame = np.zeros((480, 640, 3), np.uint8)
        >>> with Embedder(model_file) as embedder:
        ...     found = embedder.embed(frame, "bgr", boxes=[[80, 40, 190, 300], [-9, 0, -1, 99]], details=True)
        >>> found, found.kept.tolist()
        (<BoxEmbeddings: 1 boxes, 24 dimensions, 0 clipped, 0 too small>, [0])

        Raises ImageError for a source that cannot be read, InputError for boxes that are none, and ModelError for a
        model that cannot be run; each ends the call without a result.
        """
        if boxes is None and details:
            raise InputError("details are about boxes: give boxes=")
        if (on_gpu := gpu_frames(sources, boxes, color)) is not None:
            found = self._embed_on_gpu(*on_gpu, color)
            return found if details else found.embeddings
        sources = host_arrays(sources)
        if boxes is None:
            return self._embed(sources, color, progress)
        check_color(color)
        crops = FrameCrops(as_many(sources), [boxes] if is_one(sources) else boxes, color)
        embeddings = self._embed(crops, "rgb", progress)
        return crops.with_embeddings(embeddings) if details else embeddings

    def stream(
        self,
        items: Iterable[StreamItem],
        color: str = "rgb",
        *,
        max_latency_ms: float | None = 100.0,
        max_batch: int | None = None,
    ) -> Iterator[StreamResult]:
        """Embed crops, or frames and their boxes, as they come: a generator of one `StreamResult` an item, in order.

        ``items`` are what `embed` takes, and pairs ``(frame, boxes)``, from any iterable. Threads read, prepare and run
        them a few batches ahead of the consumer; who is slow is waited for, so that memory stays bounded. ``color`` is
        that of arrays and frames.

        A batch leaves when ``max_batch`` crops wait (None: the Embedder's), when no more are on their way, or when its
        oldest crop would be later than ``max_latency_ms`` after it was read (None: no bound). No batch is so large that
        it takes over half of the bound. An item that is wrong has an ``error`` in its result, and the stream goes on.
        What the source raises is raised after the results of all before it. A GPU that fails ends the stream, and so
        does an engine that fails on 64 crops in a row.

        Closing the generator, or an error, ends the threads, and closes ``items`` if that has a ``close``. To leave a
        loop early, close it: ``with contextlib.closing(embedder.stream(items)) as results``.

        Raises InputError for a bound or a batch that is not positive.

        >>> frame = np.full((480, 640, 3), 90, np.uint8)
        >>> frames = ((frame, [[80, 40, 190, 300 + shift]]) for shift in range(3))  # your camera and your detector
        >>> with Embedder(model_file) as embedder:
        ...     [(result.index, result.embeddings.shape, result.error) for result in embedder.stream(frames, "bgr")]
        [(0, (1, 24), None), (1, (1, 24), None), (2, (1, 24), None)]
        """
        if max_latency_ms is not None and not max_latency_ms > 0:
            raise InputError(f"a latency of at most {max_latency_ms} ms cannot be kept: give more than 0, or None")
        if max_batch is not None and max_batch < 1:
            raise InputError(f"a batch of {max_batch} takes no crops: give 1 or more")
        check_color(color)
        engine = self._opened()
        prepare = partial(prepare_item, input_hw=self.card.input_hw, resize=self.resize, color=color)
        seconds = None if max_latency_ms is None else max_latency_ms / 1e3
        policy = BatchPolicy(min(max_batch or self._batch, engine.max_batch), seconds)
        return stream_embeddings(items, engine, prepare, policy)

    def close(self) -> None:
        """Free the model, if the Embedder opened it. Later uses raise InputError."""
        self._engine = None
        self._closed = True
        self._owned.close()

    def __repr__(self) -> str:
        file = f" {str(self._model)!r}" if isinstance(self._model, Path | str) else ""
        if self._engine is None or self._card is None:
            return f"<Embedder{file}: {'closed' if self._closed else 'not open yet'}>"
        model = f"{self._card.architecture} {self._card.precision} on {self._engine.backend}"
        return f"<Embedder{file}: {model}, {self._card.embedding_dim} dimensions, batches of {self._batch}>"

    def __enter__(self) -> Embedder:
        self._opened()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _opened(self) -> Engine:
        if self._closed:
            raise InputError("this Embedder is closed: make another, or keep it open with  with Embedder(model)")
        if self._engine is None:
            engine = self._model
            with ExitStack() as on_failure:
                if isinstance(engine, Path | str):
                    engine = on_failure.enter_context(open_engine(engine, backend=self._backend, threads=self._threads))
                check_method(self._resize or engine.card.resize)
                self._owned = on_failure.pop_all()
            self._engine, self._card = engine, engine.card
        return self._engine

    def _embed(self, sources: Source | Iterable[Source], color: str, progress: bool) -> NDArray[np.float32]:
        """The embeddings [N, D] of crops."""
        engine = self._opened()
        crops = as_many(sources)
        with closing(track(crops, "embedding")) if progress else nullcontext(crops) as shown:
            parts = [engine.run(images) for images in self._batches(shown, color)]
        return np.concatenate([np.empty((0, engine.card.embedding_dim), np.float32), *parts])

    def _embed_on_gpu(self, frames: list[Any], boxes: Iterable[Boxes] | None, color: str) -> BoxEmbeddings:
        engine = self._opened()
        check_resize(self.resize)
        if self._crop_maker is None:
            from reid_edge.engines.cuda_frames.crops import CudaCrops

            self._crop_maker = self._owned.enter_context(CudaCrops())
        batch = min(self._batch, engine.max_batch)
        return embed_gpu_frames(engine, self._crop_maker, frames, boxes, color, batch)

    def _batches(self, sources: Iterable[Source], color: str) -> Iterator[NDArray[np.uint8]]:
        input_hw, resize = self.card.input_hw, self.resize

        def prepared(first: int, chunk: list[Source]) -> NDArray[np.uint8]:
            return crops_of(chunk, input_hw, resize, color, first)

        return one_ahead(prepared, chunks(sources, min(self._batch, self._opened().max_batch)))
