"""The plan: every job once, after those that it needs, and only where its data is given."""

from __future__ import annotations

import pytest
from helpers.drawn_matrix import STEM

pytest.importorskip("torch", reason="training tests need the train extra")

from reid_edge.data.datasets import Dataset  # noqa: E402
from reid_edge.errors import InputError  # noqa: E402
from reid_edge.training.experiments.plan import ARCHS, Work, cells_of, jobs_for, recipe_maker, work_of  # noqa: E402


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
    assert len(cells_of(ARCHS, ("seed",))) == 21 and len(cells_of(ARCHS, ("seed", "default"))) == 42
    config = recipe_maker(None, {})("resnet50_bot", "seed", False)
    assert (config.arch, config.optimizer, config.classes) == ("resnet50_seed", "sgd", 751)
    assert recipe_maker(None, {})("resnet50_bot", "default", False).arch == "resnet50_bot"


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
