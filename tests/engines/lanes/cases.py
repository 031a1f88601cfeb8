"""Lanes on the double of the CUDA driver; run by test_lanes.py in a process that loaded it."""

from __future__ import annotations

import gc
import logging
import os
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from helpers.cuda_driver import Driver
from helpers.cuda_driver.numpy_engine import DIM, HWC, NumpyEngine, embeddings_of
from numpy.typing import NDArray

from reid_edge.engines.cuda import open_cuda
from reid_edge.engines.gpu import Cuda
from reid_edge.engines.lanes.cuda_errors import ContextLostError
from reid_edge.engines.lanes.lane import Lane, lane_bytes
from reid_edge.engines.lanes.pool import LanePool
from reid_edge.errors import DeviceError, MissingExtraError, ModelError

sys.setdlopenflags(os.RTLD_LAZY)  # PyCUDA is linked with functions that the double has not and nothing here calls

TWO = ((1, 1, 8), (9, 12, 16))
ILLEGAL_ADDRESS = 700


@pytest.fixture
def driver() -> Iterator[Driver]:
    double = Driver()
    double.reset()
    double.library.test_forget()
    double.library.test_integrated(0)
    double.library.test_devices(1)
    yield double
    double.reset()


@pytest.fixture(params=["cuda-bindings", "pycuda"])
def cuda(driver: Driver, request: pytest.FixtureRequest) -> Iterator[Cuda]:
    before = driver.live()
    try:
        opened = open_cuda(request.param)
    except MissingExtraError as error:
        pytest.skip(str(error))
    yield opened
    opened.close()
    if request.param == "pycuda":  # its context is retained once and kept to the end of the process
        before["contexts"] = max(before.get("contexts", 0), 1)
    assert driver.live() == before and driver.library.test_depth() == 0


def images_of(count: int, seed: int = 0) -> NDArray[np.uint8]:
    return np.random.default_rng(seed).integers(0, 256, (count, *HWC), dtype=np.uint8)


def same(found: NDArray[np.float32], images: NDArray[np.uint8]) -> None:
    np.testing.assert_array_equal(found, embeddings_of(images))


# ---------------------------------------------------------------- runs, profiles and graphs


def test_a_timed_run_gives_the_same_rows_and_the_times_of_its_parts(driver: Driver, cuda: Cuda) -> None:
    """A kernel of 20 ms is in compute and in no copy; events are made once and freed with the lane."""
    lane = Lane(cuda, NumpyEngine(TWO, pause=0.02))
    for _ in range(4):  # by the third run from a graph
        _, times = lane.run_timed(images_of(3))
        assert list(times) == ["host_to_device", "compute", "device_to_host"]
        assert times["compute"] >= 19.9 and min(times.values()) >= 0
    assert driver.live()["events"] == 4
    lane.close()
    plain = Lane(cuda, NumpyEngine(TWO))
    for count in (1, 9, 1, 9, 1, 9):
        images = images_of(count, count)
        same(plain.run_timed(images)[0], images)
    plain.close()


def test_a_run_that_is_not_timed_makes_no_events(driver: Driver, cuda: Cuda) -> None:
    lane = Lane(cuda, NumpyEngine(TWO))
    driver.reset()
    lane.run(images_of(2))
    assert "cuEventRecord" not in driver.log() and "events" not in driver.live()
    lane.close()


def test_every_count_gives_its_rows_three_times_over(cuda: Cuda) -> None:
    """The third run of a size is a graph's."""
    lane = Lane(cuda, NumpyEngine(TWO))
    for round_ in range(3):
        for count in range(1, 17):
            images = images_of(count, 100 * round_ + count)
            same(lane.run(images), images)
    assert len(lane.graphs) == 16 and not lane.graphs.off
    lane.close()


def test_the_profile_and_the_padding_are_chosen_by_the_count(cuda: Cuda) -> None:
    engine = NumpyEngine(((2, 2, 4), (6, 8, 16)))
    lane = Lane(cuda, engine)
    for count in (1, 4, 5, 16):
        images = images_of(count)
        same(lane.run(images), images)
    assert engine.batches == [2, 4, 6, 16]
    lane.close()


