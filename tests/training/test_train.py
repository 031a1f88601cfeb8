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

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="training tests need the train extra")

from reid_edge.datasets import Dataset, open_dataset  # noqa: E402
from reid_edge.errors import DatasetError, GateError, InputError, ModelError, Stopped  # noqa: E402
from reid_edge.synthetic import synthesize  # noqa: E402
from reid_edge.training.checkpoint import load_checkpoint, load_model  # noqa: E402
from reid_edge.training.config import TrainConfig  # noqa: E402
from reid_edge.training.inference import TorchEngine  # noqa: E402
from reid_edge.training.loop import CHECKPOINT_NAME, train  # noqa: E402
from reid_edge.training.recipes import recipe_for  # noqa: E402
from reid_edge.training.run import Run  # noqa: E402
from reid_edge.training.store import decoded  # noqa: E402

TINY = TrainConfig(
    model="osnet_x0_25",
    epochs=3,
    people_per_batch=4,
    crops_per_person=3,
    input_hw=(64, 32),
    pad=2,
    schedule="cosine",
    warmup_epochs=1,
    learning_rate=1e-3,
)


@pytest.fixture(scope="module")
def people(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    return open_dataset(synthesize(tmp_path_factory.mktemp("drawn") / "set", people=8, test_people=4, seed=3))


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REID_EDGE_CACHE", str(tmp_path / "cache"))


def _weights(path: Path) -> dict[str, torch.Tensor]:
    return load_checkpoint(path).model


def _stop_at(config: TrainConfig, people: Dataset, out: Path, line: str) -> None:
    """Train until a line is said: after that epoch was trained, before it was saved."""

    class Interrupted(Exception):
        pass

    def say(said: str) -> None:
        if said.startswith(line):
            raise Interrupted

    with pytest.raises(Interrupted):
        train(config, people, out, eval_every=99, say=say)


def test_a_run_leaves_a_model_a_checkpoint_and_its_history(people: Dataset, tmp_path: Path) -> None:
    said: list[str] = []
    path = train(TINY, people, tmp_path / "run", eval_every=2, say=said.append)
    history = json.loads((tmp_path / "run" / "history.json").read_text())
    assert [line["epoch"] for line in history] == [1, 2, 3]
    assert set(history[0]["losses"]) == {"id", "triplet", "center"}
    assert [line["metrics"] is not None for line in history] == [False, True, True]
    assert said == [s for s in said if s.startswith("epoch ")] and len(said) == 3
    model, card = load_model(path)
    assert card.input_hw == (64, 32) and "8 people" in card.trained_on
    assert card.recipe["epochs_done"] == 3 and card.recipe["seed"] == 0
    assert not load_checkpoint(path).training, "the finished model carries no optimiser"


def test_training_lowers_the_loss(people: Dataset, tmp_path: Path) -> None:
    config = replace(TINY, epochs=8, learning_rate=5e-3, flip=0.0, erase=0.0, pad=0)
    train(config, people, tmp_path / "run", eval_every=99, say=lambda _: None)
    history = json.loads((tmp_path / "run" / "history.json").read_text())
    assert history[-1]["losses"]["id"] < history[0]["losses"]["id"] - 0.1


def test_a_resumed_run_reaches_the_same_weights_bit_for_bit(people: Dataset, tmp_path: Path) -> None:
    whole = train(TINY, people, tmp_path / "whole", eval_every=99, say=lambda _: None)

    _stop_at(TINY, people, tmp_path / "cut", "epoch 3")
    assert len(load_checkpoint(tmp_path / "cut" / CHECKPOINT_NAME).training["history"]) == 2
    resumed = train(TINY, people, tmp_path / "cut", resume=True, eval_every=99, say=lambda _: None)
    first, second = _weights(whole), _weights(resumed)
    assert first.keys() == second.keys()
    for name, value in first.items():
        assert torch.equal(value, second[name]), f"{name} differs after resuming"


def test_another_seed_reaches_other_weights(people: Dataset, tmp_path: Path) -> None:
    config = replace(TINY, epochs=1, warmup_epochs=0)
    one = train(config, people, tmp_path / "1", eval_every=99, say=lambda _: None)
    two = train(replace(config, seed=1), people, tmp_path / "2", eval_every=99, say=lambda _: None)
    assert not torch.equal(_weights(one)["trunk.conv1.conv.weight"], _weights(two)["trunk.conv1.conv.weight"])


def test_a_used_folder_and_other_settings_are_refused(people: Dataset, tmp_path: Path) -> None:
    config = replace(TINY, epochs=1, warmup_epochs=0)
    train(config, people, tmp_path / "run", eval_every=99, say=lambda _: None)
    with pytest.raises(InputError, match="already holds a run: give --resume"):
        train(config, people, tmp_path / "run")
    with pytest.raises(InputError, match="learning_rate was 0.001, now 0.1"):
        train(replace(config, learning_rate=0.1), people, tmp_path / "run", resume=True)


def test_a_finished_model_cannot_be_resumed(people: Dataset, tmp_path: Path) -> None:
    config = replace(TINY, epochs=1, warmup_epochs=0)
    path = train(config, people, tmp_path / "run", eval_every=99, say=lambda _: None)
    with pytest.raises(ModelError, match="is a finished model"):
        Run(config, 8).load_state(load_checkpoint(path), str(path))


def test_a_loss_that_is_not_finite_stops_with_its_parts_and_updates_nothing(people: Dataset, tmp_path: Path) -> None:
    with pytest.raises(GateError, match=r"not finite at epoch 1, iteration \d+ \(id .*, triplet .*, center "):
        train(replace(TINY, learning_rate=1e30), people, tmp_path / "run", say=lambda _: None)
    assert not (tmp_path / "run" / CHECKPOINT_NAME).exists()


def test_a_step_moves_weights_and_centers_each_by_its_own_optimiser(people: Dataset) -> None:
    run = Run(TINY, people=4)
    run.set_learning_rate(0.5)
    weights = run.model.trunk.conv1.conv.weight.detach().clone()
    centers = run.centers.centers.detach().clone()
    run.model.train()
    losses = run.step(torch.randn(8, 3, 64, 32), torch.arange(4).repeat_interleave(2))
    assert run.learning_rate == pytest.approx(5e-4)
    assert not torch.equal(weights, run.model.trunk.conv1.conv.weight)
    assert not torch.equal(centers, run.centers.centers)
    assert losses["center"] < 5e-4 * 1e6


def test_decoded_crops_are_cached_and_follow_changed_files(people: Dataset, tmp_path: Path) -> None:
    crops = people.split.train[:5]
    first = decoded(crops, (64, 32), "opencv").images
    assert first.shape == (5, 64, 32, 3) and first.dtype == np.uint8
    assert len(list((tmp_path / "cache").glob("*.npy"))) == 1
    first[:] = 0
    assert decoded(crops, (64, 32), "opencv").images.any(), "a write reached the cache"
    assert decoded(crops, (32, 32), "opencv").images.shape == (5, 32, 32, 3)
    assert len(list((tmp_path / "cache").glob("*.npy"))) == 2


@pytest.mark.gpu
def test_a_gpu_trains_with_mixed_precision(people: Dataset, tmp_path: Path) -> None:
    if not torch.cuda.is_available():
        pytest.skip("needs a CUDA device")
    path = train(replace(TINY, precision="fp16"), people, tmp_path / "run", device="cuda", say=lambda _: None)
    assert all(torch.isfinite(value).all() for value in _weights(path).values())


def test_the_command_line_trains_in_a_fresh_process(people: Dataset, tmp_path: Path) -> None:
    command = f"train --model osnet_x0_25 --data {people.root} --out {tmp_path / 'run'} --epochs 1"
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
        train(config, damaged, tmp_path / "none", max_bad_crops=0, say=lambda _: None)
    assert not (tmp_path / "none" / CHECKPOINT_NAME).exists()
    for _ in range(2):  # decoded, then from the cache
        said: list[str] = []
        train(config, damaged, tmp_path / f"run{_}", max_bad_crops=1, say=said.append)
        assert [broken.name in line for line in said if line.startswith("left out")] == [True]


def test_a_moving_average_is_what_is_deployed_and_it_resumes(people: Dataset, tmp_path: Path) -> None:
    config = replace(TINY, ema_decay=0.9)
    whole = train(config, people, tmp_path / "whole", eval_every=99, say=lambda _: None)
    raw = load_checkpoint(tmp_path / "whole" / CHECKPOINT_NAME).training["model"]
    name = "trunk.conv1.conv.weight"
    assert not torch.equal(raw[name], _weights(whole)[name])
    _stop_at(config, people, tmp_path / "cut", "epoch 2")
    resumed = train(config, people, tmp_path / "cut", resume=True, eval_every=99, say=lambda _: None)
    for name, value in _weights(whole).items():
        assert torch.equal(value, _weights(resumed)[name]), f"{name} differs after resuming"


def test_the_moving_average_against_its_formula() -> None:
    run = Run(replace(TINY, ema_decay=0.2), people=4)
    name = "trunk.conv1.conv.weight"
    seen = []
    for _ in range(3):
        run.set_learning_rate(1.0)
        run.model.train()
        run.step(torch.randn(8, 3, 64, 32), torch.arange(4).repeat_interleave(2))
        seen.append(run.model.state_dict()[name].clone())
    expected = seen[0]  # the first update copies; then decay is min(0.2, (1 + n) / (10 + n))
    for count, value in enumerate(seen[1:], start=1):
        decay = min(0.2, (1 + count) / (10 + count))
        expected = decay * expected + (1 - decay) * value
    torch.testing.assert_close(run.deployed.state_dict()[name], expected)


def test_a_teacher_pulls_the_student_towards_its_ranking(people: Dataset, tmp_path: Path) -> None:
    teacher, card = load_model(train(TINY, people, tmp_path / "teacher", eval_every=99, say=lambda _: None))
    alone = replace(TINY, id_weight=0.0, triplet_weight=0.0, center_weight=0.0, epochs=6, flip=0.0, erase=0.0, pad=0)
    train(alone, people, tmp_path / "run", teacher=TorchEngine(teacher, card), eval_every=99, say=lambda _: None)
    history = json.loads((tmp_path / "run" / "history.json").read_text())
    assert set(history[0]["losses"]) == {"distill"}, "labels are optional with a teacher"
    assert history[-1]["losses"]["distill"] < 0.9 * history[0]["losses"]["distill"]
    with pytest.raises(InputError, match="every loss has weight 0"):
        train(alone, people, tmp_path / "none", say=lambda _: None)


def test_a_folder_of_unlabelled_crops_is_enough_with_a_teacher(people: Dataset, tmp_path: Path) -> None:
    teacher, card = load_model(train(TINY, people, tmp_path / "teacher", eval_every=99, say=lambda _: None))
    crops = open_dataset(people.root / "bounding_box_train", "crops")
    assert not (crops.split.query or crops.split.gallery)
    with pytest.raises(InputError, match="--recipe distill"):
        train(TINY, crops, tmp_path / "none", say=lambda _: None)
    config = replace(recipe_for("osnet_x0_25", 1, "distill"), people_per_batch=8, input_hw=(64, 32), pad=2)
    path = train(config, crops, tmp_path / "run", teacher=TorchEngine(teacher, card), say=lambda _: None)
    history = json.loads((tmp_path / "run" / "history.json").read_text())
    assert set(history[0]["losses"]) == {"distill"}
    saved = load_checkpoint(path)
    assert not any(name.startswith("classifier.") for name in saved.model), "nobody was named, so nobody is classified"


def _command(people: Dataset, out: Path) -> list[str]:
    options = (
        f"train --model osnet_x0_25 --data {people.root} --out {out} --epochs 3 -P 4 -K 2 --size 64 32 --threads 1"
    )
    return [sys.executable, "-m", "reid_edge", *options.split(), "--eval-every", "99"]


@pytest.mark.slow
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


@pytest.mark.slow
def test_sigterm_saves_within_an_epoch_and_ends_0(people: Dataset, tmp_path: Path) -> None:
    """The signal comes while a batch is trained; the run goes on from that batch to the same weights."""
    config = replace(TINY, epochs=2)
    whole = train(config, people, tmp_path / "whole", eval_every=99, say=lambda _: None)
    steps = 0
    step = Run.step

    def counted(self: Run, *arguments: object) -> dict[str, float]:
        nonlocal steps
        steps += 1
        if steps == 2:
            os.kill(os.getpid(), signal.SIGTERM)
        return step(self, *arguments)  # type: ignore[arg-type]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Run, "step", counted)
        with pytest.raises(Stopped, match="after 2 batches") as stopped:
            train(config, people, tmp_path / "cut", eval_every=99, say=lambda _: None)
    assert stopped.value.exit_code == 0
    assert load_checkpoint(tmp_path / "cut" / CHECKPOINT_NAME).training["progress"]["iteration"] == 2
    resumed = train(config, people, tmp_path / "cut", resume=True, eval_every=99, say=lambda _: None)
    for name, value in _weights(whole).items():
        assert torch.equal(value, _weights(resumed)[name]), f"{name} differs after SIGTERM"
