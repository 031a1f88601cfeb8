"""Commands end in time, print at most so much, and leave nothing behind; files are read from a root."""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path

import pytest

from reid_edge.device.host import CommandOutput, Host, run_command
from reid_edge.device.tegrastats import read_tegrastats

MOST = 256 << 10


def test_what_a_command_printed_on_each_stream_and_how_it_ended() -> None:
    output = run_command(["sh", "-c", "echo said; echo complained >&2; exit 4"])
    assert output == CommandOutput("said\n", "complained\n", 4)


def test_a_command_that_a_signal_ended() -> None:
    assert run_command(["sh", "-c", "kill -SEGV $$"]).code == -11


def test_a_command_that_never_ends_is_killed_with_its_children_and_keeps_what_it_printed() -> None:
    output = run_command(["sh", "-c", "sleep 600 & echo $!; wait"], seconds=2)
    assert output.code is None
    for _ in range(200):  # the kernel ends it in its own time
        state = Host().read(f"proc/{int(output.text)}/stat").rpartition(")")[2].split()
        if not state or state[0] in "ZX":
            return
        time.sleep(0.05)
    pytest.fail("its child still runs")


def test_a_command_that_prints_without_end_is_cut() -> None:
    output = run_command([sys.executable, "-c", f"print('x' * {4 * MOST})"])
    assert output.text == "x" * MOST and output.code == 0


@pytest.mark.parametrize("command", ["no-such-command", "/no/such/command", "bad\0name"])
def test_a_command_that_is_not_there(command: str) -> None:
    assert run_command([command]) == CommandOutput()


def test_no_shell_reads_the_words() -> None:
    assert run_command(["echo", "$HOME; ls", "*"]).text == "$HOME; ls *\n"


def test_bytes_that_are_no_text() -> None:
    assert run_command(["printf", r"\377\000a"]).text == "\ufffd\0a"


def test_files_below_a_root(tmp_path: Path) -> None:
    (tmp_path / "model").write_bytes(b"NVIDIA Jetson\0")
    (tmp_path / "big").write_bytes(b"9" * 2 * MOST)
    host = Host(tmp_path)
    assert host.read("model") == "NVIDIA Jetson"
    assert host.read("missing") == "" and host.read("bad\0name") == "" and host.read(".") == ""
    assert len(host.read("big")) == MOST and host.number("big") is None


@pytest.mark.parametrize(
    ("text", "number"), [("12\n", 12), ("-256000", -256000), ("max", None), ("1e9", None), ("", None), ("٣", None)]
)
def test_a_file_with_a_number(text: str, number: int | None, tmp_path: Path) -> None:
    (tmp_path / "file").write_text(text, encoding="utf-8")
    assert Host(tmp_path).number("file") == number


def test_folders_are_named_from_the_root(tmp_path: Path) -> None:
    for name in ("zone1", "zone0", "other"):
        (tmp_path / "sys" / name).mkdir(parents=True)
    assert Host(tmp_path).folders("sys/zone*") == ["sys/zone0", "sys/zone1"]


def test_a_line_of_a_program_that_never_ends(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As tegrastats is: it is killed, and the line is read."""
    program = tmp_path / "tegrastats"
    program.write_text("#!/bin/sh\necho 'RAM 1/2MB (lfb 1x4MB) GR3D_FREQ 7% tj@40C'\nsleep 60\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    stats = read_tegrastats(Host(run=lambda command, seconds: run_command(command, 2)))
    assert stats is not None and stats.gpu_percent == 7
