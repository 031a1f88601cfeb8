"""Outputs that are never half-written, temporary folders, and the hash that names a file's content.

Temporary names end in ``.reid-edge-tmp`` (and the output's own suffix, which some writers look at), and their process
holds a lock on them (`reid_edge.core.locks`): what a killed run leaves can be told from what a running one writes, and
the next write into the folder deletes it.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import platform
import re
import secrets
import shutil
import stat
import sys
import tempfile
import time
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import islice
from pathlib import Path

from reid_edge.errors import InputError

from .locks import LOCK_SUFFIX, has_name, lock_file, try_lock
from .names import did_you_mean

__all__ = [
    "is_standard_output",
    "is_utf8",
    "require_file",
    "require_folder",
    "require_output",
    "scratch_folder",
    "sha256_of",
    "write_text",
    "written_whole",
]

_TEMPORARY = ".reid-edge-tmp"
_HOST = f"{zlib.crc32(platform.node().encode()):08x}"
_OLD_SECONDS = 7 * 86400.0
"""Age at which a file is taken for a leftover when its process is on another host, or the disk has no locks."""

_MOST_LINKS = 40  # as the kernel
_MOST_NAMES = 1000
_DESCRIPTORS = re.compile(rf"(/proc/{os.getpid()}|/dev)/fd")


@contextmanager
def written_whole(path: Path | str, *, private: bool = False) -> Iterator[Path]:
    """Yield a temporary path beside ``path``; rename it over ``path`` on success, delete it on any failure.

    Missing parent folders are made. A reader of ``path`` sees the old content or the new, never a part, also when
    the writer is interrupted by a full disk, ctrl-C or a kill. A symbolic link stays, and its target is replaced. A
    device, a pipe or ``/dev/stdout`` is not replaced: the content is written to it at the end. A file that was there
    keeps its permissions; a new one gets the usual ones, or with ``private`` those for its owner alone (0600). A
    ``path`` that is itself such a temporary one is written in place: a file renamed over it would not hold its lock,
    and another process would take it for a leftover.

    Raises InputError for a folder or a loop of links.
    """
    path = _link_target(Path(path))
    if _TEMPORARY in path.name:
        yield path
        return
    if _is_stream(path):
        with scratch_folder() as scratch:
            yield scratch / path.name
            _copy_to_stream(scratch / path.name, path)
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    _sweep(path.parent)
    known = stat.S_IMODE(path.stat().st_mode) if path.exists() else None
    beside, file = _new_file(path, 0o600 if private or known is not None else 0o666)
    try:
        yield beside
        _flush(beside)
        if known is not None:
            beside.chmod(known)
        beside.replace(path)
        _flush_folder(path.parent)
    finally:
        beside.unlink(missing_ok=True)
        os.close(file)


def write_text(path: Path | str, text: str) -> None:
    """Write ``text`` as UTF-8, whole or not at all: see `written_whole`.

    Raises InputError for text with the name of a file in it that is not UTF-8.
    """
    if not is_utf8(text):
        raise InputError(f"{path} would hold the name of a file that is not UTF-8: rename that file")
    with written_whole(path) as beside:
        beside.write_text(text, encoding="utf-8")


def is_utf8(name: Path | str) -> bool:
    r"""Whether a name is Unicode; Python keeps other bytes of a name as lone surrogates.

    >>> is_utf8("crèche.onnx"), is_utf8(os.fsdecode(b"cr\xe8che.onnx"))
    (True, False)
    """
    try:
        str(name).encode()
    except UnicodeEncodeError:
        return False
    return True


@contextmanager
def scratch_folder(parent: Path | None = None) -> Iterator[Path]:
    """A temporary folder in ``parent`` (None: the system's, ``$TMPDIR``), for this user alone, deleted at the end."""
    parent = parent or Path(tempfile.gettempdir())
    _sweep(parent)
    folder, file = _new_folder(parent)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        os.close(file)


def sha256_of(path: Path | str) -> str:
    """SHA-256 of a file's bytes, in hexadecimal."""
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def require_file(path: Path | str, what: str) -> Path:
    """``path`` as a Path if it is a file; raises InputError that says ``what`` was expected."""
    path = Path(path)
    if path.is_dir():
        raise InputError(f"{path} is a folder, and {what} is a file: name the file inside it")
    if path.exists() and not path.is_file():
        raise InputError(f"{path} is a device or a pipe, and {what} is a regular file: name one")
    if not path.is_file():
        raise InputError(f"{path} does not exist: give the path of {what}{_near(path)}")
    return path


def require_folder(path: Path | str, what: str) -> Path:
    """``path`` as a Path if it is a folder; raises InputError that says ``what`` was expected."""
    path = Path(path)
    if path.exists() and not path.is_dir():
        raise InputError(f"{path} is a file, not a folder: give the folder of {what}")
    if not path.is_dir():
        raise InputError(f"{path} does not exist: give the folder of {what}{_near(path)}")
    return path


def require_output(path: Path | str) -> Path:
    """``path`` as a Path if a file can be written there, to be asked before long work; raises InputError if not."""
    target = _link_target(Path(path))
    if _is_stream(target):
        return Path(path)
    folder = target.parent
    while not folder.exists() and folder != folder.parent:
        folder = folder.parent
    if not folder.is_dir():
        raise InputError(f"{path} cannot be written, as {folder} is a file: name a place in a folder")
    if not os.access(folder, os.W_OK | os.X_OK):
        raise InputError(
            f"{path} cannot be written: {folder} forbids it: name another place, or change its permissions"
        )
    return Path(path)


def is_standard_output(path: Path | str) -> bool:
    """Whether what is written to ``path`` goes to this process's standard output, as ``/dev/stdout`` does."""
    return _descriptor(_link_target(Path(path))) == 1


def _near(path: Path) -> str:
    """The entry of its folder that a missing path may have meant, for an error; of many entries the first are read."""
    try:
        with os.scandir(path.parent) as entries:
            return did_you_mean(path.name, [entry.name for entry in islice(entries, _MOST_NAMES)])
    except (OSError, ValueError):  # there is no such folder, or it is no name at all
        return ""


def _link_target(path: Path) -> Path:
    """Where symbolic links lead, existing or not; an open descriptor (``/dev/stdout``) is where they end."""
    target = path
    for _ in range(_MOST_LINKS):
        if _descriptor(target) is not None or not target.is_symlink():
            if target.is_dir():
                raise InputError(f"{path} is a folder: name a file in it")
            return target
        target = target.parent / os.readlink(target)
    raise InputError(f"{path} is a loop of symbolic links: delete it, or name another file")


def _descriptor(path: Path) -> int | None:
    """The number of the open file of this process that a path like ``/proc/self/fd/1`` names; else None."""
    if path.name.isdecimal() and _DESCRIPTORS.fullmatch(os.path.realpath(path.parent)):
        return int(path.name)
    return None


def _is_stream(path: Path) -> bool:
    return _descriptor(path) is not None or (path.exists() and not path.is_file())


def _copy_to_stream(source: Path, path: Path) -> None:
    """Write a file's bytes to a device, a pipe or an open file, after what this process has printed."""
    if sys.stdout is not None:
        sys.stdout.flush()
    number = _descriptor(path)
    with open(source, "rb") as content, open(path if number is None else os.dup(number), "wb") as stream:
        shutil.copyfileobj(content, stream)


def _new_file(path: Path, mode: int) -> tuple[Path, int]:
    """A new temporary file beside ``path``, and its descriptor, which holds its lock."""
    while True:
        beside = path.with_name(_temporary_name(path.name, path.suffix))
        if (file := lock_file(beside, mode)) is not None:
            return beside, file


def _new_folder(parent: Path) -> tuple[Path, int]:
    """A new temporary folder, for its owner alone, and its descriptor, which holds its lock."""
    while True:
        folder = parent / _temporary_name("reid-edge")
        folder.mkdir(0o700)
        if sys.platform == "win32":  # which opens no folders, and has no locks
            return folder, os.open(os.devnull, os.O_RDONLY)
        with contextlib.suppress(FileNotFoundError):  # taken for a leftover before it was locked
            file = os.open(folder, os.O_RDONLY)
            if try_lock(file) is not False and has_name(file, folder):
                return folder, file
            os.close(file)


def _temporary_name(name: str, suffix: str = "") -> str:
    """A hidden name that says whose it is; long names are cut, as a name has at most 255 bytes."""
    return f".{name[:32]}.{_HOST}-{secrets.token_hex(4)}{_TEMPORARY}{suffix[:16]}"


def _sweep(folder: Path) -> None:
    """Delete the temporary files, folders and locks that killed runs left in a folder."""
    for path in folder.glob(".*"):
        if _TEMPORARY in path.name or path.name.endswith(LOCK_SUFFIX):
            with contextlib.suppress(OSError):  # another user's, or gone by now
                _delete_leftover(path)


def _delete_leftover(path: Path) -> None:
    """Delete what no running process holds; of another host, or where there are no locks, what is a week old."""
    file = os.open(path, os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0))
    try:
        free = try_lock(file)
        is_local = f".{_HOST}-" in path.name or path.name.endswith(LOCK_SUFFIX)
        is_old = time.time() - os.fstat(file).st_mtime > _OLD_SECONDS
        if free is False or not has_name(file, path) or not (free and is_local or is_old):
            return
        if path.is_dir():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink()
    finally:
        os.close(file)


def _flush(path: Path) -> None:
    with open(path, "rb+") as file:
        os.fsync(file.fileno())


def _flush_folder(path: Path) -> None:
    """Make the new name itself survive a power cut, where folders can be flushed."""
    with contextlib.suppress(OSError):
        file = os.open(path, os.O_RDONLY)
        try:
            os.fsync(file)
        finally:
            os.close(file)
