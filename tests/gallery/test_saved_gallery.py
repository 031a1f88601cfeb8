"""The gallery on disk: what comes back, what is refused, and that damage is never read as something else."""

from __future__ import annotations

import io
import os
import pickle
import stat
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers.list_gallery import at
from helpers.log import logged
from helpers.mutations import mutations
from helpers.reference_readers import reference_gallery, sealed
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_array_equal

from reid_edge.errors import InputError
from reid_edge.gallery.memory import Gallery


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


def test_the_model_is_kept(tmp_path: Path) -> None:
    gallery = Gallery()
    gallery.enrol(at(0), ["a"], model="m1")
    gallery.save(tmp_path / "g.npz")
    loaded = Gallery.load(tmp_path / "g.npz")
    assert loaded.model == "m1"
    with pytest.raises(InputError, match="m2"):
        loaded.search(at(0), model="m2")
    assert len(loaded.search(at(0), model="m1").indices) == 1


@pytest.mark.parametrize("dim", [None, 3])
def test_an_empty_gallery_saves_and_loads(tmp_path: Path, dim: int | None) -> None:
    Gallery(dim).save(tmp_path / "g.npz")
    loaded = Gallery.load(tmp_path / "g.npz")
    assert (len(loaded), loaded.dim) == (0, dim)


def test_numpy_reads_it_without_pickles(tmp_path: Path, four: Gallery) -> None:
    four.save(tmp_path / "g.npz")
    with np.load(tmp_path / "g.npz", allow_pickle=False) as file:
        assert file["labels"].tobytes() == b"annbobciddan" and file["label_ends"].tolist() == [3, 6, 9, 12]
        assert_array_equal(file["embeddings"], four.embeddings)


@given(labels=st.lists(st.text(st.characters(exclude_characters="\0", codec=None)), max_size=5))
@settings(max_examples=100, deadline=None, derandomize=True)
def test_every_label_comes_back_as_it_was(labels: list[str], tmp_path_factory: pytest.TempPathFactory) -> None:
    """Also lone surrogates, line breaks and the empty label."""
    gallery = Gallery(dim=1)
    gallery.enrol(np.ones((len(labels), 1), np.float32), labels)
    path = tmp_path_factory.getbasetemp() / "labels.npz"
    gallery.save(path)
    assert Gallery.load(path).labels == tuple(labels)


def test_a_file_name_that_is_not_utf8_comes_back_as_it_was(tmp_path: Path) -> None:
    names = [os.fsdecode(b"caf\xe9.jpg"), os.fsdecode("café.jpg".encode()), "\udcc3\udca9", "\ud83d\ude00", "a\nb"]
    gallery = Gallery()
    gallery.enrol(at(*range(5)), names)
    gallery.save(tmp_path / "g.npz")
    assert Gallery.load(tmp_path / "g.npz").labels == tuple(names)


def test_one_long_label_does_not_widen_the_others(tmp_path: Path) -> None:
    gallery = Gallery()
    gallery.enrol(np.ones((1001, 2), np.float32), ["x" * 100_000, *("y" * 1000)])
    gallery.save(tmp_path / "g.npz")
    assert (tmp_path / "g.npz").stat().st_size < 200_000


def test_a_new_gallery_file_is_its_owners_alone(tmp_path: Path, four: Gallery) -> None:
    four.save(tmp_path / "g.npz")
    assert stat.S_IMODE((tmp_path / "g.npz").stat().st_mode) == 0o600


def test_a_file_of_before_is_read_with_a_note(tmp_path: Path, four: Gallery) -> None:
    """Version 1: labels of one width, and no seal."""
    np.savez(
        tmp_path / "old.npz",
        version=np.array(1),
        model=np.array("m1"),
        embeddings=four.embeddings,
        labels=np.array(four.labels),
    )
    with logged() as notes:
        loaded = Gallery.load(tmp_path / "old.npz")
    assert (loaded.labels, loaded.model) == (four.labels, "m1")
    assert_array_equal(loaded.embeddings, four.embeddings)
    assert len(notes) == 1 and "old.npz has no seal" in notes[0]


