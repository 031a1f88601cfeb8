"""The paper's matrix on a few drawn people: it runs whole, goes on where it stopped, and tells what is missing."""

from __future__ import annotations

import csv
import json
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch", reason="training tests need the train extra")
pytest.importorskip("matplotlib", reason="figures need the report extra")

from reid_edge.cli import main  # noqa: E402
from reid_edge.datasets import Dataset, open_dataset  # noqa: E402
from reid_edge.errors import DatasetError, GateError, InputError, Stopped  # noqa: E402
from reid_edge.evaluation import evaluate  # noqa: E402
from reid_edge.synthetic import synthesize  # noqa: E402
from reid_edge.training.checkpoint import load_model  # noqa: E402
from reid_edge.training.inference import TorchEngine  # noqa: E402
from reid_edge.training.plan import MODELS, Work, cells_of, jobs_for, recipe_maker, work_of  # noqa: E402
from reid_edge.training.published import PUBLISHED, by_others, of_the_paper  # noqa: E402
from reid_edge.training.reproduce import reproduce  # noqa: E402

TINY: dict[str, Any] = {"people_per_batch": 3, "crops_per_person": 2, "input_hw": (64, 32), "pad": 2}
SMALL: dict[str, Any] = {"models": ("osnet_x0_25",), "epochs": 1, "change": TINY, "device": "cpu"}
STEM = "osnet_x0_25-seed"

Sets = dict[str, Path]


@pytest.fixture(scope="module")
def sets(tmp_path_factory: pytest.TempPathFactory) -> Sets:
    """Drawn people in the layouts of the three data sets; LaST shows the people of Duke."""
    root = tmp_path_factory.mktemp("sets")
    drawn = [
        synthesize(
            root / str(seed), people=6, test_people=4, cameras=3, images_per_camera=2, size_hw=(64, 32), seed=seed
        )
        for seed in (1, 2)
    ]
    for folder, number, pid, camera, path in _named(drawn[1]):
        _copy(path, root / "duke" / folder / f"{pid}_c{camera}_f{number:07d}{path.suffix}")
        if folder == "query":
            _copy(path, root / "last/val/query" / f"{pid}_{number}_0{path.suffix}")
        if folder == "bounding_box_test":
            _copy(path, root / "last/val/gallery" / pid / f"{pid}_{number}_0{path.suffix}")
    return {"market": drawn[0], "duke": root / "duke", "last": root / "last"}


def _named(root: Path) -> Iterator[tuple[str, int, str, str, Path]]:
    for folder in ("bounding_box_train", "bounding_box_test", "query"):
        for number, path in enumerate(sorted((root / folder).iterdir())):
            if found := re.match(r"(\d+)_c(\d)", path.name):
                yield folder, number, found[1], found[2], path


