"""A TensorRT plan in memory, and whether it is the one that its card describes."""

from __future__ import annotations

import hashlib
import logging
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from reid_edge.errors import ModelError

from .engine_card import EngineCard
from .gpu import Cuda, gpu_differences
from .lanes.contract import ExecutionContext
from .lanes.profiles import Profile
from .lanes.runtime_cache import read_cache, write_cache
from .tensorrt_api import Backend, Log, load_plan

__all__ = ["TensorRTPlan", "check_built_here", "profiles_of", "rebuild"]

logger = logging.getLogger(__name__)

_KINDS = {"UINT8": "uint8", "FLOAT": "float32"}


class TensorRTPlan:
    """A `reid_edge.engines.lanes.contract.LoadedEngine` over TensorRT's own engine.

    Contexts get their activation memory from the lane (TensorRT's ``USER_MANAGED``), so that all of a lane's share one
    block. TensorRT-RTX compiles kernels while it runs: it keeps CUDA graphs by itself, which know when a kernel is
    replaced ("Working with RTX CUDA Graphs"), and its compiled kernels are kept beside the engine.

    ``open`` frees all again when it fails; `close` must come after every context is gone.
    """

    def __init__(self, path: Path, card: EngineCard, backend: Backend, cuda: Cuda, *, graphs: bool = True) -> None:
        self.path, self.profiles = path, card.profiles
        self.captures_itself = backend.name == "tensorrt-rtx"
        self.tensors = tuple((name, shape, _KINDS[kind]) for name, shape, kind in _tensors(card))
        self._card, self._backend, self._cuda, self._graphs = card, backend, cuda, graphs
        self._lock = threading.Lock()
        self._log = Log()
        self._owners: list[Any] = []
        self._settings: Any = None
        self._kept: Any = None

    @property
    def scratch_bytes(self) -> int:
        """The activation memory of a context: the largest profile's."""
        engine: Any = self._owners[-1]
        return int(engine.device_memory_size_v2)

    def open(self) -> None:
        """Read and check the file, and make TensorRT's engine of it. Raises ModelError when it cannot be loaded."""
        plan = self.path.read_bytes()
        if hashlib.sha256(plan).hexdigest() != self._card.engine_sha256:
            raise ModelError(f"{self.path} is not the engine that its card describes: {rebuild(self.path, self._card)}")
        try:
            with self._cuda.active():
                self._load(plan)
        except BaseException:
            self._drop()
            raise

    def close(self) -> None:
        """Keep the compiled kernels, then free in the required order: the engine, its runtime, the logger."""
        try:
            with self._cuda.active():
                if self._kept is not None and (content := bytes(self._kept.serialize())) != self._loaded:
                    write_cache(self.path, self._cache_key(), content)
        finally:
            self._drop()

    def context(self, profile: int, scratch: int, stream: int) -> ExecutionContext:
        """See `LoadedEngine.context`."""
        engine: Any = self._owners[-1]
        strategy = self._backend.api.ExecutionContextAllocationStrategy
        with self._lock:
            context: Any = engine.create_execution_context(self._settings or strategy.USER_MANAGED)
            if context is None:
                raise ModelError(
                    f"{self.path} cannot be run ({self.reason()}): free GPU memory, or build it with a smaller "
                    "--profile (batches=)"
                )
            context.set_device_memory(scratch, self.scratch_bytes)
            if len(self.profiles) > 1 and not context.set_optimization_profile_async(profile, stream):
                raise ModelError(f"{self.path} has no profile {profile} ({self.reason()})")
        return _owned(context)

    def reason(self) -> str:
        """What TensorRT said of its last failure."""
        return "; ".join(self._log.errors()) or "TensorRT gave no reason"

    def _load(self, plan: bytes) -> None:
        self._owners.append(self._log.logger(self._backend))
        if load_plan(plan, self._backend, self._owners[0], self._card.options, self._owners) is None:
            raise ModelError(f"{self.path} cannot be loaded ({self.reason()}): {rebuild(self.path, self._card)}")
        engine: Any = self._owners[-1]
        tensors = _tensors_of(engine, self._backend)
        if differs := _differs(tensors, profiles_of(engine) if "images" in tensors else (), self._card):
            raise ModelError(f"{self.path} has {differs}: {rebuild(self.path, self._card)}")
        if self.captures_itself:
            self._configure_rtx(engine)

    def _configure_rtx(self, rtx_engine: Any) -> None:
        """The settings of contexts, with the kernels that earlier runs compiled, which TensorRT-RTX checks too."""
        api = self._backend.api
        settings: Any = rtx_engine.create_runtime_config()
        settings.set_execution_context_allocation_strategy(api.ExecutionContextAllocationStrategy.USER_MANAGED)
        if (strategies := getattr(api, "CudaGraphStrategy", None)) is not None:  # since 1.2
            name = "WHOLE_GRAPH_CAPTURE" if self._graphs else "DISABLED"
            settings.cuda_graph_strategy = getattr(strategies, name)
        self._settings, self._kept = settings, settings.create_runtime_cache()
        self._loaded = read_cache(self.path, self._cache_key())
        if self._loaded and not self._kept.deserialize(self._loaded):
            logger.warning("TensorRT-RTX does not take the kernels kept beside %s: it compiles them again", self.path)
            self._loaded = b""
        settings.set_runtime_cache(self._kept)

    def _cache_key(self) -> str:
        return f"{self._card.engine_sha256} {self._backend.version} {sorted(self._cuda.gpu.facts().items())}"

    def _drop(self) -> None:
        with self._cuda.active():
            self._settings = self._kept = None
            while self._owners:
                self._owners.pop()


