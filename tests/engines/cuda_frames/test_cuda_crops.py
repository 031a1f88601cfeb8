"""`CudaCrops` over a double of the driver that runs the kernel on the host; and on a GPU where there is one."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from host_driver import HostDriver, Status, install

from reid_edge.data.images import crops_of
from reid_edge.engines.cuda import find_gpu, open_cuda
from reid_edge.engines.cuda_frames.crops import CudaCrops
from reid_edge.errors import DeviceError, ImageError, MissingExtraError

FRAME = np.random.default_rng(0).integers(0, 256, (90, 120, 3), np.uint8)
EDGES = np.array([[0, 0, 40, 80], [70, 5, 120, 90], [3, 3, 4, 4]])
HW = (32, 16)
EXPECTED = crops_of([FRAME[y1:y2, x1:x2] for x1, y1, x2, y2 in EDGES.tolist()], HW, color="bgr")


class Held:
    """An array's memory under the interface of CUDA."""

    def __init__(self, address: int, array: Any, **more: Any) -> None:
        self.__cuda_array_interface__ = {
            "shape": array.shape,
            "typestr": "|u1",
            "data": (address, False),
            "version": 3,
            **more,
        }


@pytest.fixture
def driver(monkeypatch: pytest.MonkeyPatch) -> HostDriver:
    return install(monkeypatch)


@pytest.fixture
def crops(driver: HostDriver) -> Iterator[CudaCrops]:
    with CudaCrops() as opened:
        yield opened


def _held(**more: Any) -> Held:
    return Held(FRAME.ctypes.data, FRAME, **more)


def test_crops_come_down_as_opencv_makes_them(crops: CudaCrops, driver: HostDriver) -> None:
    frame = crops.open_frame(_held(), "bgr")
    found = crops.download([(frame, EDGES[:2]), (frame, EDGES[2:])], HW)
    np.testing.assert_array_equal(found, EXPECTED)
    wanted = ("cuMemAlloc", "cuLaunchKernel", "cuMemcpyDtoHAsync", "cuStreamSynchronize", "cuMemFree")
    assert driver.names(*wanted) == [wanted[0], wanted[1], *wanted[1:]]
    assert not driver.memory and driver.contexts == 0


def test_the_kernel_writes_where_and_on_which_stream_it_is_told(crops: CudaCrops, driver: HostDriver) -> None:
    out = np.zeros((3, *HW, 3), np.uint8)
    crops.fill(crops.open_frame(_held(), "bgr"), EDGES, HW, out.ctypes.data, 4711)
    np.testing.assert_array_equal(out, EXPECTED)
    assert ("cuLaunchKernel", 4711) in driver.calls and not driver.names("cuStreamSynchronize", "cuMemAlloc")


def test_the_stream_that_reads_waits_for_the_producers(crops: CudaCrops, driver: HostDriver) -> None:
    """The producer's work, then our own stream's, then the engine's, by events: the host waits for none."""
    own = crops._cuda.stream
    frame = crops.open_frame(_held(stream=1), "bgr")
    out = np.zeros((3, *HW, 3), np.uint8)
    crops.fill(frame, EDGES, HW, out.ctypes.data, 4711)
    order = [
        (name, about[1] if name == "cuEventRecord" else about[0] if name == "cuStreamWaitEvent" else about)
        for name, about in driver.calls
        if name in ("cuEventRecord", "cuStreamWaitEvent", "cuLaunchKernel")
    ]
    assert order == [
        ("cuEventRecord", 1),
        ("cuStreamWaitEvent", own),
        ("cuEventRecord", own),
        ("cuStreamWaitEvent", 4711),
        ("cuLaunchKernel", 4711),
    ]


def test_nothing_is_waited_for_where_the_producer_names_no_stream(crops: CudaCrops, driver: HostDriver) -> None:
    frame = crops.open_frame(_held(), "bgr")
    crops.download([(frame, EDGES)], HW)
    assert not driver.names("cuEventRecord", "cuStreamWaitEvent")


def test_dlpack_is_asked_for_the_stream_that_reads(crops: CudaCrops) -> None:
    asked = []

    class Refuses:
        def __dlpack__(self, *, stream: Any, **_: Any) -> Any:
            asked.append(stream)
            raise BufferError("no")

    with pytest.raises(ImageError):
        crops.open_frame(Refuses())
    assert asked == [crops._cuda.stream]


