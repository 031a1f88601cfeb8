"""Losses that are read some steps at a time, and a precision that is measured once and kept."""

from __future__ import annotations

from dataclasses import replace

import pytest

torch = pytest.importorskip("torch", reason="training tests need the train extra")

from reid_edge.errors import GateError, InputError  # noqa: E402
from reid_edge.training.loop import train_step  # noqa: E402
from reid_edge.training.models.checkpoint import Checkpoint, card_of  # noqa: E402
from reid_edge.training.models.registry import build_model  # noqa: E402
from reid_edge.training.parallel import World  # noqa: E402
from reid_edge.training.recipe.config import TrainConfig  # noqa: E402
from reid_edge.training.steps.speed import LossLog, faster_in_bf16, gains  # noqa: E402
from reid_edge.training.trainer import Trainer  # noqa: E402

TINY = TrainConfig(arch="osnet_x0_25", identities_per_batch=4, crops_per_identity=2, input_hw=(64, 32))
CPU = torch.device("cpu")
STEPS = [{"id": 2.0, "triplet": 0.5}, {"id": 1.0, "triplet": 0.25}, {"id": 4.0, "triplet": 0.0}]


def _tensors(losses: dict[str, float]) -> dict[str, torch.Tensor]:
    return {name: torch.tensor(value) for name, value in losses.items()}


def test_a_gpu_is_read_every_ten_steps_and_a_cpu_each() -> None:
    assert LossLog(torch.device("cuda")).steps == 10 and LossLog(CPU).steps == 1
    log = LossLog(CPU, steps=3)
    for step, losses in enumerate(STEPS):
        assert log.due is False and len(log) == step
        log.add(_tensors(losses))
    assert log.due and log.read() == STEPS and not log.due and log.read() == []


def test_late_losses_are_counted_where_they_belong() -> None:
    trainer = Trainer(TINY, identities=4, device="cpu")
    trainer.losses = LossLog(CPU, steps=2)
    for losses in STEPS:
        trainer.losses.add(_tensors(losses))
        trainer.progress.count(0.5)
        if trainer.losses.due:
            trainer.read_losses()
    assert trainer.progress.iteration == 3 and trainer.summary().startswith("id 1.50 triplet 0.38 ")  # of two steps
    report = trainer.epoch_report()
    assert report.losses == {"id": 7 / 3, "triplet": 0.25} and report.seconds >= 1.5


def test_waiting_for_a_device_is_time_of_the_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    """On a GPU steps return at once: without the wait, images a second would be those that are queued."""
    trainer = Trainer(TINY, identities=4, device="cpu")
    trainer.losses = LossLog(CPU, steps=10)
    clock = iter([10.0, 14.0])  # before the wait and after it
    monkeypatch.setattr("reid_edge.training.trainer.time.perf_counter", lambda: next(clock))
    for losses in STEPS:
        trainer.losses.add(_tensors(losses))
        trainer.progress.count(0.5)
    report = trainer.epoch_report()
    assert report.seconds == 5.5 and report.images_per_second == 3 * 8 / 5.5


def test_a_loss_that_is_not_finite_is_caught_late_named_by_its_step_and_never_saved() -> None:
    trainer = Trainer(TINY, identities=4, device="cpu")
    trainer.losses = LossLog(CPU, steps=10)
    for value in (1.0, float("nan"), 1.0):
        trainer.losses.add(_tensors({"id": value, "triplet": 0.5}))
        trainer.progress.count(0.1)
    with pytest.raises(GateError, match=r"not finite at epoch 1, iteration 2 \(id nan, triplet 0.5\)"):
        trainer.check_weights()  # which every save asks first


def test_on_a_cpu_nothing_is_updated_by_a_loss_that_is_not_finite() -> None:
    trainer = Trainer(TINY, identities=4, device="cpu")
    trainer.set_learning_rate(1.0)
    trainer.model.train()
    before = {name: value.clone() for name, value in trainer.model.named_parameters()}
    images = torch.full((8, 3, 64, 32), float("inf"))
    with pytest.raises(GateError, match="iteration 1"):
        train_step(trainer, images, torch.arange(4).repeat_interleave(2))
    assert all(torch.equal(value, before[name]) for name, value in trainer.model.named_parameters())


def test_small_batches_stay_in_float32_unmeasured() -> None:
    trainer = Trainer(TINY, identities=4, device="cpu")
    assert faster_in_bf16(trainer.model, 64, (128, 64)) is None
    trainer.choose_precision()
    assert trainer.precision == "fp32" and not trainer.autocast()._enabled
    assert gains(1.6) and not gains(0.94) and not gains(1.05) and not gains(None)


def test_a_measurement_leaves_the_model_as_it_was(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("reid_edge.training.steps.speed._FEWEST_PIXELS", 0)
    model = build_model("osnet_x0_25").eval()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    ratio = faster_in_bf16(model, 2, (32, 32))
    assert ratio is not None and ratio > 0
    assert not model.training and all(value.grad is None for value in model.parameters())
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


def test_a_resumed_run_keeps_the_precision_that_was_chosen() -> None:
    first, second = (Trainer(TINY, identities=4, device="cpu") for _ in range(2))
    first._use_precision("bf16")  # as a measurement may have found
    saved = Checkpoint(card_of(first.deployed, input_hw=TINY.input_hw), first.model.state_dict(), first.state())
    second.load_state(saved, "checkpoint.pth")
    second.choose_precision()
    assert second.precision == "bf16" and second.autocast()._enabled
    del saved.training["precision"]  # earlier versions had none, and trained in float32 on a CPU
    second = Trainer(TINY, identities=4, device="cpu")
    second.load_state(saved, "checkpoint.pth")
    assert second.precision == "fp32"


def test_synchronised_batch_norms_are_for_gpus() -> None:
    config = replace(TINY, sync_norm=True)
    assert not any(isinstance(m, torch.nn.SyncBatchNorm) for m in Trainer(config, 4, "cpu").model.modules())
    with pytest.raises(InputError, match="sync_norm needs a GPU for each process"):
        Trainer(config, 4, "cpu", World(rank=0, size=2))


@pytest.mark.gpu
def test_a_gpu_trains_with_a_fused_optimiser_and_reads_its_losses_late() -> None:
    if not torch.cuda.is_available():
        pytest.skip("needs a CUDA device")
    trainer = Trainer(TINY, identities=4, device="cuda")
    assert trainer.optimizer.defaults["fused"] is True
    trainer.set_learning_rate(1.0)
    trainer.begin_epoch()
    images, labels = torch.randn(8, 3, 64, 32, device="cuda"), torch.arange(4, device="cuda").repeat_interleave(2)
    for step in range(10):
        assert len(trainer.losses) == step and not trainer.losses.due
        trainer.losses.add(train_step(trainer, images, labels))
        trainer.progress.count(0.1)
    trainer.read_losses()
    assert set(trainer.progress.sums) == {"id", "triplet", "center"} and trainer.progress.means()["id"] > 0
