"""The layers that INT8 must leave in float: found where they are planted, and a proof where there are none."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from helpers.small_network import CARD, Array, network, random_weights

from reid_edge.engines.onnxruntime import OnnxEngine
from reid_edge.export.files import write_files
from reid_edge.export.graph.graph import Graph
from reid_edge.export.graph.io import write_onnx
from reid_edge.export.graph.session import embed_graph
from reid_edge.export.int8.histogram import METHODS, peak_range
from reid_edge.export.int8.in_float import Int8Layers, int8_share
from reid_edge.export.int8.plan import Int8Options, plan_int8
from reid_edge.export.int8.qdq import quantized
from reid_edge.export.parity.compare import compare
from reid_edge.export.parity.gate import outside
from reid_edge.export.parity.limits import THRESHOLDS, Checks
from reid_edge.export.plan import ExportPlan
from reid_edge.export.report import Exported
from reid_edge.export.source import ExportData, onnx_source, open_data

INT8 = Int8Options(calibrate=Path("the fixture's"), method="minmax", threads=1)
DEFAULT = {"backbone.block.0.depthwise", "backbone.block.0.gate.fc"}
BAD = "backbone.block.1.conv"
MACS = {"conv1": 14 * 14 * 4 * 27, "gate": 16, "depthwise": 12 * 12 * 4 * 9, "block.1": 12 * 12 * 24, "fc": 48}


@pytest.fixture
def planted() -> Graph:
    """One channel 300 times as large as the others, where the next weights are as much smaller: FP32 does not mind."""
    weights = random_weights()
    weights["model.backbone.block.0.depthwise.weight"][1] *= 300
    weights["model.backbone.block.1.conv.weight"][:, 1] /= 300
    return network(weights)


@pytest.fixture
def compared(people: Path) -> Iterator[ExportData]:
    """Drawn people to calibrate and to compare on, without scores."""
    with open_data(people, calibrate=people) as opened:
        yield replace(opened, test=None)


def exported(
    graph: Graph, data: ExportData, out: Path, gates: dict[str, float] | None = None, int8: Int8Options = INT8
) -> tuple[Exported, Int8Layers]:
    out.mkdir()
    write_onnx(graph, CARD, out / "small_fp32.onnx")
    source = onnx_source(out / "small_fp32.onnx", data.crops)
    plan = ExportPlan(precisions=("int8",), name="n", int8=int8, checks=Checks(gates=gates or {}))
    (row,) = write_files(source, out, plan, data)
    assert row.int8
    return row, row.int8


def test_the_share_of_macs_by_hand(weights: dict[str, Array]) -> None:
    graph = network(weights)
    assert int8_share(graph, ()) == 1
    assert int8_share(graph, DEFAULT) == (MACS["conv1"] + MACS["block.1"] + MACS["fc"]) / sum(MACS.values())
    assert int8_share(graph, graph.layers) == 0


def test_the_planted_layer_is_found_and_no_other(planted: Graph, compared: ExportData, tmp_path: Path) -> None:
    row, layers = exported(planted, compared, tmp_path / "out")
    assert not row.refused and row.path.exists()
    assert set(layers.why) == {*DEFAULT, BAD}
    assert layers.why["backbone.block.0.gate.fc"] == "gate" and "as the only layer in INT8" in layers.why[BAD]
    assert layers.summary().startswith("71% of its multiply-accumulates are in INT8, and 3 layers in float, 1 of them")
    first, *_, last = layers.trials
    assert (first.in_float, last.in_float, last.verdict) == (2, 3, "passed") and "cosine" in first.verdict
    assert layers.runs >= 3 and layers.seconds > 0
    assert layers.share == (MACS["conv1"] + MACS["fc"]) / sum(MACS.values())
    with OnnxEngine(row.path) as engine:
        assert "with 3 layers (1 of them as the gates needed): backbone.block.0.depth" in engine.card.calibration
    json.dumps(row.to_dict())


def test_no_other_choice_of_one_layer_would_do(planted: Graph, compared: ExportData) -> None:
    """Each layer kept alone beside the default ones, by the same gate."""
    images = compared.crops.of(CARD)
    assert compared.calibration
    plan = plan_int8(planted, CARD, INT8, compared.calibration.dataset, compared.calibration.batch)
    ranges, reference = plan.activation_ranges(planted), embed_graph(planted, images, 1)
    passing = {
        name
        for name in set(planted.layers) - DEFAULT
        if not outside(
            compare(reference, embed_graph(quantized(planted, ranges, {*DEFAULT, name}), images, 1), tie=0.02),
            THRESHOLDS["int8"],
        )
    }
    assert passing == {BAD}


def test_the_same_model_gives_the_same_file(planted: Graph, compared: ExportData, tmp_path: Path) -> None:
    one, two = (exported(planted, compared, tmp_path / name) for name in ("one", "two"))
    assert replace(one[1], seconds=0) == replace(two[1], seconds=0)
    assert one[0].path.read_bytes() == two[0].path.read_bytes()


def test_nothing_is_searched_where_the_first_file_passes(compared: ExportData, tmp_path: Path) -> None:
    row, layers = exported(network(random_weights()), compared, tmp_path / "out")
    assert not row.refused and set(layers.why) == DEFAULT
    assert [(trial.in_float, trial.verdict) for trial in layers.trials] == [(2, "passed")] and layers.runs == 0


def test_where_no_choice_passes_the_table_is_the_proof(planted: Graph, compared: ExportData, tmp_path: Path) -> None:
    """The last set has as many layers in float as leave INT8 half of the multiply-accumulates."""
    row, layers = exported(planted, compared, tmp_path / "out", {"int8.cosine_min": 0.99999999})
    assert str(row.refused).startswith("INT8 passes with no choice of layers in float that leaves it half of the mult")
    assert "fine-tune with train --qat" in str(row.refused) and not row.path.exists()
    assert [trial.in_float for trial in layers.trials] == [2, 4]
    assert all("cosine_min" in trial.verdict for trial in layers.trials)
    assert layers.trials[-1].share == MACS["conv1"] / sum(MACS.values()) >= 0.5


def test_scores_are_a_gate_of_the_search(planted: Graph, people: Path, tmp_path: Path) -> None:
    """No file may lose anything: the search goes on past the first set that agrees, with the mAP of each it wrote."""
    with open_data(people, calibrate=people) as data:
        row, layers = exported(planted, data, tmp_path / "out", {"int8.map_loss": 0})
    written = [trial for trial in layers.trials if trial.map_lost is not None]
    assert written and all(trial.verdict in ("mAP", "passed") for trial in written)
    assert all(each.map_lost and each.map_lost.low <= each.map_lost.mean <= each.map_lost.high for each in written)
    assert json.loads(json.dumps(layers.to_dict()))["trials"][layers.trials.index(written[-1])]["map_lost"]["high"] > 0
    assert bool(row.refused) == (written[-1].verdict == "mAP")


def test_layers_that_were_named_are_not_searched(planted: Graph, compared: ExportData, tmp_path: Path) -> None:
    row, layers = exported(planted, compared, tmp_path / "out", int8=replace(INT8, keep=("default",)))
    assert "cosine" in str(row.refused) and not layers.trials
    assert set(layers.why.values()) == {"--keep (keep=)"}


def test_a_file_of_named_layers_says_when_less_than_half_is_in_int8(compared: ExportData, tmp_path: Path) -> None:
    graph = network(random_weights())
    few, most = (
        exported(graph, compared, tmp_path / keep[0], int8=replace(INT8, keep=keep))[1]
        for keep in (("backbone.conv1", "default"), ("default",))
    )
    assert "% of its multiply-accumulates are in INT8, less than the half that makes a file INT8" in few.summary()
    assert "less than" not in most.summary()


def test_an_overflow_is_not_searched(compared: ExportData, tmp_path: Path) -> None:
    """What FP16 cannot hold stays so with more layers in it."""
    weights = random_weights()
    weights["model.backbone.block.0.depthwise.weight"] *= 2e4
    weights["model.backbone.block.1.conv.weight"] /= 2e4
    row, layers = exported(network(weights), compared, tmp_path / "out")
    assert "beyond the 65504 of FP16" in str(row.refused) and not layers.trials


def test_weights_that_only_float_cannot_hold_are_named(compared: ExportData, tmp_path: Path) -> None:
    """INT8 has a scale for them; the layer that must leave it does not fit FP16, in no set that the search may try."""
    weights = random_weights()
    weights["model.backbone.block.0.depthwise.weight"] *= 1e-4
    weights["model.backbone.block.0.depthwise.weight"][1] *= 300
    weights["model.backbone.block.1.conv.weight"] *= 1e6
    weights["model.backbone.block.1.conv.weight"][:, 1] /= 300
    row, layers = exported(network(weights), compared, tmp_path / "out")
    assert str(row.refused).startswith("INT8 passes with no choice of layers in float")
    assert "weights model.backbone.block.1.conv.weight reach" in str(row.refused)
    assert "add --unquantized fp32" in str(row.refused) and "cosine" not in str(row.refused)
    assert layers.trials[0].verdict != layers.trials[-1].verdict == "refused"


@pytest.mark.usefixtures("empty_registry")
def test_a_search_calibrates_once(planted: Graph, compared: ExportData, tmp_path: Path) -> None:
    """Ranges of an added method are not cached: it is asked once for each value, however many sets are tried."""
    asked: list[float] = []

    def counted(histogram: Array, peak: float) -> float:
        asked.append(peak)
        return peak_range(histogram, peak)

    METHODS.register("counted", counted)
    _, layers = exported(planted, compared, tmp_path / "out", int8=replace(INT8, method="counted"))
    assert len(layers.trials) > 1 and len(asked) == 5


def test_a_model_with_less_than_half_in_int8_is_not_called_int8(tmp_path: Path, compared: ExportData) -> None:
    """A model that was trained for INT8 in its last layer alone."""
    trained = CARD.with_(quantization={"layers": {"fc.0": [3.0]}, "note": "mse"})
    write_onnx(network(random_weights()), trained, tmp_path / "small_fp32.onnx")
    source = onnx_source(tmp_path / "small_fp32.onnx", compared.crops)
    plan = ExportPlan(precisions=("int8",), name="n", int8=Int8Options())
    (row,) = write_files(source, tmp_path / "out", plan, ExportData(crops=compared.crops))
    assert str(row.refused).startswith("0% of the multiply-accumulates are in INT8 (at least 50%)")
    assert row.int8 and row.int8.why["backbone.conv1"] == "not trained for INT8"


def test_layers_take_the_ranges_that_lose_less(compared: ExportData, tmp_path: Path) -> None:
    """And no others do."""
    assert compared.calibration
    graph = network(random_weights())
    plan = plan_int8(graph, CARD, INT8, compared.calibration.dataset, compared.calibration.batch).calibrated(graph)
    ranges = plan.activation_ranges(graph)
    clipping = replace(plan, trained={**ranges, "vector": ranges["vector"] / 4})
    again = clipping.with_ranges_of(plan, graph, ["fc.0"])
    assert again.activation_ranges(graph) == ranges and again.unclipped == ("fc.0",)
    none = clipping.with_ranges_of(plan, graph, [])
    assert none.activation_ranges(graph)["vector"] == ranges["vector"] / 4 and none.unclipped == ()


@pytest.mark.usefixtures("empty_registry")
def test_clipping_that_ruins_a_layer_is_found(compared: ExportData, tmp_path: Path) -> None:
    """A method that clips two thirds of two layers' inputs: with whole ranges nothing more need be in float."""
    METHODS.register("narrow", lambda histogram, peak: peak / 3 if peak > 10 else peak)
    row, layers = exported(network(random_weights()), compared, tmp_path / "out", int8=replace(INT8, method="narrow"))
    assert not row.refused and set(layers.why) == DEFAULT and set(layers.unclipped) == {"fc.0", BAD}
    assert [trial.in_float for trial in layers.trials][0] == layers.trials[-1].in_float == 2
    with OnnxEngine(row.path) as engine:
        assert "no clipping in 2 layers, fp16 around INT8, with 2 layers: " in engine.card.calibration


def test_a_network_of_depthwise_convolutions_begins_with_all_in_int8(compared: ExportData, tmp_path: Path) -> None:
    """A 1x1 before and a thinner one after: depthwise and gate are over half of the multiply-accumulates."""
    weights = random_weights()
    weights["model.backbone.conv1.weight"] = weights["model.backbone.conv1.weight"][:, :, :1, :1]
    weights["model.backbone.block.1.conv.weight"] = weights["model.backbone.block.1.conv.weight"][:3]
    weights["model.fc.0.weight"] = weights["model.fc.0.weight"][:, :3]
    graph = network(weights)
    macs = [16 * 16 * 4 * 3, 14 * 14 * 3 * 4, 3 * 8, 14 * 14 * 4 * 9, 4 * 4]
    assert int8_share(graph, DEFAULT) == sum(macs[:3]) / sum(macs) < 0.5
    _, layers = exported(graph, compared, tmp_path / "out", {"int8.relative_error": 1})
    assert layers.trials[0].in_float == 0 and layers.trials[0].share == 1
