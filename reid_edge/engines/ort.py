"""ONNX Runtime itself: imported in one place, and sessions of files that run where the caller asked."""

from __future__ import annotations

import logging
import os
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from reid_edge.core.files import is_utf8
from reid_edge.core.optional import import_optional
from reid_edge.core.threads import usable_cores
from reid_edge.errors import InputError, ModelError

if TYPE_CHECKING:
    from onnxruntime import InferenceSession

__all__ = ["CRASHES_ON_CASTS", "executed_nodes", "import_onnxruntime", "one_line", "open_file", "session_options"]

logger = logging.getLogger(__name__)

CRASHES_ON_CASTS = ("NchwcTransformer",)
"""Optimisers to leave out for matmuls behind a cast from FP16: from 1.24 on a session of one ends the process on x86
(https://github.com/microsoft/onnxruntime/issues/28392). FP16 gains nothing on a CPU, which computes it in FP32."""

_CPU = "CPUExecutionProvider"
_UNASKED = ("CUDAExecutionProvider", _CPU)
_ERRORS_ONLY = 3
_SETUP = "install the libraries it needs (https://onnxruntime.ai/docs/execution-providers)"


def import_onnxruntime(module: str = "onnxruntime") -> Any:
    """ONNX Runtime, or a ``module`` of it, with its telemetry off unless the user has set ORT_DISABLE_TELEMETRY.

    Version 1.32 would write the machine's id and a database of events into the home folder, and send them.
    Raises MissingExtraError where it is missing or does not load.
    """
    os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
    return import_optional(module, "running ONNX files", "onnxruntime", "on an NVIDIA GPU: onnxruntime-gpu, never both")


def session_options(threads: int | None = None) -> Any:
    """Options of a session on ``threads`` CPU threads (None: all usable cores), which shows no warnings."""
    options = import_onnxruntime().SessionOptions()
    options.log_severity_level = _ERRORS_ONLY
    options.intra_op_num_threads = threads or usable_cores()
    return options


def open_file(
    path: Path,
    threads: int | None,
    providers: Sequence[str] | None,
    allow_fallback: bool = False,
    without: Sequence[str] = (),
) -> InferenceSession:
    """A session of the ONNX file ``path`` on ``providers``, best first; None is CUDA where the wheel has it, then CPU.

    Where the first of ``providers`` does not run the model, InputError is raised, unless ``allow_fallback`` permits the
    others; then, and where none was named, a note says so. ``without`` names optimisers to leave out. Raises ModelError
    for a file that cannot be opened, MissingExtraError without ONNX Runtime.
    """
    runtime = import_onnxruntime()
    if not is_utf8(path):
        raise ModelError(f"{path} is not a UTF-8 name, and ONNX Runtime opens no other: rename the file or folder")
    allow_fallback = allow_fallback or providers is None
    chosen = _available(providers, runtime.get_available_providers(), allow_fallback)
    options = session_options(threads)
    options.add_session_config_entry("session.record_ep_graph_assignment_info", "1")
    session = _opened(runtime, path, options, chosen, allow_fallback, without)
    session.disable_fallback()  # a GPU that fails later is an error, not a slower row
    _check_executed(session, path, (providers or chosen)[0], allow_fallback)
    return session


def executed_nodes(session: InferenceSession) -> dict[str, int]:
    """How many nodes of the graph each provider executes, most first; empty where ONNX Runtime is too old to say."""
    if not hasattr(session, "get_provider_graph_assignment_info"):
        return {}
    nodes: Counter[str] = Counter()
    for part in session.get_provider_graph_assignment_info():
        nodes[part.ep_name] += len(part.get_nodes())
    return dict(nodes.most_common())


def one_line(error: Exception) -> str:
    """The text of an exception of ONNX Runtime, at most 300 characters."""
    return " ".join(str(error).split())[:300]


def _available(wanted: Sequence[str] | None, available: Sequence[str], allow_fallback: bool) -> list[str]:
    if wanted is None:
        return [name for name in _UNASKED if name in available]
    missing = [name for name in wanted if name not in available]
    found = [name for name in wanted if name in available]
    if not found or (missing and not allow_fallback):
        names = ", ".join(missing) or "''"
        raise InputError(f"ONNX Runtime here has no provider {names}: choose from {', '.join(available)}")
    return found


def _opened(
    runtime: Any, path: Path, options: Any, providers: list[str], falls_back: bool, without: Sequence[str]
) -> InferenceSession:
    """A session; where ``falls_back``, on the CPU if the other ``providers`` fail."""
    try:
        # Its own fallback prints a banner, and takes providers that nobody named.
        return runtime.InferenceSession(
            str(path), options, providers=providers, enable_fallback=0, disabled_optimizers=list(without)
        )
    except Exception as error:  # ONNX Runtime's exceptions share no base of their own
        if falls_back and providers[0] != _CPU and _CPU in providers:
            logger.warning("ONNX Runtime failed on %s (%s)", providers[0], one_line(error))
            return _opened(runtime, path, options, [_CPU], falls_back, without)
        remedy = "copy or export the model again" if providers[0] == _CPU else f"{_SETUP}, or name {_CPU} alone"
        failed = f"ONNX Runtime {runtime.__version__} cannot open it ({one_line(error)})"
        raise ModelError(f"{path}: {failed}: {remedy}") from None


def _check_executed(session: InferenceSession, path: Path, wanted: str, allow_fallback: bool) -> None:
    """Raise ModelError where ``wanted`` executes nothing of the model, or say it where that is allowed."""
    nodes = executed_nodes(session)
    executing = list(nodes or session.get_providers())
    if wanted not in executing:
        found = f"{path}: {wanted} executes nothing of it here, all runs on {', '.join(executing)}"
        if not allow_fallback:
            raise ModelError(f"{found}: {_SETUP}, name another provider, or pass allow_fallback=True")
        logger.warning("%s: %s, or name the provider to use", found, _SETUP)
    elif len(nodes) > 1:
        logger.info("%s: %s", path, ", ".join(f"{count} nodes on {name}" for name, count in nodes.items()))
