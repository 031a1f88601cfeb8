"""Arrays in a sealed .npz file: no pickles, and whatever was changed since it was written is refused.

The file is what `numpy.savez` writes, so `numpy.load` reads it too. Its zip comment, the file's last 64 bytes, is the
SHA-256 in hexadecimal of all bytes before: the checksums that zip itself has leave names, sizes and order unguarded.
"""

from __future__ import annotations

import hashlib
import logging
import os
import re
import struct
import sys
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from .files import written_whole

__all__ = ["read_arrays", "write_arrays"]

logger = logging.getLogger(__name__)

_FIRST_SEALED = 2
"""Files of version 1 have no seal."""

_SEAL_BYTES = 64
_PREFIX = b"\x93NUMPY\x01\x00"
# Only what numpy writes for the arrays here: native C order and a plain type. Nothing is evaluated as Python.
_HEADER = re.compile(rb"\{'descr': '([<|][fiuU][0-9]+)', 'fortran_order': False, 'shape': \(([0-9, ]*)\), \} *\n")
_UNREADABLE = (
    *(zipfile.BadZipFile, OSError, EOFError, struct.error),
    *(LookupError, ValueError, TypeError, OverflowError, RuntimeError, MemoryError),
)


def write_arrays(path: Path | str, version: int, arrays: Mapping[str, ArrayLike], *, private: bool = False) -> None:
    """Write ``arrays`` under their names and ``version``, sealed, whole or not at all.

    With ``private`` a new file is its owner's alone.
    """
    plain = {name: np.asarray(values, order="C") for name, values in arrays.items()}
    with written_whole(path, private=private) as beside, open(beside, "wb+") as file:
        np.savez(file, version=np.array(version), **plain)  # type: ignore[arg-type]
        file.seek(-2, os.SEEK_END)
        file.write(struct.pack("<H", _SEAL_BYTES))  # the length of the zip comment
        file.write(_digest_of_rest(file, file.tell()))


def read_arrays(path: Path, formats: Mapping[int, Sequence[str]]) -> tuple[int, dict[str, NDArray[Any]]]:
    """The version and the arrays of a file that `write_arrays` wrote; ``formats`` are each version's names.

    Nothing larger than the file is allocated. Raises ValueError for anything else: another version, other names, an
    array that `numpy.savez` would store otherwise, and from version 2 a file that was changed after it was written.
    """
    try:
        with open(path, "rb") as file, zipfile.ZipFile(file) as archive:
            stored = _array(archive, "version")
            version = int(stored) if stored.shape == () and stored.dtype.kind == "i" else -1
            names = formats.get(version)
            if names is None:
                raise ValueError(f"its format version {stored.tolist()!r:.20} is unknown to this version of reid-edge")
            if sorted(archive.namelist()) != sorted(f"{name}.npy" for name in ("version", *names)):
                raise ValueError(f"it holds {len(archive.namelist())} entries, not {', '.join(('version', *names))}")
            if version >= _FIRST_SEALED:
                _check_seal(file)
            arrays = {name: _array(archive, name) for name in names}
    except _UNREADABLE as error:
        raise ValueError((str(error) or type(error).__name__).strip("'\"").partition("\n")[0]) from None
    if version < _FIRST_SEALED:
        logger.warning("%s has no seal, as files of earlier versions, and damage may go unseen: write it again", path)
    return version, arrays


def _check_seal(file: IO[bytes]) -> None:
    size = file.seek(0, os.SEEK_END)
    digest = _digest_of_rest(file, size - _SEAL_BYTES)
    if file.read() != digest:
        raise ValueError("its content does not match its seal: it is damaged or was edited")


def _digest_of_rest(file: IO[bytes], end: int) -> bytes:
    """SHA-256 in hexadecimal of the first ``end`` bytes; the file is left there."""
    digest = hashlib.sha256()
    file.seek(0)
    while block := file.read(min(1 << 20, end - file.tell())):
        digest.update(block)
    return digest.hexdigest().encode()


def _array(archive: zipfile.ZipFile, name: str) -> NDArray[Any]:
    """Read one array, never larger than the file: `numpy.load` would trust the shape its header claims."""
    info = archive.getinfo(f"{name}.npy")
    if info.compress_type != zipfile.ZIP_STORED:
        raise ValueError("it is compressed")
    content = archive.read(info)
    start = len(_PREFIX) + 2
    (length,) = struct.unpack("<H", content[len(_PREFIX) : start])
    header = _HEADER.fullmatch(content, start, start + length)
    if not content.startswith(_PREFIX) or header is None:
        raise ValueError(f"{name} is not a plain array in native C order")
    dtype, shape = np.dtype(header[1].decode()), [int(size) for size in header[2].split(b",") if size.strip()]
    start += length
    values = np.frombuffer(content, dtype, offset=start) if len(content) > start else np.empty(0, dtype)
    if dtype.kind == "U" and len(values) and values.view(np.uint32).max() > sys.maxunicode:
        raise ValueError("a text is not Unicode")
    return values.reshape(shape)
