"""The fastest of several files: choices by hand, and engines whose speed is known."""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest
from helpers.small_network import CARD, images_of, network, random_weights
from numpy.typing import NDArray

from reid_edge.engines.onnxruntime import OnnxEngine
from reid_edge.export.engines.race import fastest, time_engines
from reid_edge.export.graph.io import write_onnx


class SlowedEngine(OnnxEngine):
    """ONNX Runtime, and a sleep for each crop of a batch above ``free``."""

    free, seconds = 0, 0.0

    def run(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        time.sleep(self.seconds * max(0, len(images) - self.free))
        return super().run(images)


@pytest.mark.parametrize(
    ("times", "best"),
    [
        ({"": (1.0, 1.0), "gpu": (0.99, 0.99)}, ""),  # 1 % is noise
        ({"": (1.0, 1.0), "gpu": (0.97, 0.97)}, "gpu"),
        ({"": (1.0, 10.0), "gpu": (0.5, 12.0)}, "gpu"),  # half of the time counts more than a fifth on top
        ({"": (1.0, 10.0), "gpu": (0.9, 12.0)}, ""),
        ({"": (4.0,), "gpu": (3.0,), "gpu-latency": (2.0,)}, "gpu-latency"),
        ({"gpu": (3.0,), "gpu-latency": (2.0,)}, "gpu-latency"),  # the graph as trained could not be made
        ({}, ""),
    ],
)
def test_each_batch_has_the_same_say(times: Mapping[str, tuple[float, ...]], best: str) -> None:
    assert fastest(times) == best


def test_engines_are_timed_at_each_batch(tmp_path: Path) -> None:
    """One is slower by 30 ms for each crop from the second on: as fast alone, and 90 ms slower for four."""
    write_onnx(network(random_weights()), CARD, tmp_path / "small.onnx")
    quick, slow = OnnxEngine(tmp_path / "small.onnx", threads=1), SlowedEngine(tmp_path / "small.onnx", threads=1)
    slow.free, slow.seconds = 1, 0.03
    with quick, slow:
        times = time_engines({"": slow, "gpu": quick}, (1, 4), images_of(3), runs=5)
    assert [len(own) for own in times.values()] == [2, 2]
    assert times[""][1] > 90 > times["gpu"][1] > 0
    assert fastest(times) == "gpu"


def test_engines_take_turns(tmp_path: Path) -> None:
    order: list[str] = []

    class Noted(OnnxEngine):
        def run(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
            order.append(self.path.name)
            return super().run(images)

    for name in ("a.onnx", "b.onnx"):
        write_onnx(network(random_weights()), CARD, tmp_path / name)
    with Noted(tmp_path / "a.onnx") as first, Noted(tmp_path / "b.onnx") as second:
        times = time_engines({"a": first, "b": second}, [3], images_of(3), runs=2)
    assert order == ["a.onnx", "b.onnx"] * 12, "ten to warm up, two that count"
    assert all(np.isfinite(own[0]) and own[0] > 0 for own in times.values())
