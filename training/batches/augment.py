"""Augmentation of a whole batch on its device: flip, pad and crop, normalise, random erasing (BoT, section 2).

The random numbers are drawn on the CPU from a NumPy generator, so that a run has the same batches on every device,
and a resumed run the same as an uninterrupted one.
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from reid_edge.card import IMAGENET_MEAN, IMAGENET_STD
from reid_edge.training.recipe.config import TrainConfig

from .appearance import coarsened, recoloured

__all__ = ["augment", "erasing_boxes", "normalised"]


def normalised(images: Tensor) -> Tensor:
    """uint8 [N, H, W, 3] RGB -> float32 [N, 3, H, W] in channels_last memory, ImageNet mean 0 and deviation 1."""
    mean = torch.tensor(IMAGENET_MEAN, device=images.device).mul(255).view(1, 3, 1, 1)
    std = torch.tensor(IMAGENET_STD, device=images.device).mul(255).view(1, 3, 1, 1)
    return (images.permute(0, 3, 1, 2).float() - mean) / std


def augment(images: Tensor, config: TrainConfig, rng: np.random.Generator) -> Tensor:
    """uint8 [N, H, W, 3] RGB -> float32 [N, 3, H, W], normalised; every crop has its own random draws.

    First what `appearance` draws, if the recipe asks for it, then in BoT's order: flip with probability
    ``config.flip``; zero-pad by ``config.pad`` pixels and crop back; normalise; erase with probability
    ``config.erase``, filled with the mean, that is 0.
    """
    images = coarsened(recoloured(images, config.color_jitter, rng), config.low_resolution, rng)
    images = _flipped(images, rng.random(len(images)) < config.flip)
    images = _shifted(images, config.pad, rng)
    batch = normalised(images)
    return _erased(batch, erasing_boxes(len(batch), config.input_hw, config.erase, rng))


def erasing_boxes(
    count: int, input_hw: tuple[int, int], probability: float, rng: np.random.Generator
) -> NDArray[np.int64]:
    """Boxes (top, left, bottom, right) int64 [count, 4] in pixels; an image left as it is has the box 0, 0, 0, 0.

    Area 0.02..0.4 of the image and aspect 0.3..1/0.3, redrawn until it fits (Zhong et al., AAAI 2020, algorithm 1).
    """
    height, width = input_hw
    boxes = np.zeros((count, 4), dtype=np.int64)
    for row in np.flatnonzero(rng.random(count) < probability):
        while True:
            area = rng.uniform(0.02, 0.4) * height * width
            aspect = rng.uniform(0.3, 1 / 0.3)
            h, w = round(np.sqrt(area * aspect)), round(np.sqrt(area / aspect))
            if h < height and w < width:
                break
        top, left = rng.integers(0, height - h + 1), rng.integers(0, width - w + 1)
        boxes[row] = (top, left, top + h, left + w)
    return boxes


def _flipped(images: Tensor, mask: NDArray[np.bool_]) -> Tensor:
    chosen = torch.from_numpy(mask).to(images.device).view(-1, 1, 1, 1)
    return torch.where(chosen, images.flip(2), images)


def _shifted(images: Tensor, pad: int, rng: np.random.Generator) -> Tensor:
    """Zero-pad by ``pad`` on every side, then crop the original size at a random place, by indexing."""
    if pad == 0:
        return images
    count, height, width, _ = images.shape
    offsets = torch.from_numpy(rng.integers(0, 2 * pad + 1, size=(2, count, 1))).to(images.device)
    rows = offsets[0] + torch.arange(height, device=images.device)  # [N, H]
    columns = offsets[1] + torch.arange(width, device=images.device)  # [N, W]
    padded = torch.nn.functional.pad(images, (0, 0, pad, pad, pad, pad))
    which = torch.arange(count, device=images.device).view(-1, 1, 1)
    return padded[which, rows[:, :, None], columns[:, None, :]]


def _erased(batch: Tensor, boxes: NDArray[np.int64]) -> Tensor:
    top, left, bottom, right = torch.from_numpy(boxes).to(batch.device).T.unsqueeze(2)  # each [N, 1]
    rows = torch.arange(batch.shape[2], device=batch.device)
    columns = torch.arange(batch.shape[3], device=batch.device)
    inside_rows = (rows >= top) & (rows < bottom)  # [N, H]
    inside_columns = (columns >= left) & (columns < right)  # [N, W]
    inside = inside_rows[:, None, :, None] & inside_columns[:, None, None, :]  # [N, 1, H, W]
    return batch.masked_fill(inside, 0.0)
