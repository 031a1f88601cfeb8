"""The five distances: worked by hand, against float64 definitions, and at the edges."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from numpy.typing import NDArray

from reid_edge.errors import InputError
from reid_edge.scoring.distances import DISTANCES, as_embeddings, block_rows, distance_by_name

Vector = NDArray[np.float64]


def pearson(a: Vector, b: Vector) -> float:
    return float(np.corrcoef(a, b)[0, 1])


DEFINITIONS: dict[str, Callable[[Vector, Vector], float]] = {
    "euclidean": lambda a, b: math.sqrt(((a - b) ** 2).sum()),
    "cosine": lambda a, b: 1 - float(a @ b) / math.sqrt(float(a @ a) * float(b @ b)),
    "cityblock": lambda a, b: float(np.abs(a - b).sum()),
    "minkowski": lambda a, b: float((np.abs(a - b) ** 3).sum() ** (1 / 3)),
    "minkowski:1": lambda a, b: float(np.abs(a - b).sum()),
    "minkowski:2.5": lambda a, b: float((np.abs(a - b) ** 2.5).sum() ** (1 / 2.5)),
    "minkowski:50": lambda a, b: float((np.abs(a - b) ** 50).sum() ** (1 / 50)),
    "correlation": lambda a, b: 1 - pearson(a, b),
}


def measured(name: str, queries: Any, gallery: Any) -> NDArray[np.float32]:
    return distance_by_name(name).against(gallery)(queries)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("euclidean", math.sqrt(1 + 4 + 4)),
        ("cosine", 1 - 2 / (math.sqrt(5) * math.sqrt(8))),
        ("cityblock", 5),
        ("minkowski", 17 ** (1 / 3)),
        ("correlation", 1 - -2 / (math.sqrt(2) * math.sqrt(24) / 3)),
    ],
)
def test_worked_by_hand(name: str, expected: float) -> None:
    """Of (1, 2, 0) and (2, 0, 2).

    Centred they are (0, 1, -1) and (2, -4, 2) / 3: their product is -2, their norms sqrt(2) and sqrt(24) / 3.
    """
    assert measured(name, [[1, 2, 0]], [[2, 0, 2]])[0, 0] == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("name", DEFINITIONS)
@pytest.mark.parametrize("dimensions", [2, 33, 700])
def test_equals_its_definition(name: str, dimensions: int) -> None:
    rng = np.random.default_rng(dimensions)
    queries, gallery = rng.normal(size=(4, dimensions)), rng.normal(1, 3, size=(300, dimensions))
    expected = [[DEFINITIONS[name](a, b) for b in gallery] for a in queries]
    result = measured(name, queries, gallery)
    assert result.dtype == np.float32
    assert_allclose(result, expected, rtol=2e-5, atol=2e-6)


@pytest.mark.parametrize("name", [*DISTANCES, "minkowski:1.5"])
def test_smaller_is_closer(name: str) -> None:
    """Noise of growing strength takes an embedding farther away, whatever the distance."""
    rng = np.random.default_rng(0)
    query, noise = rng.normal(size=(2, 64))
    gallery = np.stack([query + strength * noise for strength in (0, 0.1, 0.5, 2)])
    distances = measured(name, query[None], gallery)[0]
    assert (np.diff(distances) > 0.004).all()


@pytest.mark.parametrize("name", [*DISTANCES, "minkowski:1.5"])
@pytest.mark.parametrize("scale", [1e-6, 1, 1e6])
def test_an_embedding_is_at_no_distance_from_itself(name: str, scale: float) -> None:
    """The product form of euclidean alone would give about 1e-3 of the norm."""
    rows = scale * np.random.default_rng(0).normal(3, 1, size=(20, 512))
    itself = np.diag(measured(name, rows, rows))
    unit = 1 if name in {"cosine", "correlation"} else scale
    assert (itself >= 0).all()
    assert_allclose(itself / unit, 0, atol=2e-6)


def test_euclidean_of_near_duplicates_keeps_its_digits() -> None:
    """Two frames 1e-4 apart at norm 30: |a - b|^2 is 1e-8 where a float32 product can only tell 1e-4."""
    row = np.full((1, 900), 1, np.float32)
    other = row.copy()
    other[0, 0] += 1e-4
    apart = float(other[0, 0]) - 1
    assert measured("euclidean", row, np.vstack([other, 2 * row]))[0] == pytest.approx([apart, 30], rel=1e-5)


def test_cosine_with_a_zero_vector_is_one() -> None:
    assert_array_equal(measured("cosine", [[0, 0], [3, 4]], [[0, 0], [1, 1]])[:, 0], [1, 1])
    assert measured("cosine", [[0, 0]], [[1, 1]])[0, 0] == 1


@pytest.mark.parametrize("value", [0.0, 0.1, 1e6])
def test_correlation_with_a_constant_vector_is_one(value: float) -> None:
    constant, rising = np.full(7, value), np.arange(7.0)
    assert_array_equal(measured("correlation", [constant, rising], [constant, rising])[0], [1, 1])
    assert measured("correlation", [rising], [constant])[0, 0] == 1


def test_correlation_is_cosine_after_centring() -> None:
    rng = np.random.default_rng(0)
    queries, gallery = rng.normal(5, 1, size=(3, 40)), rng.normal(-9, 2, size=(8, 40))
    centred = measured(
        "cosine", queries - queries.mean(axis=1, keepdims=True), gallery - gallery.mean(axis=1, keepdims=True)
    )
    assert_allclose(measured("correlation", queries, gallery), centred, atol=1e-6)


def test_cosine_and_euclidean_rank_normalised_embeddings_alike() -> None:
    rng = np.random.default_rng(0)
    rows = rng.normal(size=(60, 16))
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    cosine, euclidean = (measured(name, rows[:10], rows[10:]) for name in ("cosine", "euclidean"))
    assert_allclose(euclidean**2, 2 * cosine, atol=1e-6)
    assert_array_equal(cosine.argsort(axis=1), euclidean.argsort(axis=1))


@pytest.mark.parametrize("name", ["cosine", "correlation"])
@pytest.mark.parametrize("scale", [1e-24, 1e14])
def test_direction_does_not_depend_on_length(name: str, scale: float) -> None:
    """Squares of these lengths are outside float32's range."""
    rng = np.random.default_rng(0)
    queries, gallery = rng.normal(size=(3, 20)), rng.normal(size=(8, 20))
    expected = measured(name, queries, gallery)
    assert_allclose(measured(name, scale * queries, gallery), expected, atol=1e-6)
    assert_allclose(measured(name, queries, scale * gallery), expected, atol=1e-6)


