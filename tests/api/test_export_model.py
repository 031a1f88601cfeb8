"""The Python door of export does the whole job, gives what the command gives, and asks for nothing twice."""

from __future__ import annotations

import json
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers.small_network import CARD, SIDE, network, random_weights
from helpers.tiny_onnx import write_tiny_model

from reid_edge.api.export_model import export_model
from reid_edge.api.verify_export import verify_export
from reid_edge.cli import main
from reid_edge.data import datasets, decoding
from reid_edge.data.datasets import open_dataset
from reid_edge.data.synthetic.dataset import synthesize
from reid_edge.engines.onnxruntime import OnnxEngine
from reid_edge.errors import DatasetError, GateError, InputError
from reid_edge.export.engines.options import EngineOptions
from reid_edge.export.graph.graph import Graph
from reid_edge.export.graph.io import write_onnx
from reid_edge.export.handover.programs import HandOver
from reid_edge.export.int8.plan import Int8Options
from reid_edge.export.parity.limits import Checks
from reid_edge.export.source import open_data
from reid_edge.scoring.evaluation import evaluate
from reid_edge.scoring.test_set import TestSet

LOOSE = Checks(gates={"fp16.map_loss": 1.0, "int8.map_loss": 1.0})
"""The small network is random: its scores may move by more than a trained one's."""


def run(*arguments: object) -> int:
    """The exit code of a command."""
    with pytest.raises(SystemExit) as ended:
        main([str(argument) for argument in arguments])
    return int(ended.value.code or 0)


def test_the_door_gives_the_commands_files(fp32: Path, people: Path, tmp_path: Path) -> None:
    """Byte for byte, with cards, agreement and ranges in them; and the report holds what the table shows."""
    command = ("export", fp32, "--fp16", "--int8", "--calibrate", people, "--data", people, "--name", "n")
    loose = ("--gate", "int8.map_loss=1", "--gate", "fp16.map_loss=1")
    assert run(*command, *loose, "--out", tmp_path / "command") == 0
    report = export_model(
        fp32,
        tmp_path / "door",
        precisions=("fp32", "fp16", "int8"),
        name="n",
        data=people,
        int8=Int8Options(calibrate=people),
        checks=LOOSE,
    )
    assert [(row.path.name, row.precision) for row in report.files] == [
        ("n_fp16.onnx", "fp16"),
        ("n_int8.onnx", "int8"),
    ]
    for row in report.files:
        assert row.path.read_bytes() == (tmp_path / "command" / row.path.name).read_bytes()
        assert row.bytes == row.path.stat().st_size and row.seconds > 0 and row.parity
        assert row.metrics and row.metrics.to_dict() == evaluate(row.path, people).metrics.to_dict()
        assert row.lost and row.lost.mAP.mean == pytest.approx(evaluate(fp32, people).metrics.mAP - row.metrics.mAP)
    assert not report.refused
    report.raise_if_refused()


def test_a_model_in_memory_and_its_file_give_the_same(people: Path, tmp_path: Path) -> None:
    torch = pytest.importorskip("torch", reason="needs the train extra")
    from reid_edge.training.models.checkpoint import Checkpoint, card_of, load_model, save_checkpoint
    from reid_edge.training.models.registry import build_model

    torch.manual_seed(0)
    network = build_model("osnet_x0_25")
    card = card_of(network, input_hw=(64, 32), trained_on="nothing")
    save_checkpoint(Checkpoint(card, network.state_dict()), tmp_path / "model.pth")
    report = export_model((network, card), tmp_path / "door", data=open_dataset(people), resize="pillow-bilinear")
    (file,) = report.files
    command = ("export", tmp_path / "model.pth", "--data", people, "--resize", "pillow-bilinear")
    assert run(*command, "--out", tmp_path / "command") == 0
    assert file.path.read_bytes() == (tmp_path / "command" / file.path.name).read_bytes()
    with OnnxEngine(file.path) as engine:
        assert engine.card.resize == "pillow-bilinear"
        assert engine.card.parity["crops"] == 96
    again, _ = load_model(tmp_path / "model.pth")
    assert all(torch.equal(a, b) for a, b in zip(network.parameters(), again.parameters(), strict=True))


