"""NVRTC compiles the kernel without a GPU, and the cache keeps what it compiled."""

from __future__ import annotations

from pathlib import Path

import pytest

from reid_edge.engines.cuda_frames import kernel
from reid_edge.engines.cuda_frames.kernel import SOURCE, compile_kernel, compiled_kernel
from reid_edge.errors import DeviceError, MissingExtraError

pytest.importorskip("cuda.bindings.nvrtc", reason="needs cuda-bindings")


@pytest.fixture(autouse=True)
def _nvrtc() -> None:
    try:
        kernel._nvrtc_version()
    except MissingExtraError as error:
        assert "nvidia-cuda-nvrtc" in str(error)
        pytest.skip(str(error))


@pytest.mark.parametrize("capability", [(7, 5), (8, 7), (9, 0), (10, 0)], ids=lambda one: f"sm_{one[0]}{one[1]}")
def test_it_compiles_for_gpus_from_turing_to_blackwell(capability: tuple[int, int]) -> None:
    """NVIDIA's machine code is an ELF file of machine 190."""
    code = compile_kernel(SOURCE.read_bytes(), capability)
    assert code[:4] == b"\x7fELF" and int.from_bytes(code[18:20], "little") == 190 and b"crops" in code


def test_a_gpu_newer_than_nvrtc_gets_ptx() -> None:
    code = compile_kernel(SOURCE.read_bytes(), (99, 0))
    assert b".target sm_" in code and b".entry crops" in code and code.endswith(b"\0")


def test_a_gpu_older_than_nvrtc_is_named() -> None:
    with pytest.raises(DeviceError, match=r"does not compile for this GPU \(sm_10\): run  pip install"):
        compile_kernel(SOURCE.read_bytes(), (1, 0))


def test_what_nvrtc_says_of_a_wrong_source_is_in_the_error() -> None:
    with pytest.raises(DeviceError, match=r"crops.cu\(1\): error.*undefined"):
        compile_kernel(b"__global__ void crops() { undefined(); }", (8, 7))


def test_multiplications_and_additions_are_not_fused() -> None:
    """OpenCV rounds twice. PTX, from which all machine code comes, has them apart."""
    assert b"fma.rn.f32" not in _body(compile_kernel(SOURCE.read_bytes(), (99, 0)))


def _body(ptx: bytes) -> bytes:
    """Without the divisions, which are made of exact fused steps."""
    return b"\n".join(line for line in ptx.splitlines() if b"div.rn" not in line)


def test_the_cache_keeps_the_code_and_not_a_damaged_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REID_EDGE_CACHE", str(tmp_path))
    code = compiled_kernel((8, 7))
    (kept,) = (tmp_path / "kernels").iterdir()
    assert "sm87" in kept.name and kept.read_bytes()[32:] == code
    kept.write_bytes(kept.read_bytes()[:-1] + b"x")
    assert compiled_kernel((8, 7)) == code == kept.read_bytes()[32:]
    monkeypatch.setattr(kernel, "compile_kernel", None)
    assert compiled_kernel((8, 7)) == code, "read, not compiled"


def test_another_source_capability_or_nvrtc_is_another_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REID_EDGE_CACHE", str(tmp_path / "cache"))
    compiled_kernel((8, 7))
    compiled_kernel((9, 0))
    other = tmp_path / "crops.cu"
    other.write_bytes(SOURCE.read_bytes() + b"\n")
    monkeypatch.setattr(kernel, "SOURCE", other)
    compiled_kernel((8, 7))
    assert len(list((tmp_path / "cache/kernels").iterdir())) == 3


def test_a_cache_that_cannot_be_written_costs_only_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("not a folder")
    monkeypatch.setenv("REID_EDGE_CACHE", str(tmp_path / "file"))
    assert compiled_kernel((8, 7))[:4] == b"\x7fELF"
