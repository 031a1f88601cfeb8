"""The pair head's training: measures against definitions, calibration on known odds, and a head that must win."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from helpers.log import logged
from hypothesis import example, given, settings
from hypothesis import strategies as st
from rich.console import Console

torch = pytest.importorskip("torch", reason="training tests need the train extra")

from reid_edge.cli import main  # noqa: E402
from reid_edge.data.synthetic.dataset import synthesize  # noqa: E402
from reid_edge.errors import DatasetError, InputError  # noqa: E402
from reid_edge.pair_head import PairHead  # noqa: E402
from reid_edge.training.pairs.calibrate import calibrated  # noqa: E402
from reid_edge.training.pairs.choose import choose  # noqa: E402
from reid_edge.training.pairs.draw import Embedded, draw_pairs, pairs_of  # noqa: E402
from reid_edge.training.pairs.fit import Tower, train_pair_head  # noqa: E402
from reid_edge.training.pairs.measures import Pairs, Roc, bootstrap, measure  # noqa: E402
from reid_edge.training.pairs.report import pair_table  # noqa: E402


def _pairs(log_odds: list[float], same: list[int]) -> Pairs:
    return Pairs(np.array(log_odds), np.array(same, bool), np.zeros((2, len(same)), np.int64))


def _people(count: int, crops: int = 6, dim: int = 16, noise: float = 0.6, seed: int = 0) -> Embedded:
    """People as clusters in half of the dimensions; the other half is the camera's, and says nothing of them."""
    rng = np.random.default_rng(seed)
    people, cameras = np.repeat(np.arange(count), crops), np.tile(np.arange(crops) % 3, count)
    who = rng.normal(size=(count, dim // 2))[people] + noise * rng.normal(size=(count * crops, dim // 2))
    where = 1.5 * rng.normal(size=(count * crops, dim // 2))
    rows = np.concatenate([who, where], axis=1)
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    return Embedded(rows.astype(np.float32), people, cameras)


def test_measures_of_a_case_worked_by_hand() -> None:
    # Scores 3 and 1 are of one person, 2 and 0 of two: of four comparisons, 3 > 2, 3 > 0 and 1 > 0 are right.
    told = measure(_pairs([3, 1, 2, 0], [1, 1, 0, 0]))
    assert told.auc == pytest.approx(0.75)
    assert told.eer == pytest.approx(0.5)
    assert told.tar_at_far == (0.5, 0.5, 0.5)  # only 3 scores above every wrong pair

    def p(odds: float) -> float:
        return 1 / (1 + np.exp(-odds))

    assert told.nll == pytest.approx(-(np.log(p(3)) + np.log(p(1)) + np.log(1 - p(2)) + np.log(1 - p(0))) / 4)
    assert told.brier == pytest.approx(((1 - p(3)) ** 2 + (1 - p(1)) ** 2 + p(2) ** 2 + p(0) ** 2) / 4)


def test_both_classes_weigh_one_half_whatever_their_numbers() -> None:
    once = measure(_pairs([2, -1], [1, 0]))
    often = measure(_pairs([2] + 9 * [-1], [1] + 9 * [0]))
    assert (often.nll, often.brier, often.ece) == pytest.approx((once.nll, once.brier, once.ece))


@settings(max_examples=60, deadline=None)
@example([(0, True), (1, False)], 0.9999999999999999)
@given(st.lists(st.tuples(st.integers(-3, 3), st.booleans()), min_size=2, max_size=30), st.floats(0.01, 1))
def test_the_roc_equals_its_definition_with_ties(drawn: list[tuple[int, bool]], rate: float) -> None:
    scores, same = np.array([s for s, _ in drawn], float), np.array([y for _, y in drawn])
    if same.all() or not same.any():
        return
    weights = np.ones(len(same))
    roc = Roc(scores, same)
    wins = [(a > b) + (a == b) / 2 for a in scores[same] for b in scores[~same]]
    assert roc.curve(weights).auc == pytest.approx(np.mean(wins))
    # A rate within rounding (1e-9) of the bound counts as equal to it, as `Roc.threshold` says.
    allowed = [t for t in np.unique(scores) if np.mean(scores[~same] >= t) <= rate * (1 + 1e-9)]
    assert roc.threshold(weights, rate) == (min(allowed) if allowed else float("inf"))


def test_the_bootstrap_draws_people_and_brackets_the_difference() -> None:
    of = _people(30)
    weak, strong = PairHead.of_cosine(16), PairHead(np.eye(8, 16, dtype=np.float32), np.zeros(8, np.float32), 1.0, 0.0)
    first, second = pairs_of(of, weak), pairs_of(of, strong)
    (low, high), (none, nothing) = bootstrap(first, second, [lambda roc: roc.auc, lambda roc: 0.5], rounds=30)
    assert low < measure(second).auc - measure(first).auc < high
    assert low > 0
    assert (none, nothing) == (0, 0)


def test_all_pairs_are_those_of_two_cameras_once() -> None:
    of = _people(4)
    head = PairHead.of_cosine(16)
    naive = [
        (float(of.embeddings[i] @ of.embeddings[j]), of.identities[i] == of.identities[j])
        for i in range(24)
        for j in range(i + 1, 24)
        if of.cameras[i] != of.cameras[j]
    ]
    pairs = pairs_of(of, head)
    np.testing.assert_allclose(pairs.log_odds, [s for s, _ in naive], atol=1e-6)
    np.testing.assert_array_equal(pairs.same, [y for _, y in naive])


def test_drawn_pairs_are_across_cameras_and_hard_ones_are_near() -> None:
    of = _people(40)
    for hard, near in ((1.0, True), (0.0, False)):
        first, second, same = draw_pairs(of, np.random.default_rng(0), hard)
        np.testing.assert_array_equal(of.identities[first] == of.identities[second], same)
        assert (of.cameras[first] != of.cameras[second])[same].all()
        ranks = []
        for a, b in zip(first[~same], second[~same], strict=True):
            others = of.identities != of.identities[a]
            near_to = of.embeddings @ of.embeddings[a]
            ranks.append(int(np.sum(near_to[others] > near_to[b] + 1e-6)))
        assert (max(ranks) < 20) == near


@pytest.mark.parametrize("calibration", ["temperature", "isotonic"])
def test_calibration_finds_odds_that_are_known(calibration: str) -> None:
    """Scores of one person ~ N(1, 1), of two ~ N(-1, 1): the true log-odds at even odds are 2 x score."""
    rng = np.random.default_rng(0)
    scores = np.concatenate([rng.normal(1, 1, 20000), rng.normal(-1, 1, 60000)])
    same = np.arange(80000) < 20000
    head = PairHead(np.eye(2, dtype=np.float32), np.zeros(2, np.float32), 1.0, 0.0)
    wrong = Pairs(5 * scores - 3, same, np.zeros((2, 80000), np.int64))
    right = calibrated(PairHead(head.weight, head.bias, 5.0, -3.0), wrong, calibration)
    told = right.log_odds_of(np.array([-1.0, 0.0, 0.5, 1.0]))  # these stand for cosines
    np.testing.assert_allclose(told, [-2, 0, 1, 2], atol=0.1 if calibration == "temperature" else 0.5)


def test_the_tower_begins_as_the_cosine_and_is_its_head() -> None:
    of = _people(5)
    tower, rows = Tower(16), torch.from_numpy(of.embeddings)
    with torch.no_grad():
        begun = tower(rows[:10], rows[10:20]).numpy()
        np.testing.assert_allclose(begun, 10 * (rows[:10] * rows[10:20]).sum(1).numpy() - 5, atol=1e-5)
        tower.map.weight.normal_(generator=torch.Generator().manual_seed(0))
        tower.map.bias.fill_(0.1)
        changed = tower(rows[:10], rows[10:20]).numpy()
    told = tower.head().probability(of.embeddings[:10], of.embeddings[10:20])
    np.testing.assert_allclose(np.log(told / (1 - told)), changed, atol=1e-4)


def test_separable_pairs_are_calibrated_to_finite_odds() -> None:
    """Platt's targets: of 2 positives and 2 negatives the best probabilities are 3/4 and 1/4, odds of 3 and 1/3."""
    head = calibrated(PairHead.of_cosine(2), _pairs([1, 1, -1, -1], [1, 1, 0, 0]), "temperature")
    np.testing.assert_allclose(head.log_odds_of(np.array([1.0, -1.0])), [np.log(3), -np.log(3)], atol=1e-4)


def test_a_head_learns_what_the_cosine_cannot_see_and_is_calibrated() -> None:
    fit, calibrate, report = _people(400).split((0.6, 0.2, 0.2), np.random.default_rng(0))
    with logged() as messages:
        told = train_pair_head(fit, calibrate, report, seed=1)
    assert not [line for line in messages if "epoch" in line]
    assert told.choice.is_head and told.chosen is told.head
    assert str(told.choice).startswith("pair head, as the pair head's log loss is 0.")
    assert told.head.measures.auc > told.cosine.measures.auc + 0.02
    assert told.auc_gain[0] > 0
    assert told.head.measures.nll < told.cosine.measures.nll
    for scorer in (told.cosine, told.head):
        assert scorer.measures.ece < 0.06, scorer.name
        assert 1e-4 < scorer.far < 5e-3, "set at one in a thousand on other people"
    assert told.counts["test_identities"] == 80
    console = Console(width=80)
    with console.capture() as shown:
        console.print(pair_table(told))
    assert "…" not in shown.get() and "pair head" in shown.get() and f"{told.head.measures.nll:.4f}" in shown.get()


def test_few_identities_choose_the_cosine() -> None:
    """Of 10 identities 2 calibrate, which cannot be halved."""
    of = _people(30, seed=5)
    test = Embedded(of.embeddings, of.identities + 1000, of.cameras)
    fit, calibrate = _people(10).split((0.8, 0.2), np.random.default_rng(0))
    told = train_pair_head(fit, calibrate, test)
    assert told.chosen is told.cosine and told.choice.gain is None and "too few to tell" in str(told.choice)
    assert told.to_dict()["choice"] == {"chosen": "cosine", "gain": None, "error": None}
    again = train_pair_head(fit, calibrate, test)
    assert again.to_dict() == told.to_dict()
    np.testing.assert_array_equal(again.head.head.weight, told.head.head.weight)


def test_the_choice_is_by_log_loss_on_identities_that_neither_has_seen() -> None:
    of = _people(24)
    halves = of.split((0.5, 0.5), np.random.default_rng(0))
    who = PairHead(np.eye(8, 16, dtype=np.float32), np.zeros(8, np.float32), 1.0, 0.0)
    where = PairHead(np.eye(8, 16, k=8, dtype=np.float32), np.zeros(8, np.float32), 1.0, 0.0)
    cosine = PairHead.of_cosine(16)
    assert choose([who, who], halves, "temperature").is_head
    worse = choose([where, where], halves, "temperature")
    assert not worse.is_head and worse.gain is not None and worse.gain < -0.1
    assert "nats above" in str(worse) and str(worse).startswith("calibrated cosine")
    alike = choose([cosine, cosine], halves, "temperature")
    assert alike.gain == 0 and not alike.is_head, "of equals the simpler"
    # By hand: the gain is the mean over both halves of the difference of the measured figures.
    expected = []
    for own, other in (halves, halves[::-1]):
        scored = (pairs_of(other, calibrated(each, pairs_of(own, each), "temperature")) for each in (cosine, where))
        first, second = (measure(pairs).nll for pairs in scored)
        expected.append(first - second)
    assert worse.gain == pytest.approx(np.mean(expected))


def test_people_in_two_parts_or_in_one_camera_are_refused() -> None:
    of = _people(30)
    fit, calibrate, report = of.split((0.5, 0.25, 0.25), np.random.default_rng(0))
    with pytest.raises(DatasetError, match="different ones"):
        train_pair_head(fit, calibrate, fit)
    still = Embedded(report.embeddings, report.identities, np.zeros_like(report.cameras))
    with pytest.raises(DatasetError, match="seen by two cameras"):
        train_pair_head(fit, calibrate, still)
    with pytest.raises(InputError, match="temperature, isotonic"):
        train_pair_head(fit, calibrate, report, calibration="platt")


def test_the_command_makes_a_head_that_verify_takes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from helpers.tiny_onnx import write_tiny_model

    data = synthesize(
        tmp_path / "d", identities=12, test_identities=10, cameras=3, images_per_camera=2, size_hw=(64, 32)
    )
    model, out = write_tiny_model(tmp_path / "tiny.onnx"), tmp_path / "pairs"
    for people in ("train", "test"):
        with pytest.raises(SystemExit) as ended:
            main(["pairs", str(model), "--data", str(data), "--out", str(out), "--fit-on", people, "--threads", "1"])
        assert not ended.value.code, capsys.readouterr().err
        told = json.loads((out / "pairs.json").read_text())
        assert told["test_identities"] == {"train": 10, "test": 2}[people]
        assert told["choice"]["chosen"] == "cosine"
        head = PairHead.load(out / "pair_head.npz")
        assert head.facts["chosen"] == "cosine"
        np.testing.assert_array_equal(head.weight, np.eye(len(head.weight)))
    assert "head minus cosine" in " ".join(capsys.readouterr().out.split())
    assert (out / "reliability.svg").stat().st_size > 1000
    first, second = sorted((data / "query").glob("*.jpg"))[:2]
    with pytest.raises(SystemExit) as ended:
        main(["verify", str(first), str(second), "--model", str(model), "--head", str(out / "pair_head.npz")])
    assert not ended.value.code
