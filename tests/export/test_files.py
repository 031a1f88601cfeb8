"""Files of every precision from an FP32 file, without torch, and what its gates refuse."""

from __future__ import annotations

import io
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from helpers.small_network import CARD, SIDE, network, random_weights
from rich.console import Console

from reid_edge.errors import GateError, InputError
from reid_edge.export.files import write_files
from reid_edge.export.graph.io import write_onnx
from reid_edge.export.int8.plan import Int8Options
from reid_edge.export.parity.crops import ParityCrops
from reid_edge.export.parity.limits import Checks
from reid_edge.export.plan import ExportPlan
from reid_edge.export.source import ExportData, ExportSource, onnx_source, open_data
from reid_edge.export.tables import scores_table
from reid_edge.scoring.evaluation import evaluate

INT8 = Int8Options(calibrate=Path("the fixture's"))
"""Calibrated on the data that a test opens."""


@pytest.fixture
def data(people: Path) -> Iterator[ExportData]:
    """Drawn people to calibrate and to score on."""
    with open_data(people, calibrate=people) as opened:
        yield opened


@pytest.fixture
def compared(data: ExportData) -> ExportData:
    """The same to calibrate and to compare on, without scores."""
    return replace(data, test=None)


@pytest.fixture
def source(fp32: Path, data: ExportData) -> ExportSource:
    return onnx_source(fp32, data.crops)


def test_scores_stand_beside_agreement(source: ExportSource, data: ExportData, people: Path, tmp_path: Path) -> None:
    plan = ExportPlan(precisions=("fp32", "int8"), name="n", int8=INT8, checks=Checks(gates={"int8.map_loss": 1}))
    fp32, int8 = write_files(source, tmp_path / "out", plan, data)
    assert fp32.metrics and int8.metrics and int8.lost is not None
    assert fp32.metrics.mAP == pytest.approx(evaluate(fp32.path, people).metrics.mAP)
    assert int8.lost.mAP.mean == pytest.approx(fp32.metrics.mAP - int8.metrics.mAP)
    assert int8.lost.rank1.mean == pytest.approx(fp32.metrics.rank(1) - int8.metrics.rank(1))
    assert int8.lost.mAP.identities == 4 and int8.lost.limit == 1


def test_a_data_set_without_queries_gives_no_scores(source: ExportSource, unscored: Path, tmp_path: Path) -> None:
    with open_data(unscored) as opened:
        (row,) = write_files(source, tmp_path / "out", ExportPlan(name="n"), opened)
    assert not row.refused and row.metrics is None and row.lost is None


def test_an_overflow_planted_in_one_layer_is_named_and_refused(compared: ExportData, tmp_path: Path) -> None:
    """Weights that FP16 holds, and a second map far beyond its range; the third layer brings it back."""
    weights = random_weights()
    weights["model.backbone.block.0.depthwise.weight"] *= 2e4
    weights["model.backbone.block.1.conv.weight"] /= 2e4
    write_onnx(network(weights), CARD, tmp_path / "small_fp32.onnx")
    source = onnx_source(tmp_path / "small_fp32.onnx", compared.crops)
    (row,) = write_files(source, tmp_path / "out", ExportPlan(precisions=("fp16",), name="n"), compared)
    assert str(row.refused).startswith("backbone.block.0.depthwise reaches "), row.refused
    assert "beyond the 65504 of FP16: leave out --fp16" in str(row.refused)
    assert not list((tmp_path / "out").iterdir())


