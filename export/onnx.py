"""A trained model to ONNX files that agree with it: the only room that knows both PyTorch and ONNX.

The exporter is ``torch.onnx.export(dynamo=True)``. The older one, ``dynamo=False``, takes 1 s of CPU where this takes
6, but PyTorch has announced its removal, and its graphs are full of Identity and Constant nodes.
Opset 18 is what TensorRT 10.3, the oldest that we build for, reads without reserve.
"""

from __future__ import annotations

import copy
import time
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from onnx import ModelProto

from reid_edge.card import ModelCard
from reid_edge.engine_onnx import OnnxEngine
from reid_edge.errors import GateError, InputError, ModelError
from reid_edge.files import written_whole
from reid_edge.training.inference import TorchEngine
from reid_edge.training.models import DeployModel, ReidModel

from .crops import parity_crops
from .fold import fold_batch_norms
from .fp16 import fp16_from_fp32, simulated_fp16
from .graph import write_onnx
from .parity import Parity, check_parity, embed_in_batches

__all__ = ["OPSET", "PRECISIONS", "Exported", "export_model", "onnx_from_model", "parity_crops"]

OPSET = 18

PRECISIONS = ("fp32", "fp16")

_REFERENCE_BATCH = 32


@dataclass(frozen=True)
class Exported:
    """A file that passed the gate: where, how large, what the gate measured and how long all of it took."""

    path: Path
    precision: str
    bytes: int
    seconds: float
    parity: Parity


def export_model(
    model: ReidModel,
    card: ModelCard,
    out: Path | str,
    crops: NDArray[np.uint8],
    precisions: Sequence[str] = ("fp32",),
    name: str | None = None,
) -> list[Exported]:
    """Write ``NAME_PRECISION.onnx`` into the folder ``out`` for each of `PRECISIONS` asked for.

    ``crops`` uint8 [N, H, W, 3] RGB are what ONNX Runtime and PyTorch are compared on; ``name`` is the architecture's
    unless given. A file appears under its name only after `check_parity`, which raises GateError; one that was there
    before stays until then. Raises InputError for an unknown precision and for a name with a folder in it.
    """
    name = name or card.architecture
    if Path(name).name != name:
        raise InputError(f"name {name!r} is no plain file name: give the folder as --out")
    if unknown := [precision for precision in precisions if precision not in PRECISIONS]:
        raise InputError(f"precision {unknown[0]!r} is unknown: give some of {', '.join(PRECISIONS)}")
    with TorchEngine(model, card) as engine:
        reference = embed_in_batches(engine, crops, _REFERENCE_BATCH)
    graph = onnx_from_model(model, card)
    return [
        _export(graph, card.with_(precision=p), Path(out) / f"{name}_{p}.onnx", crops, reference) for p in precisions
    ]


def onnx_from_model(model: ReidModel, card: ModelCard) -> ModelProto:
    """The FP32 graph of a model with the preprocessing of its ``card`` inside; ``model`` is left as it is.

    ``images`` uint8 [N, H, W, 3] RGB -> Cast, Transpose, normalise, trunk, head, L2 norm -> ``embeddings`` float32
    [N, D], for any N. Batch norm is folded into the layers before it.
    """
    assert (model.name, model.embedding_dim) == (card.architecture, card.embedding_dim), "the card is another model's"
    deploy = DeployModel(copy.deepcopy(model).cpu(), card.mean, card.std)
    example = torch.zeros(2, *card.input_hw, 3, dtype=torch.uint8)  # 2: a batch of 1 would be taken for a constant
    with warnings.catch_warnings():
        # PyTorch 2.11 to 2.13 warn of their own code.
        warnings.filterwarnings("ignore", r"`isinstance\(treespec, LeafSpec\)` is deprecated", FutureWarning)
        program = torch.onnx.export(
            deploy,
            (example,),
            dynamo=True,
            opset_version=OPSET,
            input_names=["images"],
            output_names=["embeddings"],
            dynamic_shapes=({0: torch.export.Dim("N")},),
            verbose=False,
        )
    assert program is not None
    return fold_batch_norms(program.model_proto)


def _export(
    fp32: ModelProto, card: ModelCard, path: Path, crops: NDArray[np.uint8], reference: NDArray[np.float32]
) -> Exported:
    """Write one file, and let it keep its name only if it agrees with the reference."""
    started = time.perf_counter()
    graph = fp16_from_fp32(fp32) if card.precision == "fp16" else fp32
    with written_whole(path) as beside:
        try:
            parity = _gate(graph, card, beside, crops, reference)
        except (GateError, ModelError) as error:
            raise GateError(str(error).replace(str(beside), path.name)) from None
        write_onnx(graph, card.with_(parity=parity.to_dict()), beside)
    return Exported(path, card.precision, path.stat().st_size, time.perf_counter() - started, parity)


def _gate(
    graph: ModelProto, card: ModelCard, beside: Path, crops: NDArray[np.uint8], reference: NDArray[np.float32]
) -> Parity:
    """Check a graph as the file that it will be, and an FP16 one also as a GPU computes it: the harder test is last."""
    forms = [graph, simulated_fp16(graph)] if card.precision == "fp16" else [graph]
    for form in forms:
        write_onnx(form, card, beside)
        with OnnxEngine(beside, providers=["CPUExecutionProvider"]) as candidate:
            parity = check_parity(reference, candidate, crops, card.precision)
    return parity
