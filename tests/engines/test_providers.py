"""Each provider that cannot run says why, in place of running on the CPU without a word; and their options."""

from __future__ import annotations

import logging
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from helpers.tiny_onnx import tiny_embeddings, write_tiny_model
from numpy.typing import NDArray

from reid_edge.engines import ort
from reid_edge.engines.ort import PROVIDERS, provider_reports
from reid_edge.engines.providers.choice import (
    CPU,
    CUDA,
    TENSORRT,
    TENSORRT_RTX,
    available_providers,
    computes,
    named_providers,
    provider_options,
    tf32_note,
)
from reid_edge.engines.providers.plugins import PLUGINS, plugin_devices
from reid_edge.engines.registry import open_engine
from reid_edge.errors import DeviceError, InputError, MissingExtraError, ModelError

HW = (32, 16)


@pytest.fixture
def model(tmp_path: Path) -> Path:
    return write_tiny_model(tmp_path / "tiny.onnx", input_hw=HW, embedding_dim=10)


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("REID_EDGE_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def _crops(number: int) -> NDArray[np.uint8]:
    return np.random.default_rng(0).integers(0, 256, (number, *HW, 3), np.uint8)


def test_the_model_that_is_tried_is_sound_and_computes_relu() -> None:
    onnx.checker.check_model(onnx.load_from_string(ort._ONE_RELU), full_check=True)
    session = onnxruntime.InferenceSession(ort._ONE_RELU, providers=["CPUExecutionProvider"])
    for given, expected in ((-3.0, 0.0), (2.5, 2.5)):
        assert session.run(None, {"x": np.array([given], np.float32)})[0].tolist() == [expected]


def test_every_provider_is_reported_and_what_the_wheel_lacks_names_the_remedy() -> None:
    reports = {report.name: report for report in provider_reports()}
    assert tuple(reports) == PROVIDERS
    assert reports[CPU].can_run and reports[CPU].installed
    for name in {CUDA, TENSORRT} - set(onnxruntime.get_available_providers()):
        assert not reports[name].can_run and not reports[name].installed
        assert name in reports[name].reason and "onnxruntime-gpu" in reports[name].reason
    rtx = reports[TENSORRT_RTX]
    assert rtx.can_run or "pip install" in rtx.reason or "needs an NVIDIA GPU" in rtx.reason


def test_a_provider_that_is_listed_and_executes_nothing_is_not_taken_for_one_that_runs(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """ONNX Runtime leaves out a provider whose libraries do not load, and runs the model on the CPU."""
    wheel = [*onnxruntime.get_available_providers(), CUDA]
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: wheel)
    cuda = next(report for report in provider_reports() if report.name == CUDA)
    if CUDA not in wheel[:-1]:
        assert not cuda.can_run and cuda.installed and "onnxruntime.ai" in cuda.reason


def test_tensorrt_is_held_to_the_files_precision_and_keeps_its_engines(cache: Path) -> None:
    """The environment of ONNX Runtime's TensorRT could allow FP16; what is forbidden by name is not."""
    options = provider_options(TENSORRT, {}, None, "abc-1.22.0")
    folder = cache / "providers" / "tensorrt" / "abc-1.22.0"
    assert options == {
        "trt_fp16_enable": "0",
        "trt_int8_enable": "0",
        "trt_engine_cache_enable": "1",
        "trt_engine_cache_path": str(folder),
    }
    assert folder.stat().st_mode & 0o777 == 0o700


def test_the_callers_options_win_and_a_device_is_passed_on(cache: Path) -> None:
    own = {"trt_fp16_enable": "1", "trt_engine_cache_path": "/plans"}
    expected = {"device_id": "1", "trt_fp16_enable": "1", "trt_int8_enable": "0", "trt_engine_cache_path": "/plans"}
    assert provider_options(TENSORRT, own, 1, "key") == expected
    assert provider_options(CUDA, {}, 1, "key") == {"device_id": "1", "use_tf32": "0"}
    assert provider_options(CUDA, {"use_tf32": "1"}, None, "key") == {"use_tf32": "1"}
    assert provider_options(CPU, {}, 1, "key") == {}
    assert not cache.exists(), "nothing to keep, no folder"


def test_a_plug_in_has_a_folder_for_its_kernels_and_no_number_of_a_device(cache: Path) -> None:
    folder = cache / "providers" / "nvtensorrtrtx" / "key"
    assert provider_options(TENSORRT_RTX, {}, 1, "key") == {"nv_runtime_cache_path": str(folder)}


def test_engines_are_code_and_not_read_from_a_folder_of_others(cache: Path, caplog: pytest.LogCaptureFixture) -> None:
    folder = cache / "providers" / "tensorrt" / "key"
    folder.mkdir(parents=True)
    folder.chmod(0o777)
    assert provider_options(TENSORRT, {}, None, "key").keys() == {"trt_fp16_enable", "trt_int8_enable"}
    assert "engines are code" in caplog.text
    folder.rmdir()
    folder.write_text("in the way")
    assert "trt_engine_cache_path" not in provider_options(TENSORRT, {}, None, "key")
    assert "cannot be used" in caplog.text


def test_no_memory_is_planned_ahead_on_a_cpu(model: Path) -> None:
    session = ort.open_file(model, 1, None)
    if session.get_providers()[0] == CPU:
        assert not session.get_session_options().enable_mem_pattern


def test_what_may_be_computed_in_less_than_the_file_has_a_name() -> None:
    assert computes({"trt_fp16_enable": "True", "trt_int8_enable": "1"}, "fp32") == "int8"
    assert computes({"trt_bf16_enable": "1"}, "fp16") == "bf16"
    assert computes({"trt_fp16_enable": "0", "trt_int8_enable": "False"}, "fp32") == ""


def test_a_file_that_tensorrt_may_round_to_tf32_has_a_note() -> None:
    assert "NVIDIA_TF32_OVERRIDE=0" in tf32_note(TENSORRT, "fp32", {})
    for running, precision, environment in (
        (CUDA, "fp32", {}),
        (TENSORRT, "fp16", {}),
        (TENSORRT, "fp32", {"NVIDIA_TF32_OVERRIDE": "0"}),
    ):
        assert tf32_note(running, precision, environment) == ""


def test_providers_are_names_or_pairs() -> None:
    assert named_providers([CPU, (CUDA, {"gpu_mem_limit": 1 << 30})]) == {
        CPU: {},
        CUDA: {"gpu_mem_limit": "1073741824"},
    }
    for wrong in ((CUDA,), (CUDA, "device_id=0"), 3):
        with pytest.raises(InputError, match="is no provider: give a name, or a pair"):
            named_providers([wrong])  # type: ignore[list-item]
    with pytest.raises(
        InputError, match=r"^providers='CPUExecutionProvider' is no list: give \['CPUExecutionProvider'\]$"
    ):
        named_providers(CPU)


def test_which_providers_are_tried() -> None:
    gpu = [TENSORRT, CUDA, CPU]
    assert list(available_providers(None, gpu, True)) == [CUDA, CPU]
    assert list(available_providers(None, [CPU], True)) == [CPU]
    wanted = named_providers([(TENSORRT, {"trt_fp16_enable": 1}), CPU])
    assert available_providers(wanted, gpu, False) == {TENSORRT: {"trt_fp16_enable": "1"}, CPU: {}}
    assert available_providers(wanted, [CPU], True) == {CPU: {}}
    with pytest.raises(InputError, match=f"no provider {TENSORRT}: choose from {CPU}, {TENSORRT_RTX}"):
        available_providers(wanted, [CPU], False)
    assert list(available_providers(named_providers([TENSORRT_RTX, CPU]), [CPU], False)) == [TENSORRT_RTX, CPU]
    for together in ([CUDA, TENSORRT_RTX], [TENSORRT_RTX, CUDA], [CPU, TENSORRT_RTX]):
        with pytest.raises(InputError, match="cannot share a model"):
            available_providers(named_providers(together), gpu, True)


def test_a_device_needs_a_provider_that_has_one(model: Path) -> None:
    with pytest.raises(InputError, match=r"CPUExecutionProvider has no device 0: leave it out"):
        open_engine(model, providers=[CPU], device=0).__enter__()
    with pytest.raises(InputError, match="device -1 is no GPU"):
        open_engine(model, device=-1).__enter__()
    if CUDA not in onnxruntime.get_available_providers():
        with pytest.raises(InputError, match=f"no provider {CUDA}"):
            open_engine(model, device=0).__enter__()


def test_a_plug_in_that_cannot_run_is_an_error_or_a_note(
    model: Path, cache: Path, caplog: pytest.LogCaptureFixture
) -> None:
    try:
        plugin_devices(onnxruntime, TENSORRT_RTX)
    except (DeviceError, MissingExtraError, InputError) as error:
        reason = str(error)
    else:
        pytest.skip("it runs here")
    with pytest.raises((DeviceError, MissingExtraError, InputError)) as raised:
        open_engine(model, providers=[TENSORRT_RTX]).__enter__()
    assert str(raised.value) == reason and "\n" not in reason
    with open_engine(model, providers=[TENSORRT_RTX, CPU], allow_fallback=True) as engine:
        assert engine.provider == CPU
        np.testing.assert_allclose(engine.run(_crops(2)), tiny_embeddings(_crops(2), embedding_dim=10), atol=1e-5)
    assert f"failed on {TENSORRT_RTX}" in caplog.text


def test_a_plug_in_without_its_package_or_on_an_old_onnx_runtime(monkeypatch: pytest.MonkeyPatch) -> None:
    plugin = PLUGINS[TENSORRT_RTX]
    gone = type(plugin)("no_such_module", "onnxruntime-ep-none", "nothing")
    monkeypatch.setattr("reid_edge.engines.providers.plugins.PLUGINS", {TENSORRT_RTX: gone})
    if not hasattr(onnxruntime, "register_execution_provider_library"):
        with pytest.raises(InputError, match="pip install 'onnxruntime>=1.24'"):
            plugin_devices(onnxruntime, TENSORRT_RTX)
        return
    with pytest.raises(MissingExtraError, match=f"{TENSORRT_RTX} needs .* run  pip install onnxruntime-ep-none"):
        plugin_devices(onnxruntime, TENSORRT_RTX)
    monkeypatch.setattr(onnxruntime, "__version__", "1.23.2")
    with pytest.raises(InputError, match=r"1\.23\.2 cannot use .*: pip install 'onnxruntime>=1\.24'"):
        plugin_devices(onnxruntime, TENSORRT_RTX)


@pytest.mark.gpu
@pytest.mark.parametrize("name", [CUDA, TENSORRT, TENSORRT_RTX])
def test_a_provider_of_the_gpu_gives_the_embeddings_of_the_cpu(
    model: Path, name: str, cache: Path, caplog: pytest.LogCaptureFixture
) -> None:
    report = next(one for one in provider_reports() if one.name == name)
    if not report.can_run:
        pytest.skip(report.reason)
    caplog.set_level(logging.INFO)
    for _ in range(2):  # TensorRT reads its own engine the second time
        with open_engine(model, providers=[name, CPU], device=0) as engine:
            assert engine.provider == name and engine.facts.computes == ""
            for number in (1, 4):
                expected = tiny_embeddings(_crops(number), embedding_dim=10)
                np.testing.assert_allclose(engine.run(_crops(number)), expected, atol=2e-3)
    if name == TENSORRT:
        assert list(cache.rglob("*.engine"))
    with pytest.raises((ModelError, InputError, DeviceError)):
        open_engine(model, providers=[name], device=99).__enter__()
