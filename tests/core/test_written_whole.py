"""Outputs appear whole where they were asked for, and killed runs leave nothing behind for long."""

from __future__ import annotations

import os
import signal
import stat
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from reid_edge.core import files
from reid_edge.core.files import require_output, scratch_folder, written_whole
from reid_edge.errors import InputError


def _write(path: Path, text: str, **options: bool) -> None:
    with written_whole(path, **options) as beside:
        beside.write_text(text)


def _names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_a_link_stays_and_its_target_is_replaced(tmp_path: Path) -> None:
    (tmp_path / "models").mkdir()
    (tmp_path / "models" / "v1").write_text("old")
    (tmp_path / "step").symlink_to("models/v1")
    (tmp_path / "latest").symlink_to(tmp_path / "step")
    _write(tmp_path / "latest", "new")
    assert (tmp_path / "latest").is_symlink() and (tmp_path / "step").is_symlink()
    assert (tmp_path / "models" / "v1").read_text() == "new"
    assert _names(tmp_path / "models") == ["v1"]


def test_a_dangling_link_gets_its_target(tmp_path: Path) -> None:
    (tmp_path / "latest").symlink_to("new/v2")
    _write(tmp_path / "latest", "new")
    assert (tmp_path / "latest").is_symlink() and (tmp_path / "new" / "v2").read_text() == "new"


def test_a_loop_of_links_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a").symlink_to("b")
    (tmp_path / "b").symlink_to("a")
    with pytest.raises(InputError, match="a is a loop of symbolic links: delete it"):
        _write(tmp_path / "a", "new")


def test_a_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="is a folder: name a file in it"):
        _write(tmp_path, "new")


def test_a_pipe_is_written_to(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    read: list[str] = []
    reader = threading.Thread(target=lambda: read.append((tmp_path / "pipe").read_text()))
    reader.start()
    _write(tmp_path / "pipe", "through")
    reader.join(10)
    assert read == ["through"]
    assert stat.S_ISFIFO((tmp_path / "pipe").stat().st_mode)


def test_a_device_is_written_to() -> None:
    _write(Path(os.devnull), "gone")
    assert stat.S_ISCHR(os.stat(os.devnull).st_mode)


_PRINT_AND_WRITE = """
import sys
from reid_edge.core.files import written_whole
print("before")
with written_whole(sys.argv[1]) as beside:
    beside.write_text("content\\n")
print("after")
"""


@pytest.mark.parametrize("name", ["/dev/stdout", "/proc/self/fd/1", "link"])
def test_standard_output_is_written_to_in_its_turn(name: str, tmp_path: Path) -> None:
    """Also where it is a regular file, which must be neither replaced nor cut."""
    (tmp_path / "link").symlink_to("/dev/stdout")
    command = [sys.executable, "-c", _PRINT_AND_WRITE, str(tmp_path / name)]
    assert subprocess.run(command, capture_output=True, text=True, check=True).stdout == "before\ncontent\nafter\n"
    with open(tmp_path / "log", "w") as log:
        subprocess.run(command, stdout=log, check=True)
    assert (tmp_path / "log").read_text() == "before\ncontent\nafter\n"


def test_permissions(tmp_path: Path) -> None:
    """A new file has the usual ones or is private; an existing one keeps its own."""
    before = os.umask(0o027)
    try:
        _write(tmp_path / "usual", "new")
        _write(tmp_path / "private", "new", private=True)
        (tmp_path / "script").write_text("old")
        (tmp_path / "script").chmod(0o751)
        _write(tmp_path / "script", "new", private=True)
    finally:
        os.umask(before)
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in tmp_path.iterdir()}
    assert modes == {"usual": 0o640, "private": 0o600, "script": 0o751}


def test_the_temporary_name_has_the_suffix_and_fits(tmp_path: Path) -> None:
    longest = tmp_path / ("é" * 125 + ".json")  # 255 bytes
    with written_whole(longest) as beside:
        assert beside.suffix == ".json" and beside.parent == tmp_path
        beside.write_text("new")
    assert longest.read_text() == "new"


def test_a_failure_leaves_what_was_there(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("old")
    with pytest.raises(ZeroDivisionError):
        with written_whole(tmp_path / "a") as beside:
            beside.write_text("new")
            raise ZeroDivisionError
    assert _names(tmp_path) == ["a"] and (tmp_path / "a").read_text() == "old"


_HANG = """
import sys, time
from pathlib import Path
from reid_edge.core.files import scratch_folder, written_whole
with written_whole(Path(sys.argv[1], "model.pth")) as beside, scratch_folder(Path(sys.argv[1])) as scratch:
    (scratch / "crop.jpg").write_text("crop")
    beside.write_text("half")
    print("writing", flush=True)
    time.sleep(60)
"""


def test_a_killed_run_s_files_go_with_the_next_write_and_a_running_one_s_stay(tmp_path: Path) -> None:
    command = [sys.executable, "-c", _HANG, str(tmp_path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout and process.stdout.readline() == "writing\n"
        running = _names(tmp_path)
        assert len(running) == 2 and all(".reid-edge-tmp" in name for name in running)
        _write(tmp_path / "other", "whole")
        assert _names(tmp_path) == [*running, "other"]
        os.kill(process.pid, signal.SIGKILL)
    _write(tmp_path / "other", "whole")
    assert _names(tmp_path) == ["other"]


def test_what_is_written_twice_before_it_has_its_name_stays_its_writer_s(tmp_path: Path) -> None:
    """An exported file is written, checked for minutes and renamed, while another export writes into the folder."""
    with written_whole(tmp_path / "a") as beside:
        _write(beside, "a")
        _write(tmp_path / "b", "b")
        assert beside.read_text() == "a", "another writer took it for a leftover"
    assert _names(tmp_path) == ["a", "b"] and (tmp_path / "a").read_text() == "a"


def test_another_host_s_files_stay_for_a_week(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as there:
        there.setattr(files, "_HOST", "ffffffff")
        name = files._temporary_name("model.pth", ".pth")
    (tmp_path / name).write_text("half")
    _write(tmp_path / "a", "whole")
    assert _names(tmp_path) == sorted([name, "a"])
    week_ago = time.time() - 8 * 86400
    os.utime(tmp_path / name, (week_ago, week_ago))
    _write(tmp_path / "a", "whole")
    assert _names(tmp_path) == ["a"]


def test_a_scratch_folder_is_private_and_goes(tmp_path: Path) -> None:
    with scratch_folder(tmp_path) as scratch:
        (scratch / "a").write_text("x")
        assert scratch.parent == tmp_path and stat.S_IMODE(scratch.stat().st_mode) == 0o700
    assert not _names(tmp_path)


def test_an_output_is_asked_for_before_the_work(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    assert require_output(tmp_path / "new" / "deep" / "a.json") == tmp_path / "new" / "deep" / "a.json"
    assert not (tmp_path / "new").exists()
    with pytest.raises(InputError, match="file is a file: name a place in a folder"):
        require_output(tmp_path / "file" / "a.json")
    with pytest.raises(InputError, match="is a folder: name a file in it"):
        require_output(tmp_path)
