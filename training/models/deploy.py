"""The network as it is deployed: uint8 crops in, unit embeddings out."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from .reid_model import ReidModel

__all__ = ["DeployModel"]


class DeployModel(nn.Module):
    """What evaluation runs and export writes: uint8 [N, H, W, 3] RGB -> float32 [N, D], rows of L2 norm 1.

    Normalisation and L2 norm are inside, so that a caller can neither forget nor repeat them. ``mean`` and ``std`` are
    per RGB channel on the 0..1 scale. Puts ``model`` into evaluation mode, and shares its weights.
    """

    def __init__(self, model: ReidModel, mean: Sequence[float], std: Sequence[float]) -> None:
        super().__init__()
        self.model = model
        self.mean: Tensor
        self.std: Tensor
        self.register_buffer("mean", torch.tensor(mean).mul(255).view(1, 3, 1, 1))
        self.register_buffer("std", torch.tensor(std).mul(255).view(1, 3, 1, 1))
        self.eval()

    def forward(self, images: Tensor) -> Tensor:
        """Embed a batch of uint8 RGB crops."""
        assert not self.model.training, "DeployModel is for evaluation: call .eval()"
        pixels = images.float().permute(0, 3, 1, 2)  # the cast first: TensorRT refuses a uint8 transpose
        x = self.model((pixels - self.mean) / self.std)  # [N, D]
        norm = (x * x).sum(dim=1, keepdim=True).sqrt()  # [N, 1]
        normalised: Tensor = x / norm.clamp(min=1e-12)
        return normalised