@pytest.mark.parametrize("name", ["minkowski:3", "minkowski:40"])
@pytest.mark.parametrize("scale", [1e-12, 1e14])
def test_minkowski_survives_powers_outside_float32(name: str, scale: float) -> None:
    rng = np.random.default_rng(0)
    queries, gallery = rng.normal(size=(3, 20)), rng.normal(size=(8, 20))
    expected = measured(name, queries, gallery)
    assert_allclose(measured(name, scale * queries, scale * gallery) / scale, expected, rtol=1e-5)


@pytest.mark.parametrize("name", ["euclidean", "cityblock", "minkowski"])
def test_equal_pairs_of_whole_numbers_tie_exactly(name: str) -> None:
    """Rows that are permutations of each other are equally far from zero."""
    gallery = np.array([[3, 4, 0, 7], [7, 0, 4, 3], [4, 7, 3, 0]] * 50)
    assert len(np.unique(measured(name, [[0, 0, 0, 0]], gallery))) == 1


@pytest.mark.parametrize("name", DISTANCES)
def test_blocks_equal_the_whole(name: str) -> None:
    rng = np.random.default_rng(0)
    queries, gallery = rng.normal(size=(50, 130)), rng.normal(size=(1100, 130))
    block = distance_by_name(name).against(gallery)
    parts = np.vstack([block(queries[start : start + 7]) for start in range(0, 50, 7)])
    assert_allclose(parts, block(queries), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("name", DISTANCES)
def test_neither_side_is_written_to(name: str) -> None:
    rows = np.random.default_rng(0).normal(size=(9, 5)).astype(np.float32)
    rows.flags.writeable = False
    block = distance_by_name(name).against(rows)
    first = block(rows)
    kept = first.copy()
    assert not np.shares_memory(first, block(rows[::-1]))
    assert_array_equal(first, kept)


@pytest.mark.parametrize("name", DISTANCES)
def test_one_dimension_one_row_and_no_gallery(name: str) -> None:
    assert measured(name, [[2]], [[5]]).shape == (1, 1)
    assert measured(name, [[2, 3]], np.zeros((0, 2))).shape == (1, 0)
    assert measured(name, np.zeros((0, 2)), [[2, 3]]).shape == (0, 1)


def test_block_rows_bounds_memory_and_never_stops() -> None:
    assert block_rows(15913) * 15913 * 4 <= 128 << 20
    assert block_rows(10**9) == 1
    assert block_rows(0) > 0


def test_names_read_back() -> None:
    for name in (*DISTANCES, "minkowski:1.5", "minkowski:1000000"):
        canonical = distance_by_name(name)
        assert distance_by_name(canonical.name) == canonical
    assert distance_by_name("minkowski").name == "minkowski:3"


@pytest.mark.parametrize("name", ["manhattan", "", "Cosine", "cosine:2"])
def test_an_unknown_name_lists_the_known(name: str) -> None:
    with pytest.raises(InputError, match="euclidean, cosine, cityblock, minkowski, correlation"):
        distance_by_name(name)


@pytest.mark.parametrize("p", ["", "0.5", "0", "-3", "nan", "inf", "three", "1e400"])
def test_p_below_one_or_not_finite(p: str) -> None:
    with pytest.raises(InputError, match="finite number of at least 1"):
        distance_by_name(f"minkowski:{p}")


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf, 1e30])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_values_that_are_not_finite_name_their_row(bad: float, dtype: type) -> None:
    rows: NDArray[Any] = np.ones((5, 3), dtype)
    rows[3, 1] = bad
    with pytest.raises(InputError, match="the gallery: row 3 holds NaN, Inf"):
        distance_by_name("cosine").against(rows)
    with pytest.raises(InputError, match="the queries: row 3 holds NaN, Inf"):
        measured("cosine", rows, np.ones((2, 3)))


@pytest.mark.parametrize("values", [[1, 2], 3, [[[1]]], np.zeros((3, 0)), [["a"]], [[1j]], [[True]], [[1], [1, 2]]])
def test_what_is_no_table_of_numbers(values: Any) -> None:
    with pytest.raises(InputError, match=r"must be numbers \[N, D\]"):
        as_embeddings(values)


def test_whole_and_half_precision_numbers_are_taken() -> None:
    for dtype in (np.int64, np.uint8, np.float16, np.float64):
        assert as_embeddings(np.ones((2, 3), dtype)).dtype == np.float32


def test_dimensions_that_differ() -> None:
    with pytest.raises(InputError, match="queries have 3 dimensions and the gallery 2: embed both"):
        measured("cosine", np.ones((1, 3)), np.ones((1, 2)))
