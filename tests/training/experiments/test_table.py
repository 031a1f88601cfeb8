"""Table I and the figures: every number is an evaluation's, beside the paper's and others'."""

from __future__ import annotations

import csv
import re
from pathlib import Path

import pytest
from helpers.drawn_matrix import STEM

pytest.importorskip("torch", reason="training tests need the train extra")
pytest.importorskip("matplotlib", reason="figures need the report extra")

from reid_edge.data.datasets import Dataset  # noqa: E402
from reid_edge.scoring.evaluation import evaluate  # noqa: E402
from reid_edge.training.models.checkpoint import load_model  # noqa: E402
from reid_edge.training.models.torch_engine import TorchEngine  # noqa: E402


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
