"""Graphs of the other input format, and the gate as a command."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from helpers.small_network import CARD, SIDE, images_of, network, random_weights

from reid_edge.cli import main
from reid_edge.engines.onnxruntime import OnnxEngine
from reid_edge.errors import ModelError
from reid_edge.export.graph.fp16 import fp16_from_fp32
from reid_edge.export.graph.input_format import in_input_format
from reid_edge.export.graph.io import write_onnx
from reid_edge.export.int8.calibrate import ranges_over
from reid_edge.export.int8.qdq import quantized


def run(*arguments: object) -> int:
    with pytest.raises(SystemExit) as ended:
        main([str(argument) for argument in arguments])
    return int(ended.value.code or 0)


def test_nchw_float_gives_what_nhwc_uint8_gives(fp32: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    assert run("export", fp32, "--fp16", "--input-format", "nchw-float", "--out", out, "--name", "n") == 0
    path = out / "n_fp16_nchw.onnx"
    images = images_of()
    session = onnxruntime.InferenceSession(str(path))
    assert (session.get_inputs()[0].type, session.get_inputs()[0].shape[1:]) == ("tensor(float)", [3, SIDE, SIDE])
    planar = images.transpose(0, 3, 1, 2).astype(np.float32)
    theirs = session.run(["embeddings"], {"images": planar})[0]
    with OnnxEngine(fp32) as engine, OnnxEngine(path) as other:
        assert np.abs(engine.run(images) - theirs).max() < 5e-3
        assert np.array_equal(other.run(images), theirs), "the runtime feeds it too"
        assert other.card.input_format == "nchw-float"
    assert "float32 [N, 3, 16, 16]" in {entry.key: entry.value for entry in onnx.load(path).metadata_props}["input"]


def test_int8_keeps_its_pairs_in_another_input_format() -> None:
    model, images = network(random_weights()), images_of()
    int8 = quantized(model, ranges_over(model, images, "minmax", 1))
    changed, card = in_input_format(int8, CARD, "nchw-float")
    kinds = [node.op_type for node in changed.nodes]
    assert kinds.count("QuantizeLinear") == [node.op_type for node in int8.nodes].count("QuantizeLinear")
    assert "Transpose" not in kinds and card.input_format == "nchw-float"
    with pytest.raises(ModelError, match="does not begin with Cast and Transpose"):
        in_input_format(changed, CARD, "nchw-float")


def test_an_nchw_file_is_no_source_of_others(fp32: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model, card = in_input_format(network(random_weights()), CARD, "nchw-float")
    write_onnx(model, card, tmp_path / "planar.onnx")
    assert run("export", tmp_path / "planar.onnx", "--fp16", "--out", tmp_path / "out") == 2
    assert "takes nchw-float" in capsys.readouterr().err
    assert run("export", fp32, "--fp16", "--input-format", "hwc", "--out", tmp_path / "out") == 2


def test_verify_export_finds_an_overflow_that_a_cpu_does_not_compute(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    weights = random_weights()
    weights["model.backbone.block.0.depthwise.weight"] *= 2e4
    weights["model.backbone.block.1.conv.weight"] /= 2e4
    write_onnx(network(weights), CARD, tmp_path / "fp32.onnx")
    write_onnx(fp16_from_fp32(network(weights)), CARD.with_(precision="fp16"), tmp_path / "fp16.onnx")
    assert run("verify-export", tmp_path / "fp16.onnx", "--reference", tmp_path / "fp32.onnx") == 1
    assert "fp16.onnx: backbone.block.0.depthwise reaches " in capsys.readouterr().err


def test_verify_export_passes_what_agrees_and_ends_with_1_otherwise(
    fp32: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("export", fp32, "--fp16", "--out", tmp_path, "--name", "n") == 0
    report = tmp_path / "report.json"
    assert run("verify-export", tmp_path / "n_fp16.onnx", fp32, "--reference", fp32, "--json", report) == 0
    assert json.loads(report.read_text())[str(fp32)]["max_error"] == 0
    other = {**random_weights(), "model.fc.0.weight": -random_weights()["model.fc.0.weight"]}
    write_onnx(network(other), CARD, tmp_path / "other.onnx")
    capsys.readouterr()
    assert run("verify-export", tmp_path / "other.onnx", fp32, "--reference", fp32, "--json", report) == 1
    said = capsys.readouterr()
    assert "refused" in said.out and "passed" in said.out and "other.onnx: fp32 differs" in said.err
    assert "refused" in json.loads(report.read_text())[str(tmp_path / "other.onnx")]
    write_onnx(network(random_weights()), CARD.with_(input_hw=(16, 16)), tmp_path / "same.onnx")
    loose = ("--gate", "fp32.cosine_min=-1", "--gate", "fp32.cosine_p1=-1", "--gate", "fp32.ranking=0")
    loose += ("--gate", "fp32.max_error=9", "--gate", "fp32.relative_error=99")
    assert run("verify-export", tmp_path / "other.onnx", "--reference", fp32, *loose) == 0
