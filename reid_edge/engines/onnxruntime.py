"""The engine that runs ONNX files on ONNX Runtime."""

from __future__ import annotations

import logging
from collections import ChainMap
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from reid_edge.card import ModelCard
from reid_edge.core.threads import usable_cores
from reid_edge.errors import InputError, ModelError

from .base import as_input, check_batch, check_embeddings, not_open
from .facts import EngineFacts, board_versions
from .onnx_file import check_signature, checked_file
from .ort import CRASHES_ON_CASTS, executed_nodes, import_onnxruntime, one_line, open_file
from .providers.choice import ProviderChoice, computes, named_providers, tf32_note

if TYPE_CHECKING:
    from onnxruntime import InferenceSession

__all__ = ["OnnxEngine"]

logger = logging.getLogger(__name__)


class OnnxEngine:
    """A `reid_edge.engines.base.Engine` for an ONNX file that ``reid-edge export`` wrote.

    ``threads`` bounds the threads of one operator (None: all usable cores). ``providers`` names ONNX Runtime's
    execution providers, best first, each alone or as a pair with options of its own; None is CUDA where the installed
    wheel has it, then the CPU. ``device`` is the number of the GPU, and asks for CUDA where no provider is named.
    Where the first provider does not run the model, e.g. for lack of a library, entering raises ModelError or
    DeviceError; with ``allow_fallback``, or where neither is named, it logs a note. Entering also raises ModelError for
    a file that is damaged, was changed after its export or was not written by ``reid-edge export``; the hash in the
    file finds damage, not an attacker (`reid_edge.engines.onnx_file`).

    TensorRT computes in the precisions of the file. An option that lets it compute in less (``trt_fp16_enable``) shows
    in `facts` and in every row of figures.

    Several threads may call `run` of one open engine at once, as ONNX Runtime's sessions allow.
    """

    backend = "onnxruntime"

    def __init__(
        self,
        path: Path | str,
        threads: int | None = None,
        max_batch: int = 256,
        providers: Sequence[ProviderChoice] | None = None,
        allow_fallback: bool = False,
        *,
        device: int | None = None,
    ) -> None:
        if threads is not None and threads < 1:
            raise InputError(f"{threads} threads cannot run a model: give 1 or more, or leave it out")
        if max_batch < 1:
            raise InputError(f"a maximum batch of {max_batch} takes no crops: give 1 or more")
        self.path = Path(path)
        self.max_batch = max_batch
        self._threads = threads
        self._providers = providers
        self._allow_fallback = allow_fallback
        self._device = device
        self._session: InferenceSession | None = None
        self._card: ModelCard | None = None
        self._facts: EngineFacts | None = None

    @property
    def card(self) -> ModelCard:
        """The card in the file's metadata. Raises ModelError before ``__enter__``."""
        if self._card is None:
            raise not_open(self.path)
        return self._card

    @property
    def facts(self) -> EngineFacts:
        """What the model runs on. Raises ModelError while the engine is closed."""
        if self._facts is None:
            raise not_open(self.path)
        return self._facts

    @property
    def provider(self) -> str:
        """The execution provider that executes the most nodes. Raises ModelError while the engine is closed."""
        return self.facts.provider

    def __repr__(self) -> str:
        return f"<OnnxEngine {str(self.path)!r}: {self._facts or 'closed'}>"

    def run(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Embed uint8 [N, H, W, 3] RGB, 1 <= N <= max_batch -> float32 [N, D], rows of L2 norm 1.

        The result is the caller's own. Raises ModelError when the batch does not fit the model, and when an
        embedding is not finite or not of norm 1.
        """
        if self._session is None:
            raise not_open(self.path)
        check_batch(images, self.card, self.max_batch)
        try:
            (output,) = self._session.run(["embeddings"], {"images": as_input(images, self.card)})
        except Exception as error:  # ONNX Runtime's exceptions share no base of their own
            failed = f"ONNX Runtime failed on a batch of {len(images)} ({one_line(error)})"
            raise ModelError(f"{self.path}: {failed}: try a smaller batch") from None
        # The output is a view of ONNX Runtime's memory: return a copy.
        embeddings = np.array(output, np.float32)
        check_embeddings(embeddings, self.path)
        return embeddings

    def __enter__(self) -> OnnxEngine:
        # ONNX Runtime reads the file once more: given its bytes, it would keep them beside two copies of its own.
        with checked_file(self.path) as file:
            without = CRASHES_ON_CASTS if file.rounds_matmuls else ()
            session = open_file(
                self.path, self._threads, self._providers, self._allow_fallback, without, self._device, file.sha256
            )
        if not file.card.sealed:
            logger.warning(
                "%s has no seal, as files of earlier versions, and damage may go unseen: export it again", self.path
            )
        inputs, outputs = (
            [_described(value) for value in values()] for values in (session.get_inputs, session.get_outputs)
        )
        check_signature(inputs, outputs, file.card, self.path)
        self._card = file.card
        running = session.get_providers()
        own = [options for name, options in named_providers(self._providers or ()).items() if name in running]
        lower = computes(dict(ChainMap(*own)), file.card.precision)
        self._facts = _facts(session, self._threads, file.sha256, lower)
        if note := tf32_note(self._facts.provider, file.card.precision):
            logger.warning("%s: %s", self.path, note)
        self._session = session
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._session = self._facts = None


def _facts(session: InferenceSession, threads: int | None, sha256: str, lower: str) -> EngineFacts:
    nodes = executed_nodes(session)
    provider = next(iter(nodes or session.get_providers()))
    versions = {"onnxruntime": import_onnxruntime().__version__, **board_versions()}
    cores = threads or usable_cores()
    return EngineFacts(OnnxEngine.backend, provider, versions, cores, sha256, nodes, lower)


def _described(value: Any) -> str:
    """Name, type and shape of a graph's input or output; N stands for a dynamic batch."""
    sizes = list(value.shape)
    if sizes and not isinstance(sizes[0], int):
        sizes[0] = "N"
    return f"{value.name} {value.type} [{', '.join(map(str, sizes))}]"
