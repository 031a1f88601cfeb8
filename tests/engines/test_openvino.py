"""The OpenVINO engine beside the definition, ONNX Runtime, and real weights on real crops."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from helpers.tiny_onnx import tiny_embeddings, write_tiny_model
from numpy.typing import NDArray

from reid_edge.api.verify_export import verify_export
from reid_edge.benchmarks.options import BenchOptions
from reid_edge.benchmarks.run import bench
from reid_edge.engines.openvino import OpenVINOEngine
from reid_edge.engines.registry import open_engine
from reid_edge.errors import InputError, ModelError

openvino = pytest.importorskip("openvino", reason="needs OpenVINO: pip install openvino")

HW = (32, 16)
HAS_BF16 = "BF16" in openvino.Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")
needs_bf16 = pytest.mark.skipif(not HAS_BF16, reason="this CPU has no bf16 instructions")


def _crops(number: int, seed: int = 0) -> NDArray[np.uint8]:
    return np.random.default_rng(seed).integers(0, 256, (number, *HW, 3), np.uint8)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_model(tmp_path_factory.mktemp("model") / "tiny.onnx", input_hw=HW, embedding_dim=10)


@pytest.mark.parametrize("number", [1, 3, 8])
def test_embeddings_are_those_of_the_definition(model: Path, number: int) -> None:
    with open_engine(model, backend="openvino", threads=1, max_batch=8) as engine:
        embeddings = engine.run(_crops(number))
    assert embeddings.shape == (number, 10) and embeddings.dtype == np.float32
    np.testing.assert_allclose(embeddings, tiny_embeddings(_crops(number), embedding_dim=10), atol=1e-5)


def test_it_says_what_runs_it(model: Path) -> None:
    with open_engine(model, backend="openvino", threads=1) as engine:
        assert (engine.backend, engine.provider, engine.facts.threads) == ("openvino", "OpenVINO CPU", 1)
        assert engine.facts.computes == "" and set(engine.facts.versions) == {"openvino"}
    with pytest.raises(ModelError, match="is not open"):
        engine.run(_crops(1))


def test_contexts_share_the_threads(model: Path) -> None:
    crops = [_crops(2, seed) for seed in range(6)]
    with open_engine(model, backend="openvino", threads=2, contexts=2) as engine, ThreadPoolExecutor(3) as pool:
        assert engine.facts.concurrent_runs == 2
        assert engine._compiled.get_property("NUM_STREAMS") == 2  # type: ignore[attr-defined]
        for given, embeddings in zip(crops, pool.map(engine.run, crops), strict=True):
            np.testing.assert_allclose(embeddings, tiny_embeddings(given, embedding_dim=10), atol=1e-5)
    for contexts in (0, 3):
        with pytest.raises(InputError, match=f"{contexts} contexts cannot share 2 CPU threads"):
            open_engine(model, backend="openvino", threads=2, contexts=contexts)


def test_fp32_is_asked_for(model: Path) -> None:
    """OpenVINO would compute in bf16 by itself where the CPU has it."""
    with OpenVINOEngine(model) as engine:
        assert engine._compiled.get_property("INFERENCE_PRECISION_HINT") == openvino.Type.f32


@needs_bf16
def test_bf16_is_coarser_and_says_so(model: Path) -> None:
    """Eight bits of precision: embeddings of length 1 move by more than FP32 rounds, and by less than 2 %."""
    with open_engine(model, backend="openvino", threads=1) as exact:
        expected = exact.run(_crops(8))
    with open_engine(model, backend="openvino:bf16", threads=1) as engine:
        assert engine.facts.computes == "bf16"
        moved = np.linalg.norm(engine.run(_crops(8)) - expected, axis=1)
    assert 1e-5 < moved.max() < 0.02


@needs_bf16
@pytest.mark.long
def test_bf16_ranks_real_crops_as_fp32_does(dev_weights: Path, dev_crops: Path, tmp_path: Path) -> None:
    from reid_edge.api.export_model import export_model

    export_model(dev_weights, tmp_path, arch="osnet_x0_25", name="osnet")
    file = tmp_path / "osnet_fp32.onnx"
    (fp32,) = verify_export(file, file, data=dev_crops, backend="openvino", threads=1)
    assert fp32.refused is None and fp32.parity is not None and fp32.parity.max_error < 1e-5
    (bf16,) = verify_export(file, file, data=dev_crops, backend="openvino:bf16", threads=1)
    assert bf16.refused is None and bf16.parity is not None and bf16.lost is not None
    assert 0.99 < bf16.parity.cosine_min < 0.9999  # it does compute in 8 bits
    assert abs(bf16.lost.mAP.mean) < 1e-3


@needs_bf16
def test_a_benchmark_has_rows_for_each_backend(model: Path) -> None:
    backends = ("onnxruntime", "openvino:bf16")
    options = BenchOptions(batches=(2,), repeats=1, min_seconds=0, gallery=0, stream=False, backends=backends)
    report = bench(model, options=options)
    found = [(row.precision, row.measured.engine.backend, row.measured.engine.computes) for row in report.rows]
    assert found == [("fp32", "onnxruntime", ""), ("bf16", "openvino", "bf16")]


def test_bf16_without_the_instructions_is_refused(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(openvino.Core, "get_property", lambda *_: ["FP32", "INT8"])
    with pytest.raises(InputError, match="no bf16 instructions"):
        OpenVINOEngine(model, precision="bf16").__enter__()


def test_what_computes_is_chosen_by_name(model: Path) -> None:
    for backend, precision in (("openvino:bf16", None), ("openvino", "bf16")):
        assert open_engine(model, backend=backend, precision=precision)._precision == "bf16"  # type: ignore[attr-defined]
    for wrong, match in (
        ({"backend": "openvino:int4"}, "computes in no precision 'int4'|int4"),
        ({"backend": "onnxruntime:bf16"}, r"not 'bf16' on request: openvino \(fp32, bf16\) can choose"),
        ({"precision": "bf16"}, "can choose"),
        ({"backend": "openvino", "providers": ["CPUExecutionProvider"]}, "leave out providers"),
        ({"backend": "openvino", "threads": 0}, "0 threads"),
    ):
        with pytest.raises(InputError, match=match):
            open_engine(model, **wrong)  # type: ignore[arg-type]


def test_no_later_run_writes_into_a_result(model: Path) -> None:
    with OpenVINOEngine(model, threads=1) as engine:
        first = engine.run(_crops(4, seed=1))
        kept = first.copy()
        for seed in range(2, 12):
            engine.run(_crops(4, seed))
    np.testing.assert_array_equal(first, kept)
    assert first.flags.owndata


def test_several_threads_may_run_one_engine(model: Path) -> None:
    with OpenVINOEngine(model, threads=1) as engine, ThreadPoolExecutor(4) as pool:
        results = list(pool.map(lambda seed: engine.run(_crops(1 + seed % 4, seed)), range(24)))
        for seed, result in enumerate(results):
            np.testing.assert_array_equal(result, engine.run(_crops(1 + seed % 4, seed)))


def test_an_engine_is_opened_again(model: Path) -> None:
    engine = OpenVINOEngine(model, threads=1)
    for _ in range(2):
        with engine:
            assert engine.run(_crops(2)).shape == (2, 10)


def test_damaged_files_are_refused(model: Path, tmp_path: Path) -> None:
    content = bytearray(model.read_bytes())
    content[len(content) // 2] ^= 1
    (tmp_path / "m.onnx").write_bytes(content)
    with pytest.raises(ModelError, match="changed after its export|damaged"):
        OpenVINOEngine(tmp_path / "m.onnx").__enter__()