@pytest.mark.parametrize(("device", "said"), [(1, "on GPU 1.*move it to GPU 0"), (None, "CUDA does not know")])
def test_memory_of_another_gpu_or_of_none_is_refused(
    crops: CudaCrops, driver: HostDriver, device: int | None, said: str
) -> None:
    driver.device_of[FRAME.ctypes.data] = device
    with pytest.raises(ImageError, match=said):
        crops.open_frame(_held())
    assert driver.contexts == 0


@pytest.mark.parametrize("call", ["cuLaunchKernel", "cuMemcpyDtoHAsync"])
def test_memory_is_freed_when_a_call_fails(crops: CudaCrops, driver: HostDriver, call: str) -> None:
    frame = crops.open_frame(_held())
    driver.fails[call] = Status.CUDA_ERROR_OUT_OF_MEMORY
    with pytest.raises(DeviceError, match="CUDA_ERROR_OUT_OF_MEMORY"):
        crops.download([(frame, EDGES)], HW)
    assert not driver.memory and driver.contexts == 0


@pytest.mark.parametrize("call", ["cuModuleLoadData", "cuModuleGetFunction", "cuEventCreate"])
def test_what_was_opened_is_closed_when_opening_fails(driver: HostDriver, call: str) -> None:
    driver.fails[call] = Status.CUDA_ERROR_OUT_OF_MEMORY
    with pytest.raises(DeviceError), CudaCrops():
        pass
    loaded, unloaded = driver.names("cuModuleLoadData"), driver.names("cuModuleUnload")
    assert len(unloaded) == len(loaded) - (call == "cuModuleLoadData")
    assert driver.names("cuStreamDestroy", "cuDevicePrimaryCtxRelease") == [
        "cuStreamDestroy",
        "cuDevicePrimaryCtxRelease",
    ]


def test_closing_frees_the_event_the_module_and_the_stream_in_this_order(driver: HostDriver) -> None:
    with CudaCrops():
        pass
    wanted = ["cuEventDestroy", "cuModuleUnload", "cuStreamDestroy", "cuDevicePrimaryCtxRelease"]
    assert driver.names(*wanted) == wanted and driver.contexts == 0


def test_without_cuda_bindings_the_package_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    import sys

    monkeypatch.setitem(sys.modules, "cuda.bindings", None)
    with pytest.raises(MissingExtraError, match="frames on a GPU needs cuda-bindings: run  pip install"), CudaCrops():
        pass


@pytest.mark.gpu
@pytest.mark.parametrize("stream", [None, 1, 2])
def test_crops_made_on_a_gpu_are_opencvs(stream: int | None) -> None:
    _skip_without_gpu()
    cuda = open_cuda("cuda-bindings")
    address = cuda.allocate(FRAME.nbytes)
    cuda.upload(address, FRAME)
    cuda.synchronize()
    try:
        with CudaCrops() as crops:
            frame = crops.open_frame(Held(address, FRAME, stream=stream), "bgr")
            many = np.tile(EDGES, (50, 1))
            found = crops.download([(frame, many), (frame, EDGES)], HW)
    finally:
        cuda.free(address)
        cuda.close()
    assert np.abs(found.astype(int) - np.tile(EXPECTED, (51, 1, 1, 1))).max() <= 1


@pytest.mark.gpu
def test_a_tensor_of_pytorch_is_read_after_the_work_queued_on_it() -> None:
    """On a stream of its own, behind work that takes a while: without the wait, crops would be of the old pixels."""
    _skip_without_gpu()
    torch = pytest.importorskip("torch", reason="needs torch")
    if not torch.cuda.is_available():
        pytest.skip("needs torch with CUDA")
    tensor, pixels = torch.zeros(FRAME.shape, dtype=torch.uint8, device="cuda"), torch.from_numpy(FRAME).cuda()
    torch.cuda.synchronize()
    with CudaCrops() as crops, torch.cuda.stream(torch.cuda.Stream()):
        torch.cuda._sleep(200_000_000)
        tensor.copy_(pixels)
        found = crops.download([(crops.open_frame(tensor, "bgr"), EDGES)], HW)
    assert np.abs(found.astype(int) - EXPECTED).max() <= 1


def _skip_without_gpu() -> None:
    if not find_gpu():
        pytest.skip("needs an NVIDIA GPU, its driver and cuda-bindings")
