"""train_model: the same run as the loop's, its records checked, a typed report back, quantisation-aware too."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from helpers.log import logged

torch = pytest.importorskip("torch", reason="training tests need the train extra")

from reid_edge.api.train_model import TrainReport, train_model  # noqa: E402
from reid_edge.api.train_plan import training_config  # noqa: E402
from reid_edge.data.datasets import open_dataset  # noqa: E402
from reid_edge.data.synthetic.dataset import synthesize  # noqa: E402
from reid_edge.errors import InputError, ModelError  # noqa: E402
from reid_edge.training.loop import train  # noqa: E402
from reid_edge.training.models.checkpoint import load_checkpoint  # noqa: E402
from reid_edge.training.options import RunOptions, StartFrom, Teacher  # noqa: E402
from reid_edge.training.recipe.config import TrainConfig  # noqa: E402
from reid_edge.training.recipe.recipes import recipe_for  # noqa: E402

SMALL: dict[str, Any] = {"input_hw": (64, 32), "identities_per_batch": 4, "crops_per_identity": 2, "pad": 2}
QUIET = RunOptions(device="cpu", eval_every=99, threads=1)


pytestmark = pytest.mark.usefixtures("own_cache")


@pytest.fixture(scope="module")
def people(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("drawn") / "set"
    return synthesize(folder, identities=8, test_identities=4, cameras=3, size_hw=(64, 32), seed=3)


@pytest.fixture(scope="module")
def first(people: Path, tmp_path_factory: pytest.TempPathFactory) -> TrainReport:
    """One epoch from random weights."""
    out = tmp_path_factory.mktemp("first") / "run"
    return train_model(people, out, arch="osnet_x0_25", epochs=1, settings=SMALL, run=QUIET)


def test_it_trains_what_the_loop_trains_and_reports_it(people: Path, first: TrainReport, tmp_path: Path) -> None:
    config = replace(recipe_for("osnet_x0_25", 1), **SMALL)
    model = train(config, open_dataset(people), tmp_path / "run", device="cpu")
    weights, others = load_checkpoint(model).model, load_checkpoint(first.model).model
    assert weights.keys() == others.keys() and all(torch.equal(weights[name], others[name]) for name in weights)
    assert first.model == first.folder / "model.pth" and first.card == load_checkpoint(first.model).card
    rows = json.loads((first.folder / "history.json").read_text())
    assert [report.to_dict() for report in first.history] == rows and len(rows) == 1
    assert first.metrics == rows[0]["metrics"] and 0 <= rows[0]["metrics"]["mAP"] <= 1


def test_settings_come_from_a_recipe_or_a_file_and_single_ones_replace_them(tmp_path: Path) -> None:
    config = training_config(arch="mobilenetv3_large", epochs=12, recipe="distill", settings={"seed": 3, "erase": 0})
    assert config == replace(recipe_for("mobilenetv3_large", 12, "distill"), seed=3, erase=0.0)
    (tmp_path / "r.toml").write_text(config.to_toml())
    assert training_config(config=tmp_path / "r.toml") == config == training_config(config=config)
    assert training_config(config=config, epochs=6) == config.for_epochs(6)
    with pytest.raises(InputError, match="--arch NAME"):
        training_config()
    with pytest.raises(InputError, match="--arch NAME"):
        training_config(arch="osnet_x0_25", config=config)
    with pytest.raises(InputError, match="unknown training settings colour"):
        training_config(arch="osnet_x0_25", settings={"colour": 1})
    with pytest.raises(ModelError, match="unknown architecture 'osnet'"):
        training_config(arch="osnet")


def test_a_run_starts_in_one_way_and_a_checkpoint_names_its_architecture(first: TrainReport) -> None:
    with pytest.raises(InputError, match="exclude each other"):
        StartFrom(weights="a.pth", qat="b.pth")
    assert training_config(start=StartFrom(finetune=first.model)) == recipe_for("osnet_x0_25", recipe="finetune")
    qat = training_config(start=StartFrom(qat=first.model))
    assert (qat.arch, qat.input_hw, qat.freeze_norm) == ("osnet_x0_25", (64, 32), True)
    with pytest.raises(ModelError, match="holds a osnet_x0_25, not a osnet_x0_5"):
        training_config(arch="osnet_x0_5", start=StartFrom(qat=first.model))
    with pytest.raises(InputError, match="eval_every"):
        RunOptions(eval_every=0)


def test_quantisation_aware_training_needs_no_labels_and_keeps_its_ranges(
    people: Path, first: TrainReport, tmp_path: Path
) -> None:
    few = {"identities_per_batch": 8}
    tuned = train_model(people, tmp_path / "tuned", start=StartFrom(qat=first.model), epochs=1, settings=few, run=QUIET)
    assert [set(report.losses) for report in tuned.history] == [{"embedding"}]
    assert "then trained for it" in tuned.card.quantization["note"]
    ranges = tuned.card.quantization["layers"]
    assert all(name.startswith(("backbone.", "fc.")) for name in ranges) and min(map(min, ranges.values())) >= 0
    before, after = (load_checkpoint(report.model).model for report in (first, tuned))
    assert all(torch.equal(before[name], after[name]) for name in before if "running" in name)
    assert any(not torch.equal(before[name], after[name]) for name in before if name.endswith("weight"))
    with pytest.raises(InputError, match="embeds in 512 values and this model in 2048: learn its similarities instead"):
        train_model(
            people,
            tmp_path / "wider",
            arch="resnet50_bot",
            epochs=1,
            settings={**SMALL, "embedding_weight": 1.0},
            teacher=Teacher(model=first.model),
            run=QUIET,
        )
    assert not (tmp_path / "wider").exists()


def test_a_teacher_and_two_data_sets(people: Path, first: TrainReport, tmp_path: Path) -> None:
    other = synthesize(tmp_path / "other", identities=4, test_identities=2, cameras=2, size_hw=(64, 32), seed=9)
    with logged() as said:
        report = train_model(
            [people, open_dataset(other)],
            tmp_path / "run",
            arch="osnet_x0_25",
            epochs=1,
            settings=SMALL,
            start=StartFrom(weights=first.model),
            teacher=Teacher(model=first.model),
            run=QUIET,
        )
    assert "12 identities" in report.card.trained_on and set(report.history[0].losses) >= {"id", "distill"}
    assert any(line.startswith("485 of 485 tensors loaded") for line in said)
    assert any("with the teacher (osnet_x0_25)" in line for line in said)
    assert any(line.startswith("epoch 1: id ") for line in said)


def test_a_checkpoint_of_before_the_renaming_is_resumed(people: Path, tmp_path: Path) -> None:
    """Its settings, its tensors and its counts have their former names; the run ends with the same weights."""
    config = training_config(arch="osnet_x0_25", epochs=2, settings=SMALL | {"ema_decay": 0.9, "seed": 1})
    whole = train_model(people, tmp_path / "whole", config=config, run=QUIET)

    class Interrupted(Exception):
        pass

    def interrupt(message: str) -> None:
        if message.startswith("epoch 2"):
            raise Interrupted

    cut = tmp_path / "cut"
    with logged(interrupt), pytest.raises(Interrupted):
        train_model(people, cut, config=config, run=QUIET)
    _rename_to_former(cut / "checkpoint.pth")
    (cut / "run.json").unlink()
    with pytest.raises(InputError, match="seed was 1, now 2"):
        train_model(people, cut, config=replace(config, seed=2), run=replace(QUIET, resume=True))
    resumed = train_model(people, cut, config=config, run=replace(QUIET, resume=True))
    weights, others = load_checkpoint(whole.model).model, load_checkpoint(resumed.model).model
    assert weights.keys() == others.keys() and all(torch.equal(weights[name], others[name]) for name in weights)


def _rename_to_former(path: Path) -> None:
    """Rewrite a checkpoint as it was written before: trunk for backbone, people for identities, model for arch."""
    content = torch.load(path, weights_only=True)
    del content["sha256"]
    training = content["training"]

    def former(state: dict[str, Any]) -> dict[str, Any]:
        return {name.replace("backbone.", "trunk."): value for name, value in state.items()}

    settings = {"arch": "model", "identities_per_batch": "people_per_batch", "crops_per_identity": "crops_per_person"}
    training["config"] = {settings.get(name, name): value for name, value in training["config"].items()}
    training["people"] = training.pop("identities")
    for part in ("model", "averaged"):
        training[part] = former(training[part])
    content["model"] = former(content["model"])
    assert "trunk.conv1.conv.weight" in content["model"] and "model" in training["config"]
    assert "module.trunk.conv1.conv.weight" in training["averaged"]
    torch.save(content, path)


def test_a_recipe_of_before_the_renaming_is_read(tmp_path: Path) -> None:
    path = tmp_path / "recipe.toml"
    path.write_text('model = "osnet_x0_25"\npeople_per_batch = 8\ncrops_per_person = 2\n')
    expected = TrainConfig(arch="osnet_x0_25", identities_per_batch=8, crops_per_identity=2)
    assert TrainConfig.from_toml(path) == expected
    assert 'arch = "osnet_x0_25"' in expected.to_toml() and "model =" not in expected.to_toml()
