"""The engine that runs ONNX files on OpenVINO: on CPUs that compute in bf16, up to twice as fast as in FP32."""

from __future__ import annotations

import threading
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from reid_edge.card import ModelCard
from reid_edge.core.files import is_utf8
from reid_edge.core.optional import import_optional
from reid_edge.core.threads import usable_cores
from reid_edge.errors import InputError, ModelError

from .base import as_input, check_batch, check_embeddings, not_open
from .facts import EngineFacts, board_versions
from .onnx_file import check_signature, checked_file
from .ort import one_line

__all__ = ["OPENVINO_PRECISIONS", "OpenVINOEngine"]

OPENVINO_PRECISIONS = {"fp32": "f32", "bf16": "bf16"}
"""What the layers that a file has in FP32 or FP16 may be computed in, and OpenVINO's names
(https://docs.openvino.ai/2026/openvino-workflow/running-inference/optimize-inference/precision-control.html)."""

_KINDS = {"u8": "tensor(uint8)", "f32": "tensor(float)"}


class OpenVINOEngine:
    """A `reid_edge.engines.base.Engine` for an ONNX file that ``reid-edge export`` wrote.

    ``precision`` is what layers in FP32 or FP16 are computed in: "fp32", or "bf16" where the CPU has instructions for
    it. bf16 keeps 8 bits of each value; its gate limits are a row of their own. It is never a default: OpenVINO itself
    would take it without a word. INT8 layers stay in INT8. ``threads`` bounds the CPU threads (None: all usable cores).

    Several threads may call `run`; each has its own request, ``contexts`` of them run side by side on an equal share of
    the CPU threads, and the others wait (OpenVINO's ``NUM_STREAMS``).

    Entering raises ModelError for a file that is damaged or does not run, InputError for bf16 on a CPU without it, and
    MissingExtraError without OpenVINO.
    """

    backend = "openvino"

    def __init__(
        self,
        path: Path | str,
        threads: int | None = None,
        max_batch: int = 256,
        precision: str | None = None,
        *,
        contexts: int = 1,
    ) -> None:
        if threads is not None and threads < 1:
            raise InputError(f"{threads} threads cannot run a model: give 1 or more, or leave it out")
        if max_batch < 1:
            raise InputError(f"a maximum batch of {max_batch} takes no crops: give 1 or more")
        if precision not in (None, *OPENVINO_PRECISIONS):
            known = ", ".join(OPENVINO_PRECISIONS)
            raise InputError(f"OpenVINO computes in no precision {precision!r} here: give one of {known}")
        self.path = Path(path)
        self.max_batch = max_batch
        self._threads = threads or usable_cores()
        if not 1 <= contexts <= self._threads:
            least = f"give 1 to {self._threads}, or more threads"
            raise InputError(f"{contexts} contexts cannot share {self._threads} CPU threads: {least}")
        self._contexts = contexts
        self._precision = precision or "fp32"
        self._compiled: Any = None
        self._card: ModelCard | None = None
        self._facts: EngineFacts | None = None
        self._own = threading.local()

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
        """OpenVINO and its device. Raises ModelError while the engine is closed."""
        return self.facts.provider

    def __repr__(self) -> str:
        return f"<OpenVINOEngine {str(self.path)!r}: {self._facts or 'closed'}>"

    def run(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Embed uint8 [N, H, W, 3] RGB, 1 <= N <= max_batch -> float32 [N, D], rows of L2 norm 1.

        The result is the caller's own. Raises ModelError when the batch does not fit the model, and when an
        embedding is not finite or not of norm 1.
        """
        compiled = self._compiled
        if compiled is None:
            raise not_open(self.path)
        check_batch(images, self.card, self.max_batch)
        try:
            output = self._request(compiled).infer({"images": as_input(images, self.card)}, share_inputs=True)[0]
        except Exception as error:  # OpenVINO raises RuntimeError for nearly everything
            failed = f"OpenVINO failed on a batch of {len(images)} ({one_line(error)})"
            raise ModelError(f"{self.path}: {failed}: try a smaller batch") from None
        embeddings = np.array(output, np.float32)
        check_embeddings(embeddings, self.path)
        return embeddings

    def __enter__(self) -> OpenVINOEngine:
        openvino = import_optional(
            "openvino", "running ONNX files on OpenVINO", "openvino", "or use the onnxruntime backend"
        )
        if not is_utf8(self.path):
            raise ModelError(f"{self.path} is not a UTF-8 name, and OpenVINO opens no other: rename the file or folder")
        core = openvino.Core()
        if self._precision == "bf16" and "BF16" not in core.get_property("CPU", "OPTIMIZATION_CAPABILITIES"):
            raise InputError("this CPU has no bf16 instructions, and OpenVINO would compute in fp32: leave bf16 out")
        with checked_file(self.path) as file:
            compiled = self._compile(core)
        check_signature(*_signature(compiled), file.card, self.path)
        self._card = file.card
        versions = {"openvino": _version(openvino), **board_versions()}
        computes = self._precision if self._precision != "fp32" else ""
        self._facts = EngineFacts(
            self.backend,
            "OpenVINO CPU",
            versions,
            self._threads,
            file.sha256,
            computes=computes,
            concurrent_runs=self._contexts,
        )
        self._compiled = compiled
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._compiled = self._facts = None
        self._own = threading.local()

    def _compile(self, core: Any) -> Any:
        options = {
            "INFERENCE_PRECISION_HINT": OPENVINO_PRECISIONS[self._precision],  # or it takes bf16 by itself
            "INFERENCE_NUM_THREADS": self._threads,
            "PERFORMANCE_HINT": "LATENCY",
            "NUM_STREAMS": self._contexts,
            "ENABLE_CPU_PINNING": False,  # it would pin its threads outside of a restricted CPU set
        }
        try:
            return core.compile_model(core.read_model(str(self.path)), "CPU", options)
        except Exception as error:
            raise ModelError(
                f"{self.path}: OpenVINO cannot open it ({one_line(error)}): use the onnxruntime backend"
            ) from None

    def _request(self, compiled: Any) -> Any:
        """The request of the calling thread for the model as it was opened now."""
        if getattr(self._own, "of", None) is not compiled:
            self._own.of, self._own.request = compiled, compiled.create_infer_request()
        return self._own.request


def _version(openvino: Any) -> str:
    """Version numbers alone: "2026.4.1-22982-e213a147257-releases/2026/4" is 2026.4.1."""
    return str(openvino.__version__).partition("-")[0]


def _signature(compiled: Any) -> tuple[list[str], list[str]]:
    """Inputs and outputs as `check_signature` takes them; a dynamic size is "N"."""

    def described(port: Any) -> str:
        sizes = ", ".join("N" if size.is_dynamic else str(size.get_length()) for size in port.get_partial_shape())
        kind = port.get_element_type().get_type_name()
        return f"{port.get_any_name()} {_KINDS.get(kind, kind)} [{sizes}]"

    return [described(port) for port in compiled.inputs], [described(port) for port in compiled.outputs]
