"""A run goes on by its folder alone, over more epochs when asked, and repeated options must agree."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch", reason="training tests need the train extra")

from helpers.log import interrupted_at, logged  # noqa: E402

from reid_edge.api.train_model import TrainReport, train_model  # noqa: E402
from reid_edge.api.train_plan import planned_run, training_config  # noqa: E402
from reid_edge.data.datasets import open_dataset  # noqa: E402
from reid_edge.data.synthetic.dataset import synthesize  # noqa: E402
from reid_edge.errors import GateError, InputError  # noqa: E402
from reid_edge.training.history import read_history  # noqa: E402
from reid_edge.training.models.checkpoint import load_checkpoint, load_model, save_checkpoint  # noqa: E402
from reid_edge.training.options import RunOptions, StartFrom, Teacher  # noqa: E402
from reid_edge.training.recipe.config import TrainConfig  # noqa: E402
from reid_edge.training.run_record import CHECKPOINT_NAME, RECORD_NAME, RunRequest, read_record  # noqa: E402

SMALL: dict[str, Any] = {"input_hw": (64, 32), "identities_per_batch": 4, "crops_per_identity": 2, "pad": 2}
ONCE = RunOptions(device="cpu", eval_every=99, threads=1)
RESUME = RunOptions(resume=True)


pytestmark = pytest.mark.usefixtures("own_cache")


@pytest.fixture(scope="module")
def people(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four identities of six crops each."""
    folder = tmp_path_factory.mktemp("drawn") / "set"
    return synthesize(
        folder,
        identities=4,
        test_identities=2,
        cameras=2,
        images_per_camera=3,
        size_hw=(64, 32),
        seed=3,
        progress=False,
    )


@pytest.fixture(scope="module")
def finished(people: Path, tmp_path_factory: pytest.TempPathFactory) -> TrainReport:
    """One epoch with a seed of its own; tests copy its folder."""
    out = tmp_path_factory.mktemp("finished") / "run"
    return train_model(people, out, arch="osnet_x0_25", epochs=1, settings=SMALL | {"seed": 5}, run=ONCE)


@pytest.fixture
def run(finished: TrainReport, tmp_path: Path) -> Path:
    return Path(shutil.copytree(finished.folder, tmp_path / "run"))


def _cut(line: str, *arguments: Any, **options: Any) -> None:
    """Train until a line is logged: after that epoch was trained, before it was saved."""
    with interrupted_at(line):
        train_model(*arguments, **options)


def _require_same_weights(one: Path, other: Path) -> None:
    weights, others = (load_checkpoint(path / "model.pth").model for path in (one, other))
    assert weights.keys() == others.keys()
    for name, value in weights.items():
        assert torch.equal(value, others[name]), f"{name} differs"


def _config(out: Path, *data: Path, run: RunOptions = RESUME, **asked: Any) -> TrainConfig:
    """The settings that a resumed run would train by."""
    return planned_run(RunRequest(run=run, **asked), data, out)[0].config


@pytest.mark.slow
def test_the_folder_is_enough_and_may_move_with_its_data(people: Path, finished: TrainReport, tmp_path: Path) -> None:
    """Two data sets, own settings, first weights and a teacher: the weights are those of an uninterrupted run."""
    sets = [Path(shutil.copytree(people, tmp_path / "set")), tmp_path / "other"]
    synthesize(sets[1], identities=3, test_identities=2, cameras=2, size_hw=(64, 32), seed=9, progress=False)
    weights = Path(shutil.copy(finished.model, tmp_path / "weights.pth"))
    options: dict[str, Any] = {
        "arch": "osnet_x0_25",
        "epochs": 2,
        "settings": SMALL | {"seed": 2, "learning_rate": 1e-3},
        "start": StartFrom(weights=weights),
        "teacher": Teacher(model=finished.model),
        "run": ONCE,
    }
    train_model(sets, tmp_path / "whole", **options)
    _cut("epoch 2", sets, tmp_path / "cut", **options)
    weights.unlink()  # its checkpoint holds them
    run, moved = (tmp_path / "cut").rename(tmp_path / "run"), sets[0].rename(tmp_path / "moved")
    with pytest.raises(InputError, match=rf"not at {sets[0]}: say where with --data"):
        train_model(out=run, run=RESUME)
    with pytest.raises(InputError, match=rf"--data was {sets[0]} \(24 crops .*now {moved} \(24 .*another --out"):
        train_model(moved, run, run=RESUME)
    resumed = train_model([moved, sets[1]], run, run=RESUME)
    _require_same_weights(tmp_path / "whole", run)
    assert "distill" in resumed.history[1].losses and resumed.data == moved
    assert [row.metrics is None for row in resumed.history] == [True, False], "and it was evaluated as often"
    record = read_record(run)
    assert record is not None and record.data[0].path == str(moved), "and it is found there now"


