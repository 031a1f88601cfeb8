"""The size of a model: its parameters and its multiply-accumulates (MACs)."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from .reid_model import ReidModel

__all__ = ["count_macs", "count_parameters"]


def count_parameters(model: ReidModel, deployable: bool = True) -> int:
    """Count weights and biases; ``deployable`` leaves out the classifier and what no forward pass reads."""
    left_out = ("classifier.", "unused.") if deployable else ()
    return sum(value.numel() for name, value in model.named_parameters() if not name.startswith(left_out))


def count_macs(model: ReidModel, input_hw: tuple[int, int] = (256, 128)) -> int:
    """Count multiply-accumulates of convolutions and linear layers for one crop of (height, width) pixels.

    Batch norm, activations, pooling, the L2 norm and the classifier are left out, as in the literature.
    The model embeds one crop on the device of its weights, and is left as it was: each of its modules is, since batch
    norm may be frozen in a model that trains.
    """
    layers = [module for module in model.modules() if isinstance(module, nn.Conv2d | nn.Linear)]
    total = 0

    def add(layer: nn.Module, _: Any, output: Tensor) -> None:
        nonlocal total
        assert isinstance(layer.weight, Tensor)
        total += output.numel() * layer.weight[0].numel()  # an output is one dot product with a filter

    hooks = [layer.register_forward_hook(add) for layer in layers]
    were_training = {module: module.training for module in model.modules()}
    try:
        with torch.no_grad():
            model.eval()(torch.zeros(1, 3, *input_hw, device=next(model.parameters()).device))
    finally:
        for module, training in were_training.items():
            module.training = training
        for hook in hooks:
            hook.remove()
    return total