def test_rows_that_only_pad_are_zero_at_first(cuda: Cuda) -> None:
    """Fresh memory of a GPU holds anything, also values that are no image's for float inputs."""
    engine = NumpyEngine(((4, 4, 4),))
    seen: list[NDArray[np.uint8]] = []
    lane = Lane(cuda, engine)
    computed = engine.compute

    def compute(scratch: int, images: int, output: int, batch: int) -> None:
        computed(scratch, images, output, batch)
        from helpers.cuda_driver.numpy_engine import _at

        seen.append(_at(scratch, (batch, *HWC), np.uint8).copy())

    engine.compute = compute  # type: ignore[method-assign]
    lane.run(np.ones((1, *HWC), np.uint8))
    assert seen[0][0].all() and not seen[0][1:].any()
    lane.close()


def test_a_size_is_captured_after_its_second_run_and_then_launched(driver: Driver, cuda: Cuda) -> None:
    lane = Lane(cuda, NumpyEngine(TWO))
    images = images_of(3)
    logs = []
    for _ in range(4):
        driver.reset()
        same(lane.run(images), images)
        logs.append([name for name in driver.log() if "Graph" in name or name in ("kernel", "cuStreamBeginCapture")])
    plain = ["kernel"]
    capture = ["kernel", "cuStreamBeginCapture", "kernel", "cuGraphInstantiate", "cuGraphDestroy"]
    assert logs == [plain, plain + capture, ["cuGraphLaunch"], ["cuGraphLaunch"]]
    lane.close()


def test_each_profile_has_graphs_of_its_own(driver: Driver, cuda: Cuda) -> None:
    engine = NumpyEngine(TWO)
    lane = Lane(cuda, engine)
    for _ in range(4):
        for count in (8, 9):  # the last of one profile, the first of the other
            images = images_of(count)
            same(lane.run(images), images)
    captured = [context for context in engine.contexts if context.captured]
    assert [(context.profile, context.shape[0]) for context in captured] == [(TWO[0], 8), (TWO[1], 9)]
    assert driver.live()["executable graphs"] == 2 and "graphs" not in driver.live()
    lane.close()


def test_the_least_recently_used_graph_makes_room(driver: Driver, cuda: Cuda) -> None:
    lane = Lane(cuda, NumpyEngine(TWO), graphs=2)
    for count in (1, 1, 2, 2, 1, 3, 3):  # 2 is the oldest when 3 is captured
        lane.run(images_of(count))
    assert driver.live()["executable graphs"] == 2
    driver.reset()
    for count in (1, 3, 2):
        same(lane.run(images_of(count)), images_of(count))
    assert [name for name in driver.log() if name in ("cuGraphLaunch", "kernel")][:3] == [
        "cuGraphLaunch",
        "cuGraphLaunch",
        "kernel",
    ]
    lane.close()


def test_a_capture_that_fails_is_said_once_and_runs_go_on(
    driver: Driver, cuda: Cuda, caplog: pytest.LogCaptureFixture
) -> None:
    for broken in ("cuStreamBeginCapture", "cuStreamEndCapture", "cuGraphInstantiate", "capture"):
        engine = NumpyEngine(TWO)
        if broken == "capture":
            engine.broken = broken
        else:
            driver.fail(broken, error=900)
        lane = Lane(cuda, engine)
        caplog.clear()
        with caplog.at_level(logging.WARNING, "reid_edge"):
            for _ in range(4):
                same(lane.run(images_of(2)), images_of(2))
        assert [record.message[:14] for record in caplog.records] == ["no CUDA graphs"], broken
        assert not len(lane.graphs) and lane.graphs.off
        lane.close()


def test_without_graphs_and_where_the_library_has_its_own_nothing_is_captured(driver: Driver, cuda: Cuda) -> None:
    own = NumpyEngine(TWO)
    own.captures_itself = True
    for lane in (Lane(cuda, NumpyEngine(TWO), graphs=0), Lane(cuda, own)):
        for _ in range(4):
            same(lane.run(images_of(2)), images_of(2))
        lane.close()
    assert not any("Capture" in name for name in driver.log())


# ---------------------------------------------------------------- memory


