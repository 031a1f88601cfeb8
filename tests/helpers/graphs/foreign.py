"""Foreign ONNX files: what another project's exporter could have written, and what an attacker could."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import ModelProto, TensorProto, helper, numpy_helper

__all__ = ["FOREIGN_HW", "foreign_model", "write_foreign"]

FP32 = TensorProto.FLOAT
FOREIGN_HW = (64, 32)


def write_foreign(path: Path, edit: Callable[[ModelProto], Any] | None = None, **options: Any) -> Path:
    """Write `foreign_model` to ``path``, after an ``edit`` of it."""
    model = foreign_model(**options)
    if edit:
        edit(model)
    path.write_bytes(model.SerializeToString())
    return path


def foreign_model(
    *,
    batch: int | str = "batch",
    hw: tuple[int | str, int | str] = FOREIGN_HW,
    dim: int = 24,
    opset: int = 13,
    seed: int = 0,
) -> ModelProto:
    """A convolutional network with names as PyTorch's older exporter gives them: float32 NCHW in, no norm out.

    input -> Conv, BatchNormalization, Relu -> Conv, Relu -> mean of four stripes -> Flatten -> Gemm -> output
    """
    rng = np.random.default_rng(seed)
    height, width = FOREIGN_HW
    weights = {
        "backbone.conv1.weight": rng.standard_normal((8, 3, 3, 3)) / 3,
        "backbone.bn1.weight": rng.uniform(0.8, 1.4, 8),
        "backbone.bn1.bias": rng.standard_normal(8) / 10,
        "backbone.bn1.running_mean": rng.standard_normal(8) / 10,
        "backbone.bn1.running_var": rng.uniform(0.6, 1.2, 8),
        "onnx::Conv_31": rng.standard_normal((16, 8, 1, 1)) / 3,
        "onnx::Conv_32": rng.standard_normal(16) / 3,
        "fc.weight": rng.standard_normal((dim, 64)) / 8,
        "fc.bias": rng.standard_normal(dim) / 8,
    }
    norm = [f"backbone.bn1.{part}" for part in ("weight", "bias", "running_mean", "running_var")]
    pool = {"kernel_shape": [height // 8, width // 2], "strides": [height // 8, 1]}
    nodes = [
        helper.make_node(
            "Conv", ["input", "backbone.conv1.weight"], ["c1"], "/conv1/Conv", pads=[1] * 4, strides=[2, 2]
        ),
        helper.make_node("BatchNormalization", ["c1", *norm], ["n1"], "/bn1/BatchNormalization"),
        helper.make_node("Relu", ["n1"], ["r1"], "/relu/Relu"),
        helper.make_node("Conv", ["r1", "onnx::Conv_31", "onnx::Conv_32"], ["c2"], "/layers/layers.0/conv/Conv"),
        helper.make_node("Relu", ["c2"], ["r2"], "/relu_1/Relu"),
        helper.make_node("AveragePool", ["r2"], ["stripes"], "/pool/AveragePool", **pool),
        helper.make_node("Flatten", ["stripes"], ["flat"], "/Flatten"),
        helper.make_node("Gemm", ["flat", "fc.weight", "fc.bias"], ["output"], "/fc/Gemm", transB=1),
    ]
    graph = helper.make_graph(
        nodes,
        "main_graph",
        [helper.make_tensor_value_info("input", FP32, [batch, 3, *hw])],
        [helper.make_tensor_value_info("output", FP32, [batch, dim])],
        [numpy_helper.from_array(np.asarray(value, np.float32), name) for name, value in weights.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=7)
    model.producer_name, model.producer_version = "pytorch", "1.13"
    onnx.checker.check_model(model)
    return model
