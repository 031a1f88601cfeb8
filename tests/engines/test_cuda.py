"""The GPU's facts and errors, as far as they can be seen without one."""

from __future__ import annotations

import ctypes
import json
from dataclasses import replace
from pathlib import Path

import pytest

from reid_edge.engines import gpu as gpu_module
from reid_edge.engines.cuda import find_gpu, open_cuda
from reid_edge.engines.gpu import Gpu, board_model, gpu_differences
from reid_edge.engines.lanes.cuda_errors import _KNOWN, failed_call
from reid_edge.engines.tensorrt_api import load_backend
from reid_edge.errors import DeviceError, InputError, MissingExtraError

NX_16GB = Gpu(
    name="Orin",
    compute_capability=(8, 7),
    driver=12060,
    multiprocessors=8,
    memory_bytes=15656 << 20,
    board="NVIDIA Jetson Orin NX Engineering Reference Developer Kit",
)
AGX_64GB = replace(NX_16GB, multiprocessors=16, memory_bytes=62841 << 20, board="NVIDIA Jetson AGX Orin Developer Kit")


def test_a_gpus_facts_go_through_json() -> None:
    facts = AGX_64GB.facts()
    assert json.loads(json.dumps(facts)) == facts
    assert facts == {
        "name": "Orin",
        "compute_capability": "8.7",
        "multiprocessors": 16,
        "memory_mib": 62841,
        "board": "NVIDIA Jetson AGX Orin Developer Kit",
        "driver": "12.6",
    }


def test_orin_boards_of_one_name_and_capability_are_told_apart() -> None:
    differences = gpu_differences(NX_16GB.facts(), AGX_64GB.facts())
    assert [one.split()[0] for one in differences] == ["multiprocessors", "memory_mib", "board"]
    eight = replace(NX_16GB, memory_bytes=7620 << 20)
    assert gpu_differences(NX_16GB.facts(), eight.facts()) == ["memory_mib 15656, here 7620"]


def test_a_newer_driver_and_a_little_less_memory_are_the_same_gpu() -> None:
    updated = replace(NX_16GB, driver=13020, memory_bytes=15289 << 20)
    assert gpu_differences(NX_16GB.facts(), updated.facts()) == []


def test_facts_that_an_old_card_lacks_are_not_compared() -> None:
    old = {"name": "Orin", "compute_capability": "8.7", "driver": "12.6"}
    assert gpu_differences(old, AGX_64GB.facts()) == [] and gpu_differences({}, AGX_64GB.facts()) == []
    assert gpu_differences({**old, "compute_capability": "8.6"}, AGX_64GB.facts()) == [
        "compute_capability 8.6, here 8.7"
    ]


def test_the_board_is_read_from_the_device_tree(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gpu_module, "_BOARD_FILE", tmp_path / "model")
    assert board_model() == ""
    (tmp_path / "model").write_bytes(b"NVIDIA Jetson AGX Orin Developer Kit\0")
    assert board_model() == "NVIDIA Jetson AGX Orin Developer Kit"


def test_a_jetson_without_tensorrt_is_sent_to_jetpack_and_not_to_pip(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    try:
        load_backend("tensorrt")
    except MissingExtraError as error:
        assert "pip install tensorrt cuda-bindings" in str(error)
    else:
        pytest.skip("TensorRT is installed here")
    (tmp_path / "model").write_bytes(b"NVIDIA Jetson AGX Orin Developer Kit\0")
    monkeypatch.setattr(gpu_module, "_BOARD_FILE", tmp_path / "model")
    with pytest.raises(MissingExtraError, match="apt install python3-libnvinfer .*--system-site-packages") as found:
        load_backend("tensorrt")
    assert "pip install" not in str(found.value)


def test_an_unknown_binding_is_refused_with_the_list() -> None:
    with pytest.raises(InputError, match="'cupy' is unknown: give one of cuda-bindings, pycuda"):
        open_cuda("cupy")


def test_a_machine_without_a_gpu_or_binding_says_what_to_install() -> None:
    try:
        cuda = open_cuda()
    except (DeviceError, MissingExtraError) as error:
        assert "\n" not in str(error) and ("install" in str(error) or "nvidia-smi" in str(error))
        assert error.exit_code == 2
    else:
        assert cuda.gpu.name
        cuda.close()


@pytest.mark.parametrize(
    ("name", "words", "remedy"),
    [
        ("CUDA_ERROR_OUT_OF_MEMORY", "out of memory", "free GPU memory, or give a smaller batch"),
        ("CUDA_ERROR_NO_DEVICE", "no CUDA-capable device is detected", "CUDA_VISIBLE_DEVICES"),
        (
            "CUDA_ERROR_UNSUPPORTED_PTX_VERSION",
            "the provided PTX was compiled with an unsupported toolchain.",
            "update the NVIDIA driver",
        ),
        ("CUDA_ERROR_ILLEGAL_ADDRESS", "an illegal memory access was encountered", "start it again"),
    ],
)
def test_a_failed_call_has_cudas_name_and_advice_by_its_code(name: str, words: str, remedy: str) -> None:
    error = failed_call(words, name)
    assert isinstance(error, DeviceError) and f"{name} ({words})" in str(error) and remedy in str(error)
    assert str(failed_call(f"cuMemAlloc failed:\n{words}")).startswith(
        f"the CUDA driver reports {name} (cuMemAlloc failed: {words}): "
    ), "PyCUDA gives the words alone"


def test_an_unknown_code_keeps_its_name_and_claims_nothing() -> None:
    assert str(failed_call("peer access", "CUDA_ERROR_TOO_MANY_PEERS")) == (
        "the CUDA driver reports CUDA_ERROR_TOO_MANY_PEERS (peer access): see whether nvidia-smi finds the GPU"
    )


def test_every_code_with_advice_is_one_of_cudas() -> None:
    driver = pytest.importorskip("cuda.bindings.driver", reason="needs cuda-bindings")
    assert {row[0] for row in _KNOWN} <= set(driver.CUresult.__members__)


@pytest.mark.gpu
@pytest.mark.parametrize("binding", ["cuda-bindings", "pycuda"])
def test_no_context_stays_current_after_closing(binding: str) -> None:
    """Other libraries in the process would compute in ours, or in one that was released."""
    if not find_gpu():
        pytest.skip("needs an NVIDIA GPU, its driver and cuda-bindings or pycuda")
    try:
        cudas = [open_cuda(binding), open_cuda(binding)]
    except MissingExtraError as error:
        pytest.skip(str(error))
    library = ctypes.CDLL("libcuda.so.1")
    for cuda in cudas:
        assert cuda.gpu.multiprocessors > 0 and cuda.gpu.memory_bytes > 1 << 30
        cuda.close()
        current = ctypes.c_void_p()
        assert library.cuCtxGetCurrent(ctypes.byref(current)) == 0 and not current.value
    again = open_cuda(binding)
    again.free(again.allocate(16))
    again.close()
