"""What `reid-edge export` writes from an FP32 file, without torch, and what its gates refuse."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
from small_network import CARD, SIDE, network, random_weights

from reid_edge.cli import main
from reid_edge.datasets import open_dataset
from reid_edge.engine_onnx import OnnxEngine
from reid_edge.errors import GateError, InputError
from reid_edge.evaluation import evaluate
from reid_edge.export.crops import parity_crops
from reid_edge.export.graph import write_onnx
from reid_edge.export.int8 import Int8Options
from reid_edge.export.parity import THRESHOLDS, check_scores, overridden
from reid_edge.export.write import Plan, Source, onnx_source, scorer, write_files
from reid_edge.synthetic import synthesize


def run(*arguments: object) -> int:
    """The exit code of a command."""
    with pytest.raises(SystemExit) as ended:
        main([str(argument) for argument in arguments])
    return int(ended.value.code or 0)


@pytest.fixture(scope="module")
def people(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return synthesize(tmp_path_factory.mktemp("write") / "people", people=6, test_people=4, cameras=3, progress=False)


@pytest.fixture
def fp32(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The file of a small network, 16 x 16."""
    monkeypatch.setenv("REID_EDGE_CACHE", str(tmp_path / "cache"))
    path = tmp_path / "small_fp32.onnx"
    write_onnx(network(random_weights()), CARD, path)
    return path


@pytest.fixture
def source(fp32: Path, people: Path) -> Source:
    return onnx_source(fp32, lambda card: parity_crops(card, people))


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
            assert engine.card.precision == precision and engine.card.parity["crops"] == 64
            cosine = (engine.run(images) * exact).sum(axis=1)
        assert least < cosine.min() < 1 - 1e-9
    kinds = {node.op_type for node in onnx.load(out / "n_int8.onnx").graph.node}
    assert {"QuantizeLinear", "DequantizeLinear"} <= kinds


def test_scores_stand_beside_agreement(source: Source, people: Path, tmp_path: Path) -> None:
    plan = Plan(("fp32", "int8"), "n", Int8Options(people), scorer(people), overridden(["int8.map_loss=1"]))
    fp32, int8 = write_files(source, tmp_path / "out", plan)
    assert fp32.metrics and int8.metrics and int8.lost is not None
    assert fp32.metrics.mAP == pytest.approx(evaluate(fp32.path, people).metrics.mAP)
    assert int8.lost == pytest.approx(fp32.metrics.mAP - int8.metrics.mAP)


def test_a_data_set_without_queries_gives_no_scores(people: Path, tmp_path: Path) -> None:
    rows = ["path,pid,camid,split"]
    rows += [f"{crop.path},{crop.pid},{crop.camid},train" for crop in open_dataset(people).split.train]
    (tmp_path / "m.csv").write_text("\n".join(rows))
    assert scorer(tmp_path / "m.csv") is None


def test_an_overflow_planted_in_one_layer_is_named_and_refused(people: Path, tmp_path: Path) -> None:
    """Weights that FP16 holds, and a second map far beyond its range; the third layer brings it back."""
    weights = random_weights()
    weights["model.trunk.block.0.depthwise.weight"] *= 2e4
    weights["model.trunk.block.1.conv.weight"] /= 2e4
    write_onnx(network(weights), CARD, tmp_path / "small_fp32.onnx")
    source = onnx_source(tmp_path / "small_fp32.onnx", lambda card: parity_crops(card, people))
    (row,) = write_files(source, tmp_path / "out", Plan(("fp16",), "n"))
    assert str(row.refused).startswith("trunk.block.0.depthwise reaches "), row.refused
    assert "beyond the 65504 of FP16: leave out --fp16" in str(row.refused)
    assert not list((tmp_path / "out").iterdir())


def test_an_overflow_in_the_rest_of_an_int8_file_is_named_and_refused(people: Path, tmp_path: Path) -> None:
    """A layer in FP16, and one in INT8 whose answer goes to FP16: FP32 around the INT8 layers holds both."""
    write_onnx(network(random_weights()), CARD, tmp_path / "small_fp32.onnx")
    for layer, following in (
        ("trunk.block.0.depthwise", "trunk.block.1.conv"),
        ("trunk.conv1", "trunk.block.0.depthwise"),
    ):
        weights = random_weights()
        weights[f"model.{layer}.weight"] *= 2e4
        weights[f"model.{following}.weight"] /= 2e4
        weights["model.trunk.block.0.gate.fc.weight"] /= 1e5
        write_onnx(network(weights), CARD, tmp_path / "small_fp32.onnx")
        source = onnx_source(tmp_path / "small_fp32.onnx", lambda card: parity_crops(card, people))
        (row,) = write_files(source, tmp_path / layer, Plan(("int8",), "n", Int8Options(people)))
        assert f"{layer} reaches " in str(row.refused), row.refused
        assert str(row.refused).endswith("beyond the 65504 of FP16: add --rest fp32")
        (row,) = write_files(source, tmp_path / layer, Plan(("int8",), "n", Int8Options(people, rest="fp32")))
        assert not row.refused, row.refused