@pytest.fixture
def counts(monkeypatch: pytest.MonkeyPatch) -> Counter[str]:
    """How often a data set was opened, an image decoded and a graph copied, counted at the real functions."""
    found: Counter[str] = Counter()

    def counted(what: str, function: Any) -> Any:
        def call(*arguments: Any, **options: Any) -> Any:
            found[what] += 1
            return function(*arguments, **options)

        return call

    opening, opened = datasets.open_dataset, counted("open", datasets.open_dataset)
    for module in [each for name, each in sys.modules.items() if name.startswith("reid_edge.")]:
        if vars(module).get("open_dataset") is opening:
            monkeypatch.setattr(module, "open_dataset", opened)
    monkeypatch.setattr(decoding, "decode", counted("decode", decoding.decode))
    monkeypatch.setattr(Graph, "copy", counted("copy", Graph.copy))
    return found


def test_each_data_set_is_opened_once_each_crop_decoded_once_and_a_graph_copied_once_a_pass(
    fp32: Path, people: Path, tmp_path: Path, counts: Counter[str]
) -> None:
    split = open_dataset(people).split
    everything = {crop.path for part in (split.query, split.gallery, split.train) for crop in part}
    counts.clear()
    export_model(
        fp32,
        tmp_path / "out",
        precisions=("fp32", "fp16", "int8"),
        data=people,
        int8=Int8Options(calibrate=people),
        checks=LOOSE,
    ).raise_if_refused()
    assert counts["open"] == 1
    assert counts["decode"] == len(everything), "all training crops calibrate here, and all others are scored"
    # The source's hash; FP16 and its rounding, and without it; INT8's watched values, its pairs, FP16 around them, its
    # rounding, and without it. For its biases: pairs on all layers, both graphs side by side, watched; and corrected.
    assert counts["copy"] == 1 + 3 + 5 + 4


def test_two_data_sets_are_opened_once_each(fp32: Path, people: Path, tmp_path: Path, counts: Counter[str]) -> None:
    other = synthesize(tmp_path / "other", seed=1, identities=2, test_identities=2, cameras=2, progress=False)
    counts.clear()
    checks = Checks(gates={**LOOSE.gates, "int8.cosine_min": -1, "int8.relative_error": 9, "int8.ranking": 0})
    export_model(
        fp32, tmp_path / "out", precisions=("int8",), data=people, int8=Int8Options(calibrate=other), checks=checks
    )
    split = open_dataset(people).split
    every = [*split.query, *split.gallery, *split.train]  # fewer than are compared
    assert counts["open"] == 2
    assert counts["decode"] == len(every) + len(open_dataset(other).split.train)


def test_a_test_set_is_used_and_left_open(fp32: Path, people: Path, tmp_path: Path, counts: Counter[str]) -> None:
    with TestSet.open(people) as data:
        export_model(fp32, tmp_path / "a", precisions=("fp16",), data=data, checks=LOOSE).raise_if_refused()
        decoded = counts["decode"]
        export_model(fp32, tmp_path / "b", precisions=("fp16",), data=data, checks=LOOSE).raise_if_refused()
        assert (counts["decode"], counts["open"]) == (decoded, 1)


