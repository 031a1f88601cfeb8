"""The optimiser of a recipe, what it keeps between steps, and the moving average of the weights."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel

from reid_edge.training.models.reid_model import ReidModel
from reid_edge.training.recipe.config import TrainConfig

__all__ = ["MOMENTS", "build_optimizer", "load_moments", "moving_average"]

MOMENTS = {
    "adam": {"step", "exp_avg", "exp_avg_sq"},
    "amsgrad": {"step", "exp_avg", "exp_avg_sq", "max_exp_avg_sq"},
    "sgd": {"momentum_buffer"},
}
"""What each optimiser keeps for a parameter."""


def build_optimizer(model: nn.Module, config: TrainConfig) -> torch.optim.Optimizer:
    """The recipe's optimiser of all parameters that are trained; on a GPU a fused one."""
    parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
    rate, decay = config.learning_rate, config.weight_decay
    fused = all(parameter.is_cuda for parameter in parameters)  # one kernel for all parameters
    if config.optimizer == "sgd":
        return torch.optim.SGD(parameters, lr=rate, momentum=config.momentum, weight_decay=decay, fused=fused)
    amsgrad = config.optimizer == "amsgrad"
    return torch.optim.Adam(parameters, lr=rate, weight_decay=decay, amsgrad=amsgrad, fused=fused)


def load_moments(optimizer: torch.optim.Optimizer, saved: dict[str, Any], names: set[str]) -> None:
    """Load what an optimiser keeps for its parameters; its settings stay those of the recipe.

    Raises ValueError for a parameter that it has not, or that has another shape.
    """
    parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    for place, kept in saved["state"].items():
        shapes = ((), parameters[place].shape)
        if set(kept) != names or any(value is not None and value.shape not in shapes for value in kept.values()):
            raise ValueError(f"the optimiser's state of parameter {place} is of another recipe or model")
    optimizer.load_state_dict({"state": saved["state"], "param_groups": optimizer.state_dict()["param_groups"]})


def moving_average(model: ReidModel, decay: float) -> AveragedModel:
    """A moving average of weights and batch norm's statistics, with a lower decay at first, to forget the start."""

    def average(averaged: Tensor, current: Tensor, count: Tensor | int) -> Tensor:
        if not averaged.is_floating_point():
            return current
        done = int(count)
        return averaged.lerp(current, 1 - min(decay, (1 + done) / (10 + done)))

    return AveragedModel(model, avg_fn=average, use_buffers=True)
