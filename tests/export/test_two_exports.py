"""Two exports at once: not to the same names; other names in one folder are fine."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from reid_edge.api.export_model import export_model
from reid_edge.core.locks import locked
from reid_edge.errors import InputError
from reid_edge.export.int8.plan import Int8Options


def test_the_second_export_to_a_name_is_refused_before_it_writes(fp32: Path, unscored: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    with locked(out / "one_fp32_nchw.onnx", "the first export"):
        with pytest.raises(InputError, match=f"one_fp32_nchw.onnx: process {os.getpid()} writes the same files"):
            export_model(fp32, out, data=unscored, input_format="nchw-float", name="one")
        export_model(fp32, out, data=unscored, input_format="nchw-float", name="two").raise_if_refused()
    assert [path.name for path in out.iterdir()] == ["two_fp32_nchw.onnx"]


def test_so_is_one_to_the_same_files_for_a_program_or_the_same_sensitivity(
    fp32: Path, people: Path, unscored: Path, tmp_path: Path
) -> None:
    out, calibrated = tmp_path / "out", Int8Options(calibrate=people)
    with locked(out / fp32.name, "the first export"), pytest.raises(InputError, match="writes the same files"):
        export_model(fp32, out, hand_over="trtexec")
    with (
        locked(out / "one_sensitivity.json", "the first export"),
        pytest.raises(InputError, match="one_sensitivity.json: process"),
    ):
        export_model(fp32, out, data=unscored, precisions=(), sensitivity="layer", int8=calibrated, name="one")
    assert not out.exists()
