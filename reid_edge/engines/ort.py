"""ONNX Runtime itself: imported in one place, and sessions of files that run where the caller asked."""

from __future__ import annotations

import logging
import os
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from reid_edge.core.files import is_utf8
from reid_edge.core.optional import import_optional
from reid_edge.core.threads import usable_cores
from reid_edge.errors import DeviceError, ModelError, ReidEdgeError

from .providers.choice import (
    CPU,
    CUDA,
    TENSORRT,
    TENSORRT_RTX,
    ProviderChoice,
    available_providers,
    named_providers,
    provider_options,
    require_device_provider,
)
from .providers.plugins import PLUGINS, add_plugin

if TYPE_CHECKING:
    from onnxruntime import InferenceSession

__all__ = [
    "CRASHES_ON_CASTS",
    "PROVIDERS",
    "ProviderReport",
    "executed_nodes",
    "import_onnxruntime",
    "one_line",
    "open_file",
    "provider_reports",
    "session_options",
]

logger = logging.getLogger(__name__)

CRASHES_ON_CASTS = ("NchwcTransformer",)
"""Optimisers to leave out for matmuls behind a cast from FP16: from 1.24 on a session of one ends the process on x86
(https://github.com/microsoft/onnxruntime/issues/28392). FP16 gains nothing on a CPU, which computes it in FP32."""

PROVIDERS = (CPU, CUDA, TENSORRT, TENSORRT_RTX)
"""The providers that `provider_reports` tries; `open_file` takes any that the wheel has, and `plugins.PLUGINS`."""

_ERRORS_ONLY = 3
_FATAL_ONLY = 4
_KEY_DIGITS = 16
_RECORD_NODES = ("session.record_ep_graph_assignment_info", "1")
_SETUP = "install the libraries it needs (https://onnxruntime.ai/docs/execution-providers)"

# y = Relu(x) on float32 [1], as protobuf writes it (onnx.proto, IR version 8, opset 13): no onnx package is needed.
_FLOAT_1 = b"\x12\x0a\x0a\x08\x08\x01\x12\x04\x0a\x02\x08\x01"
_X, _Y = (b"\x0a\x01" + letter + _FLOAT_1 for letter in (b"x", b"y"))
_RELU = b"\x0a\x01x\x12\x01y\x22\x04Relu"
_GRAPH = b"\x0a\x0c" + _RELU + b"\x12\x01g\x5a\x0f" + _X + b"\x62\x0f" + _Y
_ONE_RELU = b"\x08\x08\x42\x02\x10\x0d\x3a" + bytes([len(_GRAPH)]) + _GRAPH


def import_onnxruntime(module: str = "onnxruntime") -> Any:
    """ONNX Runtime, or a ``module`` of it, with its telemetry off unless the user has set ORT_DISABLE_TELEMETRY.

    Version 1.32 would write the machine's id and a database of events into the home folder, and send them.
    Raises MissingExtraError where it is missing or does not load.
    """
    os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
    return import_optional(module, "running ONNX files", "onnxruntime", "on an NVIDIA GPU: onnxruntime-gpu, never both")


def session_options(threads: int | None = None) -> Any:
    """Options of a session on ``threads`` CPU threads (None: all usable cores), which shows no warnings.

    Of ONNX Runtime's options one is changed for a CPU: no memory is planned ahead for each batch size. Speed and
    embeddings stay as they are, and the process is smaller (``docs/guides/cpu.md``).
    """
    options = import_onnxruntime().SessionOptions()
    options.enable_mem_pattern = False
    options.log_severity_level = _ERRORS_ONLY
    options.intra_op_num_threads = threads or usable_cores()
    return options


@dataclass(frozen=True)
class ProviderReport:
    """Whether the provider ``name`` runs a model on this machine; ``reason`` says why it does not, else is empty.

    ``installed`` is whether this ONNX Runtime has it, or the package of a plug-in is there.
    """

    name: str
    reason: str = ""
    installed: bool = True

    @property
    def can_run(self) -> bool:
        """Whether a model of one node was executed by the provider."""
        return not self.reason


def provider_reports() -> list[ProviderReport]:
    """Try each of `PROVIDERS` on a model of one node: a wheel that lists a provider may lack what runs it.

    The library of a plug-in that is installed is loaded into this process and stays there.

    Raises MissingExtraError without ONNX Runtime.

    >>> cpu, *_ = provider_reports()
    >>> cpu.name, cpu.can_run
    ('CPUExecutionProvider', True)
    """
    runtime = import_onnxruntime()
    return [_report(runtime, name) for name in PROVIDERS]