def test_copies_are_asynchronous_and_as_large_as_the_crops(driver: Driver, cuda: Cuda) -> None:
    lane = Lane(cuda, NumpyEngine(TWO))
    driver.reset()
    lane.run(images_of(3))
    queued = [name for name in driver.log() if not name.startswith("cuCtx")]
    assert queued == ["cuMemcpyHtoDAsync", "kernel", "cuMemcpyDtoHAsync", "cuStreamSynchronize"]
    lane.close()


def test_an_integrated_gpu_copies_nothing(driver: Driver, cuda: Cuda) -> None:
    driver.library.test_integrated(1)
    lane = Lane(cuda, NumpyEngine(TWO))
    for count in (3, 3, 3, 16):
        same(lane.run(images_of(count)), images_of(count))
    assert not any("Memcpy" in name for name in driver.log())
    assert driver.live()["device memory"] == 1 and driver.live()["host memory"] == 2, "the activations alone"
    lane.close()


def test_a_result_is_the_callers_own(cuda: Cuda) -> None:
    lane = Lane(cuda, NumpyEngine(TWO))
    first = lane.run(images_of(2, 1))
    kept = first.copy()
    lane.run(images_of(2, 2))
    np.testing.assert_array_equal(first, kept)
    assert first.base is None and first.flags.owndata and first.flags.writeable
    lane.close()


def test_a_lane_says_what_it_allocates() -> None:
    engine = NumpyEngine(TWO)
    assert lane_bytes(engine) == 16 * 768 + 16 * 768 + 16 * DIM * 4, "activations, crops, embeddings"


# ---------------------------------------------------------------- crops that are on the GPU already


def test_fill_writes_the_crops_on_the_lanes_stream(driver: Driver, cuda: Cuda) -> None:
    images = images_of(5)
    lane = Lane(cuda, NumpyEngine(TWO))
    streams = []

    def fill(address: int, stream: int) -> None:
        streams.append(stream)
        cuda.upload(address, images, stream)

    for _ in range(3):
        same(lane.run_filled(5, fill), images)
    assert streams == [lane.stream] * 3
    lane.close()


def test_what_fill_raises_is_raised_after_the_stream_is_idle(driver: Driver, cuda: Cuda) -> None:
    lane = Lane(cuda, NumpyEngine(TWO))

    def fill(address: int, stream: int) -> None:
        driver.reset()
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        lane.run_filled(2, fill)
    assert [name for name in driver.log() if not name.startswith("cuCtx")] == ["cuStreamSynchronize"]
    same(lane.run(images_of(2)), images_of(2))
    lane.close()


# ---------------------------------------------------------------- failures: nothing leaks, nothing is freed twice


def used_twice(cuda: Cuda) -> None:
    """All that a lane does: open, plain run, capture, launch, close."""
    lane = Lane(cuda, NumpyEngine(TWO))
    try:
        for count in (3, 3, 3, 12):
            lane.run(images_of(count))
    finally:
        lane.close()


_NOT_FAILED = ("kernel", "cuCtxPushCurrent", "cuCtxPopCurrent")
"""Without a current context nothing can be freed: the driver pushes a live one always."""


def calls_of(driver: Driver, work: Callable[[], None]) -> dict[str, int]:
    driver.reset()
    work()
    names = driver.log()
    return {name: names.count(name) for name in dict.fromkeys(names) if name not in _NOT_FAILED}