@pytest.mark.long
def test_quantisation_aware_training_goes_on_with_its_ranges(
    people: Path, finished: TrainReport, tmp_path: Path
) -> None:
    model, run = Path(shutil.copy(finished.model, tmp_path / "first.pth")), tmp_path / "run"
    settings = {"identities_per_batch": 4}
    first = train_model(people, run, epochs=1, settings=settings, start=StartFrom(qat=model), run=ONCE)
    model = model.rename(tmp_path / "moved.pth")
    with pytest.raises(InputError, match=r"first\.pth does not exist"):
        train_model(out=run, epochs=2, run=RESUME)
    longer = train_model(out=run, epochs=2, start=StartFrom(qat=model), run=RESUME)
    assert longer.card.quantization == first.card.quantization != {}
    assert [set(row.losses) for row in longer.history] == [{"distill"}, {"distill"}]


def test_a_run_killed_before_its_first_checkpoint_begins_anew(finished: TrainReport, run: Path) -> None:
    for path in run.iterdir():
        if path.name != RECORD_NAME:
            shutil.rmtree(path) if path.is_dir() else path.unlink()
    train_model(out=run, run=RESUME)
    _require_same_weights(finished.folder, run)


def test_an_evaluation_that_is_interrupted_costs_no_batch(people: Path, finished: TrainReport, tmp_path: Path) -> None:
    _cut(*("epoch 1", people, tmp_path / "run"), arch="osnet_x0_25", epochs=1, settings=SMALL | {"seed": 5}, run=ONCE)
    with logged() as said:
        resumed = train_model(out=tmp_path / "run", run=RESUME)
    assert "after epoch 0 of 1, 3 batches into the next" in said[0]
    _require_same_weights(finished.folder, tmp_path / "run")
    again, once = resumed.history[0], finished.history[0]
    assert (again.losses, again.learning_rate, again.metrics) == (once.losses, once.learning_rate, once.metrics)


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"settings": {"seed": 1}}, r"--seed was 5, now 1"),
        ({"settings": {"erase": 0.0}}, r"erase was 0.5, now 0.0"),
        ({"arch": "resnet50_bot"}, r"--arch was osnet_x0_25, now resnet50_bot"),
        ({"arch": "osnet_x0_25", "recipe": "finetune"}, r"--recipe was default, now finetune"),
        ({"epochs": 0}, r"--epochs was 1, now 0"),
        ({"layout": "msmt17"}, r"--layout was market1501, now msmt17"),
        (
            {"config": TrainConfig("osnet_x0_25", epochs=1, warmup_epochs=0)},
            r"optimizer in --config was amsgrad, now adam; ",
        ),
        ({"settings": {"seed": 1, "learning_rate": 0.5}}, r"--seed was 5, now 1; --lr was 0.0015, now 0.5"),
        ({"start": "weights"}, r"--weights was not given, now .*model.pth \([0-9a-f]{8}\)"),
        ({"start": "finetune"}, r"--recipe was default, now finetune; --finetune was not given, now .*model.pth"),
        ({"teacher": Teacher(model="none.pth")}, r"none.pth does not exist"),
    ],
)
def test_an_option_that_contradicts_the_run_is_refused_in_one_line(
    finished: TrainReport, options: dict[str, Any], says: str
) -> None:
    if isinstance(how := options.get("start"), str):
        options = options | {"start": StartFrom(**{how: finished.model})}
    with pytest.raises(InputError, match=says) as caught:
        train_model(out=finished.folder, run=RESUME, **options)
    assert "\n" not in str(caught.value) and read_history(finished.folder / "history.json") == finished.history


def test_options_that_agree_are_taken_again(people: Path, finished: TrainReport, run: Path) -> None:
    own = TrainConfig.from_toml(run / "recipe.toml")
    assert _config(run) == own
    assert _config(run, people, arch="osnet_x0_25", epochs=1, settings=SMALL | {"input_hw": [64, 32]}) == own
    assert _config(run, config=own, layout="market1501") == own
    assert _config(run, config=training_config(arch="osnet_x0_25"), settings={"seed": 5}) == own
    with logged() as said:
        train_model(open_dataset(people), run, recipe="default", run=RESUME)
    assert said[-1] == f"{run} is finished after 1 epochs: give --resume a larger --epochs to go on"


def test_a_stretched_schedule_is_that_of_a_run_begun_so_long(finished: TrainReport) -> None:
    """Not the one of a short trial, pulled to its length: one epoch of OSNet's, then its 180."""
    longer = _config(finished.folder, epochs=180)
    assert longer == training_config(arch="osnet_x0_25", settings=SMALL | {"seed": 5})
    assert (longer.epochs, longer.warmup_epochs) == (180, 5)


