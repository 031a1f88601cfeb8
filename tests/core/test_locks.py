"""One process at a time: who is refused, what is left, and what a kill leaves."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from reid_edge.core.locks import locked
from reid_edge.errors import InputError

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="Windows has no flock")

_HOLD = """
import sys, time
from reid_edge.core.locks import locked
with locked(sys.argv[1], "training"):
    print("held", flush=True)
    time.sleep(60)
"""


@pytest.fixture
def holder(tmp_path: Path) -> Iterator[subprocess.Popen[str]]:
    """Another process that holds ``tmp_path / "model.pth"``."""
    command = [sys.executable, "-c", _HOLD, str(tmp_path / "model.pth")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout and process.stdout.readline() == "held\n"
        yield process
        process.kill()


def test_a_second_process_is_refused_and_told_the_first(tmp_path: Path, holder: subprocess.Popen[str]) -> None:
    with pytest.raises(InputError, match=f"^training into x: process {holder.pid} writes the same files: wait"):
        with locked(tmp_path / "model.pth", "training into x"):
            pass
    with locked(tmp_path / "other.pth", "another name in the folder"):
        pass


def test_the_lock_ends_with_its_process(tmp_path: Path, holder: subprocess.Popen[str]) -> None:
    os.kill(holder.pid, signal.SIGKILL)
    holder.wait()
    assert [path.name for path in tmp_path.iterdir()] == [".model.pth.reid-edge-lock"]
    with locked(tmp_path / "model.pth", "training"):
        pass
    assert not list(tmp_path.iterdir()), "the next run takes over the file and deletes it"


def test_this_process_is_refused_too(tmp_path: Path) -> None:
    with locked(tmp_path / "new" / "model.pth", "training"):
        with pytest.raises(InputError, match=f"process {os.getpid()} writes the same files"):
            with locked(tmp_path / "new" / "model.pth", "training"):
                pass


def test_an_error_unlocks(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="in between"):
        with locked(tmp_path / "model.pth", "training"):
            raise ValueError("in between")
    assert not list(tmp_path.iterdir())


def test_no_two_processes_hold_it_while_the_file_comes_and_goes(tmp_path: Path) -> None:
    """Four processes take the lock again and again, and count up in a file: no count is lost."""
    work = """
import sys, time
from pathlib import Path
from reid_edge.core.locks import locked
from reid_edge.errors import InputError
count, done = Path(sys.argv[1]), 0
while done < 50:
    try:
        with locked(count, "counting"):
            count.write_text(str(int(count.read_text()) + 1))
            done += 1
    except InputError:
        time.sleep(0.0005)
"""
    count = tmp_path / "count"
    count.write_text("0")
    processes = [subprocess.Popen([sys.executable, "-c", work, str(count)]) for _ in range(4)]
    assert [process.wait() for process in processes] == [0] * 4
    assert count.read_text() == "200"
    assert [path.name for path in tmp_path.iterdir()] == ["count"]


def test_folders_are_made_and_kept_only_if_something_was_written(tmp_path: Path) -> None:
    with locked(tmp_path / "a" / "b" / "file", "trying"):
        assert (tmp_path / "a" / "b").is_dir()
    assert list(tmp_path.iterdir()) == []
    with locked(tmp_path / "a" / "b" / "file", "writing"):
        (tmp_path / "a" / "written").touch()
    assert list((tmp_path / "a").iterdir()) == [tmp_path / "a" / "written"]
