"""The state of a run, one step at a time: two optimisers and a moving average."""

from __future__ import annotations

from dataclasses import replace

import pytest

torch = pytest.importorskip("torch", reason="training tests need the train extra")

from reid_edge.training.loop import train_step  # noqa: E402
from reid_edge.training.recipe.config import TrainConfig  # noqa: E402
from reid_edge.training.recipe.recipes import recipe_for  # noqa: E402
from reid_edge.training.steps.speed import amp_dtype  # noqa: E402
from reid_edge.training.trainer import Trainer  # noqa: E402

TINY = TrainConfig(
    arch="osnet_x0_25", identities_per_batch=4, crops_per_identity=2, input_hw=(64, 32), learning_rate=1e-3
)


def test_a_step_moves_weights_and_centers_each_by_its_own_optimiser() -> None:
    trainer = Trainer(TINY, identities=4)
    trainer.set_learning_rate(0.5)
    weights = trainer.model.backbone.conv1.conv.weight.detach().clone()
    centers = trainer.centers.centers.detach().clone()
    trainer.model.train()
    losses = train_step(trainer, torch.randn(8, 3, 64, 32), torch.arange(4).repeat_interleave(2))
    assert trainer.learning_rate == pytest.approx(5e-4)
    assert not torch.equal(weights, trainer.model.backbone.conv1.conv.weight)
    assert not torch.equal(centers, trainer.centers.centers)
    assert losses["center"] < 5e-4 * 1e6


def test_the_moving_average_against_its_formula() -> None:
    trainer = Trainer(replace(TINY, ema_decay=0.2), identities=4)
    name = "backbone.conv1.conv.weight"
    seen = []
    for _ in range(3):
        trainer.set_learning_rate(1.0)
        trainer.model.train()
        train_step(trainer, torch.randn(8, 3, 64, 32), torch.arange(4).repeat_interleave(2))
        seen.append(trainer.model.state_dict()[name].clone())
    expected = seen[0]  # the first update copies; then decay is min(0.2, (1 + n) / (10 + n))
    for count, value in enumerate(seen[1:], start=1):
        decay = min(0.2, (1 + count) / (10 + count))
        expected = decay * expected + (1 - decay) * value
    torch.testing.assert_close(trainer.deployed.state_dict()[name], expected)


@pytest.mark.parametrize("center_weight", [0.0, 5e-4])
def test_fp16_trains_with_and_without_a_center_loss(center_weight: float) -> None:
    trainer = Trainer(replace(TINY, precision="fp16", center_weight=center_weight), identities=4, device="cpu")
    assert trainer.scaler.is_enabled()
    trainer.scaler = torch.amp.GradScaler("cpu", init_scale=64.0)  # its own 65536 is halved for some ten steps first
    trainer.set_learning_rate(1.0)
    trainer.model.train()
    before = trainer.model.fc[0].weight.detach().clone()
    torch.manual_seed(0)
    train_step(trainer, torch.randn(8, 3, 64, 32), torch.arange(4).repeat_interleave(2))
    assert not torch.equal(before, trainer.model.fc[0].weight) and torch.isfinite(trainer.model.fc[0].weight).all()


@pytest.mark.parametrize(("native", "expected"), [(True, torch.bfloat16), (False, torch.float16)])
def test_auto_takes_bfloat16_only_where_the_gpu_has_it(
    native: bool, expected: torch.dtype, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every CUDA device emulates it."""
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation=True: including_emulation or native)
    assert amp_dtype("auto", torch.device("cuda")) is expected


@pytest.mark.parametrize("arch", ["resnet50_bot", "osnet_x0_25", "mobilenetv3_large"])
def test_every_parameter_that_asks_for_a_gradient_gets_one(arch: str) -> None:
    """Under torchrun, DistributedDataParallel waits for all of them."""
    config = replace(recipe_for(arch, recipe="seed"), identities_per_batch=2, crops_per_identity=2, input_hw=(64, 32))
    trainer = Trainer(config, identities=2, device="cpu")
    trainer.set_learning_rate(1.0)
    trainer.model.train()
    train_step(trainer, torch.randn(4, 3, 64, 32), torch.arange(2).repeat_interleave(2))
    without = [name for name, value in trainer.model.named_parameters() if value.requires_grad and value.grad is None]
    assert not without
