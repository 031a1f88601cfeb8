"""TensorRT and TensorRT for RTX, whichever is installed, behind one set of names.

- ``tensorrt`` 10.3 to 11: Jetson, desktop and server GPUs;
- ``tensorrt-rtx`` 1.x: desktop RTX cards, and it builds without any GPU. Its bindings alone (``tensorrt_rtx_bindings``)
  do too, with the libraries that the wheel ``onnxruntime-ep-nv-tensorrt-rtx-cu13`` carries: the extra ``rtx-build``.

Both share the classes used here. A feature that one of them lacks is looked up by name, and its absence is an error
that says so (`required`).
"""

from __future__ import annotations

import ctypes
import importlib
import importlib.util
import re
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from reid_edge.core.names import require_name
from reid_edge.errors import InputError, MissingExtraError

from .gpu import board_model

__all__ = [
    "BACKENDS",
    "BACKEND_TITLES",
    "TYPES",
    "Backend",
    "Log",
    "layer_lines",
    "load_backend",
    "load_plan",
    "placed_layers",
    "require_backend",
    "required",
    "strongly_typed_flag",
]

BACKENDS = ("tensorrt", "tensorrt-rtx")
"""In the order in which they are tried."""

BACKEND_TITLES = {"tensorrt": "TensorRT", "tensorrt-rtx": "TensorRT-RTX"}
"""Their names in text."""

TYPES = ("Float", "Half", "BFloat16", "Int8", "FP8", "INT4", "Int32", "Int64", "UInt8", "Bool")
"""The names of types in TensorRT's layer descriptions."""

_OTHER_NAMES = {"FP32": "Float", "FP16": "Half", "BF16": "BFloat16", "TF32": "Float"}

_LIBRARIES = ("libcudart.so*", "libtensorrt_rtx.so*", "libtensorrt_onnxparser_rtx.so*")
_LIBRARY_PACKAGE = "onnxruntime_ep_nv_tensorrt_rtx"

_JETPACK = "sudo apt install python3-libnvinfer  and make the environment with  python3 -m venv --system-site-packages"
"""A Jetson's TensorRT comes with JetPack; the one on PyPI does not run there."""

_MAX_ERRORS = 50
_MAX_LAYERS = 20_000


@dataclass(frozen=True)
class Backend:
    """An imported TensorRT: its name in `BACKENDS`, its full version, and its module."""

    name: str
    version: str
    api: Any


def load_backend(name: str | None = None) -> Backend:
    """Import the TensorRT called ``name``, or the first of `BACKENDS` that is installed.

    Raises InputError for an unknown name, MissingExtraError when it is not installed or cannot load its
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
    on_jetson = "Jetson" in board_model() and name != "tensorrt-rtx"
    install = _JETPACK if on_jetson else f"pip install {name or BACKENDS[0]} cuda-bindings"
    purpose = "building and running engines"
    raise MissingExtraError(f"TensorRT ({'; '.join(reasons)})", purpose, install=install)


def require_backend(name: str | None) -> None:
    """Raise InputError for a name that is not in `BACKENDS`."""
    if name is not None:
        require_name(name, BACKENDS, "TensorRT backend")


def required(owner: Any, name: str, backend: Backend, what: str) -> Any:
    """The attribute ``name`` of a TensorRT object. Raises InputError, naming ``what``, for a version without it."""
    found = getattr(owner, name, None)
    if found is None:
        raise InputError(f"{backend.name} {backend.version} has no {what} ({name}): leave the option out")
    return found


def strongly_typed_flag(backend: Backend) -> int:
    """The flag of `create_network` for a strongly typed network; 0 in versions where every network is one."""
    flag = getattr(backend.api.NetworkDefinitionCreationFlag, "STRONGLY_TYPED", None)
    return 0 if flag is None else 1 << int(flag)


def load_plan(plan: bytes, backend: Backend, logger: Any, options: Mapping[str, Any], owners: list[Any]) -> Any | None:
    """The engine of a plan that was built with ``options`` (`EngineCard.options`), or None when TensorRT refuses it.

    Objects that must outlive the engine are appended to ``owners`` in the order of their creation, the engine last.
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


class Log:
    """Keeps what is needed of TensorRT's messages: errors, which explain a failure, and descriptions of layers.

    The last 50 errors and 20,000 descriptions; all else is dropped, so that an engine can run for months.
    """

    def __init__(self) -> None:
        self._errors: deque[str] = deque(maxlen=_MAX_ERRORS)
        self._layers: deque[str] = deque(maxlen=_MAX_LAYERS)

    def add(self, severity: str, message: str) -> None:
        """Keep a message of ``severity`` ("ERROR", "VERBOSE", ...) if it is an error or describes layers."""
        if severity in {"ERROR", "INTERNAL_ERROR"}:
            self._errors.append(" ".join(message.split()))
        elif "LayerType: " in message or re.search(_PLACED, message):
            self._layers.append(message)

    def logger(self, backend: Backend) -> Any:
        """An ``ILogger`` that writes here. It must outlive every object made with it."""
        add, base = self.add, backend.api.ILogger

        class Logger(base):  # type: ignore[misc, valid-type]  # a class of the module found at run time
            def __init__(self) -> None:
                super().__init__()

            def log(self, severity: Any, message: str) -> None:
                add(str(severity).rpartition(".")[2], message)

        return Logger()

    def errors(self) -> list[str]:
        """The distinct messages at level error or above."""
        return list(dict.fromkeys(self._errors))

    def layers(self) -> str:
        """The descriptions of layers in a build log, for `layer_lines` and `placed_layers`."""
        return "\n".join(self._layers)


_PLACED = r"\[(Dla|Gpu)Layer\] "


def placed_layers(text: str) -> dict[str, int]:
    r"""How many layers a build for the deep-learning accelerator put there and how many fell back to the GPU.

    A layer on the accelerator is a whole subgraph ("ForeignNode"). Empty for other builds, whose log does not tell.

    >>> placed_layers("[DlaLayer] {ForeignNode[a...b]}\n[GpuLayer] POOLING: p\n[GpuLayer] SHUFFLE: s")
    {'DLA': 1, 'GPU': 2}
    """
    found = [match[1] for match in re.finditer(_PLACED, text)]
    return {"DLA": found.count("Dla"), "GPU": found.count("Gpu")} if found else {}


def layer_lines(text: str) -> list[tuple[str, str, tuple[str, ...], tuple[str, ...]]]:
    """The layers of a detailed engine description, as build logs and inspectors write it, one per line.

    Each is (name, type, types read, types written), without layers that move no data (waits and signals). Types are
    from `TYPES`, also where they stand within a memory format; unknown ones ("N/A due to dynamic shapes") are left out.

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
        for parsed in re.findall(r"Datatype: ([^}\]]*)", part)
        for word in re.findall(r"\w+", parsed)
    }
    return tuple(sorted(found.intersection(TYPES)))


def _tensorrt() -> Any:
    return importlib.import_module("tensorrt")


def _tensorrt_rtx() -> Any:
    """NVIDIA's own package if installed, else its bindings over the libraries of another wheel."""
    if importlib.util.find_spec("tensorrt_rtx"):
        return importlib.import_module("tensorrt_rtx")
    spec = importlib.util.find_spec(_LIBRARY_PACKAGE)
    if spec and spec.origin:
        folder = Path(spec.origin).parent
        for pattern in _LIBRARIES:
            for library in sorted(folder.glob(pattern))[:1]:
                ctypes.CDLL(str(library), mode=ctypes.RTLD_GLOBAL)
    return importlib.import_module("tensorrt_rtx_bindings")