class Bomb:
    """A pickle that would leave a file behind if anything loaded it."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return (open, (str(self.path), "w"))


def as_npz(**changes: Any) -> bytes:
    """A gallery of two rows with a right seal, whatever is wrong in it."""
    good = {
        "version": np.array(2),
        "model": np.array(""),
        "embeddings": np.ones((2, 3), np.float32),
        "labels": np.frombuffer(b"ab", np.uint8),
        "label_ends": np.array([1, 2]),
    }
    stream = io.BytesIO()
    np.savez(stream, **{name: value for name, value in {**good, **changes}.items() if value is not None})
    return sealed(stream.getvalue())


def claiming(header: str) -> bytes:
    """A sealed gallery whose embeddings claim another header than their 24 bytes deserve."""
    content, written = as_npz(), b"{'descr': '<f4', 'fortran_order': False, 'shape': (2, 3), }"
    start = content.index(written)
    padded = header.encode().ljust(content.index(b"\n", start) - start)
    assert len(padded) == content.index(b"\n", start) - start
    return sealed(_with_checksums(content[:start] + padded + content[start + len(padded) :]))


def _with_checksums(npz: bytes) -> bytes:
    """The archive with the CRC of its embeddings as they are now, in both of its headers."""
    import zipfile
    import zlib

    info = zipfile.ZipFile(io.BytesIO(npz)).getinfo("embeddings.npy")
    start = npz.index(b"\x93NUMPY", info.header_offset)
    checksum = zlib.crc32(npz[start : start + info.file_size])
    return npz.replace(info.CRC.to_bytes(4, "little"), checksum.to_bytes(4, "little"))


def compressed() -> bytes:
    stream = io.BytesIO()
    with np.load(io.BytesIO(as_npz())) as good:
        np.savez_compressed(stream, **good)
    return sealed(stream.getvalue())


def version_1(labels: Any) -> bytes:
    stream = io.BytesIO()
    rows = np.ones((2, 3), np.float32)
    np.savez(stream, version=np.array(1), model=np.array(""), embeddings=rows, labels=labels)
    return stream.getvalue()


NOT_OURS = {
    "empty": b"",
    "text": b"not an archive",
    "cut short": as_npz()[:300],
    "without its seal": as_npz()[:-64],
    "with another seal": as_npz()[:-64] + b"0" * 64,
    "with more behind": as_npz() + b"\0",
    "not stored in an archive": pickle.dumps([1, 2]),
    "a missing entry": as_npz(labels=None),
    "an entry too many": as_npz(more=np.array(1)),
    "compressed": compressed(),
    "version 1 in name": as_npz(version=np.array(1)),
    "another version": as_npz(version=np.array(3)),
    "a version of text": as_npz(version=np.array("2")),
    "a list of versions": as_npz(version=np.array([2])),
    "float64": as_npz(embeddings=np.ones((2, 3))),
    "one dimension": as_npz(embeddings=np.ones(2, np.float32)),
    "too few labels": as_npz(label_ends=np.array([2])),
    "numbers for labels": as_npz(labels=np.array([97, 98])),
    "a table of labels": as_npz(labels=np.frombuffer(b"ab", np.uint8).reshape(1, 2)),
    "ends of other type": as_npz(label_ends=np.array([1.0, 2.0])),
    "ends that descend": as_npz(label_ends=np.array([3, 2])),
    "ends below zero": as_npz(label_ends=np.array([-1, 2])),
    "ends that wrap around": as_npz(label_ends=np.array([2**63 - 1, 2])),
    "ends before the last byte": as_npz(label_ends=np.array([1, 1])),
    "a label with NUL": as_npz(labels=np.frombuffer(b"a\0", np.uint8)),
    "a label cut within a sign": as_npz(labels=np.frombuffer("é".encode(), np.uint8)),
    "labels that are not UTF-8": as_npz(labels=np.frombuffer(b"a\xff", np.uint8)),
    "an overlong sign": as_npz(labels=np.frombuffer(b"\xc1\x81a", np.uint8), label_ends=np.array([2, 3])),
    "a model of numbers": as_npz(model=np.array(7)),
    "NaN": as_npz(embeddings=np.full((2, 3), np.nan, np.float32)),
    "in Fortran's order": as_npz(embeddings=np.ones((2, 3), np.float32, order="F")),
    "big-endian": as_npz(embeddings=np.ones((2, 3), ">f4")),
    "rows of no bytes": as_npz(embeddings=np.empty((2, 0), np.float32)),
    "a trillion rows of no bytes": as_npz(embeddings=np.empty((10**12, 0), np.float32)),
    "a huge shape": claiming("{'descr': '<f4', 'fortran_order': False, 'shape': (1000000000000, 3), }"),
    "an overflowing shape": claiming("{'descr': '<f4', 'fortran_order': False, 'shape': (9223372036854775807, 8), }"),
    "a negative shape": claiming("{'descr': '<f4', 'fortran_order': False, 'shape': (-2, -3), }"),
    "a header of code": claiming("__import__('os').abort()"),
    "an unclosed header": claiming("{'descr': '<f4', 'fortran_order': False, 'shape': (2, 3"),
    "an object header": claiming("{'descr': '|O', 'fortran_order': False, 'shape': (3,), }"),
    "no items": claiming("{'descr': '<U0', 'fortran_order': False, 'shape': (6,), }"),
    "version 1, numbers for labels": version_1(np.array([1, 2])),
    "version 1, a table of labels": version_1(np.array([["a", "b"]])),
    "version 1, one label": version_1(np.array("ab")),
    "version 1, beyond Unicode": version_1(np.frombuffer(b"\xff\xff\xff\x7f" * 2, "<U1")),
    "version 1, big-endian": version_1(np.array(["a", "b"]).astype(">U1")),
}


@pytest.mark.parametrize("content", NOT_OURS.values(), ids=NOT_OURS.keys())
def test_a_file_that_is_not_ours_is_one_clear_line(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "g.npz"
    path.write_bytes(content)
    with pytest.raises(InputError) as caught:
        Gallery.load(path)
    assert str(path) in str(caught.value) and "\n" not in str(caught.value)


def test_the_file_that_those_are_made_of_is_ours(tmp_path: Path) -> None:
    (tmp_path / "g.npz").write_bytes(claiming("{'descr': '<f4', 'fortran_order': False, 'shape': (2, 3), }"))
    assert Gallery.load(tmp_path / "g.npz").labels == ("a", "b")


def test_a_pickle_in_the_file_is_not_loaded(tmp_path: Path) -> None:
    mark, path = tmp_path / "loaded", tmp_path / "g.npz"
    for content in (as_npz(labels=np.array([Bomb(mark), "b"], object)), pickle.dumps(Bomb(mark))):
        path.write_bytes(content)
        with pytest.raises(InputError, match="not a gallery written by Gallery.save"):
            Gallery.load(path)
    assert not mark.exists()


def test_no_damaged_gallery_gives_other_results(tmp_path: Path, four: Gallery) -> None:
    path = tmp_path / "g.npz"
    four.save(path)
    for kind, damaged in mutations(path.read_bytes(), 0, count=300):
        path.write_bytes(damaged)
        with pytest.raises(InputError) as caught:
            Gallery.load(path)
        assert "\n" not in str(caught.value), kind


def test_what_is_accepted_under_a_right_seal_is_read_as_it_says(tmp_path: Path, four: Gallery) -> None:
    path = tmp_path / "g.npz"
    four.save(path)
    accepted = 0
    for kind, damaged in mutations(path.read_bytes(), 1, count=600):
        path.write_bytes(sealed(damaged))
        try:
            loaded = Gallery.load(path)
        except InputError:
            continue
        accepted += 1
        expected = reference_gallery(path.read_bytes())
        assert list(loaded.labels) == expected.labels and loaded.model == expected.model, kind
        assert_array_equal(loaded.embeddings, expected.embeddings)
    assert accepted, "a seal that is mended at its own place is right"


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
