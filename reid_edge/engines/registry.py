"""The backends that run model files, and `open_engine`, which chooses one by the file's suffix or by name."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from reid_edge.core.files import require_file
from reid_edge.core.names import did_you_mean
from reid_edge.core.registry import Registry
from reid_edge.errors import InputError, ModelError

from .base import Engine
from .providers.choice import ProviderChoice

__all__ = ["CHECKPOINT_SUFFIXES", "ENGINE_BACKENDS", "EngineBackend", "open_engine"]

CHECKPOINT_SUFFIXES = frozenset({".pth", ".pt", ".tar"})
"""Files of PyTorch, which `reid_edge.training.models.checkpoint.load_model` reads and no backend here runs."""


@dataclass(frozen=True)
class EngineBackend:
    """What runs files of these ``suffixes``: ``open(path, threads, max_batch)`` makes the engine for one.

    ``packages`` are what ``pip install`` takes where the backend is missing. ``open`` imports the backend's module, so
    that a backend that is not used need not be installed. With ``has_providers`` it is called with ``providers`` and
    ``allow_fallback`` as well, with ``precisions``, which lists them, with the ``precision`` to compute in. ``options``
    names those of "device" and "contexts" that it takes, as keywords, where the caller gives them.
    """

    name: str
    suffixes: tuple[str, ...]
    packages: str
    open: Callable[..., Engine]
    has_providers: bool = False
    precisions: tuple[str, ...] = ()
    options: tuple[str, ...] = ()

    def described(self) -> str:
        """Name, suffixes and what to install, for errors.

        >>> ENGINE_BACKENDS["tensorrt"].described()
        'tensorrt (.engine, .plan; pip install tensorrt cuda-bindings)'
        """
        return f"{self.name} ({', '.join(self.suffixes)}; pip install {self.packages})"


def _onnxruntime(
    path: Path,
    threads: int | None,
    max_batch: int,
    providers: Sequence[ProviderChoice] | None,
    allow_fallback: bool,
    device: int | None = None,
) -> Engine:
    from .onnxruntime import OnnxEngine

    return OnnxEngine(path, threads, max_batch, providers, allow_fallback, device=device)


def _openvino(path: Path, threads: int | None, max_batch: int, precision: str | None, contexts: int = 1) -> Engine:
    from .openvino import OpenVINOEngine

    return OpenVINOEngine(path, threads, max_batch, precision, contexts=contexts)


def _tensorrt(path: Path, threads: int | None, max_batch: int, device: int = 0, contexts: int = 2) -> Engine:
    """The profile of the engine decides its largest batch, and the GPU needs no threads."""
    from .tensorrt import TensorRTEngine

    return TensorRTEngine(path, device=device, contexts=contexts)


ENGINE_BACKENDS: Registry[EngineBackend] = Registry(
    "backends",
    {
        "onnxruntime": EngineBackend(
            "onnxruntime", (".onnx",), "onnxruntime", _onnxruntime, has_providers=True, options=("device",)
        ),
        "openvino": EngineBackend(
            "openvino", (".onnx",), "openvino", _openvino, precisions=("fp32", "bf16"), options=("contexts",)
        ),
        "tensorrt": EngineBackend(
            "tensorrt", (".engine", ".plan"), "tensorrt cuda-bindings", _tensorrt, options=("device", "contexts")
        ),
    },
)
"""By name. The first backend that knows a file's suffix runs it, unless the caller names another."""


