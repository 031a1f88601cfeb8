"""`Embedder` on frames that lie on the GPU, over the double of the driver: what the same frame in host memory gives."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers.tiny_onnx import write_tiny_model
from host_driver import HostDriver, install
from numpy.typing import NDArray

from reid_edge.embedder.embedder import Embedder
from reid_edge.engines.onnxruntime import OnnxEngine
from reid_edge.errors import ImageError, InputError

FRAMES = list(np.random.default_rng(4).integers(0, 256, (2, 120, 160, 3), np.uint8))
BOXES = [[[-5.0, 3, 60.4, 90], [200, 0, 300, 50], [80, 10, 85, 18]], [[0, 0, 160, 120], [20, 20.5, 70, 110]]]


class OnGpu:
    """An array under the interface of CUDA."""

    def __init__(self, array: NDArray[np.uint8]) -> None:
        self.__cuda_array_interface__ = {
            "shape": array.shape,
            "typestr": "|u1",
            "data": (array.ctypes.data, True),
            "version": 3,
        }


class FilledEngine(OnnxEngine):
    """Takes crops at an address of its own, as `TensorRTEngine.run_filled` does, in host memory."""

    def __init__(self, path: Path, max_batch: int) -> None:
        super().__init__(path, max_batch=max_batch)
        self.counts: list[int] = []

    def run_filled(self, count: int, fill: Callable[[int, int], None]) -> NDArray[np.float32]:
        assert 1 <= count <= self.max_batch
        images = np.zeros((count, *self.card.input_hw, 3), np.uint8)
        fill(images.ctypes.data, 4711)
        self.counts.append(count)
        return self.run(images)


@pytest.fixture
def driver(monkeypatch: pytest.MonkeyPatch) -> HostDriver:
    return install(monkeypatch)


@pytest.fixture
def model(tmp_path: Path) -> Path:
    return write_tiny_model(tmp_path / "tiny.onnx")


def test_a_frame_on_the_gpu_gives_the_embeddings_of_the_same_frame(driver: HostDriver, model: Path) -> None:
    with Embedder(model) as embedder:
        expected = embedder.embed(FRAMES[0], "bgr", boxes=BOXES[0], details=True)
        found = embedder.embed(OnGpu(FRAMES[0]), "bgr", boxes=BOXES[0], details=True)  # type: ignore[call-overload]
        assert not np.array_equal(embedder.embed(FRAMES[0], "rgb", boxes=BOXES[0]), found.embeddings)
    for field in ("embeddings", "frame", "kept", "clipped", "too_small"):
        np.testing.assert_array_equal(getattr(found, field), getattr(expected, field))
    assert found.kept.tolist() == [0, 2] and not driver.memory and driver.contexts == 0
    assert driver.names("cuCtxSynchronize", "cuDevicePrimaryCtxRelease") == ["cuDevicePrimaryCtxRelease"]


def test_several_frames_fill_batches_across_frames_in_the_engines_own_input(driver: HostDriver, model: Path) -> None:
    with FilledEngine(model, max_batch=3) as engine, Embedder(engine) as embedder:
        expected = embedder.embed(FRAMES, boxes=BOXES, details=True)
        found: Any = embedder.embed(list(map(OnGpu, FRAMES)), boxes=BOXES, details=True)  # type: ignore[call-overload]
        assert engine.counts == [3, 1], "4 boxes with area"
    np.testing.assert_array_equal(found.embeddings, expected.embeddings)
    assert found.frame.tolist() == [0, 0, 1, 1] and found.kept.tolist() == [0, 2, 0, 1]
    assert not driver.names("cuMemAlloc", "cuMemcpyDtoHAsync"), "no crop came down"
    assert {stream for name, stream in driver.calls if name == "cuLaunchKernel"} == {4711}


def test_planes_of_nv12(driver: HostDriver, model: Path) -> None:
    both = np.ascontiguousarray(FRAMES[0][..., 0])
    planes = OnGpu(both[:80]), OnGpu(both[80:].reshape(40, 80, 2))
    with Embedder(model) as embedder:
        expected = embedder.embed(both, "nv12", boxes=[[3, 5, 41, 70]])
        for frame in (planes, [planes], OnGpu(both), [OnGpu(both)]):
            boxes = [[3, 5, 41, 70]] if not isinstance(frame, list) else [[[3, 5, 41, 70]]]
            np.testing.assert_array_equal(embedder.embed(frame, "nv12", boxes=boxes), expected)  # type: ignore


def test_without_boxes_an_array_on_the_gpu_is_a_crop(driver: HostDriver, model: Path) -> None:
    with Embedder(model) as embedder:
        found = embedder.embed(list(map(OnGpu, FRAMES)))  # type: ignore[call-overload]
        np.testing.assert_array_equal(found, embedder.embed(FRAMES))


def test_no_boxes_give_no_rows(driver: HostDriver, model: Path) -> None:
    with Embedder(model) as embedder:
        dimensions = embedder.card.embedding_dim
        assert embedder.embed(OnGpu(FRAMES[0]), boxes=[]).shape == (0, dimensions)  # type: ignore[call-overload]
    assert not driver.names("cuLaunchKernel", "cuMemAlloc")


def test_what_cannot_be_embedded_is_refused_with_the_remedy(driver: HostDriver, model: Path) -> None:
    mixed: Any = [OnGpu(FRAMES[0]), FRAMES[1]]
    on_gpu: Any = OnGpu(FRAMES[0])
    with Embedder(model) as embedder:
        with pytest.raises(InputError, match="frame 0 is on the GPU, frame 1 in host memory: embed them apart"):
            embedder.embed(mixed, boxes=BOXES)
        with pytest.raises(InputError, match="2 frames, and boxes for 1"):
            embedder.embed([on_gpu, on_gpu], boxes=BOXES[:1])
        with pytest.raises(ImageError, match="bgra has 4 channels"):
            embedder.embed(on_gpu, "bgra", boxes=BOXES[0])
        with pytest.raises(InputError, match="details are about boxes"):
            embedder.embed(on_gpu, details=True)
    with pytest.raises(InputError, match="closed"):
        embedder.embed(on_gpu, boxes=BOXES[0])


def test_another_resize_than_opencvs_is_refused(driver: HostDriver, tmp_path: Path) -> None:
    model = write_tiny_model(tmp_path / "pillow.onnx", resize="pillow-bilinear")
    with Embedder(model) as embedder, pytest.raises(InputError, match="'pillow-bilinear': give frames in host memory"):
        embedder.embed(OnGpu(FRAMES[0]), boxes=BOXES[0])  # type: ignore[call-overload]
    with Embedder(model, resize="opencv") as embedder:
        assert len(embedder.embed(OnGpu(FRAMES[0]), boxes=BOXES[0])) == 2  # type: ignore[call-overload]


def test_tensors_in_host_memory_are_arrays(model: Path) -> None:
    torch = pytest.importorskip("torch", reason="needs torch")
    with Embedder(model) as embedder:
        expected = embedder.embed(FRAMES[0], "bgr", boxes=BOXES[0])
        np.testing.assert_array_equal(embedder.embed(torch.from_numpy(FRAMES[0]), "bgr", boxes=BOXES[0]), expected)
        many: Any = [torch.from_numpy(frame) for frame in FRAMES]
        np.testing.assert_array_equal(embedder.embed(many), embedder.embed(FRAMES))
        with pytest.raises(ImageError, match="a Tensor cannot be read .*: give a NumPy array"):
            embedder.embed(torch.zeros(4, 4, 3, requires_grad=True))
