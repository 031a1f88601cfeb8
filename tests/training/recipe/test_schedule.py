"""The learning rate, epoch by epoch, and the settings it comes from."""

from __future__ import annotations

from dataclasses import replace

import pytest

pytest.importorskip("torch", reason="training tests need the train extra")

from reid_edge.errors import InputError  # noqa: E402
from reid_edge.training.recipe.config import TrainConfig  # noqa: E402
from reid_edge.training.recipe.recipes import recipe_for  # noqa: E402
from reid_edge.training.recipe.schedule import lr_factor  # noqa: E402


def test_the_bag_of_tricks_schedule_epoch_by_epoch() -> None:
    """BoT section 3.1: 3.5e-5 * t up to t = 10, 3.5e-4 to 40, 3.5e-5 to 70, 3.5e-6 to 120."""
    config = recipe_for("resnet50_bot")
    for t in range(1, 121):
        expected = 3.5e-5 * t if t <= 10 else 3.5e-4 if t <= 40 else 3.5e-5 if t <= 70 else 3.5e-6
        assert config.learning_rate * lr_factor(config, t - 1) == pytest.approx(expected, rel=1e-9)


def test_a_cosine_rises_then_falls_to_zero() -> None:
    config = TrainConfig(arch="m", epochs=10, schedule="cosine", warmup_epochs=2, warmup_factor=0.1)
    assert lr_factor(config, 0) == pytest.approx(0.1)
    assert lr_factor(config, 1) == pytest.approx(0.55)
    assert lr_factor(config, 2) == pytest.approx(1.0)
    assert lr_factor(config, 6) == pytest.approx(0.5)
    assert lr_factor(config, 9, 1.0) == pytest.approx(0.0, abs=1e-12)


def test_a_cosine_without_warm_up_starts_at_one() -> None:
    config = TrainConfig(arch="m", epochs=1, schedule="cosine", warmup_epochs=0)
    assert lr_factor(config, 0) == 1.0
    assert lr_factor(config, 0, 0.5) == pytest.approx(0.5)


def test_other_lengths_keep_the_shape() -> None:
    config = recipe_for("resnet50_bot", epochs=60)
    assert (config.epochs, config.warmup_epochs, config.milestones) == (60, 5, (20, 35))
    short = recipe_for("resnet50_bot", epochs=1)
    assert (short.epochs, short.warmup_epochs) == (1, 0)


@pytest.mark.parametrize(
    "change",
    [
        {"epochs": 0},
        {"identities_per_batch": 1},
        {"crops_per_identity": 1},
        {"learning_rate": 0.0},
        {"schedule": "linear"},
        {"optimizer": "lion"},
        {"precision": "int8"},
        {"label_smoothing": 1.0},
        {"input_hw": (8, 8)},
    ],
)
def test_settings_that_make_no_sense_are_refused(change: dict[str, object]) -> None:
    with pytest.raises(InputError, match="bad training settings"):
        replace(TrainConfig(arch="m"), **change)  # type: ignore[arg-type]


def test_settings_survive_json() -> None:
    config = recipe_for("osnet_x0_25", epochs=7)
    raw = {key: list(value) if isinstance(value, tuple) else value for key, value in config.to_dict().items()}
    assert TrainConfig.from_dict(raw) == config
    with pytest.raises(InputError, match="unknown training settings lr"):
        TrainConfig.from_dict({"arch": "m", "lr": 1.0})
