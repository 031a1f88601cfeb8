"""Camera normalisation: the estimator beside loops, what shrinking is for, files that are none."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from reid_edge.core.arrays import write_arrays
from reid_edge.embedder.cameras import CameraStatistics
from reid_edge.errors import InputError


def _crops(seed: int, counts: dict[str, int], shift: float, dim: int = 12) -> tuple[NDArray[np.float64], list[str]]:
    """Embeddings of each camera, moved by a vector of its own of deviation ``shift``."""
    rng = np.random.default_rng(seed)
    moved = [rng.normal(size=(count, dim)) + shift * rng.normal(size=dim) for count in counts.values()]
    return np.concatenate(moved), [name for name, count in counts.items() for _ in range(count)]


def _by_loops(x: NDArray[np.float64], cameras: list[str]) -> tuple[list[list[float]], list[list[float]]]:
    """Means and variances as the docstring of `fit` says, one number at a time."""
    names = sorted(set(cameras))
    groups = [[row for row, camera in zip(x.tolist(), cameras, strict=True) if camera == name] for name in names]
    total, means, variances = len(x), [], []
    for group in groups:
        means.append([sum(column) / len(group) for column in zip(*group, strict=True)])
        variances.append(
            [
                sum((value - mean) ** 2 for value in column) / (len(group) - 1)
                for column, mean in zip(zip(*group, strict=True), means[-1], strict=True)
            ]
        )
    shrunk = [list(row) for row in means]
    pooled = [list(row) for row in variances]
    for d in range(x.shape[1]):
        within = sum((len(g) - 1) * v[d] for g, v in zip(groups, variances, strict=True)) / (total - len(groups))
        centre = sum(len(g) * m[d] for g, m in zip(groups, means, strict=True)) / total
        spread = sum((m[d] - centre) ** 2 for m in means) / max(1, len(groups) - 1)
        between = max(0.0, spread - sum(within / len(g) for g in groups) / len(groups))
        for c, group in enumerate(groups):
            share = between / (between + within / len(group))
            shrunk[c][d] = centre + share * (means[c][d] - centre)
            pooled[c][d] = ((len(group) - 1) * variances[c][d] + 30 * within) / (len(group) - 1 + 30)
    own = total / (total + 300)
    found = []
    for row in pooled:
        equal = sum(row) / len(row)
        found.append([math.exp(own * math.log(value) + (1 - own) * math.log(equal)) for value in row])
    return shrunk, found


@pytest.mark.parametrize(("seed", "shift"), [(0, 0.0), (1, 0.3), (2, 5.0)])
def test_the_estimator_is_that_of_loops(seed: int, shift: float) -> None:
    x, cameras = _crops(seed, {"a": 10, "b": 40, "c": 17}, shift)
    means, variances = _by_loops(x, cameras)
    found = CameraStatistics.fit(x, cameras, model="m")
    np.testing.assert_allclose(found.means, means, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(found.deviations, np.sqrt(variances), rtol=1e-5)
    assert found.cameras == ("a", "b", "c") and found.counts.tolist() == [10, 40, 17] and found.model == "m"


def test_a_camera_whose_mean_is_chance_is_not_moved_from_the_others() -> None:
    """Twelve cameras that do nothing: their means differ by chance, and little of that is believed."""
    x, cameras = _crops(0, {f"{n}": 20 for n in range(12)}, 0.0)
    raw = np.stack([x[20 * n : 20 * n + 20].mean(axis=0) for n in range(12)])
    means = CameraStatistics.fit(x, sorted(cameras)).means
    assert means.std(axis=0).mean() < 0.4 * raw.std(axis=0).mean()


def test_a_camera_that_moves_everything_is_taken_out() -> None:
    """A person's two crops differ by what their cameras add: afterwards each is the closest of the other camera."""
    rng = np.random.default_rng(3)
    persons, cast = rng.normal(size=(40, 16)), 4 * rng.normal(size=(2, 16))
    x = np.concatenate([persons + cast[0], persons + cast[1]]) + 0.05 * rng.normal(size=(80, 16))
    cameras = [5] * 40 + [6] * 40

    def right(rows: NDArray[np.float32]) -> int:
        return int((np.argmax(rows[:40] @ rows[40:].T, axis=1) == np.arange(40)).sum())

    unit = (x / np.linalg.norm(x, axis=1, keepdims=True)).astype(np.float32)
    normalised = CameraStatistics.fit(unit, cameras).normalise(unit, cameras)
    np.testing.assert_allclose(np.linalg.norm(normalised, axis=1), 1, atol=1e-6)
    assert right(unit) < 25 and right(normalised) >= 39


