"""The training loop on a few drawn people: it learns, it resumes exactly, and it stops when it must."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="training tests need the train extra")

from helpers.log import interrupted_at, logged  # noqa: E402

from reid_edge.data.datasets import Dataset, open_dataset  # noqa: E402
from reid_edge.data.synthetic.dataset import synthesize  # noqa: E402
from reid_edge.errors import DatasetError, GateError, InputError, ModelError, Stopped  # noqa: E402
from reid_edge.training import loop  # noqa: E402
from reid_edge.training.loop import train, train_step  # noqa: E402
from reid_edge.training.models.checkpoint import card_of, load_checkpoint, load_model  # noqa: E402
from reid_edge.training.models.torch_engine import TorchEngine  # noqa: E402
from reid_edge.training.recipe.config import TrainConfig  # noqa: E402
from reid_edge.training.recipe.recipes import recipe_for  # noqa: E402
from reid_edge.training.run_folder import CHECKPOINT_NAME  # noqa: E402
from reid_edge.training.trainer import Trainer  # noqa: E402

TINY = TrainConfig(
    arch="osnet_x0_25",
    epochs=3,
    identities_per_batch=4,
    crops_per_identity=3,
    input_hw=(64, 32),
    pad=2,
    schedule="cosine",
    warmup_epochs=1,
    learning_rate=1e-3,
)


@pytest.fixture(scope="module")
def people(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    return open_dataset(synthesize(tmp_path_factory.mktemp("drawn") / "set", identities=8, test_identities=4, seed=3))


pytestmark = pytest.mark.usefixtures("own_cache")


def _weights(path: Path) -> dict[str, torch.Tensor]:
    return load_checkpoint(path).model


def _stop_at(config: TrainConfig, people: Dataset, out: Path, line: str) -> None:
    """Train until a line is logged: after that epoch was trained, before it was saved."""
    with interrupted_at(line):
        train(config, people, out, eval_every=99)


def test_a_run_leaves_a_model_a_checkpoint_and_its_history(people: Dataset, tmp_path: Path) -> None:
    with logged() as said:
        path = train(TINY, people, tmp_path / "run", eval_every=2)
    history = json.loads((tmp_path / "run" / "history.json").read_text())
    assert [line["epoch"] for line in history] == [1, 2, 3]
    assert set(history[0]["losses"]) == {"id", "triplet", "center"}
    assert [line["metrics"] is not None for line in history] == [False, True, True]
    assert [line[:14] for line in said] == [
        "epoch 1: id 2.",
        "epoch 2: id 2.",
        "epoch 2: rank1",
        "epoch 3: id 2.",
        "epoch 3: rank1",
    ]
    assert max(map(len, said)) <= 80, "a line of a log fits a terminal"
    model, card = load_model(path)
    assert card.input_hw == (64, 32) and "8 identities" in card.trained_on
    assert card.recipe["epochs_done"] == 3 and card.recipe["seed"] == 0
    assert not load_checkpoint(path).training, "the finished model carries no optimiser"


def test_training_lowers_the_loss(people: Dataset, tmp_path: Path) -> None:
    config = replace(TINY, epochs=8, learning_rate=5e-3, flip=0.0, erase=0.0, pad=0)
    train(config, people, tmp_path / "run", eval_every=99)
    history = json.loads((tmp_path / "run" / "history.json").read_text())
    assert history[-1]["losses"]["id"] < history[0]["losses"]["id"] - 0.1


def test_a_resumed_run_reaches_the_same_weights_bit_for_bit(people: Dataset, tmp_path: Path) -> None:
    whole = train(TINY, people, tmp_path / "whole", eval_every=99)

    _stop_at(TINY, people, tmp_path / "cut", "epoch 3")
    assert len(load_checkpoint(tmp_path / "cut" / CHECKPOINT_NAME).training["history"]) == 2
    resumed = train(TINY, people, tmp_path / "cut", resume=True, eval_every=99)
    first, second = _weights(whole), _weights(resumed)
    assert first.keys() == second.keys()
    for name, value in first.items():
        assert torch.equal(value, second[name]), f"{name} differs after resuming"


def test_another_seed_reaches_other_weights(people: Dataset, tmp_path: Path) -> None:
    config = replace(TINY, epochs=1, warmup_epochs=0)
    one = train(config, people, tmp_path / "1", eval_every=99)
    two = train(replace(config, seed=1), people, tmp_path / "2", eval_every=99)
    assert not torch.equal(_weights(one)["backbone.conv1.conv.weight"], _weights(two)["backbone.conv1.conv.weight"])


def test_a_used_folder_and_other_settings_are_refused(people: Dataset, tmp_path: Path) -> None:
    config = replace(TINY, epochs=1, warmup_epochs=0)
    train(config, people, tmp_path / "run", eval_every=99)
    with pytest.raises(InputError, match="already holds a run: give --resume"):
        train(config, people, tmp_path / "run")
    with pytest.raises(InputError, match="learning_rate was 0.001, now 0.1"):
        train(replace(config, learning_rate=0.1), people, tmp_path / "run", resume=True)


def test_a_finished_model_cannot_be_resumed(people: Dataset, tmp_path: Path) -> None:
    config = replace(TINY, epochs=1, warmup_epochs=0)
    path = train(config, people, tmp_path / "run", eval_every=99)
    with pytest.raises(ModelError, match="is a finished model"):
        Trainer(config, 8).load_state(load_checkpoint(path), str(path))


def test_a_loss_that_is_not_finite_stops_with_its_parts_and_updates_nothing(people: Dataset, tmp_path: Path) -> None:
    with pytest.raises(GateError, match=r"not finite at epoch 1, iteration \d+ \(id .*, triplet .*, center "):
        train(replace(TINY, learning_rate=1e30), people, tmp_path / "run")
    assert not (tmp_path / "run" / CHECKPOINT_NAME).exists()


@pytest.mark.gpu
def test_a_gpu_trains_with_mixed_precision(people: Dataset, tmp_path: Path) -> None:
    if not torch.cuda.is_available():
        pytest.skip("needs a CUDA device")
    path = train(replace(TINY, precision="fp16"), people, tmp_path / "run", device="cuda")
    assert all(torch.isfinite(value).all() for value in _weights(path).values())


def test_the_command_line_trains_in_a_fresh_process(people: Dataset, tmp_path: Path) -> None:
    command = f"train --arch osnet_x0_25 --data {people.root} --out {tmp_path / 'run'} --epochs 1"
    command += " -P 4 -K 2 --size 64 32"
    child = subprocess.run([sys.executable, "-m", "reid_edge", *command.split()], capture_output=True, text=True)
    assert child.returncode == 0, child.stderr
    assert "epoch 1: id " in child.stdout and "rank1" in child.stdout
    assert f"reid-edge export {tmp_path / 'run' / 'model.pth'}" in child.stdout


def test_unreadable_crops_are_named_and_left_out_up_to_a_limit(people: Dataset, tmp_path: Path) -> None:
    copy = shutil.copytree(people.root, tmp_path / "set")
    broken = sorted((copy / "bounding_box_train").glob("*.jpg"))[3]
    broken.write_bytes(broken.read_bytes()[:200])
    damaged = open_dataset(copy)
    config = replace(TINY, epochs=1, warmup_epochs=0)
    with pytest.raises(DatasetError, match=rf"1 of \d+ training crops cannot be read, above .*{broken.name}"):
        train(config, damaged, tmp_path / "none", max_bad_crops=0)
    assert not (tmp_path / "none" / CHECKPOINT_NAME).exists()
    for _ in range(2):  # decoded, then from the cache
        with logged() as said:
            train(config, damaged, tmp_path / f"run{_}", max_bad_crops=1)
        assert [broken.name in line for line in said if line.startswith("left out")] == [True]


@pytest.mark.long
def test_a_moving_average_is_what_is_deployed_and_it_resumes(people: Dataset, tmp_path: Path) -> None:
    config = replace(TINY, ema_decay=0.9)
    whole = train(config, people, tmp_path / "whole", eval_every=99)
    raw = load_checkpoint(tmp_path / "whole" / CHECKPOINT_NAME).training["model"]
    name = "backbone.conv1.conv.weight"
    assert not torch.equal(raw[name], _weights(whole)[name])
    _stop_at(config, people, tmp_path / "cut", "epoch 2")
    resumed = train(config, people, tmp_path / "cut", resume=True, eval_every=99)
    for name, value in _weights(whole).items():
        assert torch.equal(value, _weights(resumed)[name]), f"{name} differs after resuming"


def test_a_teacher_pulls_the_student_towards_its_ranking(people: Dataset, tmp_path: Path) -> None:
    teacher, card = load_model(train(TINY, people, tmp_path / "teacher", eval_every=99))
    alone = replace(TINY, id_weight=0.0, triplet_weight=0.0, center_weight=0.0, epochs=6, flip=0.0, erase=0.0, pad=0)
    train(alone, people, tmp_path / "run", teacher=TorchEngine(teacher, card), eval_every=99)
    history = json.loads((tmp_path / "run" / "history.json").read_text())
    assert set(history[0]["losses"]) == {"distill"}, "labels are optional with a teacher"
    assert history[-1]["losses"]["distill"] < 0.9 * history[0]["losses"]["distill"]
    with pytest.raises(InputError, match="every loss has weight 0"):
        train(alone, people, tmp_path / "none")


def test_a_folder_of_unlabelled_crops_is_enough_with_a_teacher(people: Dataset, tmp_path: Path) -> None:
    teacher, card = load_model(train(TINY, people, tmp_path / "teacher", eval_every=99))
    crops = open_dataset(people.root / "bounding_box_train", "crops")
    assert not (crops.split.query or crops.split.gallery)
    with pytest.raises(InputError, match="--recipe distill"):
        train(TINY, crops, tmp_path / "none")
    config = replace(recipe_for("osnet_x0_25", 1, "distill"), identities_per_batch=8, input_hw=(64, 32), pad=2)
    path = train(config, crops, tmp_path / "run", teacher=TorchEngine(teacher, card))
    history = json.loads((tmp_path / "run" / "history.json").read_text())
    assert set(history[0]["losses"]) == {"distill"}
    saved = load_checkpoint(path)
    assert not any(name.startswith("classifier.") for name in saved.model), "nobody was named, so nobody is classified"


def _command(people: Dataset, out: Path) -> list[str]:
    options = f"train --arch osnet_x0_25 --data {people.root} --out {out} --epochs 3 -P 4 -K 2 --size 64 32 --threads 1"
    return [sys.executable, "-m", "reid_edge", *options.split(), "--eval-every", "99"]


@pytest.mark.long
def test_killed_at_any_moment_a_run_resumes_to_the_same_weights(people: Dataset, tmp_path: Path) -> None:
    subprocess.run(_command(people, tmp_path / "whole"), check=True, capture_output=True)
    checkpoint = tmp_path / "cut" / CHECKPOINT_NAME
    child = subprocess.Popen(_command(people, tmp_path / "cut"), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    while not checkpoint.exists() and child.poll() is None:
        time.sleep(0.01)
    child.kill()
    assert child.wait() == -signal.SIGKILL
    assert not (tmp_path / "cut" / "model.pth").exists(), "it was killed too late to show anything"
    subprocess.run([*_command(people, tmp_path / "cut"), "--resume"], check=True, capture_output=True)
    for name, value in _weights(tmp_path / "whole" / "model.pth").items():
        assert torch.equal(value, _weights(tmp_path / "cut" / "model.pth")[name]), f"{name} differs after a kill"


@pytest.mark.long
def test_sigterm_saves_within_an_epoch_and_ends_143(people: Dataset, tmp_path: Path) -> None:
    """The signal comes while a batch is trained; the run goes on from that batch to the same weights."""
    config = replace(TINY, epochs=2)
    whole = train(config, people, tmp_path / "whole", eval_every=99)
    steps = 0

    def counted(*arguments: Any) -> dict[str, torch.Tensor]:
        nonlocal steps
        steps += 1
        if steps == 2:
            os.kill(os.getpid(), signal.SIGTERM)
        return train_step(*arguments)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(loop, "train_step", counted)
        with pytest.raises(Stopped, match="after 2 batches") as stopped:
            train(config, people, tmp_path / "cut", eval_every=99)
    assert stopped.value.exit_code == 143
    assert load_checkpoint(tmp_path / "cut" / CHECKPOINT_NAME).training["progress"]["iteration"] == 2
    resumed = train(config, people, tmp_path / "cut", resume=True, eval_every=99)
    for name, value in _weights(whole).items():
        assert torch.equal(value, _weights(resumed)[name]), f"{name} differs after SIGTERM"


def test_a_collapsed_model_is_named_once_where_it_is_scored() -> None:
    """OSNet ends in a ReLU: after a few steps at too high a learning rate it may be zero for every crop."""
    model = Trainer(TINY, 8, "cpu").model.eval()
    with torch.no_grad():
        model.fc[1].bias.fill_(-100.0)
    crops = np.random.default_rng(0).integers(0, 256, (8, 64, 32, 3), np.uint8)
    with logged() as warned, TorchEngine(model, card_of(model, input_hw=(64, 32))) as engine:
        assert not engine.run(crops).any() and not engine.run(crops).any()
    assert len(warned) == 1 and warned[0].startswith("8 of 8 embeddings of a batch are zero: its training collapsed")
