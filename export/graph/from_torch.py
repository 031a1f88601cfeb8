"""A trained model to ONNX files that agree with it: the only room that knows both PyTorch and ONNX.

The exporter is ``torch.onnx.export(dynamo=True)``. The older one, ``dynamo=False``, takes 1 s of CPU where this takes
6, but PyTorch has announced its removal, and its graphs are full of Identity and Constant nodes.
Opset 18 is what TensorRT 10.3, the oldest that we build for, reads without reserve.
"""

from __future__ import annotations

import copy
import warnings
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from onnx import ModelProto

from reid_edge.card import ModelCard
from reid_edge.training.inference import TorchEngine
from reid_edge.training.models import DeployModel, ReidModel

from .crops import parity_crops
from .fold import fold_batch_norms
from .parity import embed_in_batches
from .write import Exported, Plan, Source, write_files

__all__ = ["OPSET", "export_model", "onnx_from_model", "parity_crops", "torch_source"]

OPSET = 18

_REFERENCE_BATCH = 32


def torch_source(model: ReidModel, card: ModelCard, crops: NDArray[np.uint8]) -> Source:
    """A PyTorch model as what files are made of and compared with; ``crops`` uint8 [N, H, W, 3] RGB."""
    with TorchEngine(model, card) as engine:
        reference = embed_in_batches(engine, crops, _REFERENCE_BATCH)
    return Source(onnx_from_model(model, card), card, crops, reference)


def export_model(
    model: ReidModel,
    card: ModelCard,
    out: Path | str,
    crops: NDArray[np.uint8],
    precisions: Sequence[str] = ("fp32",),
    name: str | None = None,
) -> list[Exported]:
    """Write ``NAME_PRECISION.onnx`` into the folder ``out`` for each of ``precisions``; see `write_files`.

    Raises GateError for the first file that does not agree with PyTorch on ``crops``, and InputError for bad use.
    """
    plan = Plan(precisions, name)
    plan.check()
    files = write_files(torch_source(model, card, crops), out, plan)
    if refused := [file.refused for file in files if file.refused]:
        raise refused[0]
    return files


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
