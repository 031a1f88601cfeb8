"""The files that the other parts measure: each architecture plain and merged, in FP32, FP16 and INT8.

Their weights are random: they are as fast as trained ones. Nothing here speaks of accuracy.
"""

from __future__ import annotations

import importlib
import json
from collections.abc import Iterator
from math import prod
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from reid_edge.core.files import write_text

from .gpus import require_gpu, require_onnx, torch_device
from .parts import CannotRunError, DayOptions, DayRow

if TYPE_CHECKING:
    from reid_edge.export.graph.graph import Graph

__all__ = ["FOLDER", "files_in", "least_ms", "written"]

FOLDER = "models"
_LIST = "files.json"
_BYTES = {"fp32": 4, "fp16": 2, "int8": 1}


def written(folder: Path, options: DayOptions) -> Iterator[DayRow]:
    """A row for each file: what it is, its multiply-accumulates, and the bytes that its layers move at least.

    ``crop_bytes`` are the inputs and outputs of all layers for one crop, ``weight_bytes`` what a batch reads once.
    """
    if options.device == "cuda":
        require_gpu()
    torch_device("cpu")
    require_onnx()
    (folder / FOLDER).mkdir(parents=True, exist_ok=True)
    rows: list[DayRow] = []
    for arch in options.architectures:
        for form, graph, card in _forms(arch, options):
            for precision, converted in _precisions(graph):
                path = folder / FOLDER / f"{arch}-{form}_{precision}.onnx"
                _write(converted, card.with_(precision=precision), path)
                facts = {"file": path.name, "arch": arch, "form": form, "precision": precision}
                rows.append({**facts, **_costs(graph, precision)})
                write_text(folder / FOLDER / _LIST, json.dumps(rows, indent=1) + "\n")
                yield rows[-1]


def files_in(folder: Path, precisions: tuple[str, ...] = ("fp32", "fp16")) -> list[DayRow]:
    """The rows of the files in ``precisions``, in their order. Raises CannotRunError where "files" wrote none."""
    try:
        rows: list[DayRow] = json.loads((folder / FOLDER / _LIST).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        raise CannotRunError("the part files wrote none, and its files are what is measured here") from None
    return [row for precision in precisions for row in rows if row["precision"] == precision]


def least_ms(row: DayRow, batch: int, peak: DayRow | None) -> float | None:
    """The roofline: what a batch takes at least by the ``peak`` of its precision, in ms; None where that is unknown.

    The larger of the time for its products at ``tflops`` and the time for its bytes at ``gb_per_s``, as if nothing were
    computed meanwhile, and nothing between two layers were kept on the chip: an estimate.

    >>> row = {"macs": 10**9, "crop_bytes": 10**7, "weight_bytes": 10**6}
    >>> [least_ms(row, batch, {"tflops": 2.0, "gb_per_s": 10.0}) for batch in (1, 8)]
    [1.1, 8.1]
    """
    if peak is None:
        return None
    products = 2 * row["macs"] * batch / peak["tflops"] / 1e9
    moved = (row["crop_bytes"] * batch + row["weight_bytes"]) / peak["gb_per_s"] / 1e6
    return round(float(max(products, moved)), 6)


def _forms(arch: str, options: DayOptions) -> Iterator[tuple[str, Graph, Any]]:
    """The plain graph, and those with merged streams where the architecture has some."""
    import torch

    from reid_edge.export.graph.from_torch import onnx_from_model
    from reid_edge.training.models.checkpoint import card_of
    from reid_edge.training.models.registry import build_model

    torch.manual_seed(0)
    model = build_model(arch)
    card = card_of(model, input_hw=options.input_hw)
    graph = onnx_from_model(model, card)
    yield "plain", graph, card
    try:
        merging = importlib.import_module("reid_edge.export.graph.merge_streams")
    except ModuleNotFoundError:
        return
    for form in merging.FORMS:
        if (merged := merging.merge_streams(graph, form)) is not None:
            yield form, merged, card


def _precisions(graph: Graph) -> Iterator[tuple[str, Graph]]:
    """A graph in each precision; ranges of noise are as good as others for speed."""
    from reid_edge.export.graph.fp16 import fp16_from_fp32
    from reid_edge.export.int8.calibrate import ranges_over
    from reid_edge.export.int8.layers import default_keep
    from reid_edge.export.int8.qdq import quantized

    yield "fp32", graph
    yield "fp16", fp16_from_fp32(graph)
    height, width = graph.model.graph.input[0].type.tensor_type.shape.dim[1:3]
    shape = (2, height.dim_value, width.dim_value, 3)
    noise = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
    yield "int8", fp16_from_fp32(quantized(graph, ranges_over(graph, noise, "minmax"), default_keep(graph)))


def _write(graph: Graph, card: Any, path: Path) -> None:
    from reid_edge.export.graph.io import write_onnx

    write_onnx(graph, card, path)


def _costs(graph: Graph, precision: str) -> DayRow:
    """What the layers of an FP32 graph multiply, read and write in a precision."""
    from reid_edge.export.graph.macs import node_macs

    size = _BYTES[precision]
    layers = [node for nodes in graph.layers.values() for node in nodes]
    weights = {node.input[1] for node in layers}
    return {
        "macs": sum(node_macs(graph).values()),
        "crop_bytes": size * sum(_elements(graph, name) for node in layers for name in (node.input[0], node.output[0])),
        "weight_bytes": size * sum(graph.constants[name].size for name in weights),
    }


def _elements(graph: Graph, value: str) -> int:
    """How many numbers a value holds for one crop."""
    return prod(axis or 1 for axis in graph.shapes[value])
