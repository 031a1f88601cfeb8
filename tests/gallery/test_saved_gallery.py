"""The exact gallery: what it finds, what it refuses, and what it survives on disk."""

from __future__ import annotations

import io
import math
import pickle
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal

import reid_edge.gallery
from reid_edge.distances import DISTANCES, distance_by_name
from reid_edge.errors import InputError
from reid_edge.gallery import Gallery

ANGLES = {"ann": 0, "bob": 20, "cid": 40, "dan": 90}


def at(*degrees: float) -> list[list[float]]:
    return [[math.cos(math.radians(d)), math.sin(math.radians(d))] for d in degrees]


@pytest.fixture
def four() -> Gallery:
    gallery = Gallery()
    gallery.enrol(at(*ANGLES.values()), list(ANGLES))
    return gallery


# Search


def test_a_gallery_of_four(four: Gallery) -> None:
    """From 25 degrees: bob is 5 away, cid 15, ann 25."""
    ranking = four.search(at(25), k=3)
    assert [name for name, _ in ranking.named(0)] == ["bob", "cid", "ann"]
    assert_allclose(ranking.distances[0], [1 - math.cos(math.radians(d)) for d in (5, 15, 25)], atol=1e-6)
    assert ranking.indices.dtype == np.int64 and ranking.distances.dtype == np.float32


def test_k_beyond_the_gallery_ranks_all_of_it(four: Gallery) -> None:
    assert four.search(at(0, 90), k=100).indices.tolist() == [[0, 1, 2, 3], [3, 2, 1, 0]]


def test_ties_go_in_the_order_of_enrolment_also_at_the_last_place() -> None:
    gallery = Gallery()
    gallery.enrol([[1], [0], [1], [1], [0]], list("abcde"))
    for k, expected in ((1, "b"), (2, "be"), (3, "bea"), (4, "beac"), (5, "beacd")):
        names = [name for name, _ in gallery.search([[0]], k=k, distance="euclidean").named(0)]
        assert "".join(names) == expected


@given(st.lists(st.integers(0, 4), min_size=1, max_size=60), st.integers(1, 70))
@settings(max_examples=200, deadline=None)
def test_equals_a_full_stable_sort(values: list[int], k: int) -> None:
    gallery = Gallery()
    gallery.enrol([[value] for value in values], [""] * len(values))
    expected = sorted(range(len(values)), key=lambda i: abs(values[i] - 2))[:k]
    assert gallery.search([[2]], k=k, distance="cityblock").indices[0].tolist() == expected


@pytest.mark.parametrize("name", [*DISTANCES, "minkowski:4"])
def test_blocks_of_queries_equal_the_whole(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(0)
    rows, queries = rng.integers(0, 9, (80, 6)), rng.integers(0, 9, (23, 6))
    gallery = Gallery()
    gallery.enrol(rows, [str(i) for i in range(80)])
    expected = distance_by_name(name).against(rows)(queries)
    monkeypatch.setattr(reid_edge.gallery, "block_rows", lambda size: 5)
    found = gallery.search(queries, k=7, distance=name)
    assert_allclose(found.distances, np.sort(expected, axis=1)[:, :7], rtol=1e-5, atol=1e-6)
    assert_allclose(np.take_along_axis(expected, found.indices, axis=1), found.distances, rtol=1e-5, atol=1e-6)


def test_a_search_after_enrolling_more_sees_it(four: Gallery) -> None:
    assert four.search(at(70), k=1).named(0)[0][0] == "dan"
    four.enrol(at(69), ["eve"])
    assert four.search(at(70), k=1).named(0)[0][0] == "eve"


def test_a_ranking_keeps_its_labels_when_the_gallery_grows(four: Gallery) -> None:
    ranking = four.search(at(0))
    four.enrol(at(5), ["eve"])
    assert list(ranking.labels) == list(ANGLES)


def test_nothing_is_aliased(four: Gallery) -> None:
    rows = np.array(at(1, 2), np.float32)
    four.enrol(rows, ["x", "y"])
    rows[:] = 7
    first = four.search(at(1), k=2)
    kept = first.distances.copy()
    four.embeddings[:] = 7
    four.search(at(80), k=2)
    assert_array_equal(first.distances, kept)
    assert four.search(at(1), k=1).named(0)[0][0] == "x"


def test_no_queries_give_an_empty_ranking(four: Gallery) -> None:
    assert four.search(np.zeros((0, 2)), k=3).indices.shape == (0, 3)


# Enrolment


def test_one_at_a_time_equals_all_at_once_and_seldom_copies() -> None:
    rows = np.random.default_rng(0).normal(size=(1000, 4)).astype(np.float32)
    gallery, homes = Gallery(dim=4), set()
    for i, row in enumerate(rows):
        gallery.enrol(row[None], [str(i)])
        homes.add(len(gallery._rows))
    assert_array_equal(gallery.embeddings, rows)
    assert gallery.labels == tuple(str(i) for i in range(1000))
    assert sorted(homes) == [64, 128, 256, 512, 1024]


def test_a_refused_enrolment_adds_nothing(four: Gallery) -> None:
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
        ([[1, 2]], [7], "7 is no label"),
        ([[1, 2]], ["a\0"], "is no label"),
        ([1, 2], ["a", "b"], r"must be numbers \[N, D\]"),
        ([[1, math.inf]], ["a"], "row 0 holds NaN, Inf"),
        ([[1, 2, 3]], ["a"], "3 dimensions and the gallery 2"),
    ],
)
def test_bad_enrolments(four: Gallery, rows: Any, labels: Any, message: str) -> None:
    with pytest.raises(InputError, match=message):
        four.enrol(rows, labels)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda g: g.search(at(0), k=0), "k is 0"),
        (lambda g: g.search([[1, 2, 3]]), "queries have 3 dimensions and the gallery 2"),
        (lambda g: g.search([[1, math.nan]]), "the queries: row 0"),
        (lambda g: g.search(at(0), distance="manhattan"), "no distance is called 'manhattan'"),
        (lambda g: Gallery().search(at(0)), "gallery is empty: enrol"),
        (lambda g: Gallery(dim=0), "0 dimensions"),
        (lambda g: Gallery(dim=3).enrol(at(0), ["a"]), "2 dimensions and the gallery 3"),
    ],
)
def test_bad_searches(four: Gallery, call: Any, message: str) -> None:
    with pytest.raises(InputError, match=message):
        call(four)


