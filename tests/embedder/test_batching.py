"""When a batch leaves, worked by hand."""

from __future__ import annotations

import pytest

from reid_edge.embedder.batching import BatchPolicy


def test_before_the_first_run_a_batch_may_be_full_and_waits_for_what_is_on_its_way() -> None:
    policy = BatchPolicy(8, 0.1)
    assert policy.limit == 8
    assert policy.to_run(3, oldest_s=0.01, more=True) == 0
    assert policy.to_run(3, oldest_s=0.01, more=False) == 3
    assert policy.to_run(8, oldest_s=0.01, more=True) == 8
    assert policy.to_run(20, oldest_s=0.01, more=True) == 8


def test_the_oldest_crop_does_not_wait_beyond_the_bound_less_the_run() -> None:
    policy = BatchPolicy(8, 0.1)
    policy.ran(4, 0.020)
    assert policy.patience_s(3, oldest_s=0.05) == pytest.approx(0.03)  # 100 - 20 (of 4 crops) - 50 ms
    assert policy.to_run(3, oldest_s=0.079, more=True) == 0
    assert policy.to_run(3, oldest_s=0.081, more=True) == 3


def test_a_batch_takes_at_most_half_of_the_bound() -> None:
    policy = BatchPolicy(64, 0.1)
    policy.ran(10, 0.020)  # 2 ms a crop: 25 of them take 50 ms
    assert policy.limit == 25
    policy.ran(25, 0.040)  # measured: 1.6 ms a crop, so 31 in 50 ms
    assert policy.limit == 31
    assert policy.run_seconds(12) == 0.040  # not measured: as the next larger one


def test_a_bound_that_no_batch_keeps_leaves_batches_of_one() -> None:
    policy = BatchPolicy(64, 0.01)
    policy.ran(1, 0.050)
    assert policy.limit == 1
    assert policy.to_run(5, oldest_s=0.0, more=True) == 1


def test_a_slow_run_is_forgotten() -> None:
    policy = BatchPolicy(64, 0.1)
    policy.ran(10, 0.5)
    assert policy.limit == 1  # 50 ms each
    for _ in range(40):
        policy.ran(10, 0.020)
    assert policy.limit == 24  # all but back at 25


def test_without_a_bound_batches_are_full_or_the_last() -> None:
    policy = BatchPolicy(4)
    policy.ran(4, 9.0)
    assert policy.to_run(3, oldest_s=1e6, more=True) == 0
    assert policy.to_run(9, oldest_s=0.0, more=True) == 4
    assert policy.to_run(3, oldest_s=0.0, more=False) == 3