def test_an_overflow_around_int8_layers_is_named_and_refused(
    compared: ExportData, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A layer in FP16, and one in INT8 whose output goes to FP16: FP32 around the INT8 layers holds both."""
    monkeypatch.setenv("REID_EDGE_CACHE", str(tmp_path / "cache"))
    write_onnx(network(random_weights()), CARD, tmp_path / "small_fp32.onnx")
    for layer, following in (
        ("backbone.block.0.depthwise", "backbone.block.1.conv"),
        ("backbone.conv1", "backbone.block.0.depthwise"),
    ):
        weights = random_weights()
        weights[f"model.{layer}.weight"] *= 2e4
        weights[f"model.{following}.weight"] /= 2e4
        weights["model.backbone.block.0.gate.fc.weight"] /= 1e5
        write_onnx(network(weights), CARD, tmp_path / "small_fp32.onnx")
        source = onnx_source(tmp_path / "small_fp32.onnx", compared.crops)
        (row,) = write_files(source, tmp_path / layer, ExportPlan(precisions=("int8",), name="n", int8=INT8), compared)
        assert f"{layer} reaches " in str(row.refused), row.refused
        assert str(row.refused).endswith("beyond the 65504 of FP16: add --unquantized fp32 (unquantized=)")
        in_fp32 = ExportPlan(precisions=("int8",), name="n", int8=replace(INT8, unquantized="fp32"))
        (row,) = write_files(source, tmp_path / layer, in_fp32, compared)
        assert not row.refused, row.refused


def test_a_refused_precision_leaves_no_file_and_does_not_stop_the_next(
    source: ExportSource, compared: ExportData, tmp_path: Path
) -> None:
    plan = ExportPlan(precisions=("fp16", "int8"), name="n", int8=INT8, checks=Checks(gates={"fp16.cosine_min": 1}))
    fp16, int8 = write_files(source, tmp_path / "out", plan, compared)
    assert isinstance(fp16.refused, GateError) and "cosine_min" in str(fp16.refused)
    assert not int8.refused and int8.parity
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["n_int8.onnx"]


def test_a_precision_that_scores_too_low_is_refused(source: ExportSource, data: ExportData, tmp_path: Path) -> None:
    (row,) = write_files(source, tmp_path / "out", plan_with({"int8.map_loss": 0}), data)
    assert "may be lost): keep more layers in float" in str(row.refused)
    assert row.metrics and row.lost and row.lost.verdict == "lost" and not list((tmp_path / "out").iterdir())


def test_scores_that_four_persons_do_not_show_are_refused(
    source: ExportSource, data: ExportData, tmp_path: Path
) -> None:
    """The limit is just over the mean loss, and under its interval's upper end."""
    (free,) = write_files(source, tmp_path / "free", plan_with({"int8.map_loss": 1}), data)
    assert free.lost and free.lost.mAP.high > free.lost.mAP.mean
    margin = free.lost.mAP.high - free.lost.mAP.mean
    limit = free.lost.mAP.mean + 0.51 * margin  # half the margin needs four times the identities
    (row,) = write_files(source, tmp_path / "out", plan_with({"int8.map_loss": limit}), data)
    assert "is not shown to hold: score on about 16 identities, or keep more layers" in str(row.refused)
    assert row.to_dict()["lost"]["verdict"] == "not shown to hold (needs about 16 identities)"
    shown = io.StringIO()
    Console(width=80, file=shown).print(scores_table([row]))
    assert "needs about" in shown.getvalue() and "16 identities" in " ".join(shown.getvalue().split())
    assert not list((tmp_path / "out").iterdir())


def plan_with(gates: dict[str, float]) -> ExportPlan:
    """INT8 with the layers named, so that nothing is searched."""
    int8 = replace(INT8, keep=("default",))
    return ExportPlan(precisions=("int8",), name="n", int8=int8, checks=Checks(gates=gates))


def test_the_model_given_is_not_written_over(source: ExportSource, data: ExportData) -> None:
    assert source.file is not None
    with pytest.raises(InputError, match=r"is the model given: give another --out \(out=\) or --name"):
        write_files(source, source.file.parent, ExportPlan(name="small"), data)


def test_a_model_trained_for_int8_takes_no_other_layers(fp32: Path, tmp_path: Path) -> None:
    trained = CARD.with_(quantization={"layers": {"fc.0": [3.0]}, "note": "mse"})
    crops = np.zeros((1, SIDE, SIDE, 3), np.uint8)
    source = ExportSource(network(random_weights()), trained, crops, np.zeros((1, 8), np.float32))
    nothing = ExportData(crops=ParityCrops())
    for options, said in (
        (Int8Options(keep=("fc.0",)), r"leave --keep \(keep=\) out, or choose again with --calibrate"),
        (Int8Options(for_runtime="cpu"), "add --calibrate DATASET"),
    ):
        with pytest.raises(InputError, match=said):
            write_files(
                source, tmp_path / "out", ExportPlan(precisions=("fp32", "int8"), name="n", int8=options), nothing
            )
    assert not (tmp_path / "out").exists()
