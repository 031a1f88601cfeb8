"""`TensorRTEngine` on doubles of the CUDA driver and of TensorRT; run by test_lanes.py in a process that has them."""

from __future__ import annotations

import gc
import hashlib
import logging
import os
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from helpers.cuda_driver import Driver
from helpers.cuda_driver.numpy_engine import DIM, HWC, embeddings_of
from helpers.cuda_driver.numpy_tensorrt import _Engine, freed, install, plan_of
from helpers.small_network import CARD
from numpy.typing import NDArray

from reid_edge.engines.cuda import open_cuda
from reid_edge.engines.engine_card import EngineCard
from reid_edge.engines.lanes.runtime_cache import cache_path
from reid_edge.engines.tensorrt import TensorRTEngine
from reid_edge.errors import DeviceError, InputError, ModelError

VERSIONS = {"tensorrt": "10.3.0", "tensorrt-rtx": "1.7.1.116"}
TWO = ((1, 1, 8), (9, 12, 16))


@pytest.fixture(scope="module", autouse=True)
def _doubles() -> None:
    """Not at import: whoever collects doctests imports this file too."""
    for module, backend in (("tensorrt", "tensorrt"), ("tensorrt_rtx", "tensorrt-rtx")):
        install(module, VERSIONS[backend])


@pytest.fixture
def driver() -> Iterator[Driver]:
    double = Driver()
    double.reset()
    double.library.test_forget()
    freed.clear()
    before = double.live()
    yield double
    gc.collect()
    assert double.live() == before


def written(folder: Path, *, backend: str = "tensorrt", broken: str = "", profiles: object = TWO) -> Path:
    """An engine with its card, for the GPU of the double."""
    path = folder / "m.engine"
    plan = plan_of(*profiles, broken=broken)  # type: ignore[misc]
    path.write_bytes(plan)
    cuda = open_cuda("cuda-bindings")
    options = {"batches": [1, 12, 16], "profiles": [list(one) for one in TWO]}
    card = EngineCard(
        model=CARD.with_(input_hw=HWC[:2], embedding_dim=DIM),
        onnx_sha256="0" * 64,
        backend=backend,
        version=VERSIONS[backend],
        gpu=cuda.gpu.facts(),
        engine_sha256=hashlib.sha256(plan).hexdigest(),
        options=options,
    )
    cuda.close()
    EngineCard.path_for(path).write_text(card.to_json())
    return path


def images_of(count: int, seed: int = 0) -> NDArray[np.uint8]:
    return np.random.default_rng(seed).integers(0, 256, (count, *HWC), dtype=np.uint8)


def test_it_embeds_any_batch_of_its_profiles_and_says_what_it_is(tmp_path: Path, driver: Driver) -> None:
    with TensorRTEngine(written(tmp_path)) as engine:
        assert (engine.max_batch, engine.facts.concurrent_runs) == (16, 2)
        assert engine.provider == "TensorRT 10.3.0"
        for round_ in range(3):
            for count in (1, 8, 9, 16):
                images = images_of(count, round_)
                np.testing.assert_array_equal(engine.run(images), embeddings_of(images))
        for count in (0, 17):
            with pytest.raises(ModelError, match=f"a batch of {count} is outside"):
                engine.run(images_of(count))
            with pytest.raises(ModelError, match=f"a batch of {count} is outside"):
                engine.run_filled(count, lambda address, stream: None)
    assert set(_Engine.latest.settings) == {"USER_MANAGED"}


def test_threads_share_one_engine(tmp_path: Path, driver: Driver) -> None:
    with TensorRTEngine(written(tmp_path), contexts=2) as engine, ThreadPoolExecutor(4) as threads:
        batches = [images_of(1 + seed % 16, seed) for seed in range(60)]
        for images, found in zip(batches, threads.map(engine.run, batches), strict=True):
            np.testing.assert_array_equal(found, embeddings_of(images))


def test_everything_is_freed_in_order_and_a_closed_engine_says_so(tmp_path: Path, driver: Driver) -> None:
    engine = TensorRTEngine(written(tmp_path), contexts=2)
    with engine:
        for _ in range(3):
            engine.run(images_of(2))
        del _Engine.latest
        freed.clear()
    gc.collect()
    contexts = [name for name in freed if name == "context"]
    assert freed == [*contexts, "engine", "runtime", "logger"] and len(contexts) == 2 * 2 + 1
    for use in (engine.run, lambda images: engine.run_filled(2, lambda a, s: None)):
        with pytest.raises(ModelError, match="is not open"):
            use(images_of(2))
    with engine:  # and opens again
        engine.run(images_of(2))


@pytest.mark.parametrize(
    ("broken", "said"),
    [("plan", "cannot be loaded"), ("context", "free GPU memory"), ("address", "does not take the buffer")],
)
def test_an_engine_that_does_not_open_leaves_nothing(tmp_path: Path, driver: Driver, broken: str, said: str) -> None:
    with pytest.raises(ModelError, match=said), TensorRTEngine(written(tmp_path, broken=broken)):
        pass
    gc.collect()
    assert "runtime" in freed and "logger" in freed


def test_out_of_memory_while_opening_frees_all(tmp_path: Path, driver: Driver) -> None:
    path = written(tmp_path)
    for name in ("cuMemAlloc", "cuMemHostAlloc", "cuStreamCreate"):
        for nth in (1, 2, 3):
            driver.reset()
            driver.fail(name, nth)
            with pytest.raises(DeviceError, match="free GPU memory"), TensorRTEngine(path):
                pass


