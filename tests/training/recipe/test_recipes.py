"""Recipes: TOML there and back, mistakes named, and the seed paper's own with its defects."""

from __future__ import annotations

from pathlib import Path

import pytest

torch = pytest.importorskip("torch", reason="training tests need the train extra")

from reid_edge.cli import main  # noqa: E402
from reid_edge.errors import InputError  # noqa: E402
from reid_edge.training.loop import train_step  # noqa: E402
from reid_edge.training.models.registry import ARCHITECTURES  # noqa: E402
from reid_edge.training.recipe.config import TrainConfig  # noqa: E402
from reid_edge.training.recipe.recipes import recipe_for  # noqa: E402
from reid_edge.training.trainer import Trainer  # noqa: E402


@pytest.mark.parametrize("model", list(ARCHITECTURES))
def test_every_recipe_goes_through_toml_unchanged(model: str, tmp_path: Path) -> None:
    config = recipe_for(model, epochs=12)
    (tmp_path / "r.toml").write_text(config.to_toml())
    assert TrainConfig.from_toml(tmp_path / "r.toml") == config


def test_an_edited_recipe_is_read_and_the_rest_has_its_default(tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    path.write_text('arch = "osnet_x0_25"\nlearning_rate = 1 # a whole number\noptions = { neck = true }\npad = 3\n')
    expected = TrainConfig(arch="osnet_x0_25", learning_rate=1.0, options={"neck": True}, pad=3)
    assert TrainConfig.from_toml(path) == expected


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            'arch = "osnet_x0_25"\nlearnin_rate = 1.0',
            "unknown training settings learnin_rate: the known ones",
        ),
        ("epochs = 3", "arch is missing"),
        ('arch = "osnet_x0_25"\nlearning_rate = "fast"', "learning_rate must be a number"),
        ('arch = "osnet_x0_25"\npad = 2.5', "pad must be a whole number"),
        ('arch = "osnet_x0_25"\ncompile = 1', "compile must be true or false"),
        ('arch = "osnet_x0_25"\ninput_hw = [256]', "input_hw must be a height and a width"),
        ('arch = "osnet_x0_25"\nerase = 1.5', r"erase must be in \[0, 1\], not 1.5"),
        ('arch = "osnet_x0_25"\nseed = -1', r"seed must be in \[0, "),
        ('arch = "osnet_x0_25"\nepochs = 1000000000', r"epochs must be in \[1, 10000\]"),
        ('arch = "osnet_x0_25"\nlearning_rate = -0.1', r"learning_rate must be in \(0, 1e30\], not -0.1"),
        ('arch = "osnet_x0_25"\ntriplet_margin = nan', "triplet_margin must be in .*not nan"),
        ('arch = "osnet_x0_25"\ncenter_weight = inf', "center_weight must be in .*not inf"),
        ('arch = "osnet_x0_25"\nlearning_rate = 1e308', r"learning_rate must be in .*not 1e\+308"),
        (f'arch = "osnet_x0_25"\nflip = {10**400}', "flip must be a number"),
        ('arch = "osnet_x0_25"\nlabel_smoothing = 2', "label_smoothing must be in .*not 2.0"),
        ('arch = "osnet_x0_25"\nidentities_per_batch = 0', "identities_per_batch must be in .*not 0"),
        ('arch = "osnet_x0_25"\ninput_hw = [1000000, 1000000]', "input_hw must be in .*not 1000000"),
        ('arch = "osnet_x0_25"\nmilestones = [-4]', "milestones must be in .*not -4"),
        ('arch = "osnet_x0_25"\nresize = "nearest"', "resize must be one of opencv, pillow-bilinear"),
        ("arch = osnet", "is not a TOML file"),
    ],
)
def test_a_mistake_in_a_recipe_is_named_in_one_line(text: str, message: str, tmp_path: Path) -> None:
    (tmp_path / "bad.toml").write_text(text)
    with pytest.raises(InputError, match=message) as error:
        TrainConfig.from_toml(tmp_path / "bad.toml")
    assert "\n" not in str(error.value) and "bad.toml" in str(error.value)


def test_the_command_line_dumps_a_recipe_and_reads_it_back(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for arguments in (["--arch", "mobilenetv3_large", "--epochs", "7"], ["--config", str(tmp_path / "r.toml")]):
        with pytest.raises(SystemExit) as ended:
            main(["train", *arguments, "--lr", "0.002", "--dump-config"])
        assert not ended.value.code
        (tmp_path / "r.toml").write_text(capsys.readouterr().out)
        config = TrainConfig.from_toml(tmp_path / "r.toml")
        assert (config.arch, config.epochs, config.learning_rate) == ("mobilenetv3_large", 7, 0.002)


@pytest.mark.parametrize("wrong", ["--seed -1", "--size 1000000 1000000", "--lr nan", "-P 0", "--epochs 1000000000"])
def test_an_impossible_setting_ends_at_once_in_one_line(
    wrong: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "run"
    with pytest.raises(SystemExit) as ended:
        main(["train", "--arch", "osnet_x0_25", *wrong.split(), "--data", str(tmp_path), "--out", str(out)])
    said = capsys.readouterr()
    assert (
        ended.value.code == 2 and said.err.count("\n") == 1 and ("must be in" in said.err or "greater than" in said.err)
    )
    assert not out.exists()


@pytest.mark.parametrize("arguments", [[], ["--arch", "osnet_x0_25", "--config", "r.toml"]])
def test_a_recipe_comes_from_one_place(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["train", *arguments, "--data", "x", "--out", "y"])
    assert ended.value.code == 2 and "--arch NAME" in capsys.readouterr().err


def test_the_seed_recipe_keeps_the_papers_defects() -> None:
    config = recipe_for("mobilenetv3_large", recipe="seed")
    assert config.arch == "mobilenetv3_large_seed" and config.sigmoid_logits and config.classes == 751
    assert (config.optimizer, config.momentum, config.learning_rate) == ("sgd", 0.95, 3.5e-4)
    assert not recipe_for("osnet_x0_25", recipe="seed").sigmoid_logits
    with pytest.raises(InputError, match="the seed recipe has no osnet_x0_5"):
        recipe_for("osnet_x0_5", recipe="seed")
    with pytest.raises(InputError, match="recipe 'best' is unknown"):
        recipe_for("osnet_x0_25", recipe="best")


def test_a_seed_run_steps_with_751_classes_and_still_centers() -> None:
    trainer = Trainer(recipe_for("osnet_x0_25", recipe="seed"), identities=3)
    assert trainer.model.classifier is not None and trainer.model.classifier.out_features == 751
    centers = trainer.centers.centers.detach().clone()
    trainer.set_learning_rate(1.0)
    trainer.model.train()
    losses = train_step(trainer, torch.randn(6, 3, 64, 32), torch.arange(3).repeat_interleave(2))
    assert set(losses) == {"id", "triplet", "center"}
    assert torch.equal(centers, trainer.centers.centers), "the paper's centers were never optimised"
    with pytest.raises(InputError, match="752 identities to train on, and classes is 751"):
        Trainer(recipe_for("osnet_x0_25", recipe="seed"), identities=752)


def test_finetune_takes_the_model_from_our_own_file_and_starts_from_its_weights(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from reid_edge.training.models.checkpoint import Checkpoint, card_of, save_checkpoint
    from reid_edge.training.models.registry import build_model

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
