"""ROC against curves worked by hand, and against the definition on random cases with ties, junk and distractors."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from helpers.naive import ranking_cases
from hypothesis import given, settings
from hypothesis import strategies as st

from reid_edge.errors import InputError
from reid_edge.scoring import blocks
from reid_edge.scoring.roc import RocCurve, roc_blocks, roc_curve

FARS = (0.0, 0.01, 0.1, 0.25, 1 / 3, 0.5, 0.9, 1.0)


def test_a_curve_worked_by_hand() -> None:
    """Accepted at 1: one genuine; at 2: an impostor; at 3: a genuine and an impostor at once; at 4: the last."""
    curve = roc_curve(genuine=[1, 3], impostor=[2, 3, 4, 4])
    assert curve.thresholds.tolist() == [-np.inf, 1, 2, 3, 4]
    assert curve.false_match_rate.tolist() == [0, 0, 0.25, 0.5, 1]
    assert curve.false_non_match_rate.tolist() == [1, 0.5, 0.5, 0, 0]
    assert curve.auc == pytest.approx((4 + 2.5) / 8)  # 1 beats four impostors; 3 beats two, and ties with one
    assert (curve.tar_at(0.24), curve.tar_at(0.25), curve.tar_at(0.5)) == (0.5, 0.5, 1.0)
    assert (curve.threshold_at(0.24), curve.threshold_at(0.25), curve.threshold_at(0)) == (1, 2, 1)
    assert curve.fnmr_at(0.3) == 0.5
    assert curve.eer == pytest.approx(1 / 3)  # from (0.25, 0.5) to (0.5, 0), FMR = FNMR a third of the way


def test_separable_and_hopeless_pairs() -> None:
    assert roc_curve([1, 2], [3, 4]).eer == 0
    assert roc_curve([3, 4], [1, 2]).eer == 1
    assert roc_curve([1, 1], [1, 1, 1]).eer == 0.5


def test_the_error_rate_does_not_depend_on_which_kind_is_called_genuine() -> None:
    """Turned round and exchanged, FMR and FNMR change places."""
    rng = np.random.default_rng(0)
    genuine, impostor = rng.integers(0, 9, 40), rng.integers(2, 12, 300)
    assert roc_curve(genuine, impostor).eer == pytest.approx(roc_curve(-impostor, -genuine).eer)


@pytest.mark.parametrize(("genuine", "impostor"), [([], [1]), ([1], []), ([np.nan], [1]), ([1], [np.inf])])
def test_pairs_of_one_kind_make_no_curve(genuine: list[float], impostor: list[float]) -> None:
    with pytest.raises(InputError, match="ROC needs (genuine|impostor) pairs, and finite distances"):
        roc_curve(genuine, impostor)


@pytest.mark.parametrize("far", [-0.1, 1.1, 10, float("nan")])
def test_a_rate_is_a_fraction(far: float) -> None:
    with pytest.raises(InputError, match="no fraction"):
        roc_curve([1], [2]).tar_at(far)


# In blocks, against the definition


def naive_pairs(matrix: Any, labels: Any) -> tuple[list[float], list[float]]:
    """The genuine and impostor distances of the queries that have a match, by the protocol of the ranking."""
    query_pids, query_camids, gallery_pids, gallery_camids = labels
    genuine, impostor = [], []
    for row, pid, camid in zip(matrix, query_pids, query_camids, strict=True):
        entries = list(zip(row, gallery_pids, gallery_camids, strict=True))
        matches = [d for d, p, c in entries if p == pid and pid >= 0 and c != camid]
        if matches:
            genuine += matches
            impostor += [d for d, p, c in entries if p != pid]
    return genuine, impostor


def assert_the_definition(curve: RocCurve, genuine: list[float], impostor: list[float]) -> None:
    wins = [(i > g) + (i == g) / 2 for g in genuine for i in impostor]
    assert curve.auc == pytest.approx(np.mean(wins))
    thresholds = [-np.inf, *sorted({*genuine, *impostor})]
    for far in FARS:
        allowed = max(t for t in thresholds if np.mean([i <= t for i in impostor]) <= far * (1 + 1e-9))
        assert curve.tar_at(far) == pytest.approx(np.mean([g <= allowed for g in genuine]))
    for threshold, false, missed in zip(
        curve.thresholds, curve.false_match_rate, curve.false_non_match_rate, strict=True
    ):
        assert false == pytest.approx(np.mean([i <= threshold for i in impostor]))
        assert missed == pytest.approx(np.mean([g > threshold for g in genuine]))


@given(ranking_cases())
@settings(max_examples=300, deadline=None)
def test_blocks_give_the_curve_of_all_pairs(case: tuple[Any, ...]) -> None:
    matrix, labels, _, rows = case
    genuine, impostor = naive_pairs(matrix, labels)
    array = np.array(matrix, np.float32)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(blocks, "block_rows", lambda gallery: rows)
        if not genuine or not impostor:
            with pytest.raises(InputError, match="genuine and impostor pairs"):
                roc_blocks(array.__getitem__, *labels)
            return
        curve = roc_blocks(array.__getitem__, *labels)
    assert_the_definition(curve, genuine, impostor)
    whole = roc_curve(genuine, impostor)
    assert curve.eer == pytest.approx(whole.eer)
    assert len(curve.thresholds) <= len(whole.thresholds) + 2 * len(set(genuine))


@given(st.lists(st.tuples(st.integers(0, 4), st.booleans()), min_size=2, max_size=25))
@settings(max_examples=200, deadline=None)
def test_lists_give_the_definition(drawn: list[tuple[int, bool]]) -> None:
    genuine, impostor = ([float(d) for d, same in drawn if same is kind] for kind in (True, False))
    if genuine and impostor:
        assert_the_definition(roc_curve(genuine, impostor), genuine, impostor)


def test_memory_holds_the_genuine_pairs_and_a_block() -> None:
    """2,000 x 2,000 distances are 16 MB; the curve has at most two thresholds for each genuine pair."""
    rng = np.random.default_rng(0)
    rows = rng.normal(size=(2000, 4)).astype(np.float32)
    pids, camids = rng.integers(0, 500, 2000), rng.integers(0, 3, 2000)
    curve = roc_blocks(lambda part: rows[part] @ rows.T, pids, camids, pids, camids)
    genuine = sum(np.sum((pids == pid) & (camids != camid)) for pid, camid in zip(pids, camids, strict=True))
    assert len(curve.thresholds) <= 2 * genuine + 2


def test_blocks_are_not_written_to() -> None:
    matrix = np.array([[0.0, 1.0, 2.0]], np.float32)
    matrix.flags.writeable = False
    roc_blocks(matrix.__getitem__, [1], [0], [1, 2, 1], [0, 1, 1])
