"""How a machine is asked: files below a root, and commands with a time limit.

Everything that reads a machine takes a `Host`, so that a recorded one can be replayed whole.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO

__all__ = ["CommandOutput", "Host", "run_command"]

COMMAND_SECONDS = 10.0
_MOST_BYTES = 256 << 10
_MORE_FOLDERS = os.pathsep.join(("/usr/sbin", "/sbin", "/usr/bin", "/bin", "/usr/local/cuda/bin"))
"""Where NVIDIA's tools are, also for users whose PATH does not say so."""


@dataclass(frozen=True)
class CommandOutput:
    """What a command printed, at most 256 KiB of each stream.

    ``code`` is its exit status, negative for the signal that ended it, and None where there is no such command, or it
    ran into its time limit: then ``text`` is what it had printed by then.
    """

    text: str = ""
    errors: str = ""
    code: int | None = None


def run_command(command: Sequence[str], seconds: float = COMMAND_SECONDS) -> CommandOutput:
    r"""Run a command without a shell, for at most ``seconds``; it, and what it started, is killed then.

    >>> run_command(["sh", "-c", "echo here; exit 3"])
    CommandOutput(text='here\n', errors='', code=3)
    >>> run_command(["no-such-command"]).code is None
    True
    """
    program = shutil.which(command[0]) or shutil.which(command[0], path=_MORE_FOLDERS)
    if program is None:
        return CommandOutput()
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as errors:
        try:
            child = subprocess.Popen(
                [program, *command[1:]],
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=errors,
                env={**os.environ, "LC_ALL": "C"},
                start_new_session=True,
            )
        except OSError:
            return CommandOutput()
        return CommandOutput(*_ended(child, seconds, out, errors))


@dataclass(frozen=True)
class Host:
    """The machine: its files lie below ``root``, ``run(command, seconds)`` runs a command on it.

    ``python`` starts the interpreter whose packages are meant.

    >>> Host().read("proc/self/comm") != "", Host().read("no/such/file")
    (True, '')
    """

    root: Path = Path("/")
    run: Callable[[Sequence[str], float], CommandOutput] = run_command
    python: str = sys.executable

    def read(self, path: str) -> str:
        """The first 256 KiB of a text file, stripped, also of NUL; empty where it cannot be read."""
        try:
            with open(self.root / path, "rb") as file:
                return _text(file.read(_MOST_BYTES))
        except (OSError, ValueError):
            return ""

    def number(self, path: str) -> int | None:
        """A file with one whole number, as most of sysfs is; None for anything else."""
        text = self.read(path)
        return int(text) if text.removeprefix("-").isdecimal() and text.isascii() and len(text) < 20 else None

    def folders(self, pattern: str) -> list[str]:
        """The paths that match ``pattern``, sorted, as `read` takes them; at most 256."""
        try:
            found = sorted(self.root.glob(pattern))[:256]
        except OSError:
            return []
        return [path.relative_to(self.root).as_posix() for path in found]


def _ended(
    child: subprocess.Popen[bytes], seconds: float, out: IO[bytes], errors: IO[bytes]
) -> tuple[str, str, int | None]:
    """Wait for a command, and read what it printed."""
    code: int | None = None
    try:
        with contextlib.suppress(subprocess.TimeoutExpired):
            code = child.wait(seconds)
    finally:
        with contextlib.suppress(OSError):
            os.killpg(child.pid, signal.SIGKILL)
        child.wait()
    return _start_of(out), _start_of(errors), code


def _start_of(file: IO[bytes]) -> str:
    file.seek(0)
    return file.read(_MOST_BYTES).decode(errors="replace")


def _text(content: bytes) -> str:
    return content.decode(errors="replace").strip("\0 \n\t")
