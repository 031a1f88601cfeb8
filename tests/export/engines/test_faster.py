"""INT8 beside FP16 on a GPU: the decision by hand, the engine to compare with, and the timing where there is a GPU."""

from __future__ import annotations

from pathlib import Path

import pytest
from helpers.small_network import CARD, images_of, network, random_weights

from reid_edge.engines.cuda import find_gpu
from reid_edge.engines.tensorrt_api import load_backend
from reid_edge.errors import GateError, MissingExtraError
from reid_edge.export.engines.build import engine_from_onnx
from reid_edge.export.engines.checked import build_engines
from reid_edge.export.engines.faster import GpuTimes, engine_beside, require_faster_engine
from reid_edge.export.engines.options import EngineOptions
from reid_edge.export.graph.fp16 import fp16_from_fp32
from reid_edge.export.graph.io import write_onnx
from reid_edge.export.int8.calibrate import ranges_over
from reid_edge.export.int8.qdq import quantized
from reid_edge.export.parity.crops import ParityCrops


@pytest.fixture
def backend() -> str:
    try:
        return load_backend(None if find_gpu() else "tensorrt-rtx").name
    except MissingExtraError as error:
        pytest.skip(f"needs a TensorRT: {error}")


def files_in(folder: Path, seed: int = 0) -> list[Path]:
    """An FP16 and an INT8 file of one small network."""
    model = network(random_weights())
    int8 = quantized(model, ranges_over(model, images_of(seed=seed), "minmax", 1))
    paths = [folder / f"small_{precision}.onnx" for precision in ("fp16", "int8")]
    write_onnx(fp16_from_fp32(model), CARD.with_(precision="fp16"), paths[0])
    write_onnx(fp16_from_fp32(int8), CARD.with_(precision="int8"), paths[1])
    return paths


def test_an_int8_engine_that_is_slower_where_it_was_tuned_is_refused() -> None:
    """At 8 crops 1.2 ms against 1.0 is 0.83 x; that it wins with one crop does not save it."""
    times = GpuTimes({1: 0.4, 8: 1.2, 64: 9.0}, {1: 0.5, 8: 1.0, 64: 9.0}, optimum=8)
    assert (times.speedup(1), times.speedup(64)) == (1.25, 1.0)
    with pytest.raises(GateError) as refused:
        require_faster_engine(times, "osnet_int8.engine")
    assert str(refused.value) == (
        "osnet_int8.engine is slower than FP16 on this GPU (batch 1: INT8 0.40 ms, FP16 0.50 ms; batch 8: "
        "INT8 1.20 ms, FP16 1.00 ms; batch 64: INT8 9.00 ms, FP16 9.00 ms: 0.83 x at batch 8): use the fp16 engine, "
        "or add --force (force=) to keep it"
    )


def test_an_int8_engine_that_is_as_fast_or_faster_is_kept() -> None:
    require_faster_engine(GpuTimes({1: 0.6, 8: 1.0}, {1: 0.5, 8: 1.0}, optimum=8), "a")
    require_faster_engine(GpuTimes({1: 0.2, 8: 0.9}, {1: 0.5, 8: 1.0}, optimum=8), "a")


def test_it_is_compared_with_the_fp16_engine_of_the_same_model_alone(tmp_path: Path, backend: str) -> None:
    options = EngineOptions(backend=backend, batches=(1, 4, 8))
    fp16, int8 = (engine_from_onnx(path, tmp_path, options).path for path in files_in(tmp_path))
    assert engine_beside(int8) == fp16
    assert engine_beside(fp16) is None
    engine_from_onnx(tmp_path / "small_fp16.onnx", tmp_path, EngineOptions(backend=backend, batches=(1, 2, 8)))
    assert engine_beside(int8) is None, "its kernels were tuned for another batch"
    other = CARD.with_(precision="fp16", weights_sha256="7a" * 32)
    write_onnx(fp16_from_fp32(network(random_weights())), other, tmp_path / "small_fp16.onnx")
    engine_from_onnx(tmp_path / "small_fp16.onnx", tmp_path, options)
    assert engine_beside(int8) is None, "it is of other weights"
    fp16.unlink()
    assert engine_beside(int8) is None


@pytest.mark.gpu
def test_on_a_gpu_a_slower_int8_engine_is_removed_unless_it_is_forced(tmp_path: Path, backend: str) -> None:
    """Whichever is faster here: what the report says agrees with what is left."""
    if not find_gpu():
        pytest.skip("needs an NVIDIA GPU, its driver and cuda-bindings or pycuda")
    paths, options = files_in(tmp_path), EngineOptions(backend=backend, batches=(1, 4, 8))
    loose = {"int8.cosine_min": -1.0, "int8.cosine_p1": -1.0, "int8.ranking": 0.0, "int8.max_error": 2.0}
    from reid_edge.export.parity.limits import Checks

    limits = Checks(gates=loose).limits()
    built, verified = build_engines(paths, tmp_path, options, ParityCrops(count=8), limits)
    slower = [row for row in verified if row.refused and "slower than FP16" in str(row.refused)]
    assert (tmp_path / "small_int8.engine").exists() == (not slower) and len(built) == 2 - len(slower)
    kept, _ = build_engines(paths, tmp_path, options, ParityCrops(count=8), limits, keep_slower=True)
    assert [engine.path.name for engine in kept] == ["small_fp16.engine", "small_int8.engine"]
