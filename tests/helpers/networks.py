"""PyTorch models to test with; only tests that need torch import this."""

from __future__ import annotations

import torch

from reid_edge.training.models.registry import build_model
from reid_edge.training.models.reid_model import ReidModel


def settled_model(name: str) -> ReidModel:
    """Random weights, and batch norms that change their inputs, as after training: a test sees one that is lost."""
    torch.manual_seed(0)
    model = build_model(name)
    for module in model.modules():
        if isinstance(module, torch.nn.BatchNorm1d | torch.nn.BatchNorm2d):
            torch.nn.init.uniform_(module.weight, 0.8, 1.4)
            torch.nn.init.uniform_(module.running_var, 0.6, 1.2)
            torch.nn.init.normal_(module.bias, std=0.1)
            torch.nn.init.normal_(module.running_mean, std=0.1)
    return model
