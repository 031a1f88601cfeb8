"""Frames that other libraries hold: on the GPU, cropped and embedded there; tensors in host memory, as NumPy arrays."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from reid_edge.engines.base import Engine
from reid_edge.engines.cuda_frames.arrays import is_on_gpu
from reid_edge.engines.cuda_frames.work import DeviceFrame
from reid_edge.errors import ImageError, InputError

from .boxes import BoxEmbeddings, Boxes, ClippedBoxes, clip_boxes

__all__ = ["CropMaker", "check_resize", "embed_gpu_frames", "gpu_frames", "host_arrays"]


class CropMaker(Protocol):
    """What makes crops where frames are: `reid_edge.engines.cuda_frames.crops.CudaCrops`, which says what each does."""

    def open_frame(self, image: Any, color: str, name: str) -> DeviceFrame:
        """A frame's memory."""
        ...

    def fill(
        self, frame: DeviceFrame, edges: NDArray[np.int64], input_hw: tuple[int, int], address: int, stream: int
    ) -> None:
        """Enqueue what writes the crops."""
        ...

    def download(
        self, parts: Sequence[tuple[DeviceFrame, NDArray[np.int64]]], input_hw: tuple[int, int]
    ) -> NDArray[np.uint8]:
        """The crops in host memory."""
        ...


def gpu_frames(sources: Any, boxes: Any, color: str) -> tuple[list[Any], Any] | None:
    """The frames of ``sources`` and the boxes of each (None without ``boxes``), if they are on the GPU; else None.

    One array is a frame with ``boxes`` for it; a list of arrays is several, with boxes for each. With "nv12" a tuple of
    two is one frame: its planes. Raises InputError for a list of which only a part is on the GPU.
    """
    if _is_frame(sources, color):
        return [sources], None if boxes is None else [boxes]
    if not isinstance(sources, list | tuple):
        return None
    found = [_is_frame(source, color) for source in sources]
    if any(found) and not all(found):
        where = ("on the GPU", "in host memory") if found[0] else ("in host memory", "on the GPU")
        raise InputError(f"frame 0 is {where[0]}, frame {found.index(not found[0])} {where[1]}: embed them apart")
    return (list(sources), boxes) if any(found) else None


def _is_frame(source: Any, color: str) -> bool:
    planes = source if color == "nv12" and isinstance(source, tuple) and len(source) == 2 else (source,)
    return all(map(is_on_gpu, planes))


def host_arrays(sources: Any) -> Any:
    """Tensors in host memory (DLPack), one or a list or tuple of them, as NumPy arrays without a copy; others as given.

    Raises ImageError for a tensor that its library does not share.

    >>> host_arrays(["anna.jpg", np.zeros(3)])
    ['anna.jpg', array([0., 0., 0.])]
    """
    if isinstance(sources, list | tuple):
        return [host_arrays(source) for source in sources]
    if isinstance(sources, np.ndarray) or not hasattr(sources, "__dlpack__"):
        return sources
    try:
        return np.from_dlpack(sources)
    except (BufferError, RuntimeError, TypeError, ValueError) as error:
        reason = " ".join(str(error).split())[:200]
        raise ImageError(f"a {type(sources).__name__} cannot be read ({reason}): give a NumPy array") from None


def check_resize(method: str) -> None:
    """Raise InputError unless crops are resized as the kernel does it."""
    if method != "opencv":
        raise InputError(
            f"frames on the GPU are resized by 'opencv', and these crops by {method!r}: give frames in host memory, or "
            "Embedder(..., resize='opencv') if an evaluation with it is as good"
        )


def embed_gpu_frames(
    engine: Engine, maker: CropMaker, frames: Sequence[Any], boxes: Iterable[Boxes] | None, color: str, batch: int
) -> BoxEmbeddings:
    """Embed the boxes of frames on the GPU, without ``boxes`` each frame as a crop, in batches of ``batch`` at most.

    An engine with ``run_filled`` gets the crops written into its own input, on its own stream. Others take images:
    crops are made on the GPU and copied down. Raises what `CudaCrops.open_frame`, `clip_boxes` and the engine raise,
    and InputError unless every frame has boxes.
    """
    opened = [maker.open_frame(frame, color, f"frame {number}") for number, frame in enumerate(frames)]
    inside = _clipped(opened, boxes)
    parts = [(frame, one.edges) for frame, one in zip(opened, inside, strict=True)]
    embeddings = [_run(engine, maker, chunk) for chunk in _batches(parts, batch)]
    return BoxEmbeddings(
        np.concatenate([np.empty((0, engine.card.embedding_dim), np.float32), *embeddings]),
        frame=np.repeat(np.arange(len(inside)), [len(one.kept) for one in inside]),
        kept=np.concatenate([one.kept for one in inside]),
        clipped=np.concatenate([one.clipped for one in inside]),
        too_small=np.concatenate([one.too_small for one in inside]),
    )


_Parts = list[tuple[DeviceFrame, NDArray[np.int64]]]


def _clipped(frames: Sequence[DeviceFrame], boxes: Iterable[Boxes] | None) -> list[ClippedBoxes]:
    whole = [[[0, 0, frame.hw[1], frame.hw[0]]] for frame in frames]
    given = whole if boxes is None else list(boxes)
    if len(given) != len(frames):
        raise InputError(f"there are {len(frames)} frames, and boxes for {len(given)}: give every frame its boxes")
    return [
        clip_boxes(one, frame.hw, f"frame {number}")
        for number, (one, frame) in enumerate(zip(given, frames, strict=True))
    ]


def _batches(parts: _Parts, size: int) -> Iterator[_Parts]:
    """Split boxes into batches of ``size``, the last one ragged; a batch may hold boxes of several frames."""
    batch, room = _Parts(), size
    for frame, edges in parts:
        while len(edges):
            batch.append((frame, edges[:room]))
            edges, room = edges[room:], room - len(batch[-1][1])
            if not room:
                yield batch
                batch, room = _Parts(), size
    if batch:
        yield batch


def _run(engine: Engine, maker: CropMaker, parts: _Parts) -> NDArray[np.float32]:
    """The embeddings of one batch."""
    card = engine.card
    run_filled = getattr(engine, "run_filled", None)
    if run_filled is None or card.input_format != "nhwc-uint8":
        return engine.run(maker.download(parts, card.input_hw))

    def fill(address: int, stream: int) -> None:
        for frame, edges in parts:
            maker.fill(frame, edges, card.input_hw, address, stream)
            address += len(edges) * card.input_hw[0] * card.input_hw[1] * 3

    embeddings: NDArray[np.float32] = run_filled(sum(len(edges) for _, edges in parts), fill)
    return embeddings
