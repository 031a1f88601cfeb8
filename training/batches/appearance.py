"""Augmentation of what a camera decides: colours, and how many pixels a person has. Off unless a recipe asks for it.

Colour as torchreid's for models that must work elsewhere (``color_jitter`` in its model zoo).
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import interpolate

__all__ = ["coarsened", "recoloured"]

_LUMA = (0.299, 0.587, 0.114)  # ITU-R BT.601
_FACTORS = (2, 3, 4)


def recoloured(images: Tensor, strength: float, rng: np.random.Generator) -> Tensor:
    """uint8 [N, H, W, 3] RGB with brightness, contrast and saturation multiplied, each by its own draw for each image.

    Draws are uniform in 1 - ``strength`` .. 1 + ``strength``. Contrast is the distance from the image's mean grey,
    saturation that from a pixel's own grey.
    """
    if strength == 0:
        return images
    draws = rng.uniform(1 - strength, 1 + strength, size=(3, len(images), 1, 1, 1)).astype(np.float32)
    brightness, contrast, saturation = torch.from_numpy(draws).to(images.device)
    pixels = (images.float() * brightness).clamp(0, 255)
    mean = _grey(pixels).mean((1, 2, 3), keepdim=True)  # [N, 1, 1, 1]
    pixels = torch.lerp(mean, pixels, contrast).clamp(0, 255)
    pixels = torch.lerp(_grey(pixels), pixels, saturation)
    return _rounded(pixels)


def coarsened(images: Tensor, probability: float, rng: np.random.Generator) -> Tensor:
    """uint8 [N, H, W, 3], some of them as if their person had been 2, 3 or 4 times smaller: averaged, then enlarged."""
    if probability == 0:
        return images
    factors = np.where(rng.random(len(images)) < probability, rng.choice(_FACTORS, len(images)), 1)
    made = images.clone()
    for factor in _FACTORS:
        rows = torch.from_numpy(np.flatnonzero(factors == factor)).to(images.device)
        if len(rows):
            made[rows] = _smaller(images[rows], factor)
    return made


def _smaller(images: Tensor, factor: int) -> Tensor:
    height, width = images.shape[1:3]
    pixels = images.permute(0, 3, 1, 2).float()
    small = interpolate(pixels, size=(max(height // factor, 1), max(width // factor, 1)), mode="area")
    large = interpolate(small, size=(height, width), mode="bilinear", align_corners=False)
    return _rounded(large.permute(0, 2, 3, 1))


def _grey(pixels: Tensor) -> Tensor:
    """[N, H, W, 3] to its luma [N, H, W, 1]."""
    weights: NDArray[np.float32] = np.array(_LUMA, dtype=np.float32)
    return (pixels * torch.from_numpy(weights).to(pixels.device)).sum(3, keepdim=True)


def _rounded(pixels: Tensor) -> Tensor:
    return pixels.round().clamp(0, 255).to(torch.uint8)
