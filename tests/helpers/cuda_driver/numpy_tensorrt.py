"""A double of the module ``tensorrt`` (or ``tensorrt_rtx``): what the runtime calls of it, over `NumpyEngine`.

A plan is JSON: {"profiles": [[1, 1, 8]], "broken": ""}.
"""

from __future__ import annotations

import json
import sys
from importlib.machinery import ModuleSpec
from types import ModuleType, SimpleNamespace
from typing import Any

from .numpy_engine import DIM, HWC, NumpyContext, NumpyEngine

__all__ = ["freed", "install", "plan_of"]

freed: list[str] = []
"""What was destroyed, in order."""


def plan_of(*profiles: tuple[int, int, int], broken: str = "") -> bytes:
    """A plan that `Runtime.deserialize_cuda_engine` reads."""
    return json.dumps({"profiles": profiles, "broken": broken}).encode()


class _Logger:
    def __init__(self) -> None:
        pass

    def __del__(self) -> None:
        freed.append("logger")


class _Context:
    """`NumpyContext` with what is TensorRT's own: memory and profile are given after it is made."""

    def __init__(self, engine: _Engine) -> None:
        self._engine, self._inner, self._profile = engine, None, 0
        self._scratch = 0

    def set_device_memory(self, memory: int, size: int) -> None:
        assert size >= self._engine.device_memory_size_v2
        self._scratch = memory

    def set_optimization_profile_async(self, profile: int, stream: int) -> bool:
        self._profile = profile
        return 0 <= profile < self._engine.num_optimization_profiles

    def _ready(self) -> NumpyContext:
        if self._inner is None:
            self._inner = self._engine.numpy.context(self._profile, self._scratch, 0)
        return self._inner

    def set_tensor_address(self, name: str, address: int) -> bool:
        return self._ready().set_tensor_address(name, address)

    def set_input_shape(self, name: str, shape: tuple[int, ...]) -> bool:
        return self._ready().set_input_shape(name, shape)

    def execute_async_v3(self, stream: int) -> bool:
        return self._ready().execute_async_v3(stream)

    def __del__(self) -> None:
        freed.append("context")


class _Cache:
    def __init__(self) -> None:
        self.kernels = b""

    def deserialize(self, blob: bytes) -> bool:
        self.kernels = b"" if b"other environment" in blob else bytes(blob)
        return bool(self.kernels)

    def serialize(self) -> bytes:
        return self.kernels or b"compiled kernels"


class _Settings:
    def __init__(self) -> None:
        self.cuda_graph_strategy, self.strategy, self.cache = "DISABLED", "", None

    def set_execution_context_allocation_strategy(self, strategy: str) -> None:
        self.strategy = strategy

    def create_runtime_cache(self) -> _Cache:
        return _Cache()

    def set_runtime_cache(self, cache: _Cache) -> bool:
        self.cache = cache
        return True


class _Engine:
    """An ``ICudaEngine``."""

    latest: _Engine

    def __init__(self, profiles: list[list[int]], broken: str) -> None:
        self.numpy = NumpyEngine(tuple((a, b, c) for a, b, c in profiles), broken)
        self.num_optimization_profiles = len(profiles)
        self.device_memory_size_v2 = self.numpy.scratch_bytes
        self.num_io_tensors = 2
        self.settings: list[Any] = []
        _Engine.latest = self

    def get_tensor_name(self, index: int) -> str:
        return ("images", "embeddings")[index]

    def get_tensor_shape(self, name: str) -> tuple[int, ...]:
        return (-1, *HWC) if name == "images" else (-1, DIM)

    def get_tensor_dtype(self, name: str) -> str:
        return "uint8" if name == "images" else "float32"

    def get_tensor_profile_shape(self, name: str, index: int) -> list[tuple[int, ...]]:
        return [(batch, *HWC) for batch in self.numpy.profiles[index]]

    def create_runtime_config(self) -> _Settings:
        return _Settings()

    def create_execution_context(self, how: Any) -> _Context | None:
        self.settings.append(how)
        return None if self.numpy.broken == "context" else _Context(self)

    def __del__(self) -> None:
        freed.append("engine")


class _Runtime:
    def __init__(self, logger: _Logger) -> None:
        self.logger = logger

    def deserialize_cuda_engine(self, plan: bytes) -> _Engine | None:
        content = json.loads(plan)
        return None if content["broken"] == "plan" else _Engine(content["profiles"], content["broken"])

    def __del__(self) -> None:
        freed.append("runtime")


def install(name: str, version: str) -> None:
    """Let ``import name`` give the double in this process."""
    module: Any = ModuleType(name)
    module.__spec__ = ModuleSpec(name, None)
    module.__version__ = version
    module.ILogger, module.Runtime = _Logger, _Runtime
    module.DataType = SimpleNamespace(UINT8="uint8", FLOAT="float32")
    module.ExecutionContextAllocationStrategy = SimpleNamespace(USER_MANAGED="USER_MANAGED")
    if name == "tensorrt_rtx":
        module.CudaGraphStrategy = SimpleNamespace(DISABLED="DISABLED", WHOLE_GRAPH_CAPTURE="WHOLE_GRAPH_CAPTURE")
    sys.modules[name] = module
