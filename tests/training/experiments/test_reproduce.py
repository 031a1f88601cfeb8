"""The paper's matrix on a few drawn people: it runs whole, continues where it stopped, and names what is missing."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from helpers.drawn_matrix import SMALL, STEM, Sets, jobs_in, results_in
from helpers.log import logged

pytest.importorskip("torch", reason="training tests need the train extra")
pytest.importorskip("matplotlib", reason="figures need the report extra")

from reid_edge.cli import main  # noqa: E402
from reid_edge.errors import DatasetError, GateError, InputError, Stopped  # noqa: E402
from reid_edge.training.experiments.reproduce import reproduce  # noqa: E402

pytestmark = pytest.mark.usefixtures("own_cache")


def test_it_says_what_there_is_to_do_and_does_it_in_order(whole: tuple[Path, list[str]]) -> None:
    out, said = whole
    assert "DukeMTMC-reID was withdrawn" in said[0]
    assert said[1].startswith("11 jobs, 11 to do: ") and " images/s" in said[1]
    assert len(jobs_in(said)) == 11 and set(jobs_in(said)) == set(results_in(out))
    assert sum(line.startswith("485 of 485 tensors loaded") for line in said) == 2, "fine-tuning starts from a model"
    assert not any("rank1" in line for line in said), "a training is not scored: its evaluation is a job"


def test_a_run_that_was_killed_goes_on_and_ends_with_the_same_table(
    sets: Sets, whole: tuple[Path, list[str]], tmp_path: Path
) -> None:
    def until(line: str, error: type[BaseException]) -> list[str]:
        def kill(text: str) -> None:
            if line in text:
                raise error("killed here")

        with logged(kill) as said, pytest.raises(error):
            reproduce(tmp_path, **sets, **SMALL)
        return said

    until(f"train/{STEM}-duke", KeyboardInterrupt)
    done = results_in(tmp_path)
    assert set(done) == {f"train/{STEM}-market", f"evaluate/{STEM}-market--market-test"}
    assert "Not done yet" in (tmp_path / "table1.md").read_text()
    second = until("epoch 1: ", Stopped)
    assert jobs_in(second) == [f"train/{STEM}-duke"], "asked to stop, it does not go on with the next job"
    with logged() as third:
        reproduce(tmp_path, **sets, **SMALL)
    assert set(jobs_in(third)) == set(results_in(tmp_path)) - set(done)
    assert {name: results_in(tmp_path)[name] for name in done} == done, "what was done was not done again"
    for name in ("table1.md", "table1.csv", "cmc-market-seed.svg"):
        assert (tmp_path / name).read_bytes() == (whole[0] / name).read_bytes()


def test_a_training_that_was_killed_goes_on_from_its_checkpoint(sets: Sets, tmp_path: Path) -> None:
    def kill(text: str) -> None:
        if text.startswith("epoch 2"):
            raise KeyboardInterrupt

    with logged(kill), pytest.raises(KeyboardInterrupt):
        reproduce(tmp_path, market=sets["market"], **SMALL | {"epochs": 2})
    with logged() as said:
        reproduce(tmp_path, market=sets["market"], **SMALL | {"epochs": 2})
    assert any(line.startswith("resuming") and "after epoch 1 of 2" in line for line in said)
    assert {line[:7] for line in said if line.startswith("epoch")} == {"epoch 2"}


def test_a_finished_matrix_does_nothing_and_other_settings_are_refused(
    sets: Sets, whole: tuple[Path, list[str]]
) -> None:
    before = results_in(whole[0])
    with logged() as said:
        reproduce(whole[0], **sets, **SMALL)
    assert not jobs_in(said) and results_in(whole[0]) == before
    with pytest.raises(InputError, match="epochs was 1, now 2.*another --out"):
        reproduce(whole[0], **sets, **SMALL | {"epochs": 2})
    assert results_in(whole[0]) == before


def test_a_folder_made_before_settings_were_renamed_is_read(
    sets: Sets, whole: tuple[Path, list[str]], tmp_path: Path
) -> None:
    former = {"arch": "model", "identities_per_batch": "people_per_batch", "crops_per_identity": "crops_per_person"}
    out = shutil.copytree(whole[0], tmp_path / "out")
    for path in out.rglob("job.json"):
        job = json.loads(path.read_text())
        job["settings"] = {former.get(name, name): value for name, value in job["settings"].items()}
        path.write_text(json.dumps(job))
    with logged() as said:
        reproduce(out, **sets, **SMALL)
    assert not jobs_in(said)


def test_a_result_from_another_model_than_there_is_now_is_not_kept(
    sets: Sets, whole: tuple[Path, list[str]], tmp_path: Path
) -> None:
    out = shutil.copytree(whole[0], tmp_path / "out")
    result = out / f"train/{STEM}-market/result.json"
    result.write_text(json.dumps(json.loads(result.read_text()) | {"weights_sha256": "another"}))
    with (
        logged() as said,
        pytest.raises(GateError, match=f"2 of 11 jobs failed, first finetune/{STEM}-market-duke.*delete it to repeat"),
    ):
        reproduce(out, **sets, **SMALL)
    redone = {f"evaluate/{STEM}-market--{data}" for data in ("market-test", "last-val", "duke-test")}
    failed = {f"finetune/{STEM}-market-duke", f"evaluate/{STEM}-market-duke--duke-test"}
    assert set(jobs_in(said)) == redone | failed


def test_a_failed_job_is_logged_the_others_run_and_a_repeated_command_completes_it(
    sets: Sets, whole: tuple[Path, list[str]], tmp_path: Path
) -> None:
    market = shutil.copytree(sets["market"], tmp_path / "market")
    query = sorted((market / "query").glob("*.jpg"))[0]
    good = query.read_bytes()
    query.write_bytes(b"no image")
    start = {"osnet_x0_25": whole[0] / f"train/{STEM}-duke" / "model.pth"}
    given: dict[str, Any] = {"market": market, "last": sets["last"], "weights": start, **SMALL}
    failure = f"1 of 3 jobs failed, first evaluate/{STEM}-market--market-test"
    with logged() as said, pytest.raises(GateError, match=failure) as raised:
        reproduce(tmp_path / "out", **given)
    assert "\n" not in str(raised.value) and query.name in str(raised.value)
    assert jobs_in(said)[-1] == f"evaluate/{STEM}-market--last-val", "it went on"
    assert any(line.startswith("485 of 485 tensors loaded") for line in said), "from the given weights"
    text = (tmp_path / "out/table1.md").read_text()
    assert f"evaluate/{STEM}-market--market-test failed: " in text and "Not run: --duke not given." in text
    assert "1 epoch from model.pth" in text.splitlines()[0]
    query.write_bytes(good)
    with logged() as again:
        reproduce(tmp_path / "out", **given)
    assert jobs_in(again) == [f"evaluate/{STEM}-market--market-test"]


def test_jobs_that_need_a_failed_training_are_not_begun(sets: Sets, tmp_path: Path) -> None:
    market = shutil.copytree(sets["market"], tmp_path / "market")
    for crop in (market / "bounding_box_train").glob("*.jpg"):
        crop.write_bytes(b"no image")
    with pytest.raises(GateError, match="2 of 2 jobs failed"):
        reproduce(tmp_path / "out", market=market, **SMALL)
    assert not (tmp_path / "out/evaluate").exists()
    assert f"train/{STEM}-market failed: " in (tmp_path / "out/table1.md").read_text()


def test_bad_use_is_refused_before_anything_is_written(sets: Sets, tmp_path: Path) -> None:
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
            reproduce(out, **SMALL | given)
    assert not out.exists()


def test_a_damaged_result_names_itself(sets: Sets, whole: tuple[Path, list[str]], tmp_path: Path) -> None:
    out = shutil.copytree(whole[0], tmp_path / "out")
    (out / f"evaluate/{STEM}-market--last-val/result.json").write_text("[]")
    with pytest.raises(InputError, match="result.json is damaged: delete it"):
        reproduce(out, **sets, **SMALL)


def test_the_command_runs_the_matrix_and_names_what_it_wrote(
    sets: Sets, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    asked = f"reproduce --market {sets['market']} --last {sets['last']} --arch osnet_x0_25 --epochs 1 -P 3"
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
        ("--weights osnet_x0_25", "give --weights NAME=FILE"),
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
