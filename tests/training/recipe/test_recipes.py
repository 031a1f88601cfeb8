"""Recipes: TOML there and back, mistakes named, and the seed paper's own with its defects."""

from __future__ import annotations

from pathlib import Path

import pytest

torch = pytest.importorskip("torch", reason="training tests need the train extra")

from reid_edge.cli import main  # noqa: E402
from reid_edge.errors import InputError  # noqa: E402
from reid_edge.training.config import TrainConfig  # noqa: E402
from reid_edge.training.models import ARCHITECTURES  # noqa: E402
from reid_edge.training.recipes import recipe_for  # noqa: E402
from reid_edge.training.run import Run  # noqa: E402


@pytest.mark.parametrize("model", list(ARCHITECTURES))
def test_every_recipe_goes_through_toml_unchanged(model: str, tmp_path: Path) -> None:
    config = recipe_for(model, epochs=12)
    (tmp_path / "r.toml").write_text(config.to_toml())
    assert TrainConfig.from_toml(tmp_path / "r.toml") == config


def test_an_edited_recipe_is_read_and_the_rest_has_its_default(tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    path.write_text('model = "osnet_x0_25"\nlearning_rate = 1 # a whole number\noptions = { neck = true }\npad = 3\n')
    expected = TrainConfig(model="osnet_x0_25", learning_rate=1.0, options={"neck": True}, pad=3)
    assert TrainConfig.from_toml(path) == expected


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            'model = "osnet_x0_25"\nlearnin_rate = 1.0',
            "unknown training settings learnin_rate: the known ones",
        ),
        ("epochs = 3", "model is missing"),
        ('model = "osnet_x0_25"\nlearning_rate = "fast"', "learning_rate must be a number"),
        ('model = "osnet_x0_25"\npad = 2.5', "pad must be a whole number"),
        ('model = "osnet_x0_25"\ncompile = 1', "compile must be true or false"),
        ('model = "osnet_x0_25"\ninput_hw = [256]', "input_hw must be a height and a width"),
        ('model = "osnet_x0_25"\nerase = 1.5', "erase must be a probability"),
        ("model = osnet", "is no TOML file"),
    ],
)
def test_a_mistake_in_a_recipe_is_named_in_one_line(text: str, message: str, tmp_path: Path) -> None:
    (tmp_path / "bad.toml").write_text(text)
    with pytest.raises(InputError, match=message) as error:
        TrainConfig.from_toml(tmp_path / "bad.toml")
    assert "\n" not in str(error.value) and "bad.toml" in str(error.value)


def test_the_command_line_dumps_a_recipe_and_reads_it_back(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for arguments in (["--model", "mobilenetv3_large", "--epochs", "7"], ["--config", str(tmp_path / "r.toml")]):
        with pytest.raises(SystemExit) as ended:
            main(["train", *arguments, "--lr", "0.002", "--dump-config"])
        assert not ended.value.code
        (tmp_path / "r.toml").write_text(capsys.readouterr().out)
        config = TrainConfig.from_toml(tmp_path / "r.toml")
        assert (config.model, config.epochs, config.learning_rate) == ("mobilenetv3_large", 7, 0.002)


@pytest.mark.parametrize("arguments", [[], ["--model", "osnet_x0_25", "--config", "r.toml"]])
def test_a_recipe_comes_from_one_place(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["train", *arguments, "--data", "x", "--out", "y"])
    assert ended.value.code == 2 and "--model NAME" in capsys.readouterr().err


def test_the_seed_recipe_keeps_the_papers_defects() -> None:
    config = recipe_for("mobilenetv3_large", recipe="seed")
    assert config.model == "mobilenetv3_large_seed" and config.sigmoid_logits and config.classes == 751
    assert (config.optimizer, config.momentum, config.learning_rate) == ("sgd", 0.95, 3.5e-4)
    assert not recipe_for("osnet_x0_25", recipe="seed").sigmoid_logits
    with pytest.raises(InputError, match="the seed recipe has no osnet_x0_5"):
        recipe_for("osnet_x0_5", recipe="seed")
    with pytest.raises(InputError, match="recipe 'best' is unknown"):
        recipe_for("osnet_x0_25", recipe="best")


def test_a_seed_run_steps_with_751_classes_and_still_centers() -> None:
    run = Run(recipe_for("osnet_x0_25", recipe="seed"), people=3)
    assert run.model.classifier is not None and run.model.classifier.out_features == 751
    centers = run.centers.centers.detach().clone()
    run.set_learning_rate(1.0)
    run.model.train()
    losses = run.step(torch.randn(6, 3, 64, 32), torch.arange(3).repeat_interleave(2))
    assert set(losses) == {"id", "triplet", "center"}
    assert torch.equal(centers, run.centers.centers), "the paper's centers were never optimised"
    with pytest.raises(InputError, match="752 people to train on, and classes is 751"):
        Run(recipe_for("osnet_x0_25", recipe="seed"), people=752)


def test_finetune_takes_the_model_from_our_own_file_and_starts_from_its_weights(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from reid_edge.training.checkpoint import Checkpoint, card_of, save_checkpoint
    from reid_edge.training.models import build_model

    model = build_model("mobilenetv3_large").eval()
    save_checkpoint(Checkpoint(card_of(model, input_hw=(64, 32)), model.state_dict()), tmp_path / "m.pth")
    with pytest.raises(SystemExit) as ended:
        main(["train", "--finetune", str(tmp_path / "m.pth"), "--dump-config"])
    assert not ended.value.code
    (tmp_path / "r.toml").write_text(capsys.readouterr().out)
    config = TrainConfig.from_toml(tmp_path / "r.toml")
    assert config == recipe_for("mobilenetv3_large", recipe="finetune")
    assert (config.epochs, config.schedule, config.warmup_epochs) == (20, "cosine", 1)
    assert recipe_for("osnet_x0_25", recipe="finetune").options == {"neck": True}
