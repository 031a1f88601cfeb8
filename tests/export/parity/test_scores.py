"""The gate of scores: what is within the limit, what is lost, and what too few identities do not show."""

from __future__ import annotations

import json

import numpy as np
import pytest

from reid_edge.errors import GateError, InputError
from reid_edge.export.parity.limits import THRESHOLDS
from reid_edge.export.parity.scores import ScoreLoss, check_scores, score_loss
from reid_edge.scoring.metrics import Metrics, score_blocks

LIMITS = THRESHOLDS["int8"]  # at most 0.01 of mAP


def ranked(first_ranks: list[int], persons: list[int] | None = None) -> Metrics:
    """A query for each rank: its only match stands there, among 1,000 gallery crops of strangers."""
    count = len(first_ranks)
    pids = persons or list(range(count))
    matrix = np.tile(np.arange(1000, dtype=np.float32), (count, 1))  # strangers at 0, 1, 2, ...
    own = np.full((count, count), np.inf, np.float32)
    for query, rank in enumerate(first_ranks):
        own[query] = 2000
        own[query, query] = rank - 1.5  # before the stranger at rank - 1
    gallery = np.concatenate([matrix, own], axis=1)
    return score_blocks(
        gallery.__getitem__, pids, [0] * count, [-1] * 1000 + pids, [1] * (1000 + count), distance="by hand"
    )


def test_all_queries_of_a_person_find_their_matches_as_before() -> None:
    base = ranked([1, 2, 4])
    assert base.average_precision.tolist() == [1, 1 / 2, 1 / 4]
    lost = score_loss(base, base, LIMITS)
    assert (lost.mAP.mean, lost.mAP.low, lost.mAP.high, lost.rank1.mean) == (0, 0, 0, 0)
    assert lost.holds and lost.verdict == "holds"
    check_scores(lost, LIMITS, "int8")


def test_what_is_lost_by_all_is_lost() -> None:
    """Each match falls from rank 1 to rank 2: half of mAP, and all of rank-1."""
    lost = score_loss(ranked([1] * 10), ranked([2] * 10), LIMITS)
    assert (lost.mAP.mean, lost.mAP.high, lost.rank1.mean) == (0.5, 0.5, 1)
    assert not lost.holds and lost.verdict == "lost"
    said = r"^int8 loses 50\.00 \[50\.00, 50\.00\] points of mAP over 10 identities \(at most 1\.00 may be lost\): keep"
    with pytest.raises(GateError, match=said):
        check_scores(lost, LIMITS, "int8")


def test_what_few_identities_do_not_show_names_how_many_would() -> None:
    """Two of twelve fall from rank 1 to 2 and two rise: nothing is lost on average, and twelve do not show it."""
    lost = score_loss(ranked([1] * 6 + [2] * 6), ranked([2, 2] + [1] * 4 + [1, 1] + [2] * 4), LIMITS)
    assert lost.mAP.mean == 0 and lost.mAP.high == pytest.approx(2 / 12, abs=0.03)
    needed = lost.mAP.identities_needed(0.01)
    assert needed and 2000 < needed < 5000  # 12 * (0.167 / 0.01)^2 is 3,333
    assert lost.verdict == f"not shown to hold (needs about {needed:,} identities)"
    with pytest.raises(GateError, match=f"is not shown to hold: score on about {needed:,} identities, or keep more"):
        check_scores(lost, LIMITS, "int8")


def test_rank_1_has_no_limit() -> None:
    """A query in 150 falls from rank 1 to 2: 0.33 points of mAP hold, and of rank-1 twice as much is shown."""
    lost = score_loss(ranked([1] * 150), ranked([2] + [1] * 149), LIMITS)
    assert lost.mAP.mean == pytest.approx(1 / 300) and lost.rank1.mean == pytest.approx(1 / 150)
    assert lost.rank1.high > LIMITS.map_loss >= lost.mAP.high
    check_scores(lost, LIMITS, "int8")


def test_queries_of_a_person_count_as_one_identity() -> None:
    lost = score_loss(ranked([1] * 6, [1, 1, 1, 2, 2, 2]), ranked([1] * 6, [1, 1, 1, 2, 2, 2]), LIMITS)
    assert lost.mAP.identities == 2


def test_other_queries_are_refused() -> None:
    with pytest.raises(InputError, match="answered other queries: score both on one data set"):
        score_loss(ranked([1, 1], [1, 2]), ranked([1, 1], [1, 3]), LIMITS)


def test_the_loss_is_plain_json() -> None:
    lost: ScoreLoss = score_loss(ranked([1, 2]), ranked([1, 2]), LIMITS)
    read = json.loads(json.dumps(lost.to_dict()))
    assert read == lost.to_dict()
    assert read["mAP"] == {"mean": 0, "low": 0, "high": 0, "identities": 2} and read["verdict"] == "holds"
