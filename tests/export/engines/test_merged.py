"""Merged streams by the real builder: how many kernels TensorRT-RTX compiles of OSNet x0.25."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("torch", reason="needs the train extra")

from helpers.networks import settled_model  # noqa: E402

from reid_edge.card import ModelCard  # noqa: E402
from reid_edge.engines.tensorrt_api import load_backend  # noqa: E402
from reid_edge.errors import MissingExtraError  # noqa: E402
from reid_edge.export.engines.build import Built, engine_from_onnx  # noqa: E402
from reid_edge.export.engines.options import EngineOptions  # noqa: E402
from reid_edge.export.forms import in_form  # noqa: E402
from reid_edge.export.graph.fp16 import fp16_from_fp32  # noqa: E402
from reid_edge.export.graph.from_torch import onnx_from_model  # noqa: E402
from reid_edge.export.graph.graph import Graph  # noqa: E402
from reid_edge.export.graph.io import write_onnx  # noqa: E402
from reid_edge.export.int8.calibrate import ranges_over  # noqa: E402
from reid_edge.export.int8.layers import default_keep, depthwise_layers, thin_layers  # noqa: E402
from reid_edge.export.int8.qdq import quantized  # noqa: E402
from reid_edge.export.source import ExportSource  # noqa: E402
from reid_edge.training.models.checkpoint import card_of  # noqa: E402

MOST_FP16 = {"gpu": 78, "gpu-latency": 60}
"""As trained 200. The issue of these forms asked for 88 and 70."""

MOST_INT8 = 107
"""As trained 315."""

CROPS = np.random.default_rng(0).integers(0, 256, (2, 256, 128, 3), dtype=np.uint8)


@pytest.fixture(scope="module")
def source() -> ExportSource:
    try:
        load_backend("tensorrt-rtx")
    except MissingExtraError as error:
        pytest.skip(f"needs the rtx-build extra: {error}")
    model = settled_model("osnet_x0_25")
    card = card_of(model, input_hw=(256, 128))
    return ExportSource(onnx_from_model(model, card), card, CROPS, np.zeros((2, 512), np.float32))


def built(graph: Graph, card: ModelCard, folder: Path) -> Built:
    write_onnx(graph, card, folder / "merged.onnx")
    return engine_from_onnx(folder / "merged.onnx", folder, EngineOptions(backend="tensorrt-rtx"))


@pytest.mark.slow
@pytest.mark.parametrize(("form", "macs"), [("gpu", 385), ("gpu-latency", 488)])
def test_merged_streams_are_few_kernels(source: ExportSource, form: str, macs: int, tmp_path: Path) -> None:
    merged = in_form(source, form)
    card = merged.card
    assert card.optimized_for == form and not depthwise_layers(merged.graph)
    assert source.card.macs < 90e6 and round(card.macs / 1e6) == macs
    fp16 = built(fp16_from_fp32(merged.graph), card.with_(precision="fp16"), tmp_path)
    assert sum(fp16.layers.values()) <= MOST_FP16[form]
    assert fp16.card.model.optimized_for == form
    kept = default_keep(merged.graph) | thin_layers(merged.graph)
    assert kept == {"backbone.conv1.conv", "fc.0"}
    int8 = fp16_from_fp32(quantized(merged.graph, ranges_over(merged.graph, CROPS, "minmax", 1), kept))
    int8_built = built(int8, card.with_(precision="int8"), tmp_path)
    assert sum(int8_built.layers.values()) <= MOST_INT8
    assert int8_built.kernels("Int8") >= len(merged.graph.layers) - len(kept)