def test_no_failure_of_any_call_leaks(driver: Driver, cuda: Cuda) -> None:
    before = driver.live()
    calls = calls_of(driver, lambda: used_twice(cuda))
    assert len(calls) >= 15
    tried = 0
    for name, count in calls.items():
        frees = name.endswith(("Destroy", "Free", "FreeHost"))
        for nth in sorted({1, count // 2 or 1, count}):
            driver.reset()
            driver.fail(name, nth, error=2)
            try:
                used_twice(cuda)
            except DeviceError as error:
                assert "out of memory" in str(error) and not frees
            leaked = {kind: n - before.get(kind, 0) for kind, n in driver.live().items() if n != before.get(kind, 0)}
            if frees:  # what the driver refuses to free stays, and only that
                assert sum(leaked.values()) == 1, (name, nth, leaked)
                before = driver.live()
            else:
                assert not leaked, (name, nth, leaked)
            assert driver.library.test_depth() == 0
            tried += 1
    assert tried >= 25
    driver.library.test_forget()


@pytest.mark.parametrize("broken", ["context", "address"])
def test_an_engine_that_gives_no_context_frees_everything(driver: Driver, cuda: Cuda, broken: str) -> None:
    before = driver.live()
    with pytest.raises(ModelError):
        Lane(cuda, NumpyEngine(TWO, broken))
    assert driver.live() == before


@pytest.mark.parametrize(("broken", "said"), [("shape", "another --profile"), ("run", "the double was told to fail")])
def test_a_run_that_fails_says_why_and_the_lane_stays_usable(cuda: Cuda, broken: str, said: str) -> None:
    engine = NumpyEngine(TWO)
    lane = Lane(cuda, engine)
    engine.broken = broken
    with pytest.raises(ModelError, match=said):
        lane.run(images_of(2))
    engine.broken = ""
    same(lane.run(images_of(2)), images_of(2))
    lane.close()


def test_what_is_freed_is_freed_in_the_reverse_order(driver: Driver, cuda: Cuda) -> None:
    lane = Lane(cuda, NumpyEngine(TWO))
    for _ in range(3):
        lane.run(images_of(2))
    driver.reset()
    lane.close()
    buffer = ["cuMemFree", "cuMemFreeHost"]
    assert [name for name in driver.log() if not name.startswith("cuCtx")] == [
        "cuGraphExecDestroy",
        *buffer,
        *buffer,
        "cuMemFree",
        "cuStreamDestroy",
    ]
    driver.reset()
    lane.close()
    assert not [name for name in driver.log() if not name.startswith("cuCtx")], "a second close does nothing"


# ---------------------------------------------------------------- lost contexts and forked processes


@pytest.mark.parametrize("binding", ["cuda-bindings", "pycuda"])
def test_a_sticky_error_ends_all_use_with_the_remedy(driver: Driver, binding: str) -> None:
    try:
        cuda = open_cuda(binding)
    except MissingExtraError as error:
        pytest.skip(str(error))
    lane = Lane(cuda, NumpyEngine(TWO))
    driver.fail("cuStreamSynchronize", error=ILLEGAL_ADDRESS, sticky=True)
    with pytest.raises(ContextLostError, match=r"ILLEGAL_ADDRESS.*start it again"):
        lane.run(images_of(2))
    driver.reset()  # the double would answer again: the refusal is our own
    with pytest.raises(ContextLostError, match="start it again"):
        lane.run(images_of(2))
    with pytest.raises(ContextLostError, match="start it again"):
        cuda.allocate(16)
    assert not driver.log()
    lane.close()
    cuda.close()
    del lane, cuda
    gc.collect()
    assert not driver.log() and driver.library.test_depth() == 0
    driver.library.test_forget()


def test_the_gpus_error_is_given_and_not_tensorrts_silence(driver: Driver, cuda: Cuda) -> None:
    engine = NumpyEngine(TWO)
    lane = Lane(cuda, engine)
    engine.broken = "run"
    driver.fail("cuStreamSynchronize", error=2)
    with pytest.raises(DeviceError, match="out of memory"):
        lane.run(images_of(2))
    lane.close()


def test_a_forked_child_is_refused_and_leaves_the_parents_alone(driver: Driver, cuda: Cuda) -> None:
    lane = Lane(cuda, NumpyEngine(TWO))
    driver.reset()
    child = os.fork()
    if child == 0:
        try:
            lane.run(images_of(2))
        except DeviceError as error:
            refused = "forked" in str(error) and "spawn" in str(error)
            lane.close()
            os._exit(0 if refused and not driver.log() else 1)
        os._exit(2)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    same(lane.run(images_of(2)), images_of(2))
    lane.close()


# ---------------------------------------------------------------- several threads


def closed() -> Exception:
    return ModelError("not open")


def test_threads_run_side_by_side_and_get_their_own_rows(driver: Driver, cuda: Cuda) -> None:
    engine = NumpyEngine(TWO, pause=0.0005)
    pool = LanePool(lambda: Lane(cuda, engine), 2, closed)
    batches = [images_of(1 + seed % 16, seed) for seed in range(160)]

    def embed(images: NDArray[np.uint8]) -> NDArray[np.float32]:
        with pool.lane() as lane:
            return lane.run(images)

    with ThreadPoolExecutor(4) as threads:
        for images, found in zip(batches, threads.map(embed, batches), strict=True):
            same(found, images)
    assert engine.most_at_once <= 2 and len({lane.stream for lane in pool.lanes}) == 2
    pool.close()


def test_two_lanes_are_really_used_at_once(cuda: Cuda) -> None:
    engine = NumpyEngine(TWO)
    meeting = threading.Barrier(2, timeout=60)
    computed = engine.compute

    def compute(scratch: int, images: int, output: int, batch: int) -> None:
        meeting.wait()
        computed(scratch, images, output, batch)

    engine.compute = compute  # type: ignore[method-assign]
    pool = LanePool(lambda: Lane(cuda, engine), 2, closed)

    def embed(seed: int) -> NDArray[np.float32]:
        with pool.lane() as lane:
            return lane.run(images_of(2, seed))

    with ThreadPoolExecutor(2) as threads:
        for seed, found in zip((1, 2), threads.map(embed, (1, 2)), strict=True):
            same(found, images_of(2, seed))
    pool.close()


def test_closing_waits_for_runs_and_refuses_those_that_wait(cuda: Cuda) -> None:
    pool = LanePool(lambda: Lane(cuda, NumpyEngine(TWO)), 1, closed)
    inside, leave = threading.Event(), threading.Event()
    ended: list[str] = []

    def fill(address: int, stream: int) -> None:
        inside.set()
        assert leave.wait(60)
        cuda.upload(address, images_of(2), stream)

    def run() -> None:
        with pool.lane() as lane:
            same(lane.run_filled(2, fill), images_of(2))
        ended.append("run")

    def wait() -> None:
        try:
            with pool.lane():
                ended.append("not refused")
        except ModelError:
            ended.append("refused")
            leave.set()

    def close() -> None:
        pool.close()
        ended.append("closed")

    threads = [threading.Thread(target=one) for one in (run, wait, close)]
    threads[0].start()
    assert inside.wait(60)
    threads[1].start()
    threads[2].start()  # refuses the one that waits, which lets the run end, after which it closes
    for thread in threads:
        thread.join(60)
    assert ended[0] == "refused" and sorted(ended[1:]) == ["closed", "run"]
    with pytest.raises(ModelError, match="not open"), pool.lane():
        pass
    pool.close()


def test_a_second_lane_that_does_not_fit_frees_the_first(driver: Driver, cuda: Cuda) -> None:
    before = driver.live()
    allocations = calls_of(driver, lambda: Lane(cuda, NumpyEngine(TWO)).close())["cuMemAlloc"]
    driver.fail("cuMemAlloc", allocations + 1, lasting=True)  # PyCUDA collects garbage and tries again
    with pytest.raises(DeviceError, match="free GPU memory"):
        LanePool(lambda: Lane(cuda, NumpyEngine(TWO)), 2, closed)
    assert driver.live() == before


# ---------------------------------------------------------------- opening the device


def test_opening_fails_without_a_trace(driver: Driver) -> None:
    for name in ("cuInit", "cuDeviceGet", "cuDevicePrimaryCtxRetain", "cuStreamCreate"):
        driver.reset()
        driver.fail(name)
        with pytest.raises(DeviceError):
            open_cuda("cuda-bindings")
        assert not driver.live().get("streams") and driver.library.test_depth() == 0


def test_a_device_is_chosen_by_its_number(driver: Driver) -> None:
    driver.library.test_devices(2)
    second = open_cuda("cuda-bindings", device=1)
    assert second.gpu.name == "double 1" and second.gpu.compute_capability == (8, 7)
    second.close()
    with pytest.raises(DeviceError, match="CUDA_VISIBLE_DEVICES"):
        open_cuda("cuda-bindings", device=2)
