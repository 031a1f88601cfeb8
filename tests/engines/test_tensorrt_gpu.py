"""TensorRT's engines on a real GPU: both bindings, graphs, threads and memory give the same embeddings."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from helpers.small_network import CARD, images_of, network, random_weights

from reid_edge.engines.cuda import find_gpu, open_cuda
from reid_edge.engines.lanes.runtime_cache import cache_path
from reid_edge.engines.onnxruntime import OnnxEngine
from reid_edge.engines.tensorrt import TensorRTEngine
from reid_edge.errors import DeviceError, MissingExtraError
from reid_edge.export.engines.build import Built, engine_from_onnx
from reid_edge.export.engines.options import EngineOptions
from reid_edge.export.graph.io import write_onnx

pytestmark = pytest.mark.gpu

COUNTS = (1, 3, 8, 9, 10, 16)


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Built]:
    """An engine of two profiles, by whichever TensorRT is here."""
    if not find_gpu():
        pytest.skip("needs an NVIDIA GPU, its driver and cuda-bindings or pycuda")
    folder = tmp_path_factory.mktemp("gpu")
    write_onnx(network(random_weights()), CARD, folder / "small.onnx")
    try:
        yield engine_from_onnx(folder / "small.onnx", folder, EngineOptions(profiles=((1, 1, 8), (9, 12, 16))))
    except MissingExtraError as error:
        pytest.skip(str(error))


def test_the_profiles_are_those_that_were_asked_for(built: Built) -> None:
    with TensorRTEngine(built.path, contexts=1) as engine, OnnxEngine(built.path.with_suffix(".onnx")) as exact:
        for count in COUNTS:
            images = images_of(count, seed=count)
            np.testing.assert_allclose(engine.run(images), exact.run(images), atol=2e-3)


@pytest.mark.parametrize("binding", ["cuda-bindings", "pycuda"])
def test_graphs_give_what_plain_runs_give(built: Built, binding: str) -> None:
    """Bit for bit: a graph replays the same kernels. Four rounds, so that the last two are of graphs."""
    try:
        open_cuda(binding).close()
    except MissingExtraError as error:
        pytest.skip(str(error))
    with (
        TensorRTEngine(built.path, binding, contexts=1) as engine,
        TensorRTEngine(built.path, binding, contexts=1, graphs=False) as plain,
    ):
        for round_ in range(4):
            for count in COUNTS:
                images = images_of(count, seed=10 * round_ + count)
                np.testing.assert_array_equal(engine.run(images), plain.run(images))
        lane = engine._pool.lanes[0]
        if built.card.backend == "tensorrt":
            assert len(lane.graphs) == len(COUNTS) and not lane.graphs.off


def test_memory_without_copies_gives_what_copies_give(built: Built) -> None:
    """Mapped memory works on every GPU; on a Jetson it is what is used."""
    with (
        TensorRTEngine(built.path, contexts=1, zero_copy=True) as shared,
        TensorRTEngine(built.path, contexts=1, zero_copy=False) as copied,
    ):
        for round_ in range(3):
            for count in COUNTS:
                images = images_of(count, seed=10 * round_ + count)
                np.testing.assert_array_equal(shared.run(images), copied.run(images))


def test_four_threads_on_two_contexts_get_their_own_rows(built: Built) -> None:
    batches = [images_of(COUNTS[seed % len(COUNTS)], seed=seed) for seed in range(200)]
    with TensorRTEngine(built.path, contexts=1) as engine:
        expected = [engine.run(images) for images in batches]
    with TensorRTEngine(built.path, contexts=2) as engine, ThreadPoolExecutor(4) as threads:
        assert engine.facts.concurrent_runs == 2
        for one, other in zip(expected, threads.map(engine.run, batches), strict=True):
            np.testing.assert_array_equal(one, other)


def test_crops_that_are_on_the_gpu_give_what_those_on_the_host_give(built: Built) -> None:
    images = images_of(10, seed=1)
    cuda = open_cuda()
    try:
        with TensorRTEngine(built.path) as engine:
            for _ in range(3):
                found = engine.run_filled(10, lambda address, stream: cuda.upload(address, images, stream))
                np.testing.assert_array_equal(found, engine.run(images))
    finally:
        cuda.close()


def test_opening_and_closing_gives_all_memory_back(built: Built) -> None:
    driver = pytest.importorskip("cuda.bindings.driver", reason="needs cuda-bindings")
    cuda = open_cuda("cuda-bindings")
    left = []
    for _ in range(6):
        with TensorRTEngine(built.path) as engine:
            for _ in range(3):
                engine.run(images_of(9))
        with cuda.active():
            left.append(int(driver.cuMemGetInfo()[1]))
    cuda.close()
    assert left[-1] >= left[1], "the first run loads kernels that stay"


def test_rtx_keeps_its_kernels(built: Built) -> None:
    if built.card.backend != "tensorrt-rtx":
        pytest.skip("needs TensorRT-RTX")
    cache_path(built.path).unlink(missing_ok=True)
    with TensorRTEngine(built.path) as engine:
        first = engine.run(images_of(8))
    assert cache_path(built.path).stat().st_size > 100
    with TensorRTEngine(built.path) as engine:
        np.testing.assert_array_equal(engine.run(images_of(8)), first)


_CHILD = """
import os, sys
import numpy as np
from reid_edge.engines.tensorrt import TensorRTEngine
from reid_edge.errors import DeviceError
height, width = {hw}
with TensorRTEngine({path!r}) as engine:
    images = np.zeros((2, height, width, 3), np.uint8)
    before = engine.run(images)
    child = os.fork()
    if child == 0:
        try:
            engine.run(images)
        except DeviceError as error:
            os._exit(0 if "forked" in str(error) else 1)
        os._exit(2)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert np.array_equal(engine.run(images), before)