def test_models_do_not_mix(tmp_path: Path) -> None:
    gallery = Gallery()
    gallery.enrol(at(0), ["a"], model="m1")
    gallery.enrol(at(1), ["b"])
    for refused in (
        lambda: gallery.enrol(at(0), ["c"], model="m2"),
        lambda: gallery.search(at(0), model="m2"),
    ):
        with pytest.raises(InputError, match="of model m2 and the gallery's of m1: embed both"):
            refused()
    assert len(gallery) == 2
    gallery.save(tmp_path / "g.npz")
    loaded = Gallery.load(tmp_path / "g.npz")
    assert loaded.model == "m1"
    with pytest.raises(InputError, match="m2"):
        loaded.search(at(0), model="m2")
    assert len(loaded.search(at(0), model="m1").indices) == 1


# On disk


def test_save_and_load(tmp_path: Path, four: Gallery) -> None:
    four.enrol(at(33), ["Zoë/歩行者 0001.jpg"], model="abc")
    path = tmp_path / "new" / "gallery.npz"
    four.save(path)
    loaded = Gallery.load(path)
    assert_array_equal(loaded.embeddings, four.embeddings)
    assert (loaded.labels, loaded.model, loaded.dim) == (four.labels, "abc", 2)
    assert_array_equal(loaded.search(at(25)).distances, four.search(at(25)).distances)
    loaded.enrol(at(24), ["new"])
    assert loaded.search(at(24.1), k=1).named(0)[0][0] == "new"
    assert [p.name for p in path.parent.iterdir()] == ["gallery.npz"]


@pytest.mark.parametrize("dim", [None, 3])
def test_an_empty_gallery_saves_and_loads(tmp_path: Path, dim: int | None) -> None:
    Gallery(dim).save(tmp_path / "g.npz")
    loaded = Gallery.load(tmp_path / "g.npz")
    assert (len(loaded), loaded.dim) == (0, dim)


def test_numpy_reads_it_without_pickles(tmp_path: Path, four: Gallery) -> None:
    four.save(tmp_path / "g.npz")
    with np.load(tmp_path / "g.npz", allow_pickle=False) as file:
        assert file["labels"].tolist() == list(ANGLES)
        assert_array_equal(file["embeddings"], four.embeddings)


