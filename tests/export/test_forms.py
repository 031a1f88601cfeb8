"""The form of files: which are merged, what their cards say, and that the gates know them."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from helpers.small_network import CARD, network, random_weights
from helpers.streams_network import STREAMS_CARD, streams_network
from onnx import numpy_helper

from reid_edge.api.export_model import export_model
from reid_edge.api.verify_export import verify_export
from reid_edge.card import ModelCard
from reid_edge.engines.cuda import find_gpu
from reid_edge.engines.onnx_file import check_content, read_content
from reid_edge.errors import GateError, InputError, ModelError
from reid_edge.export.engines.options import EngineOptions
from reid_edge.export.forms import Formed, formed, in_form
from reid_edge.export.graph.graph import finish
from reid_edge.export.graph.io import read_graph, write_onnx
from reid_edge.export.graph.macs import node_macs
from reid_edge.export.int8.convert import int8_from_fp32
from reid_edge.export.int8.in_float import reasons
from reid_edge.export.int8.plan import Int8Options, plan_int8
from reid_edge.export.parity.limits import Checks
from reid_edge.export.parity.structure import check_weights
from reid_edge.export.plan import ExportPlan
from reid_edge.export.source import ExportSource
from reid_edge.export.tables import exported_table

CROPS = np.random.default_rng(0).integers(0, 256, (8, 64, 32, 3), dtype=np.uint8)
CHECKS = Checks(crops=24, gates={"int8.cosine_min": 0.5, "int8.cosine_p1": 0.5, "int8.ranking": 0.5})


@pytest.fixture
def source() -> ExportSource:
    return ExportSource(streams_network(CROPS, gate_units=2), STREAMS_CARD, CROPS, np.zeros((8, 32), np.float32))


@pytest.fixture
def plain(source: ExportSource, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("REID_EDGE_CACHE", str(tmp_path / "cache"))
    write_onnx(source.graph, source.card, tmp_path / "plain_fp32.onnx")
    return tmp_path / "plain_fp32.onnx"


def form_of(source: ExportSource, precision: str, optimize_for: str, int8: Int8Options | None = None) -> Formed:
    def draft(_: ExportSource) -> tuple[object, ModelCard]:
        raise AssertionError("nothing is timed here")

    plan = ExportPlan(precisions=("fp16", "int8"), optimize_for=optimize_for, int8=int8 or Int8Options())
    return formed(source, plan, precision, draft)  # type: ignore[arg-type]


def test_files_for_a_cpu_stay_as_trained(source: ExportSource) -> None:
    for_cpu = Int8Options(for_runtime="cpu")
    for optimize_for in ("auto", "gpu", "gpu-latency", "cpu", "none"):
        assert form_of(source, "fp32", optimize_for) == Formed(source)
        assert form_of(source, "int8", optimize_for, for_cpu) == Formed(source)
    for precision in ("fp16", "int8"):
        for optimize_for in ("cpu", "none"):
            assert form_of(source, precision, optimize_for) == Formed(source)


def test_what_is_asked_for_is_merged_and_said(source: ExportSource) -> None:
    for precision in ("fp16", "int8"):
        for form in ("gpu", "gpu-latency"):
            found = form_of(source, precision, form)
            macs = sum(node_macs(found.source.graph).values())
            assert found.source.card == source.card.with_(optimized_for=form, macs=macs)
            assert found.note == f"streams merged for {form}, {macs / 1e6:.0f} M multiply-accumulates"


def test_without_engines_auto_is_as_trained_and_says_what_to_try(source: ExportSource) -> None:
    found = form_of(source, "fp16", "auto")
    assert found.source is source and "try --optimize-for gpu-latency (optimize_for=)" in found.note


def test_a_model_without_streams_stays_as_trained() -> None:
    small = ExportSource(network(random_weights()), CARD, CROPS, np.zeros((8, 8), np.float32))
    assert in_form(small, "gpu") is small
    assert form_of(small, "fp16", "auto") == Formed(small)
    assert form_of(small, "fp16", "gpu") == Formed(small, "as trained: it has no parallel streams to merge")


def test_merged_files_pass_the_gates_and_verify_export(plain: Path, unscored: Path, tmp_path: Path) -> None:
    report = export_model(
        plain,
        tmp_path / "out",
        precisions=("fp16", "int8"),
        optimize_for="gpu-latency",
        data=unscored,
        int8=Int8Options(calibrate=unscored, count=16, threads=1),
        checks=CHECKS,
        threads=1,
    )
    report.raise_if_refused()
    assert exported_table(report.files).row_count == 2
    for file in report.files:
        graph, card = read_graph(file.path)
        assert card.optimized_for == "gpu-latency" and file.note.startswith("streams merged for gpu-latency, ")
        assert "model.backbone.conv2.0.streams.1" in graph.producers
        assert card.with_(optimized_for="", macs=0, precision="fp32", calibration="", parity={}) == STREAMS_CARD
    paths = [file.path for file in report.files]
    rows = verify_export(paths, plain, data=unscored, checks=CHECKS)
    assert [row.refused for row in rows] == [None, None]


def test_a_card_that_lies_about_its_form_is_refused(plain: Path, source: ExportSource, tmp_path: Path) -> None:
    from reid_edge.export.graph.fp16 import fp16_from_fp32

    merged = fp16_from_fp32(in_form(source, "gpu").graph)
    for form in ("", "gpu-latency"):
        path = tmp_path / f"lying{form}_fp16.onnx"
        write_onnx(merged, source.card.with_(precision="fp16", optimized_for=form), path)
        (row,) = verify_export(path, plain, checks=CHECKS)
        assert row.refused, form


def test_a_card_says_its_form_and_old_cards_say_none(plain: Path) -> None:
    card = check_content(read_content(plain), plain).card
    assert card.optimized_for == ""
    merged = card.with_(optimized_for="gpu")
    assert ModelCard.from_json(merged.to_json()) == merged
    old = merged.to_json().replace('"optimized_for": "gpu", ', "")
    assert "optimized_for" not in old and ModelCard.from_json(old).optimized_for == ""
    for wrong in ('"cpu"', '"GPU"', "1", "null", '["gpu"]'):
        with pytest.raises(ModelError, match="bad model card"):
            ModelCard.from_json(merged.to_json().replace('"optimized_for": "gpu"', f'"optimized_for": {wrong}'))


def test_contradictions_are_refused_early(plain: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"--optimize-for gpu \(optimize_for=\) is for FP16 and INT8 files"):
        export_model(plain, tmp_path / "out", optimize_for="gpu", input_format="nchw-float")
    with pytest.raises(InputError, match="optimize for 'gpus' is unknown: give one of auto, gpu, "):
        export_model(plain, tmp_path / "out", precisions=("fp16",), optimize_for="gpus")
    for_cpu = Int8Options(calibrate=tmp_path, for_runtime="cpu")
    with pytest.raises(InputError, match="for a CPU stay as trained"):
        export_model(plain, tmp_path / "out", precisions=("fp32", "int8"), optimize_for="gpu", int8=for_cpu)
    assert not (tmp_path / "out").exists()


def test_every_layer_that_a_merged_file_keeps_has_its_reason(source: ExportSource, unscored: Path) -> None:
    merged = in_form(source, "gpu")
    plan = plan_int8(merged.graph, merged.card, Int8Options(calibrate=unscored))
    why = reasons(merged.graph, plan)
    assert why["fc.0"] == why["backbone.conv1"] == "few channels, or a vector a crop"
    assert why["backbone.conv2.0.streams.0"] == "few channels, or a vector a crop" and all(why.values())


@pytest.mark.parametrize("form", ["", "gpu", "gpu-latency"])
def test_a_lost_bias_is_seen_whatever_the_form(source: ExportSource, unscored: Path, form: str) -> None:
    """Each bias alone: corrections may not be large enough for one to vanish, where convolutions are large too."""
    each = in_form(source, form)
    plan = plan_int8(each.graph, each.card, Int8Options(calibrate=unscored, count=8, keep=()))
    int8, _ = int8_from_fp32(each.graph, each.card, plan)
    check_weights(int8, each.graph.constants)
    corrected = [name for name in int8.constants if name.endswith(".corrected")]
    assert len(corrected) > 10
    for name in corrected:
        lost = int8.copy()
        (tensor,) = (tensor for tensor in lost.graph.initializer if tensor.name == name)
        tensor.CopyFrom(numpy_helper.from_array(np.zeros_like(int8.constants[name]), name))
        with pytest.raises(GateError, match="bias are .* steps of rounding from the model's"):
            check_weights(finish(lost), each.graph.constants)


def test_a_card_says_that_adds_are_rounded_only_where_one_is(source: ExportSource, unscored: Path) -> None:
    both = ("backbone.conv2.0.conv3", "backbone.conv3.0.conv3")
    for keep, said in ((both[:1], True), (both, False)):
        plan = plan_int8(source.graph, source.card, Int8Options(calibrate=unscored, count=8, quantize_residuals=True))
        plan = replace(plan, kept=frozenset(keep))  # as a search does, which adds layers to those kept
        _, card = int8_from_fp32(source.graph, source.card, plan)
        assert ("residual adds rounded" in card.calibration) == said


def test_layers_of_merged_streams_can_be_kept_by_name_and_by_what_sensitivity_wrote(
    plain: Path, unscored: Path, tmp_path: Path
) -> None:
    """From an ONNX file and from a model in memory, whose modules know nothing of them."""
    level = "backbone.conv2.0.streams.1"
    (tmp_path / "keep.json").write_text(json.dumps({"keep": [level]}))
    int8 = Int8Options(calibrate=unscored, count=8, threads=1)
    for keep in ((level,), (str(tmp_path / "keep.json"),)):
        report = export_model(
            plain,
            tmp_path / "out",
            precisions=("int8",),
            optimize_for="gpu",
            int8=replace(int8, keep=keep),
            checks=replace(CHECKS, crops=8),
            threads=1,
        )
        report.raise_if_refused()
        assert report.files[0].int8 and list(report.files[0].int8.why) == [level]
    with pytest.raises(InputError, match=f"no layer '{level}' to keep"):
        export_model(plain, tmp_path / "out", precisions=("int8",), int8=replace(int8, keep=(level,)))


def test_a_models_merged_streams_can_be_kept_by_name(unscored: Path, tmp_path: Path) -> None:
    torch = pytest.importorskip("torch", reason="needs the train extra")
    from reid_edge.training.models.checkpoint import card_of
    from reid_edge.training.models.registry import build_model

    torch.manual_seed(0)
    network = build_model("osnet_x0_25")
    int8 = Int8Options(calibrate=unscored, count=8, threads=1, keep=("backbone.conv2.0.streams",))
    report = export_model(
        (network, card_of(network, input_hw=(64, 32), trained_on="nothing")),
        tmp_path / "out",
        precisions=("int8",),
        optimize_for="gpu",
        int8=int8,
        checks=replace(CHECKS, crops=8),
        threads=1,
    )
    assert report.files[-1].int8
    assert list(report.files[-1].int8.why) == [f"backbone.conv2.0.streams.{level}" for level in range(4)]


def test_sensitivity_is_that_of_the_form(plain: Path, unscored: Path, tmp_path: Path) -> None:
    report = export_model(
        plain,
        tmp_path / "out",
        precisions=(),
        optimize_for="gpu",
        int8=Int8Options(calibrate=unscored, count=8, threads=1),
        sensitivity="layer",
        checks=replace(CHECKS, crops=8),
        threads=1,
    )
    assert report.sensitivity is not None
    assert "backbone.conv2.0.streams.1" in str(report.to_dict()["sensitivity"])


@pytest.mark.gpu
def test_on_a_gpu_auto_times_every_form(plain: Path, tmp_path: Path) -> None:
    if not find_gpu():
        pytest.skip("needs an NVIDIA GPU, its driver and cuda-bindings or pycuda")
    engine = EngineOptions(batches=(1, 4, 8))
    report = export_model(plain, tmp_path / "out", precisions=("fp16",), engine=engine, checks=CHECKS)
    report.raise_if_refused()
    assert "ms in batches of 1/4/8 here: as trained " in report.files[0].note
    assert all(f"{form} " in report.files[0].note for form in ("gpu", "gpu-latency"))