def _copy(source: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.copy(source, target)


@pytest.fixture(scope="module")
def opened(sets: Sets) -> dict[str, Dataset]:
    return {name: open_dataset(path, part="val" if name == "last" else "test") for name, path in sets.items()}


@pytest.fixture(scope="module", autouse=True)
def _own_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("REID_EDGE_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture(scope="module")
def whole(sets: Sets, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[str]]:
    """An uninterrupted run over the three data sets, and what it said."""
    out, said = tmp_path_factory.mktemp("whole"), []
    reproduce(out, **sets, **SMALL, say=said.append)
    return out, said


def _jobs(said: list[str]) -> list[str]:
    return [line.split(": ")[1] for line in said if line.startswith("job ")]


def _results(out: Path) -> dict[str, int]:
    return {str(path.parent.relative_to(out)): path.stat().st_mtime_ns for path in out.rglob("result.json")}


def test_the_plan_of_one_model_has_every_job_once_after_what_it_needs(opened: dict[str, Dataset]) -> None:
    planned = jobs_for(cells_of(("osnet_x0_25",), ("seed",)), opened, recipe_maker(None, {}))
    jobs = list({job.folder: job for jobs in planned.values() for job in jobs}.values())
    kinds = [job.kind for job in jobs]
    assert (kinds.count("train"), kinds.count("finetune"), kinds.count("evaluate")) == (2, 2, 7)
    folders = [job.folder for job in jobs]
    assert all(job.after is None or folders.index(job.after) < folders.index(job.folder) for job in jobs)
    assert {job.config.epochs for job in jobs if job.config and job.kind == "finetune"} == {10}
    tuned = next(job for job in jobs if job.folder == f"finetune/{STEM}-market-duke")
    assert (tuned.after, tuned.data) == (f"train/{STEM}-market", "duke")


def test_data_that_is_missing_leaves_out_its_jobs_and_no_other(opened: dict[str, Dataset]) -> None:
    def folders(*names: str) -> list[str]:
        given = {name: opened[name] for name in names}
        planned = jobs_for(cells_of(("osnet_x0_25",), ("seed",)), given, recipe_maker(None, {}))
        return [jobs[-1].folder for jobs in planned.values()]

    assert folders("market") == [f"evaluate/{STEM}-market--market-test"]
    assert folders("market", "last") == [
        f"evaluate/{STEM}-market--market-test",
        f"evaluate/{STEM}-market--last-val",
    ]
    assert folders("duke", "last") == [f"evaluate/{STEM}-duke--duke-test"], "LaST is scored by Market's models"
    assert folders("last") == []


def test_the_matrix_has_three_models_and_each_recipe() -> None:
    assert len(cells_of(MODELS, ("seed",))) == 21 and len(cells_of(MODELS, ("seed", "default"))) == 42
    config = recipe_maker(None, {})("resnet50_bot", "seed", False)
    assert (config.model, config.optimizer, config.classes) == ("resnet50_seed", "sgd", 751)
    assert recipe_maker(None, {})("resnet50_bot", "default", False).model == "resnet50_bot"


def test_epochs_replace_training_and_bound_fine_tuning() -> None:
    few, many = recipe_maker(3, {}), recipe_maker(40, {})
    assert [few("osnet_x0_25", "seed", tune).epochs for tune in (False, True)] == [3, 3]
    assert [many("osnet_x0_25", "seed", tune).epochs for tune in (False, True)] == [40, 10]
    with pytest.raises(InputError, match="unknown training settings in colour"):
        recipe_maker(3, {"colour": 1})("osnet_x0_25", "seed", False)


def test_the_work_is_counted_by_hand(opened: dict[str, Dataset]) -> None:
    planned = jobs_for(cells_of(("osnet_x0_25",), ("seed",)), {"market": opened["market"]}, recipe_maker(4, {}))
    split = opened["market"].split
    (jobs,) = planned.values()
    assert work_of(jobs, opened) == Work(4 * len(split.train), len(split.query) + len(split.gallery))
    assert Work(trained=900_000, embedded=300_000).hours(100) == pytest.approx(1_000_000 / 100 / 3600)


def test_the_papers_figures_are_found_and_others_do_not_mix_in() -> None:
    assert str(of_the_paper("resnet50_bot", "Market-1501")) == "89.4/75.5"
    assert str(of_the_paper("mobilenetv3_large", "DukeMTMC-reID")) == "51.4/31.8"
    assert of_the_paper("osnet_x0_25", "LaST") is None
    assert [str(row) for row in by_others("osnet_x0_25", "Market-1501")] == ["91.2/75.0"], "not the one from MSMT17"
    assert [str(row) for row in by_others("resnet50_bot", "Market-1501")] == ["94.5/85.9", "94.4/86.1"]
    assert all(row.mAP < row.rank1 <= 100 for row in PUBLISHED)


def test_the_table_has_ours_beside_the_papers_and_says_which_split(whole: tuple[Path, list[str]]) -> None:
    text = (whole[0] / "table1.md").read_text()
    caption = text.splitlines()[0]
    assert caption.startswith("**Table I.**") and "LaST: the `val` split (10 queries, 18 gallery crops)" in caption
    assert "the paper's LaST column was measured on `val`" in caption and "no flip averaging" in caption
    assert "osnet_x0_25, seed: 1 epoch from random weights at 64x32" in caption
    rows = [line.strip("| ").split(" | ") for line in text.splitlines() if line.startswith("| osnet")][:7]
    cells = {tuple(re.sub(r" \[\d+\]", "", cell) for cell in row[2:4]): row[4:] for row in rows}
    assert len(cells) == 7
    ours, paper, others = cells["Market-1501", "Market-1501"]
    assert re.fullmatch(r"\d+\.\d/\d+\.\d", ours) and paper == "77.3/56.3" and others.startswith("91.2/75.0")
    assert cells["DukeMTMC-reID", "DukeMTMC-reID"][1] == "69.9/50.8"
    number = cells["Market-1501", "LaST (val)"][1].removeprefix("- ")
    assert f"\n{number.strip('[]')}. No figure of the paper" in text
    assert "Market-1501, then 1 epoch of DukeMTMC-reID" in text
    assert "not to be compared with published figures" in text, "these are drawn people"


def test_every_figure_is_that_of_an_evaluation_on_its_own(
    whole: tuple[Path, list[str]], opened: dict[str, Dataset]
) -> None:
    with open(whole[0] / "table1.csv", newline="") as file:
        lines = list(csv.DictReader(file))
    assert len(lines) == 7 * 3
    plain = next(line for line in lines if line["distance"] == "euclidean")
    ours = f"{float(plain['rank1_percent']):.1f}/{float(plain['mAP_percent']):.1f}"
    assert f"| {ours} | 77.3/56.3 |" in (whole[0] / "table1.md").read_text(), "Table I is by euclidean distance"
    checked = {
        ("market", "", "last"): f"train/{STEM}-market",
        ("duke", "market", "market"): f"finetune/{STEM}-duke-market",
    }
    for (trained, tuned, scored), folder in checked.items():
        for line in lines:
            if (line["trained_on"], line["finetuned_on"], line["scored_on"]) == (trained, tuned, scored):
                with TorchEngine(*load_model(whole[0] / folder / "model.pth")) as engine:
                    metrics = evaluate(engine, opened[scored], line["distance"], batch=64).metrics
                assert [float(line[f"{name}_percent"]) for name in ("rank1", "rank10", "mAP", "mINP")] == pytest.approx(
                    [100 * value for value in (metrics.rank(1), metrics.rank(10), metrics.mAP, metrics.mINP)], abs=0.006
                )


def test_cmc_figures_of_each_data_set(whole: tuple[Path, list[str]]) -> None:
    names = {path.name for path in whole[0].iterdir() if path.name.startswith("cmc-")}
    assert names == {f"cmc-{data}-seed.{kind}" for data in ("market", "duke", "last") for kind in ("png", "svg")}
    market, last = ((whole[0] / f"cmc-{data}-seed.svg").read_text() for data in ("market", "last"))
    assert "osnet_x0_25, the paper" in market and "then 1 epoch of Market-1501" in market
    assert "LaST (val), recipe seed, not the public set" in last and "the paper" not in last


def test_it_says_what_there_is_to_do_and_does_it_in_order(whole: tuple[Path, list[str]]) -> None:
    out, said = whole
    assert "DukeMTMC-reID was withdrawn" in said[0]
    assert said[1].startswith("11 jobs, 11 to do: ") and " images/s" in said[1]
    assert len(_jobs(said)) == 11 and set(_jobs(said)) == set(_results(out))
    assert sum(line.startswith("485 of 485 tensors loaded") for line in said) == 2, "fine-tuning starts from a model"
    assert not any("rank1" in line for line in said), "a training is not scored: its evaluation is a job"


def test_a_run_that_was_killed_goes_on_and_ends_with_the_same_table(
    sets: Sets, whole: tuple[Path, list[str]], tmp_path: Path
) -> None:
    def until(line: str, error: type[BaseException], said: list[str]) -> None:
        def say(text: str) -> None:
            said.append(text)
            if line in text:
                raise error("killed here")

        with pytest.raises(error):
            reproduce(tmp_path, **sets, **SMALL, say=say)

    until(f"train/{STEM}-duke", KeyboardInterrupt, [])
    done = _results(tmp_path)
    assert set(done) == {f"train/{STEM}-market", f"evaluate/{STEM}-market--market-test"}
    assert "Not done yet" in (tmp_path / "table1.md").read_text()
    second: list[str] = []
    until("epoch 1: ", Stopped, second)
    assert _jobs(second) == [f"train/{STEM}-duke"], "asked to stop, it does not go on with the next job"
    third: list[str] = []
    reproduce(tmp_path, **sets, **SMALL, say=third.append)
    assert set(_jobs(third)) == set(_results(tmp_path)) - set(done)
    assert {name: _results(tmp_path)[name] for name in done} == done, "what was done was not done again"
    for name in ("table1.md", "table1.csv", "cmc-market-seed.svg"):
        assert (tmp_path / name).read_bytes() == (whole[0] / name).read_bytes()


def test_a_training_that_was_killed_goes_on_from_its_checkpoint(sets: Sets, tmp_path: Path) -> None:
    def say(text: str) -> None:
        if text.startswith("epoch 2"):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        reproduce(tmp_path, market=sets["market"], **SMALL | {"epochs": 2}, say=say)
    said: list[str] = []
    reproduce(tmp_path, market=sets["market"], **SMALL | {"epochs": 2}, say=said.append)
    assert any(line.startswith("resuming") and "after epoch 1 of 2" in line for line in said)
    assert [line[:7] for line in said if line.startswith("epoch")] == ["epoch 2"]


def test_a_finished_matrix_does_nothing_and_other_settings_are_refused(
    sets: Sets, whole: tuple[Path, list[str]]
) -> None:
    before, said = _results(whole[0]), []
    reproduce(whole[0], **sets, **SMALL, say=said.append)
    assert not _jobs(said) and _results(whole[0]) == before
    with pytest.raises(InputError, match="epochs was 1, now 2.*another --out"):
        reproduce(whole[0], **sets, **SMALL | {"epochs": 2}, say=said.append)
    assert _results(whole[0]) == before


def test_what_stands_on_another_model_than_it_was_made_from_is_not_kept(
    sets: Sets, whole: tuple[Path, list[str]], tmp_path: Path
) -> None:
    out = shutil.copytree(whole[0], tmp_path / "out")
    result = out / f"train/{STEM}-market/result.json"
    result.write_text(json.dumps(json.loads(result.read_text()) | {"weights_sha256": "another"}))
    said: list[str] = []
    with pytest.raises(GateError, match=f"2 of 11 jobs failed, first finetune/{STEM}-market-duke.*delete it to repeat"):
        reproduce(out, **sets, **SMALL, say=said.append)
    redone = {f"evaluate/{STEM}-market--{data}" for data in ("market-test", "last-val", "duke-test")}
    failed = {f"finetune/{STEM}-market-duke", f"evaluate/{STEM}-market-duke--duke-test"}
    assert set(_jobs(said)) == redone | failed


def test_a_failed_job_is_told_the_rest_goes_on_and_a_repeated_command_ends_it(
    sets: Sets, whole: tuple[Path, list[str]], tmp_path: Path
) -> None:
    market = shutil.copytree(sets["market"], tmp_path / "market")
    query = sorted((market / "query").glob("*.jpg"))[0]
    good = query.read_bytes()
    query.write_bytes(b"no image")
    start = {"osnet_x0_25": whole[0] / f"train/{STEM}-duke" / "model.pth"}
    given: dict[str, Any] = {"market": market, "last": sets["last"], "weights": start, **SMALL}
    said: list[str] = []
    with pytest.raises(GateError, match=f"1 of 3 jobs failed, first evaluate/{STEM}-market--market-test") as raised:
        reproduce(tmp_path / "out", **given, say=said.append)
    assert "\n" not in str(raised.value) and query.name in str(raised.value)
    assert _jobs(said)[-1] == f"evaluate/{STEM}-market--last-val", "it went on"
    assert any(line.startswith("485 of 485 tensors loaded") for line in said), "from the given weights"
    text = (tmp_path / "out/table1.md").read_text()
    assert f"evaluate/{STEM}-market--market-test failed: " in text and "Not run: --duke not given." in text
    assert "1 epoch from model.pth" in text.splitlines()[0]
    query.write_bytes(good)
    again: list[str] = []
    reproduce(tmp_path / "out", **given, say=again.append)
    assert _jobs(again) == [f"evaluate/{STEM}-market--market-test"]


def test_what_stands_on_a_failed_training_is_not_begun(sets: Sets, tmp_path: Path) -> None:
    market = shutil.copytree(sets["market"], tmp_path / "market")
    for crop in (market / "bounding_box_train").glob("*.jpg"):
        crop.write_bytes(b"no image")
    with pytest.raises(GateError, match="2 of 2 jobs failed"):
        reproduce(tmp_path / "out", market=market, **SMALL, say=lambda line: None)
    assert not (tmp_path / "out/evaluate").exists()
    assert f"train/{STEM}-market failed: " in (tmp_path / "out/table1.md").read_text()


def test_bad_use_is_told_before_anything_is_made(sets: Sets, tmp_path: Path) -> None:
    out = tmp_path / "out"
    for given, error, message in (
        ({"last": sets["last"]}, InputError, "--market PATH, --duke PATH or both"),
        ({"duke": sets["market"]}, DatasetError, "laid out as market1501: --duke takes the folder of DukeMTMC-reID"),
        ({"market": sets["market"], "weights": {"vgg": out}}, InputError, "weights for vgg"),
        ({"market": sets["market"], "weights": {"osnet_x0_25": out}}, InputError, "does not exist"),
        ({"market": sets["market"], "recipes": ("other",)}, InputError, "recipe 'other' is unknown"),
        (
            {"market": sets["market"], "last": sets["last"], "last_part": "test"},
            DatasetError,
            "holds no crops: found val",
        ),
    ):
        with pytest.raises(error, match=message):
            reproduce(out, **SMALL | given, say=lambda line: None)
    assert not out.exists()


def test_a_damaged_result_names_itself(sets: Sets, whole: tuple[Path, list[str]], tmp_path: Path) -> None:
    out = shutil.copytree(whole[0], tmp_path / "out")
    (out / f"evaluate/{STEM}-market--last-val/result.json").write_text("[]")
    with pytest.raises(InputError, match="result.json is damaged: delete it"):
        reproduce(out, **sets, **SMALL, say=lambda line: None)


def test_the_command_runs_the_matrix_and_names_what_it_wrote(
    sets: Sets, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    asked = f"reproduce --market {sets['market']} --last {sets['last']} --model osnet_x0_25 --epochs 1 -P 3"
    with pytest.raises(SystemExit) as ended:
        main([*asked.split(), "--size", "64", "32", "--out", str(tmp_path / "r"), "--device", "cpu", "--threads", "1"])
    assert not ended.value.code
    wrote = {line.removeprefix("wrote ") for line in capsys.readouterr().out.splitlines() if line.startswith("wrote ")}
    assert {Path(path).name for path in wrote} >= {
        "table1.md",
        "table1.csv",
        "cmc-market-seed.png",
        "cmc-last-seed.svg",
    }
    assert all(Path(path).stat().st_size for path in wrote)


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        ("", "give --market PATH"),
        ("--weights osnet_x0_25", "give --weights MODEL=FILE"),
        ("--weights osnet_x0_25=absent.pth", "absent.pth"),
    ],
)
def test_the_command_refuses_bad_use(
    sets: Sets, tmp_path: Path, asked: str, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    data = ["--market", str(sets["market"])] if asked else []
    with pytest.raises(SystemExit) as ended:
        main(["reproduce", *data, *asked.split(), "--out", str(tmp_path / "r")])
    assert ended.value.code == 2
    assert said in capsys.readouterr().err
    assert not (tmp_path / "r").exists()