def test_one_camera_and_dimensions_that_never_vary_give_numbers() -> None:
    x = np.zeros((20, 4))
    x[:, 0] = np.linspace(-1, 1, 20)
    rows = CameraStatistics.fit(x, [0] * 20).normalise(x, ["0"] * 20)
    assert np.isfinite(rows).all() and rows[0, 0] < -0.99 and rows[-1, 0] > 0.99
    still = CameraStatistics.fit(np.ones((20, 4)), [0] * 20)
    assert np.isfinite(still.normalise(np.ones((1, 4)), [0])).all()


def test_what_cannot_be_learned_or_used_says_why() -> None:
    x, cameras = _crops(0, {"a": 9, "b": 30}, 1.0)
    with pytest.raises(InputError, match=r"too few crops of the cameras a \(9\): give 10 or more"):
        CameraStatistics.fit(x, cameras)
    with pytest.raises(InputError, match=r"\[39, 12\] of 38 cameras"):
        CameraStatistics.fit(x, cameras[1:])
    with pytest.raises(InputError, match="finite"):
        CameraStatistics.fit(np.full((20, 2), np.nan), [1] * 20)
    with pytest.raises(InputError, match="no crops"):
        CameraStatistics.fit(np.empty((0, 2)), [])
    found = CameraStatistics.fit(x[9:], cameras[9:])
    with pytest.raises(InputError, match="no statistics of camera 'a', only of b"):
        found.normalise(x[:1], ["a"])
    with pytest.raises(InputError, match=r"give \[N, 12\]"):
        found.normalise(x[:1, :5], ["b"])
    assert found.normalise(np.empty((0, 12)), []).shape == (0, 12)


def test_a_file_is_read_as_it_was_written_and_others_are_refused(tmp_path: Path) -> None:
    found = CameraStatistics.fit(*_crops(0, {"Tür": 12, "b": 30}, 1.0), model="f" * 64)
    found.save(tmp_path / "cameras.npz")
    read = CameraStatistics.load(tmp_path / "cameras.npz")
    assert (read.cameras, read.model) == (found.cameras, found.model)
    for name in ("counts", "means", "deviations"):
        np.testing.assert_array_equal(getattr(read, name), getattr(found, name))
    damaged = bytearray((tmp_path / "cameras.npz").read_bytes())
    damaged[len(damaged) // 2] ^= 1
    (tmp_path / "cameras.npz").write_bytes(damaged)
    with pytest.raises(InputError, match="not a file of camera statistics"):
        CameraStatistics.load(tmp_path / "cameras.npz")
    with pytest.raises(InputError, match=r"none\.npz"):
        CameraStatistics.load(tmp_path / "none.npz")


@pytest.mark.parametrize(
    ("name", "value", "why"),
    [
        ("deviations", np.zeros((2, 3), np.float32), "divide by"),
        ("means", np.full((2, 3), np.nan, np.float32), "divide by"),
        ("means", np.ones((1, 3), np.float32), "one row a camera"),
        ("counts", np.ones(3, np.int64), "one a camera"),
        ("cameras", np.array(["a", "a"]), "named twice"),
        ("cameras", np.ones(2), "texts"),
    ],
)
def test_a_sealed_file_of_nonsense_is_refused(tmp_path: Path, name: str, value: NDArray[np.generic], why: str) -> None:
    arrays = {
        "model": np.array(""),
        "cameras": np.array(["a", "b"]),
        "counts": np.ones(2, np.int64),
        "means": np.ones((2, 3), np.float32),
        "deviations": np.ones((2, 3), np.float32),
    }
    write_arrays(tmp_path / "wrong.npz", 2, {**arrays, name: value})
    with pytest.raises(InputError, match=why):
        CameraStatistics.load(tmp_path / "wrong.npz")
