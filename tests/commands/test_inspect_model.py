"""`reid-edge inspect-model` and its door: the real builder's count, and a sentence where there is none."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from helpers.small_network import CARD, images_of, network, random_weights
from helpers.tiny_onnx import write_tiny_model

import reid_edge
from reid_edge.cli import main
from reid_edge.engines.tensorrt_api import load_backend
from reid_edge.errors import InputError, MissingExtraError, ModelError
from reid_edge.export.graph.io import write_onnx
from reid_edge.export.int8.cpu import quantized_for_cpu


def _run(*arguments: str) -> int:
    with pytest.raises(SystemExit) as ended:
        main(["inspect-model", *arguments])
    return int(ended.value.code or 0)


def test_a_file_is_inspected(fp32: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    devices = ["--device", "orin-nano", "--device", "agx-orin"]
    assert _run(str(fp32), *devices, "--no-kernels", "--top", "3", "--batch", "2") == 0
    shown = capsys.readouterr().out
    assert "small_fp32.onnx, batch 2" in shown and "kernels were not counted: not asked for" in shown
    assert "Orin Nano 8GB (15W), estimated from its data sheet" in shown and "AGX Orin 64GB (MAXN)" in shown
    assert "6 others" in shown and "all 9 layers" in shown
    assert max(map(len, shown.splitlines())) <= 80


def test_kernels_are_the_builders(fp32: Path) -> None:
    try:
        version = load_backend("tensorrt-rtx").version
    except MissingExtraError as error:
        pytest.skip(f"needs the rtx-build extra: {error}")
    found = reid_edge.inspect_model(fp32, backend="tensorrt-rtx")
    assert found.kernels is not None and found.no_kernels == ""
    assert found.kernels.builder == f"tensorrt-rtx {version}"
    assert 9 <= found.kernels.total <= 13, "nine layers are expected, and the gate is split"
    assert not list(fp32.parent.glob("*.engine*")), "nothing is written"


def test_a_graph_that_no_builder_takes_says_why(tmp_path: Path) -> None:
    write_onnx(quantized_for_cpu(network(random_weights()), images_of(4)), CARD.with_(precision="int8"), tmp_path / "a")
    found = reid_edge.inspect_model(tmp_path / "a")
    assert found.kernels is None and "\n" not in found.no_kernels
    assert "cannot" in found.no_kernels or "pip install" in found.no_kernels


def test_the_figures_are_written_as_json(fp32: Path, tmp_path: Path) -> None:
    assert _run(str(fp32), "--no-kernels", "--json", str(tmp_path / "f.json")) == 0
    content = json.loads((tmp_path / "f.json").read_text())
    expected = reid_edge.inspect_model(fp32, kernels=False)
    assert content == json.loads(json.dumps(expected.to_dict()))
    assert content["macs"] == {"fp32": expected.total_macs} and content["kernels"] is None
    (estimate,) = content["estimates"]
    assert estimate["device"] == "orin-nano" and len(estimate["layers"]) == len(content["layers"]) == 9


def test_what_cannot_be_estimated_is_refused(tmp_path: Path) -> None:
    model = write_tiny_model(tmp_path / "tiny.onnx")
    with pytest.raises(InputError, match=r"device 'orin_nano' is unknown: give one of .* did you mean orin-nano\?"):
        reid_edge.inspect_model(model, devices=["orin_nano"])
    with pytest.raises(InputError, match=r"give --batch \(batch=\) 1 to 65535"):
        reid_edge.inspect_model(model, batch=0)
    for wrong in (-1.0, float("nan"), float("inf")):
        with pytest.raises(InputError, match=r"give --launch-us \(launch_us=\) a finite number from 0"):
            reid_edge.inspect_model(model, launch_us=wrong)
    (tmp_path / "x.onnx").write_bytes(b"no model")
    with pytest.raises(ModelError):
        reid_edge.inspect_model(tmp_path / "x.onnx")
    assert _run(str(tmp_path / "none.onnx")) == 2


def test_an_export_says_what_its_files_cost(fp32: Path, tmp_path: Path, unscored: Path) -> None:
    report = reid_edge.export_model(fp32, tmp_path / "out", precisions=("fp16",), data=unscored)
    (file,) = report.files
    found = reid_edge.inspect_model(file.path, kernels=False)
    assert file.cost is not None and set(found.macs) == {"fp16", "fp32"}
    expected = (len(found.layers), found.total_macs, sum(found.bytes.values()))
    assert (file.cost.layers, file.cost.macs, file.cost.bytes) == expected
    assert report.to_dict()["files"][0]["cost"] == {"layers": 9, "macs": expected[1], "bytes": expected[2]}
