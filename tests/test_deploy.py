"""Graphs and files for other programs, read by a parser or by their schema; and the gate as a command."""

from __future__ import annotations

import json
import shlex
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import yaml
from small_network import CARD, SIDE, images_of, network, random_weights

from reid_edge.cli import main
from reid_edge.engine_onnx import OnnxEngine
from reid_edge.errors import InputError, ModelError
from reid_edge.export.calibrate import ranges_over
from reid_edge.export.deploy import deepstream_yaml, deployed, layout_for, triton_config, trtexec_command
from reid_edge.export.fp16 import fp16_from_fp32
from reid_edge.export.graph import write_onnx
from reid_edge.export.layout import in_layout
from reid_edge.export.quantize import quantized


def run(*arguments: object) -> int:
    with pytest.raises(SystemExit) as ended:
        main([str(argument) for argument in arguments])
    return int(ended.value.code or 0)


@pytest.fixture
def fp32(tmp_path: Path) -> Path:
    path = tmp_path / "small_fp32.onnx"
    write_onnx(network(random_weights()), CARD, path)
    return path


def test_nchw_float_gives_what_nhwc_uint8_gives(fp32: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    assert run("export", fp32, "--fp16", "--layout", "nchw-float", "--out", out, "--name", "n") == 0
    path = out / "n_fp16_nchw.onnx"
    images = images_of()
    session = onnxruntime.InferenceSession(str(path))
    assert (session.get_inputs()[0].type, session.get_inputs()[0].shape[1:]) == ("tensor(float)", [3, SIDE, SIDE])
    planar = images.transpose(0, 3, 1, 2).astype(np.float32)
    theirs = session.run(["embeddings"], {"images": planar})[0]
    with OnnxEngine(fp32) as engine, OnnxEngine(path) as other:
        assert np.abs(engine.run(images) - theirs).max() < 5e-3
        assert np.array_equal(other.run(images), theirs), "the runtime feeds it too"
        assert other.card.layout == "nchw-float"
    assert "float32 [N, 3, 16, 16]" in {entry.key: entry.value for entry in onnx.load(path).metadata_props}["input"]


def test_int8_keeps_its_pairs_in_another_layout() -> None:
    model, images = network(random_weights()), images_of()
    int8 = quantized(model, ranges_over(model, images, "minmax", 1))
    changed, card = in_layout(int8, CARD, "nchw-float")
    kinds = [node.op_type for node in changed.graph.node]
    assert kinds.count("QuantizeLinear") == [node.op_type for node in int8.graph.node].count("QuantizeLinear")
    assert "Transpose" not in kinds and card.layout == "nchw-float"
    with pytest.raises(ModelError, match="does not begin as ours do"):
        in_layout(changed, CARD, "nchw-float")


def test_an_nchw_file_is_no_source_of_others(fp32: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model, card = in_layout(network(random_weights()), CARD, "nchw-float")
    write_onnx(model, card, tmp_path / "planar.onnx")
    assert run("export", tmp_path / "planar.onnx", "--fp16", "--out", tmp_path / "out") == 2
    assert "takes nchw-float" in capsys.readouterr().err
    assert run("export", fp32, "--fp16", "--layout", "hwc", "--out", tmp_path / "out") == 2


def test_deepstream_gets_a_planar_graph_and_a_section_that_parses(fp32: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    assert run("export", fp32, "--fp16", "--for", "deepstream", "--batch", "1:8:32", "--out", out, "--name", "n") == 0
    text = (out / "n_fp16_nchw_tracker.yml").read_text()
    assert text.startswith("%YAML:1.0\n"), "OpenCV's reader, which DeepStream uses, wants it"
    section = yaml.safe_load(text.partition("\n")[2])["ReID"]
    assert section["inferDims"] == [3, SIDE, SIDE] and section["reidFeatureSize"] == 8
    assert (section["networkMode"], section["batchSize"], section["keepAspc"]) == (1, 32, 0)
    assert (section["offsets"], section["netScaleFactor"], section["colorFormat"]) == ([0, 0, 0], 1, 0)
    assert Path(section["onnxFile"]) == (out / "n_fp16_nchw.onnx").resolve()
    # The keys of NVIDIA's own tracker configurations.
    known = (
        "reidType batchSize workspaceSize reidFeatureSize reidHistorySize inferDims networkMode inputOrder colorFormat"
    )
    known += " offsets netScaleFactor keepAspc addFeatureNormalization outputReidTensor onnxFile modelEngineFile"
    assert set(section) <= set(known.split())
    assert deepstream_yaml(CARD.with_(precision="int8"), fp32, 4).count("networkMode: 2") == 1


def test_triton_gets_a_repository_that_fits_its_schema(fp32: Path, tmp_path: Path) -> None:
    schema = pytest.importorskip("tritonclient.grpc.model_config_pb2", reason="needs tritonclient[grpc]")
    from google.protobuf import text_format

    assert run("export", fp32, "--for", "triton", "--batch", "1:8:32", "--out", tmp_path) == 0
    folder = tmp_path / "triton" / "small_fp32"
    config = text_format.Parse((folder / "config.pbtxt").read_text(), schema.ModelConfig())
    assert (config.name, config.backend, config.max_batch_size) == ("small_fp32", "onnxruntime", 32)
    session = onnxruntime.InferenceSession(str(folder / "1" / "model.onnx"))
    for own, theirs in ((config.input, session.get_inputs()), (config.output, session.get_outputs())):
        assert [value.name for value in own] == [value.name for value in theirs]
        assert list(own[0].dims) == theirs[0].shape[1:]
    assert (config.input[0].data_type, config.output[0].data_type) == (schema.TYPE_UINT8, schema.TYPE_FP32)
    assert list(config.dynamic_batching.preferred_batch_size) == [8, 32]
    assert "preferred_batch_size: [ 8 ]" in triton_config(CARD, "x", (1, 8, 8))


def test_trtexec_gets_the_shapes_and_the_graphs_types(fp32: Path, tmp_path: Path) -> None:
    words = shlex.split(trtexec_command(CARD, fp32, (1, 8, 32)))
    assert words[0] == "trtexec" and f"--onnx={fp32}" in words and "--stronglyTyped" in words
    assert "--optShapes=images:8x16x16x3" in words
    assert "--stronglyTyped" not in trtexec_command(CARD, fp32, (1, 8, 32), "11.4.0")
    assert "--maxShapes=images:32x3x16x16" in trtexec_command(CARD.with_(layout="nchw-float"), fp32, (1, 8, 32))
    (written,) = deployed(fp32, tmp_path, "trtexec", (1, 8, 32))
    assert written.read_text().startswith("#!/bin/sh\ntrtexec --onnx=")


def test_unknown_programs_and_the_wrong_layout_are_refused(fp32: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="'jetson' is unknown: give one of deepstream, triton, trtexec"):
        layout_for("jetson")
    with pytest.raises(InputError, match="deepstream gives nchw-float: export it with --layout nchw-float"):
        deployed(fp32, tmp_path, "deepstream", (1, 8, 32))


def test_verify_export_finds_an_overflow_that_a_cpu_does_not_compute(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    weights = random_weights()
    weights["model.trunk.block.0.depthwise.weight"] *= 2e4
    weights["model.trunk.block.1.conv.weight"] /= 2e4
    write_onnx(network(weights), CARD, tmp_path / "fp32.onnx")
    write_onnx(fp16_from_fp32(network(weights)), CARD.with_(precision="fp16"), tmp_path / "fp16.onnx")
    assert run("verify-export", tmp_path / "fp16.onnx", "--reference", tmp_path / "fp32.onnx") == 1
    assert "fp16.onnx: trunk.block.0.depthwise reaches " in capsys.readouterr().err


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