def test_a_refused_precision_leaves_no_file_and_does_not_stop_the_next(
    source: Source, people: Path, tmp_path: Path
) -> None:
    plan = Plan(("fp16", "int8"), "n", Int8Options(people), limits=overridden(["fp16.cosine_min=1.1"]))
    fp16, int8 = write_files(source, tmp_path / "out", plan)
    assert isinstance(fp16.refused, GateError) and "cosine_min" in str(fp16.refused)
    assert not int8.refused and int8.parity
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["n_int8.onnx"]


def test_a_precision_that_scores_too_low_is_refused(source: Source, people: Path, tmp_path: Path) -> None:
    plan = Plan(("int8",), "n", Int8Options(people), scorer(people), overridden(["int8.map_loss=-1"]))
    (row,) = write_files(source, tmp_path / "out", plan)
    assert "may be lost): keep more layers in float" in str(row.refused)
    assert row.metrics is not None and not list((tmp_path / "out").iterdir())
    with pytest.raises(GateError, match=r"mAP 0\.00% where fp32 has"):
        check_scores(row.metrics, replace(row.metrics, mAP=0.0), THRESHOLDS["int8"], "int8")


def test_the_model_given_is_not_written_over(source: Source, people: Path) -> None:
    assert source.file is not None
    with pytest.raises(InputError, match="is the model given: give another --out or --name"):
        write_files(source, source.file.parent, Plan(("fp32",), "small"))


def test_thresholds_can_be_overridden_by_name() -> None:
    assert overridden(["int8.ranking=0.5", "int8.tie=0.1"])["int8"] == THRESHOLDS["int8"].but(ranking=0.5, tie=0.1)
    for wrong, said in (("int8.cosine=1", "unknown: give some of cosine_min"), ("x.tie=1", "of no precision")):
        with pytest.raises(InputError, match=said):
            overridden([wrong])
    with pytest.raises(InputError, match="has no number"):
        overridden(["int8.tie=small"])


