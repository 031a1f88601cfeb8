"""Colours and resolution: by hand, off by default, drawn for each image."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="training tests need the train extra")

from reid_edge.training.batches.appearance import coarsened, recoloured  # noqa: E402
from reid_edge.training.batches.augment import augment, normalised  # noqa: E402
from reid_edge.training.recipe.config import TrainConfig  # noqa: E402

PLAIN = TrainConfig(arch="osnet_x0_25", input_hw=(32, 32), flip=0.0, pad=0, erase=0.0)


def _images(count: int) -> torch.Tensor:
    return torch.randint(0, 256, (count, 8, 4, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))


class _Drawn:
    """In place of a generator: brightness, contrast and saturation that are known."""

    def __init__(self, *draws: float) -> None:
        self.draws = draws

    def uniform(self, low: float, high: float, size: tuple[int, ...]) -> np.ndarray:
        assert (low, high) == (0.5, 1.5)
        return np.broadcast_to(np.reshape(self.draws, (3, 1, 1, 1, 1)), size).astype(np.float64)


@pytest.mark.parametrize(
    ("draws", "expected"),
    [
        ((0.5, 1.0, 1.0), [[100, 100, 100], [50, 0, 0]]),
        ((1.5, 1.0, 1.0), [[255, 255, 255], [150, 0, 0]]),  # 300 is cut
        # greys 200 and 29.9, their mean 114.95: 114.95 + (200 - 114.95) / 2, (100 + 114.95) / 2, (0 + 114.95) / 2
        ((1.0, 0.5, 1.0), [[157, 157, 157], [107, 57, 57]]),
        ((1.0, 1.0, 0.5), [[200, 200, 200], [65, 15, 15]]),  # (100 + 29.9) / 2, (0 + 29.9) / 2
    ],
)
def test_colours_by_hand(draws: tuple[float, ...], expected: list[list[int]]) -> None:
    image = torch.tensor([[[[200, 200, 200], [100, 0, 0]]]], dtype=torch.uint8)
    assert recoloured(image, 0.5, _Drawn(*draws)).tolist() == [[expected]]  # type: ignore[arg-type]


def test_every_image_has_its_own_colours() -> None:
    one = _images(1).expand(50, -1, -1, -1)
    made = recoloured(one, 0.2, np.random.default_rng(0)).float().mean((1, 2, 3))
    assert len(made.unique()) > 40 and 0.66 < float(made.min() / made.max()) < 0.8


def test_a_smaller_person_loses_a_pattern_of_single_pixels() -> None:
    pattern = torch.zeros(1, 8, 8, 3, dtype=torch.uint8)
    pattern[:, ::2, ::2], pattern[:, 1::2, 1::2] = 200, 200
    made = coarsened(pattern.expand(60, -1, -1, -1), 0.5, np.random.default_rng(0))
    kept = (made == pattern).flatten(1).all(1)
    assert 20 < int(kept.sum()) < 40
    halved = (made == 100).flatten(1).all(1)  # by 2 and by 4 every average is of as many bright pixels as dark ones
    assert 10 < int(halved.sum()) < 35


def test_nothing_is_drawn_unless_asked_for() -> None:
    """A run of before gives the same batches."""
    images, rng = _images(3), np.random.default_rng(0)
    assert coarsened(recoloured(images, 0.0, rng), 0.0, rng) is images
    assert rng.random() == np.random.default_rng(0).random()


def test_a_recipe_asks_for_both() -> None:
    images = torch.randint(0, 256, (6, 32, 32, 3), dtype=torch.uint8)
    for setting in ({"color_jitter": 0.2}, {"low_resolution": 1.0}):
        changed = augment(images, replace(PLAIN, **setting), np.random.default_rng(0))  # type: ignore[arg-type]
        assert changed.shape == (6, 3, 32, 32) and not torch.equal(changed, normalised(images))