"""


def test_a_forked_child_is_refused(built: Built) -> None:
    script = _CHILD.format(path=str(built.path), hw=CARD.input_hw)
    subprocess.run([sys.executable, "-c", script], check=True, timeout=300)


_LOST = """
import numpy as np
from reid_edge.engines.cuda import open_cuda
from reid_edge.engines.tensorrt import TensorRTEngine
from reid_edge.errors import DeviceError
from cuda.bindings import driver, nvrtc
source = b'extern "C" __global__ void wild(int* at) {{ *at = 1; }}'
program = nvrtc.nvrtcCreateProgram(source, b"wild.cu", 0, [], [])[1]
assert int(nvrtc.nvrtcCompileProgram(program, 0, [])[0]) == 0
ptx = b" " * nvrtc.nvrtcGetPTXSize(program)[1]
nvrtc.nvrtcGetPTX(program, ptx)
height, width = {hw}
images = np.zeros((2, height, width, 3), np.uint8)
with TensorRTEngine({path!r}, "cuda-bindings") as engine:
    engine.run(images)
    def wild(address, stream):
        module = driver.cuModuleLoadData(ptx)[1]
        kernel = driver.cuModuleGetFunction(module, b"wild")[1]
        arguments = ((64,), (__import__("ctypes").c_void_p,))
        driver.cuLaunchKernel(kernel, 1, 1, 1, 1, 1, 1, 0, stream, arguments, 0)
    for fill in (wild, lambda address, stream: None):
        try:
            engine.run_filled(2, fill)
        except DeviceError as error:
            assert "start it again" in str(error), error
        else:
            raise SystemExit("not refused")
"""


def test_after_a_lost_context_the_engine_refuses_with_the_remedy(built: Built) -> None:
    pytest.importorskip("cuda.bindings.nvrtc", reason="needs cuda-bindings")
    script = _LOST.format(path=str(built.path), hw=CARD.input_hw)
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr


def test_a_device_that_is_not_there_is_a_line(built: Built) -> None:
    with pytest.raises(DeviceError, match="CUDA_VISIBLE_DEVICES"), TensorRTEngine(built.path, device=99):
        pass


def test_a_timed_run_gives_the_rows_of_an_untimed_one_and_times_that_fit_into_the_call(built: Built) -> None:
    with TensorRTEngine(built.path) as engine:
        for _ in range(4):
            images = images_of(9, seed=1)
            begin = time.perf_counter()
            embeddings, times = engine.run_timed(images)
            passed_ms = (time.perf_counter() - begin) * 1e3
            np.testing.assert_array_equal(embeddings, engine.run(images))
            assert list(times) == ["host_to_device", "compute", "device_to_host"]
            assert 0 < sum(times.values()) < passed_ms and times["compute"] > 0