def test_data_and_calibration_are_one_set_where_they_are_one_folder(people: Path, tmp_path: Path) -> None:
    with open_data(people, calibrate=people / ".." / people.name) as one:
        assert one.calibration is one.test is not None
    with open_data(people, "market1501", calibrate=people) as two:
        assert two.calibration is not two.test
    with open_data() as nothing:
        assert nothing.test is None and nothing.calibration is None


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({}, r"is an ONNX file already: add --fp16 or --int8 \(precisions=\), or --engine"),
        ({"precisions": ("int8",)}, "INT8 needs training crops to find its .*ranges: add --calibrate DATASET"),
        ({"precisions": ("fp16",), "arch": "osnet_x0_25"}, r"names its own: leave --arch \(arch=\) and --resize"),
        ({"precisions": ("fp16",), "int8": Int8Options(method="entropy")}, "'entropy' is unknown"),
        ({"precisions": ("int8",), "int8": Int8Options(for_runtime="npu")}, "INT8 runtime 'npu' is unknown"),
        (
            {"precisions": ("int8",), "int8": Int8Options(unquantized="fp8")},
            "INT8 unquantized 'fp8' is unknown: give one of fp16, fp32",
        ),
        ({"int8": Int8Options(keep=("none", "fc.0"))}, r"--keep none \(keep=\) keeps no layer"),
        ({"sensitivity": "atom"}, "sensitivity by 'atom' is unknown"),
        ({"sensitivity": "layer"}, "add --calibrate DATASET"),
        ({"precisions": ("fp16",), "input_format": "hwc"}, "input format 'hwc' is unknown"),
        ({"hand_over": "jetson"}, "program 'jetson' is unknown: give one of deepstream, triton, trtexec"),
        ({"hand_over": "triton", "input_format": "nchw-float"}, "triton feeds nhwc-uint8: leave --input-format"),
        ({"engine": EngineOptions(backend="trt")}, "TensorRT backend 'trt' is unknown"),
        ({"engine": EngineOptions(batches=(4, 2, 8))}, "is not MIN:OPT:MAX"),
        ({"engine": EngineOptions(workspace_mib=0)}, "0 MiB of workspace are not between"),
        ({"precisions": ("fp16",), "checks": Checks(gates={"fp16.nothing": 1})}, "threshold 'nothing' is unknown"),
        ({"precisions": ("fp16",), "checks": Checks(crops=1)}, "1 crops are too few"),
        ({"precisions": ("fp16",), "data": "nowhere"}, "nowhere does not exist"),
    ],
)
def test_bad_use_is_refused_before_any_work(fp32: Path, tmp_path: Path, options: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        export_model(fp32, tmp_path / "out", **options)
    assert not (tmp_path / "out").exists()


def test_a_wrong_layer_to_keep_is_refused_before_a_crop_is_read(fp32: Path, tmp_path: Path) -> None:
    rows = [f"{name}.jpg,{name},1,train" for name in (1, 2)]
    (tmp_path / "broken.csv").write_text("\n".join(["path,pid,camid,split", *rows]))
    for name in (1, 2):
        (tmp_path / f"{name}.jpg").write_bytes(b"no image")
    broken = tmp_path / "broken.csv"
    for keep, message in ((("nowhere",), "has no layer 'nowhere' to keep"), (None, "is not a readable image")):
        int8 = Int8Options(calibrate=broken, keep=keep)
        with pytest.raises(InputError, match=message):
            export_model(fp32, tmp_path / "out", precisions=("int8",), data=broken, int8=int8)
    torch = pytest.importorskip("torch", reason="needs the train extra")
    from reid_edge.training.models.checkpoint import card_of
    from reid_edge.training.models.registry import build_model

    torch.manual_seed(0)
    model = build_model("osnet_x0_25")
    with pytest.raises(InputError, match=r"no layer 'backbone.conv1.com' to keep .*; did you mean backbone.conv1.conv"):
        int8 = Int8Options(calibrate=broken, keep=("default", "backbone.conv1.com"))
        export_model((model, card_of(model)), tmp_path / "out", precisions=("int8",), data=broken, int8=int8)


def test_what_needs_the_model_is_refused_before_a_file_is_written(fp32: Path, people: Path, tmp_path: Path) -> None:
    def export(**options: Any) -> None:
        export_model(fp32, tmp_path / "out", precisions=("fp16", "int8"), int8=Int8Options(**options))

    with pytest.raises(InputError, match="has no layer 'nowhere' to keep"):
        export(calibrate=people, keep=("nowhere",))
    rows = ["path,pid,camid,split"] + [
        f"{crop.path},1,{n},query" for n, crop in enumerate(open_dataset(people).split.query)
    ]
    (tmp_path / "m.csv").write_text("\n".join(rows))
    with pytest.raises(DatasetError, match="has no training crops"):
        export(calibrate=tmp_path / "m.csv")
    with pytest.raises(InputError, match=r"--for-runtime cpu \(for_runtime=\) is for ONNX Runtime"):
        export_model(
            fp32,
            tmp_path / "out",
            precisions=("int8",),
            int8=Int8Options(calibrate=people, for_runtime="cpu"),
            engine=EngineOptions(),
        )
    assert not (tmp_path / "out").exists()


def test_a_refused_file_is_a_row_of_the_report(fp32: Path, people: Path, tmp_path: Path) -> None:
    report = export_model(
        fp32,
        tmp_path / "out",
        precisions=("fp16", "int8"),
        int8=Int8Options(calibrate=people),
        checks=Checks(gates={"int8.cosine_min": 1}),
        hand_over="trtexec",
    )
    fp16, int8 = report.files
    assert not fp16.refused and int8.refused and report.refused == (int8.refused,)
    with pytest.raises(GateError, match="int8 differs from the reference on 512 crops"):
        report.raise_if_refused()
    assert [path.name for path in report.handover] == ["tiny_fp16_trtexec.sh"]
    read = json.loads(json.dumps(report.to_dict()))
    assert read["files"][0]["parity"]["crops"] == 512 and read["files"][0]["refused"] is None
    assert read["files"][1]["refused"] == str(int8.refused) and read["files"][1]["path"] == str(int8.path)
    assert read["engines"] == read["verified"] == [] and read["sensitivity"] is None


def test_another_program_gets_the_engines_batches(fp32: Path, tmp_path: Path) -> None:
    def config(**options: Any) -> str:
        report = export_model(fp32, tmp_path, **options)
        return report.handover[-1].read_text()

    assert "max_batch_size: 64" in config(hand_over="triton")
    assert "max_batch_size: 32" in config(hand_over=HandOver(program="triton", batches=(1, 8, 32)))


def test_engines_are_built_of_the_file_given_and_of_new_ones(
    fp32: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    from reid_edge.engines.cuda import find_gpu
    from reid_edge.engines.tensorrt_api import load_backend
    from reid_edge.errors import MissingExtraError

    try:
        load_backend("tensorrt-rtx")
    except MissingExtraError as error:
        pytest.skip(f"needs the rtx-build extra: {error}")
    options = EngineOptions(backend="tensorrt-rtx", batches=(1, 4, 8))
    report = export_model(fp32, tmp_path / "out", precisions=("fp32", "fp16"), engine=options, hand_over="triton")
    assert [one.path.name for one in report.engines] == ["small_fp32.engine", "tiny_fp16.engine"]
    assert all(one.path.is_file() and one.card.batches == (1, 4, 8) for one in report.engines)
    assert "max_batch_size: 8" in report.handover[-1].read_text()
    if not find_gpu():
        assert report.verified == () and "are not verified" in caplog.text
    alone = export_model(fp32, tmp_path / "out", precisions=("fp16",), name="alone", engine=options)
    assert [one.path.name for one in alone.engines] == ["alone_fp16.engine"], "fp32 was not asked for"


def test_sensitivity_comes_back_and_its_file_can_be_kept(fp32: Path, people: Path, tmp_path: Path) -> None:
    calibrated = Int8Options(calibrate=people)
    report = export_model(fp32, tmp_path / "out", sensitivity="layer", int8=calibrated)
    assert report.sensitivity and report.sensitivity.by == "layer" and not report.files
    written = json.loads((tmp_path / "out" / "tiny_sensitivity.json").read_text())
    assert written["keep"] == [*report.sensitivity.always, *report.sensitivity.keep]
    (tmp_path / "keep.json").write_text('{"keep": ["backbone.conv1"]}')
    kept = Int8Options(calibrate=people, keep=(str(tmp_path / "keep.json"),))
    (file,) = export_model(fp32, tmp_path / "out", precisions=("int8",), int8=kept).files
    with OnnxEngine(file.path) as engine:
        assert engine.card.calibration.endswith("with 1 layers: backbone.conv1")


def test_files_are_verified_from_python(fp32: Path, people: Path, tmp_path: Path) -> None:
    (fp16,) = export_model(fp32, tmp_path, precisions=("fp16",)).files
    for data in (None, people, open_dataset(people)):
        same, rounded = verify_export([fp32, fp16.path], fp32, data=data, checks=LOOSE)
        assert same.parity and same.parity.max_error == 0 and not same.refused
        assert rounded.parity and 0 < rounded.parity.max_error < 1e-2
        assert rounded.parity.crops == (96 if data else 512), "all of the data set, distractors aside"
    other = {**random_weights(), "model.fc.0.weight": -random_weights()["model.fc.0.weight"]}
    write_onnx(network(other), CARD, tmp_path / "other.onnx")
    (row,) = verify_export(tmp_path / "other.onnx", fp32, checks=Checks(crops=8))
    assert row.parity is None and "fp32 differs from the reference on 8 crops" in str(row.refused)
    assert row.to_dict() == {"refused": str(row.refused)}


def test_a_file_that_loses_map_is_refused_by_verify_export(fp32: Path, people: Path, tmp_path: Path) -> None:
    """Of another model, by gates that only mAP can fail: what is lost is what the two score apart."""
    weights = random_weights()
    weights["model.fc.0.weight"] = np.tile(weights["model.fc.0.weight"][:1], (8, 1))
    weights["model.fc.0.bias"][:] = np.arange(8) * 9
    model = tmp_path / "other.onnx"
    write_onnx(network(weights), CARD, model)
    wide = {"cosine_min": -1, "cosine_p1": -1, "ranking": 0, "max_error": 9, "relative_error": 99}
    checks = Checks(gates={f"fp32.{name}": limit for name, limit in wide.items()})
    other, same = verify_export([fp32, model], model, data=people, checks=checks)
    lost = evaluate(model, people).metrics.mAP - evaluate(fp32, people).metrics.mAP
    assert lost > 1e-3 and other.lost and other.lost.mAP.mean == pytest.approx(lost)
    assert "points of mAP over 4 identities" in str(other.refused) and other.parity
    assert other.to_dict()["lost"]["mAP_limit"] == 1e-4 and other.to_dict()["refused"] == str(other.refused)
    assert not same.refused and same.lost and same.lost.mAP.high == 0


def test_a_damaged_file_and_one_of_another_size_are_rows_beside_the_others(fp32: Path, tmp_path: Path) -> None:
    content = bytearray(fp32.read_bytes())
    content[len(content) // 2] ^= 1
    (tmp_path / "damaged.onnx").write_bytes(content)
    larger = write_tiny_model(tmp_path / "larger.onnx", input_hw=(64, 32))
    damaged, other, same = verify_export([tmp_path / "damaged.onnx", larger, fp32], fp32, checks=Checks(crops=8))
    assert "damaged.onnx" in str(damaged.refused) and "export it again" in str(damaged.refused)
    assert "takes crops of (64, 32) and the reference (16, 16)" in str(other.refused)
    assert not same.refused and same.parity
    with pytest.raises(InputError, match="missing.onnx does not exist"):
        verify_export([fp32, tmp_path / "missing.onnx"], fp32)


def test_the_crops_compared_are_as_many_as_asked_for(fp32: Path, people: Path, tmp_path: Path) -> None:
    (file,) = export_model(fp32, tmp_path, precisions=("fp16",), checks=Checks(crops=10)).files
    assert file.parity and file.parity.crops == 10
    with OnnxEngine(file.path) as engine:
        assert engine.card.parity["crops"] == 10
        assert engine.run(np.zeros((1, SIDE, SIDE, 3), np.uint8)).shape == (1, 8)
