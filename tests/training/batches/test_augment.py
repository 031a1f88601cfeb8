"""Augmentation: each step against what it says, on images small enough to see."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="training tests need the train extra")

from reid_edge.training.batches.augment import augment, erasing_boxes, normalised  # noqa: E402
from reid_edge.training.recipe.config import TrainConfig  # noqa: E402

PLAIN = TrainConfig(arch="osnet_x0_25", input_hw=(32, 32), flip=0.0, pad=0, erase=0.0)


def _images(count: int = 6) -> torch.Tensor:
    return torch.randint(0, 256, (count, 32, 32, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))


def test_normalised_by_hand() -> None:
    pixel = torch.tensor([255, 0, 128], dtype=torch.uint8).view(1, 1, 1, 3)
    expected = [(1 - 0.485) / 0.229, (0 - 0.456) / 0.224, (128 / 255 - 0.406) / 0.225]
    assert normalised(pixel).flatten().tolist() == pytest.approx(expected, rel=1e-5)


def test_nothing_asked_for_is_normalisation_alone() -> None:
    images = _images()
    assert torch.equal(augment(images, PLAIN, np.random.default_rng(0)), normalised(images))


def test_flip_mirrors_left_and_right() -> None:
    images = _images()
    flipped = augment(images, replace(PLAIN, flip=1.0), np.random.default_rng(0))
    assert torch.equal(flipped, normalised(images).flip(3))


def test_flip_is_drawn_for_each_image() -> None:
    images = _images(400)
    plain = normalised(images)
    half = augment(images, replace(PLAIN, flip=0.5), np.random.default_rng(0))
    same = (half == plain).flatten(1).all(dim=1)
    assert 150 < int(same.sum()) < 250
    assert torch.equal(half[~same], plain[~same].flip(3))


def test_a_shift_moves_each_image_by_its_own_offset_and_fills_with_black() -> None:
    images = _images(50)
    shifted = augment(images, replace(PLAIN, pad=3), np.random.default_rng(0))
    padded = torch.nn.functional.pad(images, (0, 0, 3, 3, 3, 3))
    offsets = set()
    for image, got in zip(padded, shifted, strict=True):
        found = [
            (y, x)
            for y in range(7)
            for x in range(7)
            if torch.equal(normalised(image[None, y : y + 32, x : x + 32])[0], got)
        ]
        assert len(found) == 1
        offsets.update(found)
    assert len(offsets) > 20


def test_erased_boxes_are_the_mean_and_the_rest_is_untouched() -> None:
    images = _images(40)
    erased = augment(images, replace(PLAIN, erase=1.0), np.random.default_rng(0))
    plain = normalised(images)
    holes = (erased == 0).all(dim=1)  # [N, H, W]
    assert torch.equal(erased.masked_select(~holes[:, None]), plain.masked_select(~holes[:, None]))
    shares = holes.float().mean(dim=(1, 2))
    assert float(shares.min()) > 0.01 and float(shares.max()) < 0.45


def test_erasing_boxes_keep_the_papers_area_and_aspect() -> None:
    boxes = erasing_boxes(2000, (256, 128), 0.5, np.random.default_rng(0))
    height, width = boxes[:, 2] - boxes[:, 0], boxes[:, 3] - boxes[:, 1]
    drawn = height > 0
    assert 900 < drawn.sum() < 1100
    area = (height * width)[drawn] / (256 * 128)
    aspect = height[drawn] / width[drawn]
    assert area.min() > 0.019 and area.max() < 0.41
    assert aspect.min() > 0.28 and aspect.max() < 3.5
    assert boxes[:, 2].max() <= 256 and boxes[:, 3].max() <= 128


def test_the_generator_decides() -> None:
    config = replace(PLAIN, flip=0.5, pad=4, erase=0.5)
    first, again, other = (augment(_images(), config, np.random.default_rng(s)) for s in (7, 7, 8))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