def open_engine(
    path: Path | str,
    *,
    backend: str | None = None,
    threads: int | None = None,
    max_batch: int = 256,
    providers: Sequence[ProviderChoice] | None = None,
    allow_fallback: bool = False,
    precision: str | None = None,
    device: int | None = None,
    contexts: int | None = None,
) -> Engine:
    """The engine for a model file; use it in a ``with`` statement, which opens and frees it.

    ``backend`` names a row of `ENGINE_BACKENDS` (None: by the file's suffix), and may name the ``precision`` to compute
    in as well: "openvino:bf16". None computes in the file's. ``threads`` bounds the CPU threads
    (None: all usable cores), ``max_batch`` the batch where the file does not. ``providers`` names ONNX Runtime's
    execution providers, best first, each alone or as a pair with its options (None: CUDA where the installed wheel has
    it, then the CPU); where the first one does not run the model, entering raises ModelError or DeviceError, or logs a
    note with ``allow_fallback``.

    ``device`` is the number of the GPU, as CUDA counts them (TensorRT, and ONNX Runtime, which then runs on CUDA unless
    ``providers`` names another). ``contexts`` is how many threads may run the engine side
    by side: TensorRT then has memory for each (2 by default), OpenVINO shares its CPU threads among them (1 by
    default). ONNX Runtime takes any number of threads as it is, so that contexts are refused there.

    Raises InputError when the file is missing, the backend is unknown, does not run such files or has no providers,
    precisions, device or contexts to choose; ModelError when no backend runs such files.

    >>> import numpy as np
    >>> with open_engine(model_file, threads=1) as engine:
    ...     engine.backend, engine.run(np.zeros((2, 256, 128, 3), np.uint8)).shape
    ('onnxruntime', (2, 24))
    """
    path = require_file(path, "a model")
    suffix = path.suffix.lower()
    by_suffix = next((row for row in ENGINE_BACKENDS.values() if suffix in row.suffixes), None)
    name, _, named_precision = (backend or "").partition(":")
    row = _named(name, path) if name else by_suffix
    if row is not None:
        own = _own_options(row, path, providers, allow_fallback, precision or named_precision or None)
        given = {name: value for name, value in (("device", device), ("contexts", contexts)) if value is not None}
        _check_taken(row, path, given)
        return row.open(path, threads, max_batch, *own, **given)
    if suffix in CHECKPOINT_SUFFIXES:
        raise ModelError(
            f"{path} is a checkpoint: run  reid-edge export {path} --out DIR  and open the .onnx it writes"
        )
    raise ModelError(
        f"{path}: unknown kind of model file {suffix!r}: give an .onnx or .engine written by reid-edge export"
    )


def _own_options(
    row: EngineBackend,
    path: Path,
    providers: Sequence[ProviderChoice] | None,
    allow_fallback: bool,
    precision: str | None,
) -> tuple[Any, ...]:
    """What the backend takes beside threads and batch. Raises InputError for options of another."""
    if (providers is not None or allow_fallback) and not row.has_providers:
        raise InputError(f"{path} is run by {row.name}: leave out providers and allow_fallback, ONNX Runtime's")
    if precision is not None and precision not in row.precisions:
        able = ", ".join(
            f"{one.name} ({', '.join(one.precisions)})" for one in ENGINE_BACKENDS.values() if one.precisions
        )
        raise InputError(
            f"{row.name} computes in the file's precision, not {precision!r} on request: {able} can choose"
        )
    return (*([providers, allow_fallback] if row.has_providers else []), *([precision] if row.precisions else []))


def _check_taken(row: EngineBackend, path: Path, given: Mapping[str, int]) -> None:
    """Raise InputError for an option that the backend cannot honour."""
    for name in given:
        if name not in row.options:
            able = " and ".join(one.name for one in ENGINE_BACKENDS.values() if name in one.options)
            raise InputError(f"{path} is run by {row.name}, which takes no {name}: leave it out; {able} can")


def _named(backend: str, path: Path) -> EngineBackend:
    rows = ENGINE_BACKENDS.values()
    if backend not in ENGINE_BACKENDS:
        known = ", ".join(row.described() for row in rows)
        raise InputError(f"backend {backend!r} is unknown: give one of {known}{did_you_mean(backend, ENGINE_BACKENDS)}")
    named = ENGINE_BACKENDS[backend]
    if path.suffix.lower() not in named.suffixes:
        suited = ", ".join(row.described() for row in rows if path.suffix.lower() in row.suffixes)
        remedy = f"give {suited}" if suited else "give an .onnx or .engine written by reid-edge export"
        raise InputError(f"{path} is not a file for {named.described()}: {remedy}")
    return named