class Bomb:
    """A pickle that would leave a file behind if anything loaded it."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return (open, (str(self.path), "w"))


def arrays(**changes: Any) -> dict[str, Any]:
    good = {
        "version": np.array(1),
        "model": np.array(""),
        "embeddings": np.ones((2, 3), np.float32),
        "labels": np.array(["a", "b"]),
    }
    return {name: value for name, value in {**good, **changes}.items() if value is not None}


def as_npz(**changes: Any) -> bytes:
    stream = io.BytesIO()
    np.savez(stream, **arrays(**changes))
    return stream.getvalue()


def claiming(header: str) -> bytes:
    """A well-formed archive whose embeddings claim another header than their 24 bytes deserve."""
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        for name, value in arrays().items():
            member = io.BytesIO()
            np.lib.format.write_array(member, value, version=(1, 0))
            content = member.getvalue()
            if name == "embeddings":
                text = header.encode() + b"\n"
                content = content[:8] + len(text).to_bytes(2, "little") + text + content[-24:]
            archive.writestr(f"{name}.npy", content)
    return stream.getvalue()


def compressed() -> bytes:
    stream = io.BytesIO()
    np.savez_compressed(stream, **arrays())
    return stream.getvalue()


NOT_OURS = {
    "empty": b"",
    "text": b"not an archive",
    "cut short": as_npz()[:300],
    "not stored in an archive": pickle.dumps([1, 2]),
    "a missing entry": as_npz(labels=None),
    "compressed": compressed(),
    "another version": as_npz(version=np.array(2)),
    "a version of text": as_npz(version=np.array("1")),
    "float64": as_npz(embeddings=np.ones((2, 3))),
    "one dimension": as_npz(embeddings=np.ones(2, np.float32)),
    "too few labels": as_npz(labels=np.array(["a"])),
    "numbers for labels": as_npz(labels=np.array([1, 2])),
    "a table of labels": as_npz(labels=np.array([["a", "b"]])),
    "a model of numbers": as_npz(model=np.array(7)),
    "NaN": as_npz(embeddings=np.full((2, 3), np.nan, np.float32)),
    "labels beyond Unicode": as_npz(labels=np.frombuffer(b"\xff\xff\xff\x7f" * 2, "<U1")),
    "in Fortran's order": as_npz(embeddings=np.ones((2, 3), np.float32, order="F")),
    "big-endian": as_npz(labels=np.array(["a", "b"]).astype(">U1")),
    "a huge shape": claiming("{'descr': '<f4', 'fortran_order': False, 'shape': (1000000000000, 3)}"),
    "an overflowing shape": claiming("{'descr': '<f4', 'fortran_order': False, 'shape': (9223372036854775807, 8)}"),
    "a negative shape": claiming("{'descr': '<f4', 'fortran_order': False, 'shape': (-2, -3)}"),
    "a header of code": claiming("__import__('os').abort()"),
    "an unclosed header": claiming("{'descr': '<f4', 'fortran_order': False, 'shape': (2, 3"),
    "an object header": claiming("{'descr': '|O', 'fortran_order': False, 'shape': (3,)}"),
    "no items": claiming("{'descr': '<U0', 'fortran_order': False, 'shape': (6,)}"),
}


@pytest.mark.parametrize("content", NOT_OURS.values(), ids=NOT_OURS.keys())
def test_a_file_that_is_not_ours_is_one_clear_line(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "g.npz"
    path.write_bytes(content)
    with pytest.raises(InputError) as caught:
        Gallery.load(path)
    assert str(path) in str(caught.value) and "\n" not in str(caught.value)


def test_a_pickle_in_the_file_is_not_loaded(tmp_path: Path) -> None:
    mark, path = tmp_path / "loaded", tmp_path / "g.npz"
    for content in (as_npz(labels=np.array([Bomb(mark), "b"], object)), pickle.dumps(Bomb(mark))):
        path.write_bytes(content)
        with pytest.raises(InputError, match="no gallery that Gallery.save wrote"):
            Gallery.load(path)
    assert not mark.exists()


@given(position=st.integers(0, 10_000), value=st.integers(0, 255), cut=st.booleans())
@settings(max_examples=300, deadline=None)
def test_damage_raises_nothing_but_input_errors(
    position: int, value: int, cut: bool, tmp_path_factory: pytest.TempPathFactory
) -> None:
    content = bytearray(as_npz())
    position %= len(content)
    content[position] = value
    path = tmp_path_factory.getbasetemp() / "damaged.npz"
    path.write_bytes(content[:position] if cut else content)
    try:
        Gallery.load(path)
    except InputError as error:
        assert "\n" not in str(error)


def test_a_missing_file_and_a_folder(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="does not exist: give the path of a saved gallery"):
        Gallery.load(tmp_path / "none.npz")
    with pytest.raises(InputError, match="is a folder"):
        Gallery.load(tmp_path)


def test_a_failed_save_leaves_the_old_file(tmp_path: Path, four: Gallery, monkeypatch: pytest.MonkeyPatch) -> None:
    four.save(tmp_path / "g.npz")
    before = (tmp_path / "g.npz").read_bytes()
    four.enrol(at(1), ["new"])

    def full(file: Any, **_: Any) -> None:
        file.write(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(np, "savez", full)
    with pytest.raises(OSError, match="No space left"):
        four.save(tmp_path / "g.npz")
    assert [path.name for path in tmp_path.iterdir()] == ["g.npz"]
    assert (tmp_path / "g.npz").read_bytes() == before
