"""Which layers lose most in INT8, and how many to keep in float."""

from __future__ import annotations

from pathlib import Path

import pytest
from helpers.small_network import Array, images_of, network

from reid_edge.errors import InputError
from reid_edge.export.int8.calibrate import ranges_over
from reid_edge.export.int8.qdq import quantized
from reid_edge.export.int8.sensitivity import sensitivity
from reid_edge.export.int8.sensitivity_report import draw_sensitivity, keep_from_json


def test_sensitivity_finds_a_planted_bad_layer(weights: dict[str, Array]) -> None:
    """One channel 300 times as large as the others, where the next weights are as much smaller: FP32 does not mind."""
    weights["model.backbone.block.0.depthwise.weight"][0] *= 300
    weights["model.backbone.block.1.conv.weight"][:, 0] /= 300
    graph, images = network(weights), images_of(16)
    result = sensitivity(graph, ranges_over(graph, images, "minmax", 1), images, target=0.9999, threads=1)
    assert result.alone[0].name == "backbone.block.1.conv"
    assert [one.cosine_mean for one in result.alone] == sorted(one.cosine_mean for one in result.alone)
    assert result.keep[:1] == ("backbone.block.1.conv",)
    assert {one.name: one.kind for one in result.alone}["backbone.block.0.gate.fc"] == "gate"


def test_sensitivity_keeps_nothing_when_nothing_is_lost(weights: dict[str, Array]) -> None:
    graph, images = network(weights), images_of(8)
    ranges = ranges_over(graph, images, "minmax", 1)
    result = sensitivity(graph, ranges, images, target=0.9, always=["fc"], threads=1)
    assert (result.keep, result.always, result.reached) == ((), ("fc.0",), True)
    assert "fc.0" not in {one.name for one in result.alone}
    assert "none needs to be kept" in result.why()


def test_reports_of_earlier_versions_name_the_backbone(tmp_path: Path) -> None:
    (tmp_path / "kept.json").write_text('{"keep": ["trunk.conv2.0", "fc.0", "trunks.1"]}')
    assert keep_from_json(tmp_path / "kept.json") == ["backbone.conv2.0", "fc.0", "trunks.1"]


def test_sensitivity_says_when_the_target_is_missed(weights: dict[str, Array]) -> None:
    graph, images = network(weights), images_of(8)
    result = sensitivity(graph, ranges_over(graph, images, "minmax", 1), images, target=1.1, threads=1)
    assert not result.reached
    assert [step.kept for step in result.ladder] == [0, 1, 2]
    assert "which still misses it: try --qat" in result.why()


def test_blocks_are_measured_together(weights: dict[str, Array]) -> None:
    graph, images = network(weights), images_of(8)
    result = sensitivity(graph, ranges_over(graph, images, "minmax", 1), images, by="block", threads=1)
    assert {one.name for one in result.alone} == {"backbone.conv1", "backbone.block.0", "backbone.block.1", "fc.0"}
    with pytest.raises(InputError, match="sensitivity by 'channel' is unknown: give one of layer, block"):
        sensitivity(graph, {}, images, by="channel")


def test_what_sensitivity_writes_can_be_fed_back(weights: dict[str, Array], tmp_path: Path) -> None:
    pytest.importorskip("matplotlib", reason="needs the report extra")
    graph, images = network(weights), images_of(8)
    ranges = ranges_over(graph, images, "minmax", 1)
    result = sensitivity(graph, ranges, images, target=1.1, always=["fc.0"], threads=1)
    (tmp_path / "s.json").write_text(result.to_json())
    keep = keep_from_json(tmp_path / "s.json")
    assert keep == ["fc.0", *result.keep]
    quantized(graph, ranges, keep)
    draw_sensitivity(result, tmp_path / "s.png")
    assert (tmp_path / "s.png").read_bytes().startswith(b"\x89PNG")
    (tmp_path / "bad.json").write_text('{"keep": "fc"}')
    with pytest.raises(InputError, match=r'bad\.json has no "keep": \[names\]'):
        keep_from_json(tmp_path / "bad.json")
