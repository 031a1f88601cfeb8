"""One process at a time: locks that end with the process that holds them, however it ends.

A lock is `flock` on an open file. The holder deletes that file before it lets go, and whoever gets the lock checks that
the file still has its name: nothing is left after a run, and two runs never hold two files of one name. A killed run
leaves the file, but not the lock: the next run takes it over. Windows has no `flock`: nothing is locked there.
"""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from reid_edge.errors import InputError

__all__ = ["LOCK_SUFFIX", "has_name", "lock_file", "locked", "try_lock"]

LOCK_SUFFIX = ".reid-edge-lock"


@contextmanager
def locked(path: Path | str, doing: str) -> Iterator[None]:
    """Hold ``path``, a file that is going to be written, for this process alone; ``doing`` says what for.

    The lock is a file beside ``path``; to lock a folder, name a file in it. Missing parent folders are made, and
    deleted at the end if nothing was written into them. Raises InputError, which names the other process, when ``path``
    is held already, by another process or by this one.

    >>> with locked(scratch / "checkpoint.pth", "training into runs/osnet"):
    ...     pass
    """
    path = Path(path)
    made = [folder for folder in path.parents if not folder.exists()]
    path.parent.mkdir(parents=True, exist_ok=True)
    name = path.with_name(f".{path.name[:200]}{LOCK_SUFFIX}")
    file = lock_file(name)
    if file is None:
        raise InputError(
            f"{doing}: {_holder(name)} writes the same files: wait until it ends, stop it, or write to another place"
        )
    try:
        os.ftruncate(file, 0)
        os.write(file, f"{os.getpid()}\n".encode())
        yield
    finally:
        with contextlib.suppress(OSError):
            name.unlink()
        os.close(file)
        with contextlib.suppress(OSError):  # not empty
            for folder in made:
                folder.rmdir()


def lock_file(path: Path, mode: int = 0o666) -> int | None:
    """Open ``path``, made with ``mode`` where it is missing, and lock it: the descriptor, or None if another holds it.

    Closing the descriptor unlocks it.
    """
    while True:
        file = os.open(path, os.O_RDWR | os.O_CREAT | getattr(os, "O_NOFOLLOW", 0), mode)
        if try_lock(file) is False:
            os.close(file)
            return None
        if has_name(file, path):
            return file
        os.close(file)  # its holder deleted it after it was opened here


def has_name(file: int, path: Path) -> bool:
    """Whether an open file is the one called ``path``."""
    try:
        return os.path.samestat(os.fstat(file), os.stat(path, follow_symlinks=False))
    except FileNotFoundError:
        return False


def try_lock(file: int) -> bool | None:
    """Lock an open file without waiting: False if another holds it, None where the file system has no locks."""
    if sys.platform == "win32":
        return None
    import fcntl

    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:
        return None
    return True


def _holder(lock: Path) -> str:
    with contextlib.suppress(OSError):
        if process := lock.read_text(encoding="ascii", errors="replace").strip():
            return f"process {process}"
    return "another process"