def _owned(context: Any) -> ExecutionContext:
    """TensorRT's object as the contract that it satisfies; its module has no types."""
    typed: ExecutionContext = context
    return typed


def check_built_here(card: EngineCard, backend: Backend, cuda: Cuda, path: Path) -> None:
    """Raise ModelError unless the engine was built by this TensorRT and for this GPU."""
    again = rebuild(path, card)
    built, found = f"{card.backend} {card.version}", f"{backend.name} {backend.version}"
    if built != found and not card.options.get("version_compatible"):
        raise ModelError(f"{path} was built for another TensorRT ({built}, here is {found}): {again}")
    here = cuda.gpu.facts()
    if differences := gpu_differences(card.gpu, here):
        raise ModelError(f"{path} was built for another GPU ({'; '.join(differences)}): {again}")
    if card.gpu and card.gpu.get("driver") != here["driver"]:
        drivers = f"the driver of CUDA {card.gpu.get('driver', 'unknown')}, here is {here['driver']}"
        logger.warning("%s was built with %s: to tune its kernels again, %s", path, drivers, again)


def _tensors(card: EngineCard) -> list[tuple[str, tuple[int, ...], str]]:
    """Input and output according to the card: name, shape without the batch, TensorRT's name of the type."""
    height, width = card.model.input_hw
    image = ((height, width, 3), "UINT8") if card.model.input_format == "nhwc-uint8" else ((3, height, width), "FLOAT")
    return [("images", *image), ("embeddings", (card.model.embedding_dim,), "FLOAT")]


def _tensors_of(engine: Any, backend: Backend) -> dict[str, tuple[tuple[int, ...], str]]:
    """Input and output of an engine, by name: shape with the batch, TensorRT's name of the type."""
    api = backend.api
    kinds = {api.DataType.UINT8: "UINT8", api.DataType.FLOAT: "FLOAT"}
    names = [engine.get_tensor_name(i) for i in range(engine.num_io_tensors)]
    return {
        name: (tuple(engine.get_tensor_shape(name)), kinds.get(engine.get_tensor_dtype(name), "another type"))
        for name in names
    }


def profiles_of(engine: Any) -> tuple[Profile, ...]:
    """The batches of the profiles of TensorRT's engine."""
    found: list[Profile] = []
    for index in range(engine.num_optimization_profiles):
        smallest, optimal, largest = (int(shape[0]) for shape in engine.get_tensor_profile_shape("images", index))
        found.append((smallest, optimal, largest))
    return tuple(found)


def _differs(found: Mapping[str, tuple[tuple[int, ...], str]], profiles: Sequence[Profile], card: EngineCard) -> str:
    """How an engine's tensors and profiles differ from its card, by which buffers are allocated; "" if they do not."""
    wanted = _tensors(card)
    if set(found) != {name for name, _, _ in wanted}:
        return f"tensors {', '.join(sorted(found))} in place of embeddings, images"
    for name, shape, kind in wanted:
        own_shape, own_kind = found[name]
        # A profile with one batch size may be reported as a fixed shape.
        if own_shape[1:] != shape or own_shape[0] not in (-1, card.batches[2]) or own_kind != kind:
            return f"{name} of {own_kind} {list(own_shape)} where its card says {kind} {list(shape)}"
    if tuple(profiles) == card.profiles:
        return ""
    return f"profiles {_written(profiles)} where its card says {_written(card.profiles)}"


def _written(profiles: Sequence[Profile]) -> str:
    return ", ".join(":".join(map(str, profile)) for profile in profiles) or "none"


def rebuild(path: Path, card: EngineCard) -> str:
    """The command that builds the engine again with the options in its card."""
    onnx = path.with_suffix(".onnx")
    profiles = " ".join(f"--profile {':'.join(map(str, profile))}" for profile in card.profiles)
    options = f"--backend {card.backend} {profiles}"
    if (workspace := card.options.get("workspace_mib")) is not None:
        options += f" --workspace {workspace}"
    if card.options.get("version_compatible"):
        options += " --version-compatible"
    if (dla := card.options.get("dla")) is not None:
        options += f" --dla {dla}"
    return f"run  reid-edge export {onnx if onnx.is_file() else onnx.name} --engine {options} --out {path.parent}"
