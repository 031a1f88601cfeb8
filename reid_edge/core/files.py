"""Outputs that are never half-written, and the hash that names a file's content."""

from __future__ import annotations

import hashlib
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from .errors import InputError

__all__ = ["require_file", "require_folder", "sha256_of", "written_whole"]


@contextmanager
def written_whole(path: Path | str) -> Iterator[Path]:
    """Yield a temporary path beside ``path``; rename it over ``path`` on success, delete it on any failure.

    Missing parent folders are made. A reader of ``path`` sees the old content or the new, never a part, whatever
    interrupts the writer: a full disk, ctrl-C, a killed process.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=path.suffix or ".tmp")
    os.close(handle)
    beside = Path(name)
    try:
        yield beside
        _flush(beside)
        beside.chmod(0o666 & ~_umask())
        beside.replace(path)
    finally:
        beside.unlink(missing_ok=True)


def sha256_of(path: Path | str) -> str:
    """SHA-256 of a file's bytes, in hexadecimal."""
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def require_file(path: Path | str, what: str) -> Path:
    """``path`` as a Path if it is a file; raises InputError that says what was expected there."""
    path = Path(path)
    if path.is_dir():
        raise InputError(f"{path} is a folder, and {what} is a file: name the file inside it")
    if not path.is_file():
        raise InputError(f"{path} does not exist: give the path of {what}")
    return path


def require_folder(path: Path | str, what: str) -> Path:
    """``path`` as a Path if it is a folder; raises InputError that says what was expected there."""
    path = Path(path)
    if path.is_file():
        raise InputError(f"{path} is a file, and {what} is a folder")
    if not path.is_dir():
        raise InputError(f"{path} does not exist: give the folder of {what}")
    return path


def _flush(path: Path) -> None:
    with open(path, "rb+") as file:
        os.fsync(file.fileno())


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
