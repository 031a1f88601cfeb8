"""TensorRT, whichever of its two this machine has, behind one set of names.

- ``tensorrt`` 10.3 to 11: Jetson, desktop and server GPUs;
- ``tensorrt-rtx`` 1.x: desktop RTX cards, and it builds without any GPU. Its bindings alone (``tensorrt_rtx_bindings``)
  do too, with the libraries that the wheel ``onnxruntime-ep-nv-tensorrt-rtx-cu13`` carries: the extra ``rtx-build``.

Both share the classes used here. What one of them lacks is looked up by name and refused in words (`required`).
"""

from __future__ import annotations

import ctypes
import importlib
import importlib.util
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from .errors import InputError, MissingExtraError

__all__ = [
    "BACKENDS",
    "TYPES",
    "Backend",
    "Log",
    "layer_lines",
    "load_backend",
    "load_plan",
    "require_backend",
    "required",
    "strongly_typed_flag",
]

BACKENDS = ("tensorrt", "tensorrt-rtx")
"""In the order in which they are looked for."""

TYPES = ("Float", "Half", "BFloat16", "Int8", "FP8", "INT4", "Int32", "Int64", "UInt8", "Bool")
"""What TensorRT's descriptions of layers call their types."""

_OTHER_NAMES = {"FP32": "Float", "FP16": "Half", "BF16": "BFloat16", "TF32": "Float"}

_LIBRARIES = ("libcudart.so*", "libtensorrt_rtx.so*", "libtensorrt_onnxparser_rtx.so*")
_LIBRARY_PACKAGE = "onnxruntime_ep_nv_tensorrt_rtx"


@dataclass(frozen=True)
class Backend:
    """A TensorRT that could be imported: which of `BACKENDS`, its full version, and its module."""

    name: str
    version: str
    api: Any


def load_backend(name: str | None = None) -> Backend:
    """Import the TensorRT called ``name``, or the first of `BACKENDS` that there is.

    Raises InputError for a name that is none of them, MissingExtraError when it is not installed or cannot load its
    libraries.
    """
    require_backend(name)
    reasons = []
    for candidate in (name,) if name else BACKENDS:
        try:
            api = _tensorrt() if candidate == "tensorrt" else _tensorrt_rtx()
        except (ImportError, OSError) as error:
            reasons.append(f"{candidate}: {' '.join(str(error).split())[:200]}")
        else:
            return Backend(candidate, str(api.__version__), api)
    raise MissingExtraError(f"TensorRT ({'; '.join(reasons)})", "tensorrt", "building and running engines")


def require_backend(name: str | None) -> None:
    """Raise InputError for a name that is none of `BACKENDS`."""
    if name is not None and name not in BACKENDS:
        raise InputError(f"TensorRT backend {name!r} is unknown: give one of {', '.join(BACKENDS)}")


def required(owner: Any, name: str, backend: Backend, what: str) -> Any:
    """The attribute ``name`` of a TensorRT object. Raises InputError, naming ``what``, for a version without it."""
    found = getattr(owner, name, None)
    if found is None:
        raise InputError(f"{backend.name} {backend.version} has no {what} ({name}): leave the option out")
    return found


def strongly_typed_flag(backend: Backend) -> int:
    """What `create_network` takes for types as the graph has them; versions that know no others have no flag."""
    flag = getattr(backend.api.NetworkDefinitionCreationFlag, "STRONGLY_TYPED", None)
    return 0 if flag is None else 1 << int(flag)


def load_plan(plan: bytes, backend: Backend, logger: Any, options: Mapping[str, Any], owners: list[Any]) -> Any | None:
    """The engine of a plan that was built with ``options`` (`EngineCard.options`), or None when TensorRT refuses it.

    What must outlive the engine is appended to ``owners``, in the order in which it was made, the engine last.
    """
    runtime = backend.api.Runtime(logger)
    owners.append(runtime)
    if options.get("version_compatible"):
        runtime.engine_host_code_allowed = True
    if (dla := options.get("dla")) is not None:
        runtime.DLA_core = dla
    engine = runtime.deserialize_cuda_engine(plan)
    if engine is not None:
        owners.append(engine)
    return engine


@dataclass
class Log:
    """TensorRT's messages, kept: errors explain a failed build, and verbose ones list the compiled layers."""

    lines: list[tuple[str, str]] = field(default_factory=list)

    def logger(self, backend: Backend) -> Any:
        """An ``ILogger`` that writes here. It must outlive whatever was made with it."""
        lines, base = self.lines, backend.api.ILogger

        class Logger(base):  # type: ignore[misc, valid-type]  # a class of the module found at run time
            def __init__(self) -> None:
                super().__init__()

            def log(self, severity: Any, message: str) -> None:
                lines.append((str(severity).rpartition(".")[2], message))

        return Logger()

    def errors(self) -> list[str]:
        """What was said at level error or above, once each."""
        said = [" ".join(text.split()) for level, text in self.lines if level in {"ERROR", "INTERNAL_ERROR"}]
        return list(dict.fromkeys(said))


def layer_lines(text: str) -> list[tuple[str, str, tuple[str, ...], tuple[str, ...]]]:
    """The layers in a detailed engine description, as build logs and inspectors write it, one a line.

    Gives (name, type, types read, types written), without layers that move no data (waits and signals). Types are
    some of `TYPES`, also where they are told within a memory format; those not told ("N/A due to dynamic shapes") are
    left out.

    >>> layer_lines("Name: c, LayerType: conv, Inputs: [ { Name: x, Datatype: Int8 }], Outputs: [ { Datatype: Half }]")
    [('c', 'conv', ('Int8',), ('Half',))]
    >>> words = "Thirty-two wide channel vectorized row major Int8 format"
    >>> layer_lines(f"Name: c, LayerType: C, Inputs: [ {{ Format/Datatype: {words} }}], Outputs: [ ]")
    [('c', 'C', ('Int8',), ())]
    """
    found = []
    for match in re.finditer(r"Name: ([^\n]*?), LayerType: (\w+), Inputs: \[([^\n]*)", text):
        reads, _, rest = match[3].partition("Outputs: [")
        reads = reads.partition("Constants: [")[0]
        writes = rest.partition("TacticName")[0]
        if "Datatype:" in reads + writes:
            found.append((match[1], match[2], _types(reads), _types(writes)))
    return found


def _types(part: str) -> tuple[str, ...]:
    found = {
        _OTHER_NAMES.get(word, word)
        for told in re.findall(r"Datatype: ([^}\]]*)", part)
        for word in re.findall(r"\w+", told)
    }
    return tuple(sorted(found.intersection(TYPES)))


def _tensorrt() -> Any:
    return importlib.import_module("tensorrt")


def _tensorrt_rtx() -> Any:
    """NVIDIA's own package where there is one, else its bindings over libraries of another wheel."""
    if importlib.util.find_spec("tensorrt_rtx"):
        return importlib.import_module("tensorrt_rtx")
    spec = importlib.util.find_spec(_LIBRARY_PACKAGE)
    if spec and spec.origin:
        folder = Path(spec.origin).parent
        for pattern in _LIBRARIES:
            for library in sorted(folder.glob(pattern))[:1]:
                ctypes.CDLL(str(library), mode=ctypes.RTLD_GLOBAL)
    return importlib.import_module("tensorrt_rtx_bindings")