def _report(runtime: Any, name: str) -> ProviderReport:
    options = session_options(1)
    options.log_severity_level = _FATAL_ONLY  # the reason is returned, once
    options.add_session_config_entry(*_RECORD_NODES)
    if name in PLUGINS:
        try:
            add_plugin(runtime, options, name, 0, {})
        except ReidEdgeError as error:
            return ProviderReport(name, str(error), installed=isinstance(error, DeviceError))
    elif name not in runtime.get_available_providers():
        lacks = f"ONNX Runtime {runtime.__version__} here has no {name}"
        return ProviderReport(name, f"{lacks}: install onnxruntime-gpu in place of onnxruntime", installed=False)
    return ProviderReport(name, _why_not(runtime, options, name))


def _why_not(runtime: Any, options: Any, name: str) -> str:
    """Why ``name`` runs nothing here, with the remedy; empty where it runs."""
    try:
        session = runtime.InferenceSession(
            _ONE_RELU, options, providers=None if name in PLUGINS else [name], enable_fallback=0
        )
    except Exception as error:  # ONNX Runtime's exceptions share no base of their own
        return f"{one_line(error)}: {_SETUP}"
    executing = list(executed_nodes(session) or session.get_providers())
    return "" if name in executing else f"{name} is registered and executes nothing: {_SETUP}"


def open_file(
    path: Path,
    threads: int | None,
    providers: Sequence[ProviderChoice] | None,
    allow_fallback: bool = False,
    without: Sequence[str] = (),
    device: int | None = None,
    cache_key: str = "",
) -> InferenceSession:
    """A session of the ONNX file ``path`` on ``providers``, best first; None is CUDA where the wheel has it, then CPU.

    A provider may be a pair of its name and its own options, which `provider_options` completes. ``device`` is a GPU's
    number; without ``providers`` it asks for CUDA. ``cache_key`` tells apart the folders in which providers keep what
    they compiled.

    Where the first of ``providers`` does not run the model, InputError is raised, unless ``allow_fallback`` permits the
    others; then, and where neither provider nor device was named, a note says so. ``without`` names optimisers to leave
    out. Raises ModelError for a file that cannot be opened, MissingExtraError without ONNX Runtime or the package of a
    provider, DeviceError for one that finds no device.
    """
    runtime = import_onnxruntime()
    if not is_utf8(path):
        raise ModelError(f"{path} is not a UTF-8 name, and ONNX Runtime opens no other: rename the file or folder")
    if providers is None and device is not None:
        providers = [CUDA]
    wanted = None if providers is None else named_providers(providers)
    require_device_provider(wanted, device)
    allow_fallback = allow_fallback or wanted is None
    chosen = available_providers(wanted, runtime.get_available_providers(), allow_fallback)
    key = f"{cache_key[:_KEY_DIGITS]}-{runtime.__version__}"
    options = {name: provider_options(name, own, device, key) for name, own in chosen.items()}
    session = _opened(runtime, path, _Options(threads, device or 0, tuple(without)), options, allow_fallback)
    session.disable_fallback()  # a GPU that fails later is an error, not a slower row
    _check_executed(session, path, next(iter(wanted or chosen)), allow_fallback)
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


@dataclass(frozen=True)
class _Options:
    """What a session is opened with whichever providers run it."""

    threads: int | None
    device: int
    without: tuple[str, ...]


def _opened(
    runtime: Any, path: Path, given: _Options, providers: Mapping[str, dict[str, str]], falls_back: bool
) -> InferenceSession:
    """A session; where ``falls_back``, on the CPU if the other ``providers`` fail."""
    first = next(iter(providers))
    options = session_options(given.threads)
    options.enable_mem_pattern = first != CPU  # on a GPU it was not tried without
    options.add_session_config_entry(*_RECORD_NODES)
    try:
        named = _session_providers(runtime, options, given.device, providers)
        # Its own fallback prints a banner, and takes providers that nobody named.
        return runtime.InferenceSession(
            str(path), options, providers=named, enable_fallback=0, disabled_optimizers=list(given.without)
        )
    except Exception as error:  # ONNX Runtime's exceptions share no base of their own
        if falls_back and first != CPU and CPU in providers:
            logger.warning("ONNX Runtime failed on %s (%s)", first, one_line(error))
            return _opened(runtime, path, given, {CPU: providers[CPU]}, falls_back)
        if isinstance(error, ReidEdgeError):
            raise
        remedy = "copy or export the model again" if first == CPU else f"{_SETUP}, or name {CPU} alone"
        failed = f"ONNX Runtime {runtime.__version__} cannot open it ({one_line(error)})"
        raise ModelError(f"{path}: {failed}: {remedy}") from None


def _session_providers(
    runtime: Any, options: Any, device: int, providers: Mapping[str, dict[str, str]]
) -> list[tuple[str, dict[str, str]]] | None:
    """The providers as a session takes them; None where a plug-in was put into the session's options."""
    first, own = next(iter(providers.items()))
    if first not in PLUGINS:
        return list(providers.items())
    add_plugin(runtime, options, first, device, own)
    return None


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