def test_bad_use_of_export_is_one_line(
    fp32: Path, people: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for arguments, said in (
        ((), "is an ONNX file already: add --fp16, --int8 or --engine"),
        (("--int8",), "add --calibrate DATASET"),
        (("--fp16", "--model", "osnet_x0_25"), "says its own --model and --resize"),
        (("--int8", "--calibrate", people, "--keep", "nowhere"), "has no layer 'nowhere' to keep"),
        (("--int8", "--calibrate", people, "--target", "npu"), "INT8 target 'npu' is unknown"),
        (("--int8", "--calibrate", people, "--rest", "fp8"), "INT8 rest 'fp8' is unknown: give one of fp16, fp32"),
        (("--int8", "--calibrate", people, "--method", "entropy"), "'entropy' is unknown"),
        (("--fp16", "--method", "entropy"), "'entropy' is unknown"),
        (("--fp16", "--int8", "--calibrate", people, "--keep", "nowhere"), "has no layer 'nowhere' to keep"),
        (("--int8", "--calibrate", people, "--keep", "none", "--keep", "fc.0"), "--keep none keeps no layer"),
        (("--int8", "--calibrate", people, "--target", "cpu", "--engine"), "--target cpu is for ONNX Runtime"),
        (("--fp16", "--for", "triton", "--layout", "nchw-float"), "triton gives nhwc-uint8: leave --layout"),
        (("--fp16", "--engine", "--backend", "trt"), "TensorRT backend 'trt' is unknown"),
        (("--fp16", "--engine", "--batch", "4:2:8"), "are not LEAST:USUAL:MOST"),
        (("--layout", "nhwc-uint8"), "is an ONNX file already"),
        (("--int8", "--calibrate", people, "--sensitivity", "atom"), "by 'atom' is unknown"),
    ):
        capsys.readouterr()
        assert run("export", fp32, "--out", tmp_path / "out", *arguments) == 2
        assert said in capsys.readouterr().err
    assert not (tmp_path / "out").exists() or not list((tmp_path / "out").iterdir())


def test_a_refused_precision_does_not_stop_what_is_made_of_the_others(
    fp32: Path, people: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ("export", fp32, "--fp16", "--int8", "--calibrate", people, "--out", tmp_path / "out", "--for", "trtexec")
    assert run(*command, "--gate", "int8.cosine_min=1", "--name", "n") == 1
    assert "int8 differs" in capsys.readouterr().err
    assert {path.name for path in (tmp_path / "out").iterdir()} >= {"n_fp16.onnx", "n_fp16_trtexec.sh"}
    assert not list((tmp_path / "out").glob("*int8*"))


def test_a_file_before_a_refused_one_is_told_of(fp32: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("export", fp32, "--fp16", "--out", tmp_path, "--name", "n") == 0
    before = (tmp_path / "n_fp16.onnx").read_bytes()
    capsys.readouterr()
    assert run("export", fp32, "--fp16", "--out", tmp_path, "--name", "n", "--gate", "fp16.cosine_min=1.1") == 1
    assert "(the n_fp16.onnx that was there before is untouched)" in capsys.readouterr().err
    assert (tmp_path / "n_fp16.onnx").read_bytes() == before


def test_planes_are_made_of_an_fp32_file_without_torch(fp32: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    assert run("export", fp32, "--for", "deepstream", "--out", out, "--name", "n") == 0
    assert {path.name for path in out.iterdir()} == {"n_fp32_nchw.onnx", "n_fp32_nchw_tracker.yml"}
    assert run("export", fp32, "--layout", "nchw-float", "--fp16", "--out", out, "--name", "m") == 0
    assert {path.name for path in out.glob("m_*")} == {"m_fp32_nchw.onnx", "m_fp16_nchw.onnx"}
    with OnnxEngine(fp32) as exact, OnnxEngine(out / "m_fp32_nchw.onnx") as planes:
        images = np.random.default_rng(0).integers(0, 256, (4, SIDE, SIDE, 3), dtype=np.uint8)
        np.testing.assert_allclose(exact.run(images), planes.run(images), atol=1e-6)


def test_default_layers_and_named_ones_are_kept_together(fp32: Path, people: Path, tmp_path: Path) -> None:
    keep = ("--keep", "default", "--keep", "trunk.conv1")
    assert run("export", fp32, "--int8", "--calibrate", people, *keep, "--out", tmp_path, "--name", "n") == 0
    with OnnxEngine(tmp_path / "n_int8.onnx") as engine:
        kept = "trunk.block.0.depthwise, trunk.block.0.gate.fc, trunk.conv1"
        assert engine.card.calibration.endswith(f"with 3 layers: {kept}")


def test_a_model_trained_for_int8_takes_no_other_layers(fp32: Path, tmp_path: Path) -> None:
    trained = CARD.with_(quantization={"layers": {"fc.0": [3.0]}, "note": "mse"})
    source = Source(network(random_weights()), trained, np.zeros((1, SIDE, SIDE, 3), np.uint8), np.zeros((1, 8)))
    for options, said in (
        (Int8Options(keep=("fc.0",)), "leave --keep out, or choose again with --calibrate"),
        (Int8Options(target="cpu"), "add --calibrate DATASET"),
    ):
        with pytest.raises(InputError, match=said):
            write_files(source, tmp_path / "out", Plan(("fp32", "int8"), "n", options))
    assert not (tmp_path / "out").exists()


def test_sensitivity_is_written_and_fed_back(fp32: Path, people: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    assert run("export", fp32, "--sensitivity", "layer", "--calibrate", people, "--out", out, "--name", "n") == 0
    report = json.loads((out / "n_sensitivity.json").read_text())
    assert {"trunk.block.0.depthwise", "trunk.block.0.gate.fc"} <= {row["name"] for row in report["alone"]}
    (out / "mine.json").write_text(json.dumps({"keep": ["trunk.conv1"]}))
    assert run("export", fp32, "--int8", "--calibrate", people, "--keep", out / "mine.json", "--out", out) == 0
    with OnnxEngine(out / "tiny_int8.onnx") as engine:
        assert engine.card.calibration.endswith("the rest in fp16, with 1 layers: trunk.conv1")


def test_int8_for_a_cpu_is_another_file_and_says_what_it_gained(
    fp32: Path, people: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    command = ("export", fp32, "--int8", "--target", "cpu", "--calibrate", people, "--out", out, "--force")
    assert run(*command) == 0
    assert [path.name for path in out.iterdir()] == ["tiny_int8_cpu.onnx"]
    assert "tiny_int8_cpu.onnx: INT8 " in capsys.readouterr().out
    with OnnxEngine(out / "tiny_int8_cpu.onnx") as engine:
        assert engine.card.calibration.startswith("cpu: minmax on")
        assert engine.run(np.zeros((1, SIDE, SIDE, 3), np.uint8)).shape == (1, 8)
