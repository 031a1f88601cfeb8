"""A double of TensorRT's interface: an engine whose contexts queue a numpy function on the double of the driver.

It keeps TensorRT's rules: a context runs shapes of its profile alone, must have run since its shape was set before it
is captured, and must not be changed afterwards; activation memory must not be used by two runs at once.
"""

from __future__ import annotations

import ctypes
import math
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from reid_edge.engines.lanes.profiles import Profile
from reid_edge.errors import ModelError

HWC = (16, 16, 3)
DIM = 5
_Run = ctypes.CFUNCTYPE(None, ctypes.c_void_p)


def embeddings_of(images: NDArray[np.uint8]) -> NDArray[np.float32]:
    """What the engine computes: each row from its image alone, of L2 norm 1."""
    sums = 1 + images.reshape(len(images), -1).astype(np.int64) @ _WEIGHTS  # exact, whatever the batch
    norms = np.sqrt((sums * sums).sum(axis=1, keepdims=True))
    return (sums / norms).astype(np.float32)


_WEIGHTS = np.random.default_rng(5).integers(0, 1000, (math.prod(HWC), DIM))


def _at(address: int, shape: tuple[int, ...], kind: Any) -> NDArray[Any]:
    size = math.prod(shape) * np.dtype(kind).itemsize
    return np.frombuffer((ctypes.c_uint8 * size).from_address(address), kind).reshape(shape)


class NumpyEngine:
    """A `LoadedEngine`; ``broken`` names what fails: "context", "address", "shape" or "run"."""

    path = Path("double.engine")
    tensors = (("images", HWC, "uint8"), ("embeddings", (DIM,), "float32"))
    captures_itself = False

    def __init__(self, profiles: tuple[Profile, ...], broken: str = "", pause: float = 0.0) -> None:
        self.profiles, self.broken, self.pause = profiles, broken, pause
        self.scratch_bytes = max(profile[2] for profile in profiles) * math.prod(HWC)
        self.library = ctypes.CDLL("libcuda.so.1")
        self.contexts: list[NumpyContext] = []
        self.batches: list[int] = []
        self.busy: set[int] = set()
        self.most_at_once = 0
        self.lock = threading.Lock()

    def context(self, profile: int, scratch: int, stream: int) -> NumpyContext:
        if self.broken == "context":
            raise ModelError("no context")
        self.contexts.append(NumpyContext(self, self.profiles[profile], scratch))
        return self.contexts[-1]

    def reason(self) -> str:
        return "the double was told to fail"

    def compute(self, scratch: int, images: int, output: int, batch: int) -> None:
        with self.lock:
            assert scratch not in self.busy, "two runs in the same activation memory"
            self.busy.add(scratch)
            self.most_at_once = max(self.most_at_once, len(self.busy))
            self.batches.append(batch)
        activations = _at(scratch, (batch, *HWC), np.uint8)
        activations[:] = _at(images, (batch, *HWC), np.uint8)
        time.sleep(self.pause)  # lets other threads in; nothing depends on how long it takes
        _at(output, (batch, DIM), np.float32)[:] = embeddings_of(activations)
        with self.lock:
            self.busy.remove(scratch)


class NumpyContext:
    def __init__(self, engine: NumpyEngine, profile: Profile, scratch: int) -> None:
        self.engine, self.profile, self.scratch = engine, profile, scratch
        self.addresses: dict[str, int] = {}
        self.shape: tuple[int, ...] = ()
        self.ran = self.captured = False
        self._runs: list[Any] = []  # a graph calls them again

    def set_input_shape(self, name: str, shape: tuple[int, ...]) -> bool:
        assert not self.captured, "a captured context was changed"
        if self.engine.broken == "shape" or not self.profile[0] <= shape[0] <= self.profile[2] or shape[1:] != HWC:
            return False
        self.ran = self.ran and shape == self.shape
        self.shape = shape
        return True

    def set_tensor_address(self, name: str, address: int) -> bool:
        assert not self.captured, "a captured context was changed"
        self.addresses[name] = address
        return self.engine.broken != "address"

    def execute_async_v3(self, stream: int) -> bool:
        capturing = bool(self.engine.library.test_capturing(ctypes.c_void_p(stream)))
        assert self.ran or not capturing, "captured before a run worked off the change of shape"
        self.captured = self.captured or capturing
        if self.engine.broken == "run" or (self.engine.broken == "capture" and capturing):
            return False
        arguments = (self.scratch, self.addresses["images"], self.addresses["embeddings"], self.shape[0])
        run = _Run(lambda _: self.engine.compute(*arguments))
        self._runs = [*self._runs[-1:], run] if not capturing else [run]
        self.ran = True
        return self.engine.library.test_queue(ctypes.c_void_p(stream), run, None) == 0
