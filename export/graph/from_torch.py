"""A trained model to an FP32 ONNX graph: the only module that imports both PyTorch and ONNX.

The exporter is ``torch.onnx.export(dynamo=True)``. The older exporter, ``dynamo=False``, takes 1 s of CPU where
this takes 6, but PyTorch has announced its removal, and its graphs are full of Identity and Constant nodes.
"""

from __future__ import annotations

import copy
import warnings

import torch

from reid_edge.card import ModelCard
from reid_edge.training.models.deploy import DeployModel
from reid_edge.training.models.reid_model import ReidModel

from .fold import fold_batch_norms
from .graph import OPSET, Graph

__all__ = ["onnx_from_model"]


def onnx_from_model(model: ReidModel, card: ModelCard) -> Graph:
    """The FP32 graph of a model with the preprocessing of its ``card`` inside; ``model`` is left as it is.

    ``images`` uint8 [N, H, W, 3] RGB -> Cast, Transpose, normalise, backbone, head, L2 norm -> ``embeddings`` float32
    [N, D], for any N. Batch norm is folded into the layers before it.
    """
    assert (model.name, model.embedding_dim) == (card.architecture, card.embedding_dim), "the card is another model's"
    deploy = DeployModel(copy.deepcopy(model).cpu(), card.mean, card.std)
    example = torch.zeros(2, *card.input_hw, 3, dtype=torch.uint8)  # 2: the exporter makes a batch of 1 a constant
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
    return fold_batch_norms(Graph(program.model_proto))