def test_an_engine_of_other_profiles_than_its_card_is_refused(tmp_path: Path, driver: Driver) -> None:
    path = written(tmp_path, profiles=((1, 1, 8), (9, 12, 32)))
    said = r"profiles 1:1:8, 9:12:32 where its card says 1:1:8, 9:12:16: run .* --profile 1:1:8 --profile 9:12:16"
    with pytest.raises(ModelError, match=said), TensorRTEngine(path):
        pass


def test_options_that_cannot_be_are_refused(tmp_path: Path, driver: Driver) -> None:
    with pytest.raises(InputError, match="0 contexts"):
        TensorRTEngine(tmp_path / "m.engine", contexts=0)
    with pytest.raises(InputError, match="device -1"), TensorRTEngine(written(tmp_path), device=-1):
        pass


def test_a_forked_child_is_refused_and_the_parent_goes_on(tmp_path: Path, driver: Driver) -> None:
    with TensorRTEngine(written(tmp_path)) as engine:
        driver.reset()
        child = os.fork()
        if child == 0:
            try:
                with _leaving(engine):
                    engine.run(images_of(2))
            except DeviceError as error:
                os._exit(0 if "forked" in str(error) and not driver.log() and not freed else 1)
            os._exit(2)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
        np.testing.assert_array_equal(engine.run(images_of(2)), embeddings_of(images_of(2)))


class _leaving:
    """Leaves the engine as the child's unwinding does."""

    def __init__(self, engine: TensorRTEngine) -> None:
        self._engine = engine

    def __enter__(self) -> None:
        freed.clear()

    def __exit__(self, *error: object) -> None:
        self._engine.__exit__(None, None, None)


# ---------------------------------------------------------------- TensorRT-RTX


def test_rtx_keeps_its_own_graphs_and_its_kernels_beside_the_engine(tmp_path: Path, driver: Driver) -> None:
    path = written(tmp_path, backend="tensorrt-rtx")
    with TensorRTEngine(path) as engine:
        for _ in range(4):
            np.testing.assert_array_equal(engine.run(images_of(2)), embeddings_of(images_of(2)))
        settings = _Engine.latest.settings[0]
        assert (settings.strategy, settings.cuda_graph_strategy) == ("USER_MANAGED", "WHOLE_GRAPH_CAPTURE")
        assert settings.cache.kernels == b"", "there were none"
    assert not any("Capture" in name for name in driver.log())
    assert cache_path(path).read_bytes().endswith(b"compiled kernels")
    with TensorRTEngine(path, graphs=False):
        settings = _Engine.latest.settings[0]
        assert settings.cache.kernels == b"compiled kernels" and settings.cuda_graph_strategy == "DISABLED"


def test_the_cache_is_not_written_again_when_nothing_was_compiled(tmp_path: Path, driver: Driver) -> None:
    path = written(tmp_path, backend="tensorrt-rtx")
    with TensorRTEngine(path):
        pass
    before = cache_path(path).stat().st_ino
    with TensorRTEngine(path):
        pass
    assert cache_path(path).stat().st_ino == before


def _damage(content: bytes) -> bytes:
    return content[:-1] + bytes([content[-1] ^ 1])


@pytest.mark.parametrize(
    "change",
    [_damage, lambda content: content[:20], lambda content: b"", lambda content: b"PK\x03\x04" + content],
)
def test_a_damaged_cache_is_left_out_with_a_note_and_written_again(
    tmp_path: Path, driver: Driver, caplog: pytest.LogCaptureFixture, change: Callable[[bytes], bytes]
) -> None:
    path = written(tmp_path, backend="tensorrt-rtx")
    with TensorRTEngine(path):
        pass
    whole = cache_path(path).read_bytes()
    cache_path(path).write_bytes(change(whole))
    with caplog.at_level(logging.WARNING, "reid_edge"), TensorRTEngine(path):
        assert _Engine.latest.settings[0].cache.kernels == b""
    assert "m.engine.cache is damaged or belongs to another" in caplog.text
    assert cache_path(path).read_bytes() == whole


def test_a_cache_of_another_engine_is_not_given_to_this_one(
    tmp_path: Path, driver: Driver, caplog: pytest.LogCaptureFixture
) -> None:
    path = written(tmp_path, backend="tensorrt-rtx")
    with TensorRTEngine(path):
        pass
    kept = cache_path(path).read_bytes()
    other = tmp_path / "other"
    other.mkdir()
    path = written(other, backend="tensorrt-rtx", broken="none")
    cache_path(path).write_bytes(kept)
    with caplog.at_level(logging.WARNING, "reid_edge"), TensorRTEngine(path):
        assert _Engine.latest.settings[0].cache.kernels == b""
    assert "belongs to another" in caplog.text


def test_a_folder_that_cannot_be_written_is_a_note(
    tmp_path: Path, driver: Driver, caplog: pytest.LogCaptureFixture
) -> None:
    path = written(tmp_path, backend="tensorrt-rtx")
    cache_path(path).mkdir()  # where the file should be
    with caplog.at_level(logging.WARNING, "reid_edge"), TensorRTEngine(path) as engine:
        engine.run(images_of(2))
    assert "cannot be written" in caplog.text
