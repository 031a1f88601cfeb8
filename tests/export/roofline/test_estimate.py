"""Rooflines by hand: what bounds a layer, and what the limits of devices are."""

from __future__ import annotations

import pytest

from reid_edge.export.graph.traffic import LayerCost
from reid_edge.export.roofline.devices import DEVICE_LIMITS, DeviceLimits
from reid_edge.export.roofline.estimate import roofline

DEVICE = DeviceLimits("d", "D", "MAXN", {"fp32": 1.0, "fp16": 4.0, "int8": 8.0}, 100.0)


def _layer(name: str, macs: int, moved: int, precision: str = "fp16") -> LayerCost:
    return LayerCost(name, ("Conv",), precision, macs, {}, {"fp16": moved}, {})


def test_the_longest_of_three_bounds_a_layer() -> None:
    layers = [_layer("big", 40_000_000, 100_000), _layer("wide", 1_000, 2_000_000), _layer("small", 1_000, 1_000)]
    found = roofline(layers, DEVICE, launch_us=4.0)
    assert [(each.bound, each.time_us) for each in found.layers] == [("compute", 20), ("memory", 20), ("launch", 4)]
    assert found.time_us == 44
    assert found.shares == {"compute": 20 / 44, "memory": 20 / 44, "launch": 4 / 44}
    assert [each.layer.name for each in found.slowest(2)] == ["big", "wide"]
    assert found.to_dict()["layers"][2] == {"name": "small", "compute_us": 0.0005, "memory_us": 0.01, "bound": "launch"}


def test_each_type_has_its_peak() -> None:
    times = {
        kind: roofline([_layer("a", 4_000_000, 0, kind)], DEVICE, 0).time_us
        for kind in ("fp32", "fp16", "int8", "other")
    }
    assert times == {"fp32": 8, "fp16": 2, "int8": 1, "other": 8}


def test_no_layers_take_no_time() -> None:
    assert roofline([], DEVICE).time_us == 0 and set(roofline([], DEVICE).shares.values()) == {0}


@pytest.mark.parametrize("device", DEVICE_LIMITS.values(), ids=DEVICE_LIMITS)
def test_limits_are_dense_and_of_the_gpu(device: DeviceLimits) -> None:
    """INT8 is twice FP16 on each tensor core here; a sparse figure, or one with the accelerators, would be more."""
    fp32, fp16, int8 = (device.tera_ops[kind] for kind in ("fp32", "fp16", "int8"))
    assert int8 == pytest.approx(2 * fp16, rel=0.05) and 7 < fp16 / fp32 < 33
    if device.name != "thor":  # 16 INT8 operations for each of a CUDA core in FP32, in every Orin
        assert int8 / fp32 == pytest.approx(16, rel=0.03)


def test_an_orin_nano_super_cannot_read_resnet50s_weights_faster() -> None:
    """23.5 million INT8 weights at 102 GB/s: 0.23 ms, whatever the arithmetic."""
    assert DEVICE_LIMITS["orin-nano-super"].memory_us(23_500_000) == pytest.approx(230, abs=1)
