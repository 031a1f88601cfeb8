"""Runs that are refused: in one line, before any epoch, and with nothing left in their folder."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch", reason="training tests need the train extra")

from helpers.log import logged  # noqa: E402

from reid_edge.core.locks import locked  # noqa: E402
from reid_edge.data.datasets import Dataset, open_dataset  # noqa: E402
from reid_edge.data.synthetic.dataset import synthesize  # noqa: E402
from reid_edge.errors import InputError, ReidEdgeError  # noqa: E402
from reid_edge.training.data import TrainingData  # noqa: E402
from reid_edge.training.loop import train, train_step  # noqa: E402
from reid_edge.training.models.checkpoint import (  # noqa: E402
    Checkpoint,
    card_of,
    load_checkpoint,
    load_model,
    save_checkpoint,
)
from reid_edge.training.models.registry import build_model  # noqa: E402
from reid_edge.training.models.torch_engine import TorchEngine  # noqa: E402
from reid_edge.training.parallel import ALONE  # noqa: E402
from reid_edge.training.recipe.config import TrainConfig  # noqa: E402
from reid_edge.training.run_folder import CHECKPOINT_NAME  # noqa: E402
from reid_edge.training.trainer import Trainer  # noqa: E402

TINY = TrainConfig(
    arch="osnet_x0_25", epochs=2, warmup_epochs=0, identities_per_batch=4, crops_per_identity=2, input_hw=(64, 32)
)


@pytest.fixture(scope="module")
def people(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    return open_dataset(synthesize(tmp_path_factory.mktemp("drawn") / "set", identities=8, test_identities=2, seed=3))


pytestmark = pytest.mark.usefixtures("own_cache")


@pytest.fixture(scope="module")
def stepped() -> Trainer:
    """A run that has taken one step of its first epoch."""
    trainer = Trainer(TINY, 8, "cpu")
    trainer.set_learning_rate(1.0)
    trainer.model.train()
    trainer.losses.add(train_step(trainer, torch.randn(8, 3, 64, 32), torch.arange(4).repeat_interleave(2)))
    trainer.progress.count(0.5)
    return trainer


def _saved(stepped: Trainer, path: Path, change: Callable[[dict[str, Any]], Any] = dict) -> Path:
    """The run's checkpoint with its state changed, whole and with a hash that matches."""
    state = dict(stepped.state())
    state["optimizer"] = {**state["optimizer"], "state": {k: dict(v) for k, v in state["optimizer"]["state"].items()}}
    change(state)
    path.parent.mkdir(parents=True)
    save_checkpoint(Checkpoint(card_of(stepped.model), stepped.model.state_dict(), state), path)
    return path


_ROW = {"epoch": 2, "learning_rate": 0.1, "losses": {}, "seconds": 1.0, "images_per_second": 1.0}


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda s: s["optimizer"]["state"][0].update(exp_avg=torch.zeros(3)), "state of parameter 0"),
        (lambda s: s["optimizer"]["state"][0].pop("exp_avg_sq"), "state of parameter 0"),
        (lambda s: s["optimizer"]["state"].update({99999: {}}), "does not fit this run"),
        (lambda s: s.update(optimizer=[]), "does not fit this run"),
        (lambda s: s.pop("centers"), "does not fit this run"),
        (lambda s: s["centers"].update(centers=torch.zeros(2, 2)), "does not fit this run"),
        (lambda s: s.update(history=[_ROW]), "history is not of epochs 1, 2, 3"),
        (lambda s: s.update(history=[{**_ROW, "epoch": n} for n in (1, 2, 3)]), "3 epochs are done of 2"),
        (lambda s: s.update(history=[{"epoch": 1}]), "does not fit this run"),
        (lambda s: s["progress"].update(iteration=-1), "-1 batches"),
        (lambda s: s["progress"].update(sums={"id": float("nan")}), "an epoch cannot be"),
        (lambda s: s["progress"].update(iteration=10**6), "saved after 1000000 batches"),
        (
            lambda s: s.update(processes=2),
            r"with --nproc-per-node 2, now 1: go on with  torchrun --nproc-per-node 2 -m reid_edge.training --resume",
        ),
        (lambda s: s.update(processes="two; reboot"), "does not fit this run"),
        (lambda s: s.update(identities=9), "identities was 9, now 8"),
        (lambda s: s["config"].update(epochs=3), "epochs was 3, now 2"),
        (lambda s: s.update(config={"arch": 3}), "arch must be"),
        (lambda s: s.pop("config"), "does not fit this run"),
    ],
)
def test_a_state_that_does_not_fit_is_one_line_before_any_epoch(
    people: Dataset, stepped: Trainer, tmp_path: Path, change: Callable[[dict[str, Any]], Any], says: str
) -> None:
    checkpoint = _saved(stepped, tmp_path / "run" / CHECKPOINT_NAME, change)
    with logged() as said, pytest.raises(InputError, match=says) as caught:
        train(TINY, people, tmp_path / "run", resume=True, device="cpu")
    assert "\n" not in str(caught.value) and caught.value.exit_code == 2
    assert not any(line.startswith("epoch") for line in said)
    assert list(checkpoint.parent.iterdir()) == [checkpoint]


