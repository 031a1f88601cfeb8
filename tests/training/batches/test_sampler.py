"""P x K batches."""

from __future__ import annotations

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="training tests need the train extra")

from reid_edge.errors import InputError  # noqa: E402
from reid_edge.training.batches.sampler import balanced_batches, pk_batches  # noqa: E402
from reid_edge.training.data import TrainingData  # noqa: E402
from reid_edge.training.recipe.config import TrainConfig  # noqa: E402


def _labels(counts: list[int]) -> np.ndarray:
    return np.repeat(np.arange(len(counts)), counts)


def test_every_batch_is_k_crops_of_each_of_p_people() -> None:
    labels = _labels([4, 9, 17, 5, 8, 4, 12, 30])
    batches = pk_batches(labels, 3, 4, np.random.default_rng(0))
    assert batches
    for batch in batches:
        people, counts = np.unique(labels[batch], return_counts=True)
        assert len(people) == 3 and set(counts) == {4}
        assert len(set(batch.tolist())) == 12


def test_a_crop_is_used_once_an_epoch_and_people_with_many_crops_in_many_batches() -> None:
    labels = _labels([16, 16, 16, 16])
    batches = pk_batches(labels, 4, 4, np.random.default_rng(1))
    assert len(batches) == 4
    assert sorted(np.concatenate(batches).tolist()) == list(range(64))


def test_a_person_with_one_crop_repeats_it() -> None:
    labels = _labels([1, 4])
    (batch,) = pk_batches(labels, 2, 4, np.random.default_rng(0))
    assert sorted(batch.tolist()) == [0, 0, 0, 0, 1, 2, 3, 4]


def test_labels_need_not_be_sorted_or_dense() -> None:
    labels = np.array([70, 3, 70, 3, 3, 70, 70, 3])
    (batch,) = pk_batches(labels, 2, 4, np.random.default_rng(0))
    assert sorted(labels[batch].tolist()) == [3] * 4 + [70] * 4


def test_the_generator_decides() -> None:
    labels = _labels([8] * 20)
    first, again, other = (pk_batches(labels, 4, 4, np.random.default_rng(s)) for s in (5, 5, 6))
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)


def test_an_epoch_of_so_many_batches_begins_as_the_whole_one_and_the_next_has_others() -> None:
    labels = _labels([8] * 20)
    data = TrainingData(torch.zeros(len(labels), 1, 1, 3, dtype=torch.uint8), labels, np.arange(len(labels)))
    whole = TrainConfig("osnet_x0_25", identities_per_batch=4)
    few = TrainConfig("osnet_x0_25", identities_per_batch=4, max_batches=3)
    first, second = data.batches(few, 0), data.batches(few, 1)
    assert len(first) == len(second) == 3 and not np.array_equal(first, second)
    np.testing.assert_array_equal(first, data.batches(whole, 0)[:3])
    assert 3 < len(data.batches(whole, 0))


def test_market_sized_epochs_have_about_183_batches() -> None:
    """751 people, 12,936 crops, as unevenly spread as a lognormal; the published recipe counts about 183 iterations."""
    rng = np.random.default_rng(0)
    share = rng.lognormal(0, 0.6, size=751)
    counts = np.maximum(2, np.round(share / share.sum() * 12936)).astype(int)
    batches = pk_batches(_labels(counts.tolist()), 16, 4, rng)
    assert 160 < len(batches) < 200


def test_too_few_people_is_said() -> None:
    with pytest.raises(InputError, match="3 identities to train on, and a batch takes 4"):
        pk_batches(_labels([4, 4, 4]), 4, 4, np.random.default_rng(0))


def test_balanced_batches_have_as_many_identities_of_each_domain() -> None:
    """20 identities of 8 crops beside 3 of 4: the small domain comes again and again, the large one once."""
    labels = _labels([8] * 20 + [4] * 3)
    domains = (labels >= 20).astype(np.int64)
    batches = balanced_batches(labels, domains, 5, 4, np.random.default_rng(0))
    assert len(batches) >= 12
    for batch in batches:
        tuples = labels[batch].reshape(5, 4)
        assert (tuples == tuples[:, :1]).all() and len(set(tuples[:, 0])) == 5
        assert (domains[batch].reshape(5, 4)[:, 0] == [0, 0, 0, 1, 1]).all()
    dealt = np.concatenate(batches)
    large = dealt[domains[dealt] == 0]
    assert len(set(large.tolist())) == len(large), "no crop of the large domain twice in an epoch"
    assert set(dealt[domains[dealt] == 1].tolist()) == set(range(160, 172))


def test_domains_that_cannot_share_a_batch_are_said() -> None:
    labels = _labels([4] * 6)
    domains = np.repeat(np.arange(3), 8)
    with pytest.raises(InputError, match="3 data sets cannot share a batch of 2 identities: raise -P"):
        balanced_batches(labels, domains, 2, 4, np.random.default_rng(0))
    with pytest.raises(InputError, match="2 identities to train on, and a batch takes 3"):
        balanced_batches(labels, domains, 9, 4, np.random.default_rng(0))
