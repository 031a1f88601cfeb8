"""Sealed arrays: what was written is read, and nothing that was changed since."""

from __future__ import annotations

import hashlib
import zipfile
from pathlib import Path

import numpy as np
import pytest
from helpers.log import logged
from helpers.mutations import mutations
from helpers.reference_readers import sealed
from numpy.testing import assert_array_equal

from reid_edge.core.arrays import read_arrays, write_arrays

FORMATS = {1: ("rows",), 2: ("rows", "text")}
ROWS = np.arange(6, dtype=np.float32).reshape(2, 3)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    write_arrays(tmp_path / "a.npz", 2, {"rows": ROWS, "text": "Zoë"})
    return tmp_path / "a.npz"


def test_arrays_read_back_and_numpy_reads_them_too(file: Path) -> None:
    version, arrays = read_arrays(file, FORMATS)
    assert version == 2 and list(arrays) == ["rows", "text"] and str(arrays["text"]) == "Zoë"
    assert_array_equal(arrays["rows"], ROWS)
    with np.load(file, allow_pickle=False) as loaded:
        assert_array_equal(loaded["rows"], ROWS)


def test_the_last_64_bytes_are_the_hash_of_all_before(file: Path) -> None:
    content = file.read_bytes()
    assert content[-64:].decode() == hashlib.sha256(content[:-64]).hexdigest()
    with zipfile.ZipFile(file) as archive:
        assert archive.comment == content[-64:]


def test_the_same_arrays_are_the_same_bytes(file: Path, tmp_path: Path) -> None:
    write_arrays(tmp_path / "b.npz", 2, {"rows": ROWS, "text": "Zoë"})
    assert (tmp_path / "b.npz").read_bytes() == file.read_bytes()


def test_arrays_in_fortran_order_are_stored_in_c_order(tmp_path: Path) -> None:
    write_arrays(tmp_path / "f.npz", 2, {"rows": np.asfortranarray(ROWS), "text": ""})
    assert_array_equal(read_arrays(tmp_path / "f.npz", FORMATS)[1]["rows"], ROWS)


def test_every_byte_is_guarded(file: Path) -> None:
    content = file.read_bytes()
    for place in range(len(content)):
        file.write_bytes(content[:place] + bytes([content[place] ^ 1]) + content[place + 1 :])
        with pytest.raises(ValueError):
            read_arrays(file, FORMATS)


def test_no_damage_is_accepted(file: Path) -> None:
    for kind, damaged in mutations(file.read_bytes(), 0, count=400):
        file.write_bytes(damaged)
        with pytest.raises(ValueError) as caught:
            read_arrays(file, FORMATS)
        assert "\n" not in str(caught.value), kind


def test_damage_under_a_right_seal_raises_nothing_but_value_errors(file: Path) -> None:
    """A hostile hand can seal what it likes: what is read then is still what the file says."""
    for kind, damaged in mutations(file.read_bytes()[:-64], 1, count=400):
        file.write_bytes(sealed(damaged + bytes(64)))
        try:
            _, arrays = read_arrays(file, FORMATS)
        except ValueError as error:
            assert "\n" not in str(error), kind
        else:
            assert all(array.nbytes <= len(damaged) for array in arrays.values()), kind


def test_a_seal_cannot_be_taken_off(file: Path) -> None:
    content = file.read_bytes()
    file.write_bytes(content[:-66] + b"\0\0")
    assert zipfile.ZipFile(file).comment == b""
    with pytest.raises(ValueError, match="does not match its seal"):
        read_arrays(file, FORMATS)


def test_a_file_of_version_1_is_read_with_a_note(tmp_path: Path) -> None:
    np.savez(tmp_path / "old.npz", version=np.array(1), rows=ROWS)
    with logged() as notes:
        version, arrays = read_arrays(tmp_path / "old.npz", FORMATS)
    assert version == 1 and arrays["rows"].tolist() == ROWS.tolist()
    assert len(notes) == 1 and "has no seal" in notes[0]


def test_entries_that_are_twice_or_too_many_are_refused(tmp_path: Path, file: Path) -> None:
    with pytest.warns(UserWarning, match="Duplicate"), zipfile.ZipFile(file, "a") as archive:
        archive.writestr("rows.npy", archive.read("rows.npy"))
    file.write_bytes(sealed(file.read_bytes()))
    with pytest.raises(ValueError, match="holds 4 entries, not version, rows, text"):
        read_arrays(file, FORMATS)
    write_arrays(file, 2, {"rows": ROWS, "text": "", "more": ROWS})
    with pytest.raises(ValueError, match="holds 4 entries"):
        read_arrays(file, FORMATS)
