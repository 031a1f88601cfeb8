"""Cards that lie, sealed as if true or edited afterwards: what is refused, and what nobody can check."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from helpers import faults
from helpers.right_files import RightFiles
from helpers.streams_network import streams_network

from reid_edge.engines.onnxruntime import OnnxEngine
from reid_edge.export.graph.fp16 import fp16_from_fp32
from reid_edge.export.graph.graph import Graph
from reid_edge.export.graph.io import write_onnx
from reid_edge.export.parity.recheck import Reference

HALF = (0.5, 0.5, 0.5)


@pytest.mark.parametrize(
    ("precision", "lie", "said"),
    [
        ("fp32", {"weights_sha256": "cd" * 32}, "has weights_sha256 cdcd"),
        ("fp32", {"resize": "pillow-bilinear"}, "has resize pillow-bilinear on its card and the reference opencv"),
        ("fp32", {"architecture": "osnet_x1_0"}, "has architecture osnet_x1_0 on its card and the reference streams"),
        ("fp32", {"precision": "int8"}, "does not open: .*card says int8, and its graph is fp32"),
        ("fp16", {"precision": "fp32"}, "does not open: .*card says fp32, and its graph is fp16"),
        ("int8", {"precision": "fp16"}, "does not open: .*card says fp16, and its graph is int8"),
        ("fp32", {"mean": HALF}, "does not open: .* says mean .* and its graph has another one"),
        ("int8", {"std": HALF}, "does not open: .* says std .* and its graph has another one"),
        ("fp32", {"embedding_dim": 64}, "does not open: "),
        ("fp32", {"input_hw": (128, 64)}, "does not open: "),
        ("fp32", {"input_format": "nchw-float"}, "does not open: "),
    ],
)
def test_a_lie_is_refused(small: RightFiles, precision: str, lie: dict[str, Any], said: str, tmp_path: Path) -> None:
    graph, card = small.graphs[precision]
    write_onnx(graph, card.with_(**lie), tmp_path / "x.onnx")
    assert re.search(said, small.refusal(tmp_path / "x.onnx"))


def test_statistics_that_are_wrong_in_the_graph_too(small: RightFiles, tmp_path: Path) -> None:
    graph, card = small.graphs["fp32"]
    write_onnx(faults.mean_and_std_of_one_half(graph), card.with_(mean=HALF, std=HALF), tmp_path / "x.onnx")
    assert "has mean (0.5, 0.5, 0.5) on its card and the reference (0.485" in small.refusal(tmp_path / "x.onnx")


@pytest.mark.parametrize("fault", [faults.bgr, faults.dead_channel], ids=lambda fault: fault.__name__)
def test_a_fault_does_not_hide_behind_int8_limits(small: RightFiles, fault: faults.Fault, tmp_path: Path) -> None:
    """An FP32 file labelled INT8, whose limits are wide."""
    graph, card = small.graphs["fp32"]
    write_onnx(fault(graph), card.with_(precision="int8"), tmp_path / "x.onnx")
    assert "its model card says int8, and its graph is fp32" in small.refusal(tmp_path / "x.onnx")


def test_a_card_edited_in_its_file_does_not_open(small: RightFiles, tmp_path: Path) -> None:
    graph, card = small.graphs["fp32"]
    write_onnx(graph, card.with_(trained_on="MSMT17"), tmp_path / "x.onnx")
    content = (tmp_path / "x.onnx").read_bytes()
    (tmp_path / "x.onnx").write_bytes(content.replace(b"MSMT17", b"Market"))
    assert "does not open: " in small.refusal(tmp_path / "x.onnx")


@pytest.mark.parametrize(
    "words", [{"parity": {"cosine_min": 1.0, "crops": 10**6}}, {"trained_on": "everything"}, {"macs": 1}]
)
def test_words_that_nobody_can_check_pass(small: RightFiles, words: dict[str, Any], tmp_path: Path) -> None:
    """What was measured at export is not read: verify-export measures it anew."""
    graph, card = small.graphs["fp32"]
    write_onnx(graph, card.with_(**words), tmp_path / "x.onnx")
    assert not small.refusal(tmp_path / "x.onnx")


def test_an_overflow_of_fp16_is_refused(small: RightFiles, tmp_path: Path) -> None:
    """Weights that FP16 holds, and a map far beyond its range; a CPU, which computes in FP32, does not see it."""

    @faults.fault
    def enlarged(graph: Any) -> None:
        first, second = (f"model.backbone.conv2.0.stream2.{step}" for step in (0, 1))
        for tensor in graph.initializer:
            scale = {f"{first}.weight": 2e4, f"{first}.bias": 2e4, f"{second}.weight": 1 / 2e4}.get(tensor.name, 1)
            faults.set_values(tensor, faults.values_of(tensor) * scale)

    graph: Graph = enlarged(small.graphs["fp32"][0])
    _, card = small.graphs["fp16"]
    write_onnx(graph, small.graphs["fp32"][1], tmp_path / "fp32.onnx")
    assert not small.refusal(tmp_path / "fp32.onnx")
    reference = small.reference
    own = Reference(embeddings=reference.embeddings, crops=reference.crops, weights=lambda form: graph.constants)
    write_onnx(fp16_from_fp32(graph), card, tmp_path / "fp16.onnx")
    refused = RightFiles(small.graphs, own).refusal(tmp_path / "fp16.onnx")
    assert "backbone.conv2.0.stream2.0 reaches " in refused and "beyond the 65504 of FP16" in refused


def test_another_seed_is_another_model(small: RightFiles, tmp_path: Path) -> None:
    _, card = small.graphs["fp32"]
    write_onnx(streams_network(small.reference.crops, seed=1), card, tmp_path / "x.onnx")
    with OnnxEngine(tmp_path / "x.onnx"):
        assert "differs from the reference" in small.refusal(tmp_path / "x.onnx")