def test_more_epochs_go_on_with_a_finished_run_and_its_history_says_so(people: Path, tmp_path: Path) -> None:
    """BoT's 120 epochs, milestones after 40 and 70, over 3 epochs and then 6: rates by hand."""
    settings = SMALL | {"learning_rate": 1e-3, "crops_per_identity": 6}
    run = tmp_path / "run"
    train_model(people, run, config=TrainConfig("osnet_x0_25", epochs=120), epochs=3, settings=settings, run=ONCE)
    with logged() as said:
        longer = train_model(out=run, epochs=6, run=RESUME)
    assert "the schedule is stretched from 3 epochs to 6" in said
    # 3 epochs: one of warm-up at a tenth, milestones after 1 and 2. 6 epochs: milestones after 2 and 4.
    expected = [1e-4, 1e-4, 1e-5, 1e-4, 1e-5, 1e-5]
    assert [row.learning_rate for row in longer.history] == pytest.approx(expected)
    rows = json.loads((run / "history.json").read_text())
    assert [row["of_epochs"] for row in rows] == [3, 3, 3, 6, 6, 6]
    assert longer.card.recipe["epochs"] == 6 and longer.card.recipe["stretched_from"] == [3]


def test_a_stretched_run_resumes_by_its_folder_too(run: Path) -> None:
    _cut("epoch 2", out=run, epochs=3, run=RESUME)
    assert load_checkpoint(run / CHECKPOINT_NAME).training["config"]["epochs"] == 1, "it was stopped in time"
    train_model(out=run, run=RESUME)
    assert [row.of_epochs for row in read_history(run / "history.json")] == [1, 3, 3]


def test_a_run_without_a_record_needs_its_data_and_gets_one(people: Path, run: Path) -> None:
    """As versions before the record left a run."""
    (run / RECORD_NAME).unlink()
    own = TrainConfig.from_toml(run / "recipe.toml")
    with pytest.raises(InputError, match=r"which names its data: repeat --data to resume"):
        train_model(out=run, run=RESUME)
    with pytest.raises(InputError, match="seed was 5, now 6"):
        train_model(people, run, run=RESUME, settings={"seed": 6})
    assert _config(run, people) == _config(run, people, settings={"seed": 5}) == own
    assert _config(run, people, arch="osnet_x0_25", epochs=1, settings=SMALL | {"seed": 5}) == own
    longer = train_model(people, run, run=RESUME, epochs=2)
    assert [row.of_epochs for row in longer.history] == [1, 2]
    assert _config(run).epochs == 2


def test_a_run_without_a_record_says_that_its_teacher_is_missing(people: Path, run: Path) -> None:
    (run / RECORD_NAME).unlink()
    checkpoint = load_checkpoint(run / CHECKPOINT_NAME)
    checkpoint.training["history"][0]["losses"]["distill"] = 0.5
    save_checkpoint(checkpoint, run / CHECKPOINT_NAME)
    with pytest.raises(InputError, match="which names its teacher: repeat --teacher to resume"):
        train_model(people, run, run=RESUME)


@pytest.mark.parametrize("change", [lambda text: text[:50], lambda text: text.replace('"crops"', '"crop"')])
def test_a_damaged_record_is_one_line(run: Path, change: Callable[[str], str]) -> None:
    (run / RECORD_NAME).write_text(change((run / RECORD_NAME).read_text()))
    with pytest.raises(InputError, match=r"run.json is damaged: delete it, and repeat the run's options"):
        train_model(out=run, run=RESUME)


def test_nothing_to_resume_is_said(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="holds no run to resume: begin one with --arch NAME"):
        train_model(out=tmp_path / "none", run=RESUME)
    assert not list(tmp_path.iterdir())
    with pytest.raises(InputError, match="give out"):
        train_model(run=RESUME)


def test_weights_that_are_not_finite_are_not_saved(people: Path, tmp_path: Path) -> None:
    """One step that overflows after losses of millions, the last of its epoch: no loss could tell."""
    huge = {"learning_rate": 1e30, "id_weight": 1e6, "triplet_weight": 1e6, "center_weight": 1e6, "optimizer": "sgd"}
    settings = SMALL | huge | {"crops_per_identity": 6}
    with logged() as said, pytest.raises(GateError, match=r"weights are not finite at epoch 1, iteration 1 .*--lr"):
        train_model(people, tmp_path / "run", arch="osnet_x0_25", epochs=1, settings=settings, run=ONCE)
    assert not (tmp_path / "run" / CHECKPOINT_NAME).exists()
    assert not [line for line in said if line.startswith("epoch")]


def test_what_users_hold_tells_what_it_is(finished: TrainReport) -> None:
    checkpoint = repr(load_checkpoint(finished.folder / CHECKPOINT_NAME))
    assert checkpoint.startswith("<Checkpoint: osnet_x0_25, ") and checkpoint.endswith("a run after epoch 1>")
    assert repr(load_checkpoint(finished.model)).endswith(" tensors, finished>")
    shown = repr(finished)
    assert shown.startswith(f"<TrainReport: {finished.model}, osnet_x0_25, 1 epochs, rank1 ") and len(shown) < 250
    assert repr(load_model(finished.model)[0]) == "<ReidModel: osnet_x0_25, 512-d, 0.20 M parameters>"
    assert repr(TrainConfig("osnet_x0_25", seed=5)) == "TrainConfig(arch='osnet_x0_25', seed=5)"
