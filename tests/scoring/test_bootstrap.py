"""The paired bootstrap by person: by hand, against scipy's and a plain loop, and how often it covers the truth."""

from __future__ import annotations

import json

import numpy as np
import pytest

from reid_edge.errors import InputError
from reid_edge.scoring.bootstrap import PairedLoss, paired_loss


def test_two_persons_by_hand() -> None:
    """A loses 0.3 in one query, B 0.1 in each of three: draws AA, AB or BA, BB lose 0.3, 0.6 / 4, 0.1."""
    base, found, persons = [0.8, 0.5, 0.6, 0.7], [0.5, 0.4, 0.5, 0.6], [4, 9, 9, 9]
    loss = paired_loss(base, found, persons)
    assert (loss.mean, loss.low, loss.high) == pytest.approx((0.6 / 4, 0.1, 0.3))
    assert loss.identities == 2


def test_queries_of_a_person_stay_together() -> None:
    """Ten queries each of two persons, one losing 1 and one gaining 1: by query the interval would be a third of it."""
    loss = paired_loss([1.0] * 10 + [0.0] * 10, [0.0] * 10 + [1.0] * 10, [1] * 10 + [2] * 10)
    assert (loss.mean, loss.low, loss.high) == (0, -1, 1)


def test_nothing_lost_has_no_sign() -> None:
    assert str(PairedLoss(mean=-1e-6, low=-0.0034, high=-0.0, identities=4)) == "0.00 [-0.34, 0.00]"


def test_what_both_find_hard_cancels() -> None:
    """Scores from 0 to 1, and a loss of 0.01 in each: the interval is that number."""
    scores = np.random.default_rng(0).random(40)
    loss = paired_loss(scores, scores - 0.01, np.arange(40))
    assert (loss.mean, loss.low, loss.high) == pytest.approx((0.01, 0.01, 0.01))


def people(rng: np.random.Generator, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Losses with a mean of 0.02 of ``count`` persons in 1 to 6 queries each, alike within a person; and the ids."""
    persons = np.repeat(np.arange(count), rng.integers(1, 7, count))
    return 0.02 + 0.1 * rng.standard_normal(count)[persons] + 0.05 * rng.standard_normal(len(persons)), persons


def test_a_plain_loop_gives_the_same_interval() -> None:
    lost, persons = people(np.random.default_rng(1), 50)
    rng, drawn = np.random.default_rng(2), []
    for _ in range(2000):
        chosen = np.concatenate([lost[persons == one] for one in rng.integers(0, 50, 50)])
        drawn.append(chosen.mean())
    loss = paired_loss(lost, np.zeros_like(lost), persons)
    # Each end is a percentile of 2,000 draws; two such differ by 0.09 of the standard error, as one of its deviations.
    assert (loss.low, loss.high) == pytest.approx(np.percentile(drawn, (2.5, 97.5)), abs=0.3 * np.std(drawn))


def test_scipy_gives_the_same_interval_for_one_query_each() -> None:
    stats = pytest.importorskip("scipy.stats", reason="needs the train extra")
    lost = np.random.default_rng(3).exponential(0.02, 80)
    loss = paired_loss(lost, np.zeros(80), np.arange(80))
    other = stats.bootstrap((lost,), np.mean, n_resamples=2000, method="percentile", rng=np.random.default_rng(4))
    ends = other.confidence_interval
    assert (loss.low, loss.high) == pytest.approx((ends.low, ends.high), abs=0.3 * other.standard_error)


def test_nineteen_of_twenty_intervals_hold_the_truth() -> None:
    """400 test sets of 60 persons; drawn by query, 70 % would hold it."""
    rng = np.random.default_rng(5)
    found = [paired_loss(lost, 0 * lost, ids, draws=400) for lost, ids in (people(rng, 60) for _ in range(400))]
    covered = np.mean([loss.low <= 0.02 <= loss.high for loss in found])
    assert 0.92 <= covered <= 0.975


def test_the_seed_decides() -> None:
    lost, persons = people(np.random.default_rng(6), 30)
    first, again, other = (paired_loss(lost, 0 * lost, persons, seed=seed) for seed in (0, 0, 1))
    assert first == again != other


def test_one_person_says_nothing() -> None:
    loss = paired_loss([0.9, 0.8], [0.9, 0.8], [1, 1])
    assert (loss.mean, loss.low, loss.high, loss.identities) == (0, -1, 1, 1)
    assert json.loads(json.dumps(loss.to_dict())) == loss.to_dict()


def test_no_number_of_identities_shows_what_is_not_so() -> None:
    assert PairedLoss(mean=0.02, low=0.01, high=0.03, identities=100).identities_needed(limit=0.01) is None
    assert PairedLoss(mean=0.01, low=0.00, high=0.02, identities=100).identities_needed(limit=0.01) is None


def test_the_number_of_identities_asked_for_is_enough() -> None:
    """Not shown by 20 persons, and shown by as many as it asks for."""
    rng = np.random.default_rng(7)
    lost, persons = people(rng, 20)
    few = paired_loss(lost, 0 * lost, persons)
    limit = few.mean + (few.high - few.mean) / 3
    needed = few.identities_needed(limit)
    assert few.high > limit and needed == 180
    many = np.concatenate([persons + 20 * copy for copy in range(9)])
    assert paired_loss(np.tile(lost, 9), np.zeros(9 * len(lost)), many).high == pytest.approx(limit, rel=0.05)


@pytest.mark.parametrize("shapes", [(2, 1, 2), (2, 2, 3), (0, 0, 0)])
def test_bad_use_is_refused(shapes: tuple[int, int, int]) -> None:
    base, found, persons = (np.zeros(size) for size in shapes)
    with pytest.raises(InputError, match="give one of each for each query"):
        paired_loss(base, found, persons)