def test_the_state_that_fits_is_loaded(stepped: Trainer, tmp_path: Path) -> None:
    other = Trainer(TINY, 8, "cpu")
    path = _saved(stepped, tmp_path / "run" / CHECKPOINT_NAME)
    other.load_state(load_checkpoint(path), str(path))
    for mine, theirs in zip(other.optimizer.state.values(), stepped.optimizer.state.values(), strict=True):
        assert all(torch.equal(mine[name], theirs[name]) for name in theirs)


@pytest.mark.parametrize(
    ("changes", "options", "says"),
    [
        ({"identities_per_batch": 9}, {}, "8 identities to train on, and a batch takes 9"),
        ({"options": {"num_classes": 3}}, {}, "no option 'num_classes'"),
        ({"id_weight": 0.0, "triplet_weight": 0.0, "center_weight": 0.0}, {}, "every loss has weight 0"),
        ({}, {"weights": Path("none.pth")}, "does not exist"),
        ({}, {"device": "tpu9"}, "cannot be used"),
        ({}, {"quantization": {"layers": {"nonsense": [1.0]}}}, "not a layer"),
    ],
)
def test_a_refused_run_leaves_nothing(
    people: Dataset, tmp_path: Path, changes: dict[str, Any], options: dict[str, Any], says: str
) -> None:
    with pytest.raises(ReidEdgeError, match=says):
        train(replace(TINY, **changes), people, tmp_path / "run", **({"device": "cpu"} | options))
    assert not list(tmp_path.iterdir())


def test_a_folder_that_another_run_holds_is_refused_and_names_it(people: Dataset, tmp_path: Path) -> None:
    with locked(tmp_path / "run" / CHECKPOINT_NAME, "another run"):
        with pytest.raises(InputError, match=rf"process {os.getpid()} writes the same files"):
            train(TINY, people, tmp_path / "run", device="cpu")
    assert not (tmp_path / "run").exists()


def test_another_teacher_is_embedded_anew_and_a_damaged_file_too(people: Dataset, tmp_path: Path) -> None:
    crops = TrainingData(torch.zeros(0), torch.zeros(0).numpy(), torch.zeros(0).numpy())
    (tmp_path / "teacher.npy").write_bytes(b"of an earlier version")

    def taught_by(seed: int) -> Any:
        torch.manual_seed(seed)
        model = build_model("osnet_x0_25")
        path = tmp_path / f"{seed}.pth"
        save_checkpoint(Checkpoint(card_of(model, input_hw=(64, 32)), model.state_dict()), path)
        return crops.with_teacher(TorchEngine(*load_model(path)), people, tmp_path, ALONE).teacher_embeddings.copy()

    with logged() as said:
        first, second, again = taught_by(1), taught_by(2), taught_by(1)
    assert (first == again).all() and abs(first - second).max() > 0.01
    assert len(said) == 2, "two teachers, each embedded once"
    for file in tmp_path.glob("teacher-*.npy"):
        file.write_bytes(file.read_bytes()[:-500] + bytes(500))
    with logged() as said:
        assert (taught_by(1) == first).all()
    assert ["damaged" in line for line in said] == [True, False]
