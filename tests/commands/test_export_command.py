"""`reid-edge export` from an FP32 file, as on a device without torch: what it writes, and how it refuses bad use."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import onnx
import pytest
from helpers.small_network import CARD, SIDE

from reid_edge.cli import main
from reid_edge.engines.cuda import find_gpu
from reid_edge.engines.onnxruntime import OnnxEngine
from reid_edge.export.parity.crops import parity_crops


def run(*arguments: object) -> int:
    """The exit code of a command."""
    with pytest.raises(SystemExit) as ended:
        main([str(argument) for argument in arguments])
    return int(ended.value.code or 0)


def test_an_fp32_file_becomes_the_other_precisions(fp32: Path, people: Path, tmp_path: Path) -> None:
    """The command as on a device; each file opens, holds its gate's figures and is near the FP32 one."""
    out = tmp_path / "out"
    command = ("export", fp32, "--fp16", "--int8", "--calibrate", people, "--data", people, "--out", out, "--name", "n")
    # The small network is random: its scores may move by more than a trained one's.
    assert run(*command, "--gate", "int8.map_loss=1", "--gate", "fp16.map_loss=1") == 0
    assert sorted(path.name for path in out.iterdir()) == ["n_fp16.onnx", "n_int8.onnx"]
    images = parity_crops(CARD, people)
    with OnnxEngine(fp32) as engine:
        exact = engine.run(images)
    for precision, least in (("fp16", 0.9999), ("int8", 0.99)):
        with OnnxEngine(out / f"n_{precision}.onnx") as engine:
            assert engine.card.precision == precision and engine.card.parity["crops"] == len(images)
            cosine = (engine.run(images) * exact).sum(axis=1)
        assert least < cosine.min() < 1 - 1e-9
    kinds = {node.op_type for node in onnx.load(out / "n_int8.onnx").graph.node}
    assert {"QuantizeLinear", "DequantizeLinear"} <= kinds


