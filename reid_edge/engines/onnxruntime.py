"""The engine that runs our ONNX files on ONNX Runtime."""

from __future__ import annotations

import mmap
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from .card import CARD_KEY, ModelCard
from .engine import as_input, check_batch
from .errors import InputError, ModelError
from .files import require_file

if TYPE_CHECKING:
    from onnxruntime import InferenceSession

__all__ = ["OnnxEngine"]

_MAX_FILE_BYTES = 2 << 30
_PROVIDERS = ("CUDAExecutionProvider", "CPUExecutionProvider")
# A key-value pair whose key is "location": how an ONNX file says that its weights are in another file.
_EXTERNAL_DATA = b"\n\x08location\x12"
_ERRORS_ONLY = 3


class OnnxEngine:
    """A `reid_edge.engine.Engine` for an ONNX file that ``reid-edge export`` wrote.

    ``threads`` bounds the threads of one operator (None: ONNX Runtime's default, one per core). ``providers``
    names ONNX Runtime's execution providers, best first; None is CUDA where the installed wheel has it, then
    the CPU. Entering raises ModelError for a file that is not ours or is damaged.

    Several threads may call `run` of one open engine at once, as ONNX Runtime's sessions allow.
    """

    def __init__(
        self,
        path: Path | str,
        threads: int | None = None,
        max_batch: int = 256,
        providers: Sequence[str] | None = None,
    ) -> None:
        if threads is not None and threads < 1:
            raise InputError(f"{threads} threads cannot run a model: give 1 or more, or leave it out")
        if max_batch < 1:
            raise InputError(f"a maximum batch of {max_batch} takes no crops: give 1 or more")
        self.path = Path(path)
        self.max_batch = max_batch
        self._threads = threads
        self._providers = providers
        self._session: InferenceSession | None = None
        self._card: ModelCard | None = None

    @property
    def card(self) -> ModelCard:
        """What the model says of itself. Raises ModelError before ``__enter__``."""
        if self._card is None:
            raise self._not_open()
        return self._card

    def run(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Embed uint8 [N, H, W, 3] RGB, 1 <= N <= max_batch -> float32 [N, D], rows of L2 norm 1.

        The result is the caller's own. Raises ModelError when the batch does not fit the model, and when an
        embedding is not finite.
        """
        if self._session is None:
            raise self._not_open()
        check_batch(images, self.card, self.max_batch)
        try:
            (answer,) = self._session.run(["embeddings"], {"images": as_input(images, self.card)})
        except Exception as error:  # ONNX Runtime's exceptions share no base of their own
            failed = f"ONNX Runtime failed on a batch of {len(images)} ({_one_line(error)})"
            raise ModelError(f"{self.path}: {failed}: try a smaller batch") from None
        # ONNX Runtime hands out a window on memory of its own; what leaves here is the caller's.
        embeddings = np.array(answer, np.float32)
        self._check_finite(embeddings)
        return embeddings

    def __enter__(self) -> OnnxEngine:
        _check_file(require_file(self.path, "an ONNX model"))
        session = _session(self.path, self._threads, self._providers)
        self._card = _card_of(session, self.path)
        _check_signature(session, self._card, self.path)
        self._session = session
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._session = None

    def _not_open(self) -> ModelError:
        return ModelError(f"{self.path} is not open: use  with open_engine({str(self.path)!r}) as engine")

    def _check_finite(self, embeddings: NDArray[np.float32]) -> None:
        rows = np.flatnonzero(~np.isfinite(embeddings).all(axis=1)).tolist()
        if rows:
            named = ", ".join(map(str, rows[:5])) + (", ..." if len(rows) > 5 else "")
            raise ModelError(
                f"{self.path}: {len(rows)} of {len(embeddings)} embeddings of a batch are not finite "
                f"(rows {named}): use the model's fp32 file or export it again"
            )


def _check_file(path: Path) -> None:
    """Refuse what would not fit in memory, or would read other files, before ONNX Runtime opens it."""
    size = path.stat().st_size
    if size == 0:
        raise ModelError(f"{path} is empty (0 bytes): copy or export the model again")
    if size > _MAX_FILE_BYTES:
        raise ModelError(f"{path} is over {_MAX_FILE_BYTES >> 30} GiB, as no model of ours is: export it again")
    with open(path, "rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        if data.find(_EXTERNAL_DATA) >= 0:
            raise ModelError(f"{path} has its weights in another file: run  reid-edge export CHECKPOINT")


def _session(path: Path, threads: int | None, providers: Sequence[str] | None) -> InferenceSession:
    try:
        import onnxruntime
    except ImportError as error:
        raise ModelError(f"{path} needs onnxruntime ({error}): run  pip install onnxruntime") from None
    options = onnxruntime.SessionOptions()
    options.log_severity_level = _ERRORS_ONLY
    if threads is not None:
        options.intra_op_num_threads = threads
    chosen = _chosen(providers, onnxruntime.get_available_providers())
    try:
        return onnxruntime.InferenceSession(str(path), options, providers=chosen)
    except Exception as error:  # ONNX Runtime's exceptions share no base of their own
        failed = f"ONNX Runtime {onnxruntime.__version__} cannot open it ({_one_line(error)})"
        raise ModelError(f"{path}: {failed}: copy or export the model again") from None


def _chosen(wanted: Sequence[str] | None, available: Sequence[str]) -> list[str]:
    if wanted is None:
        return [name for name in _PROVIDERS if name in available]
    missing = [name for name in wanted if name not in available]
    if missing or not wanted:
        names = ", ".join(missing) or "that is named ''"
        raise InputError(f"ONNX Runtime here has no provider {names}: give some of {', '.join(available)}")
    return list(wanted)


def _card_of(session: InferenceSession, path: Path) -> ModelCard:
    text = session.get_modelmeta().custom_metadata_map.get(CARD_KEY)
    if text is None:
        remedy = "run  reid-edge export CHECKPOINT --out DIR  and open the .onnx it writes"
        raise ModelError(f"{path} was not written by reid-edge export: {remedy}")
    return ModelCard.from_json(text, str(path))


def _check_signature(session: InferenceSession, card: ModelCard, path: Path) -> None:
    """Raise ModelError unless the graph takes and gives what its card says: the card may be another's."""
    height, width = card.input_hw
    plain = card.layout == "nhwc-uint8"
    wanted = [
        f"images tensor(uint8) [N, {height}, {width}, 3]"
        if plain
        else f"images tensor(float) [N, 3, {height}, {width}]",
        f"embeddings tensor(float) [N, {card.embedding_dim}]",
    ]
    found = [_described(value) for value in (*session.get_inputs(), *session.get_outputs())]
    if found != wanted:
        difference = f"its graph has {'; '.join(found)} and its card wants {'; '.join(wanted)}"
        raise ModelError(f"{path}: {difference}: run  reid-edge export CHECKPOINT  again")


def _described(value: Any) -> str:
    """Name, type and shape of a graph's input or output, where N is a batch of any size."""
    sizes = list(value.shape)
    if sizes and not isinstance(sizes[0], int):
        sizes[0] = "N"
    return f"{value.name} {value.type} [{', '.join(map(str, sizes))}]"


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())[:300]
