"""What every gallery store must do: the one in memory, and a store over lists that gives its rows in blocks."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from helpers.list_gallery import ANGLES, ListGallery, at
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal

import reid_edge.gallery.base
from reid_edge.errors import InputError
from reid_edge.gallery.base import GalleryStore
from reid_edge.gallery.memory import Gallery
from reid_edge.scoring.distances import DISTANCES, distance_by_name

Store = Callable[[], GalleryStore]

STORES: dict[str, Store] = {"Gallery": Gallery, "ListGallery": ListGallery}
"""A function that makes an empty store, of each kind; one in a database opens a new, empty database."""


@pytest.fixture(params=STORES)
def store(request: pytest.FixtureRequest) -> Store:
    return STORES[request.param]


@pytest.fixture
def four(store: Store) -> GalleryStore:
    gallery = store()
    gallery.enrol(at(*ANGLES.values()), list(ANGLES))
    return gallery


# Search


def test_a_gallery_of_four(four: GalleryStore) -> None:
    """From 25 degrees: bob is 5 away, cid 15, ann 25."""
    ranking = four.search(at(25), k=3)
    assert [name for name, _ in ranking.named(0)] == ["bob", "cid", "ann"]
    assert_allclose(ranking.distances[0], [1 - math.cos(math.radians(d)) for d in (5, 15, 25)], atol=1e-6)
    assert ranking.indices.dtype == np.int64 and ranking.distances.dtype == np.float32


def test_k_beyond_the_gallery_ranks_all_of_it(four: GalleryStore) -> None:
    assert four.search(at(0, 90), k=100).indices.tolist() == [[0, 1, 2, 3], [3, 2, 1, 0]]


def test_ties_go_in_the_order_of_enrolment_also_at_the_last_place(store: Store) -> None:
    gallery = store()
    gallery.enrol([[1], [0], [1], [1], [0]], list("abcde"))
    for k, expected in ((1, "b"), (2, "be"), (3, "bea"), (4, "beac"), (5, "beacd")):
        names = [name for name, _ in gallery.search([[0]], k=k, distance="euclidean").named(0)]
        assert "".join(names) == expected


@pytest.mark.parametrize("kind", STORES)
@given(values=st.lists(st.integers(0, 4), min_size=1, max_size=60), k=st.integers(1, 70))
@settings(max_examples=200, deadline=None)
def test_equals_a_full_stable_sort(kind: str, values: list[int], k: int) -> None:
    gallery = STORES[kind]()
    gallery.enrol([[value] for value in values], [""] * len(values))
    expected = sorted(range(len(values)), key=lambda i: abs(values[i] - 2))[:k]
    assert gallery.search([[2]], k=k, distance="cityblock").indices[0].tolist() == expected


@pytest.mark.parametrize("name", [*DISTANCES, "minkowski:4"])
def test_blocks_of_queries_equal_the_whole(name: str, store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(0)
    rows, queries = rng.integers(0, 9, (80, 6)), rng.integers(0, 9, (23, 6))
    gallery = store()
    gallery.enrol(rows, [str(i) for i in range(80)])
    expected = distance_by_name(name).against(rows)(queries)
    monkeypatch.setattr(reid_edge.gallery.base, "block_rows", lambda size: 5)
    found = gallery.search(queries, k=7, distance=name)
    assert_allclose(found.distances, np.sort(expected, axis=1)[:, :7], rtol=1e-5, atol=1e-6)
    assert_allclose(np.take_along_axis(expected, found.indices, axis=1), found.distances, rtol=1e-5, atol=1e-6)


def test_a_search_after_enrolling_more_sees_it(four: GalleryStore) -> None:
    assert four.search(at(70), k=1).named(0)[0][0] == "dan"
    four.enrol(at(69), ["eve"])
    assert four.search(at(70), k=1).named(0)[0][0] == "eve"


def test_a_ranking_keeps_its_labels_when_the_gallery_grows(four: GalleryStore) -> None:
    ranking = four.search(at(0))
    four.enrol(at(5), ["eve"])
    assert list(ranking.labels) == list(ANGLES)


def test_nothing_is_aliased(four: GalleryStore) -> None:
    rows = np.array(at(1, 2), np.float32)
    four.enrol(rows, ["x", "y"])
    rows[:] = 7
    first = four.search(at(1), k=2)
    kept = first.distances.copy()
    four.embeddings[:] = 7
    four.search(at(80), k=2)
    assert_array_equal(first.distances, kept)
    assert four.search(at(1), k=1).named(0)[0][0] == "x"


def test_no_queries_give_an_empty_ranking(four: GalleryStore) -> None:
    assert four.search(np.zeros((0, 2)), k=3).indices.shape == (0, 3)


def test_an_empty_store_finds_nothing(store: Store) -> None:
    with pytest.raises(InputError, match="gallery is empty: enrol"):
        store().search(at(0))


@pytest.mark.parametrize("k", [np.int64(2), np.uint8(2), 10**12])
def test_any_whole_number_is_a_k_and_one_beyond_the_gallery_ranks_all(four: GalleryStore, k: int) -> None:
    assert four.search(at(0), k=k).indices.tolist() == [[0, 1, 2, 3][: int(k)]]


# Enrolment


def test_one_at_a_time_equals_all_at_once(store: Store) -> None:
    rows = np.random.default_rng(0).normal(size=(1000, 4)).astype(np.float32)
    gallery = store()
    for i, row in enumerate(rows):
        gallery.enrol(row[None], [str(i)])
    assert_array_equal(gallery.embeddings, rows)
    assert tuple(gallery.labels) == tuple(str(i) for i in range(1000))


def test_a_refused_enrolment_adds_nothing(four: GalleryStore) -> None:
    refused: Any = ((at(1, 2), ["x"]), ([[1, math.nan]], ["x"]), ([[1, 2, 3]], ["x"]), (at(1), [3]))
    for rows, labels in refused:
        with pytest.raises(InputError):
            four.enrol(rows, labels)
    assert len(four) == len(four.labels) == len(four.embeddings) == 4


@pytest.mark.parametrize(
    ("rows", "labels", "message"),
    [
        ([[1, 2]], "x", "one string, 'x'"),
        ([[1, 2]], [], "1 embeddings but 0 labels"),
        *(([[1, 2]], [label], "is not a label") for label in (7, True, 1.0, np.uint64(7), None, b"a")),
        ([[1, 2]], ["a\0"], "is not a label"),
        ([1, 2], ["a", "b"], r"must be numbers \[N, D\]"),
        ([[1, math.inf]], ["a"], "row 0 holds NaN, Inf"),
        ([[1, 2, 3]], ["a"], "3 dimensions and the gallery 2"),
    ],
)
def test_bad_enrolments(four: GalleryStore, rows: Any, labels: Any, message: str) -> None:
    with pytest.raises(InputError, match=message):
        four.enrol(rows, labels)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        *((lambda g, k=k: g.search(at(0), k=k), f"k is {k}: give a whole") for k in (0, -1, 1.5, None, True)),
        (lambda g: g.search(None), "queries must be numbers"),
        (lambda g: g.search([[True, False]]), "queries must be numbers"),
        (lambda g: g.search([[1j, 0]]), "queries must be numbers"),
        (lambda g: g.search([["1", "0"]]), "queries must be numbers"),
        (lambda g: g.search([1, 0]), "queries must be numbers"),
        (lambda g: g.search([[1, 2, 3]]), "queries have 3 dimensions and the gallery 2"),
        (lambda g: g.search([[1, math.nan]]), "the queries: row 0"),
        (lambda g: g.search(at(0), distance="manhattan"), "no distance is called 'manhattan'"),
    ],
)
def test_bad_searches(four: GalleryStore, call: Any, message: str) -> None:
    with pytest.raises(InputError, match=message):
        call(four)


def test_models_do_not_mix(store: Store) -> None:
    gallery = store()
    gallery.enrol(at(0), ["a"], model="m1")
    gallery.enrol(at(1), ["b"])
    for refused in (
        lambda: gallery.enrol(at(0), ["c"], model="m2"),
        lambda: gallery.search(at(0), model="m2"),
    ):
        with pytest.raises(InputError, match="of model m2 and the gallery's of m1: embed both"):
            refused()
    assert len(gallery) == 2
    assert len(gallery.search(at(0), model="m1").indices) == 1


# Forgetting


def test_who_is_forgotten_is_not_found_again(four: GalleryStore) -> None:
    four.enrol(at(21, 22), ["bob", "eve"])
    ranking = four.search(at(20), k=3)
    assert four.forget(["bob", "nobody", "bob"]) == 2
    assert list(four.labels) == ["ann", "cid", "dan", "eve"] and len(four) == 4
    assert [name for name, _ in four.search(at(20), k=2).named(0)] == ["eve", "ann"]
    assert_allclose(four.embeddings, at(0, 40, 90, 22), atol=1e-7)
    assert [name for name, _ in ranking.named(0)] == ["bob", "bob", "eve"], "what was found keeps its labels"
    assert four.forget(["bob"]) == 0
    four.enrol(at(20), ["bob"])
    assert four.search(at(20), k=1).named(0)[0][0] == "bob"


def test_an_emptied_gallery_enrols_again(four: GalleryStore) -> None:
    assert four.forget(list(ANGLES)) == 4 and len(four) == 0
    with pytest.raises(InputError, match="gallery is empty"):
        four.search(at(0))
    four.enrol(at(7), ["new"])
    assert four.search(at(0), k=1).named(0)[0][0] == "new"


def test_forgetting_takes_a_list(four: GalleryStore) -> None:
    with pytest.raises(InputError, match="one string, 'ann'"):
        four.forget("ann")
    with pytest.raises(InputError, match="7 is not a label"):
        four.forget([7])  # type: ignore[list-item]
    assert four.forget([]) == 0 and len(four) == 4