def test_bad_use_of_export_is_one_line(
    fp32: Path, people: Path, unscored: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for arguments, said in (
        ((), "is an ONNX file already: add --fp16 or --int8 (precisions=), or --engine"),
        (("--int8",), "add --calibrate DATASET"),
        (("--fp16", "--arch", "osnet_x0_25"), "names its own: leave --arch (arch=) and --resize"),
        (("--int8", "--calibrate", people, "--keep", "nowhere"), "has no layer 'nowhere' to keep"),
        (("--int8", "--calibrate", people, "--for-runtime", "npu"), "'npu' is not one of 'tensorrt', 'cpu'"),
        (
            ("--int8", "--calibrate", people, "--unquantized", "fp8"),
            "'fp8' is not one of 'fp16', 'fp32'",
        ),
        (
            ("--int8", "--calibrate", people, "--method", "entropy"),
            "'entropy' is not one of 'mse', 'percentile', 'minmax'",
        ),
        (("--fp16", "--method", "entropy"), "'entropy' is not one of 'mse', 'percentile', 'minmax'"),
        (("--fp16", "--int8", "--calibrate", people, "--keep", "nowhere"), "has no layer 'nowhere' to keep"),
        (("--int8", "--calibrate", people, "--keep", "none", "--keep", "fc.0"), "--keep none (keep=) keeps no layer"),
        (
            ("--int8", "--calibrate", people, "--for-runtime", "cpu", "--engine"),
            "--for-runtime cpu (for_runtime=) is for ONNX Runtime",
        ),
        (
            ("--fp16", "--for", "triton", "--input-format", "nchw-float"),
            "triton feeds nhwc-uint8: leave --input-format",
        ),
        (("--fp16", "--engine", "--backend", "trt"), "'trt' is not one of 'tensorrt', 'tensorrt-rtx'"),
        (("--fp16", "--engine", "--profile", "4:2:8"), "is not MIN:OPT:MAX"),
        (("--input-format", "nhwc-uint8"), "is an ONNX file already"),
        (("--int8", "--calibrate", people, "--sensitivity", "atom"), "'atom' is not one of 'layer', 'block'"),
    ):
        capsys.readouterr()
        assert run("export", fp32, "--data", unscored, "--out", tmp_path / "out", *arguments) == 2
        assert said in capsys.readouterr().err
    assert not (tmp_path / "out").exists() or not list((tmp_path / "out").iterdir())


def test_an_engine_that_cannot_be_built_here_is_refused_before_any_file_is_written(
    fp32: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    if find_gpu():
        pytest.skip("TensorRT builds on this GPU")
    out = tmp_path / "out"
    assert run("export", fp32, "--fp16", "--engine", "--backend", "tensorrt", "--out", out) == 2
    assert "tensorrt" in capsys.readouterr().err.lower()
    assert not out.exists() or not list(out.iterdir())


def test_a_refused_precision_does_not_stop_what_is_made_of_the_others(
    fp32: Path, people: Path, unscored: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ("export", fp32, "--fp16", "--int8", "--calibrate", people, "--out", tmp_path / "out", "--for", "trtexec")
    assert run(*command, "--data", unscored, "--gate", "int8.cosine_min=1", "--name", "n") == 1
    shown = capsys.readouterr()
    assert "INT8 passes with no choice of layers" in shown.err and "int8 differs" in shown.err
    assert "sets of layers tried" in shown.out and "cosine_min" in shown.out  # the table of the search is the proof
    assert {path.name for path in (tmp_path / "out").iterdir()} >= {"n_fp16.onnx", "n_fp16_trtexec.sh"}
    assert not list((tmp_path / "out").glob("*int8*"))


def test_an_older_file_of_a_refused_one_is_named(
    fp32: Path, unscored: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ("export", fp32, "--fp16", "--data", unscored, "--out", tmp_path, "--name", "n")
    assert run(*command) == 0
    before = (tmp_path / "n_fp16.onnx").read_bytes()
    capsys.readouterr()
    assert run(*command, "--gate", "fp16.cosine_min=1") == 1
    assert "(the n_fp16.onnx that was there before is untouched)" in capsys.readouterr().err
    assert (tmp_path / "n_fp16.onnx").read_bytes() == before


def test_nchw_float_is_made_of_an_fp32_file_without_torch(fp32: Path, unscored: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    assert run("export", fp32, "--for", "deepstream", "--data", unscored, "--out", out, "--name", "n") == 0
    assert {path.name for path in out.iterdir()} == {"n_fp32_nchw.onnx", "n_fp32_nchw_tracker.yml"}
    command = ("export", fp32, "--input-format", "nchw-float", "--fp16", "--data", unscored)
    assert run(*command, "--out", out, "--name", "m") == 0
    assert {path.name for path in out.glob("m_*")} == {"m_fp32_nchw.onnx", "m_fp16_nchw.onnx"}
    with OnnxEngine(fp32) as exact, OnnxEngine(out / "m_fp32_nchw.onnx") as planes:
        images = np.random.default_rng(0).integers(0, 256, (4, SIDE, SIDE, 3), dtype=np.uint8)
        np.testing.assert_allclose(exact.run(images), planes.run(images), atol=1e-6)


def test_default_layers_and_named_ones_are_kept_together(
    fp32: Path, people: Path, unscored: Path, tmp_path: Path
) -> None:
    keep = ("--data", unscored, "--keep", "default", "--keep", "backbone.conv1")
    assert run("export", fp32, "--int8", "--calibrate", people, *keep, "--out", tmp_path, "--name", "n") == 0
    with OnnxEngine(tmp_path / "n_int8.onnx") as engine:
        kept = "backbone.block.0.depthwise, backbone.block.0.gate.fc, backbone.conv1"
        assert engine.card.calibration.endswith(f"with 3 layers: {kept}")


def test_sensitivity_is_written_and_fed_back(fp32: Path, people: Path, unscored: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    command = ("export", fp32, "--data", unscored, "--calibrate", people, "--out", out)
    assert run(*command, "--sensitivity", "layer", "--name", "n") == 0
    report = json.loads((out / "n_sensitivity.json").read_text())
    assert {"backbone.block.0.depthwise", "backbone.block.0.gate.fc"} <= {row["name"] for row in report["alone"]}
    (out / "mine.json").write_text(json.dumps({"keep": ["backbone.conv1"]}))
    assert run(*command, "--int8", "--keep", out / "mine.json") == 0
    with OnnxEngine(out / "tiny_int8.onnx") as engine:
        assert engine.card.calibration.endswith("fp16 around INT8, with 1 layers: backbone.conv1")


def test_int8_for_a_cpu_is_another_file_and_says_what_it_gained(
    fp32: Path, people: Path, unscored: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    command = ("export", fp32, "--int8", "--for-runtime", "cpu", "--calibrate", people, "--out", out, "--force")
    assert run(*command, "--data", unscored) == 0
    assert [path.name for path in out.iterdir()] == ["tiny_int8_cpu.onnx"]
    assert "tiny_int8_cpu.onnx: INT8 " in capsys.readouterr().out
    with OnnxEngine(out / "tiny_int8_cpu.onnx") as engine:
        assert engine.card.calibration.startswith("cpu: minmax on")
        assert engine.run(np.zeros((1, SIDE, SIDE, 3), np.uint8)).shape == (1, 8)
