"""How a command ends when it is stopped: its exit code, one line or none, and nothing left."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from helpers.tiny_onnx import write_tiny_model

from reid_edge.core.progress import track
from reid_edge.core.signals import Terminated, terminable
from reid_edge.data.synthetic.dataset import synthesize

REID_EDGE = [sys.executable, "-m", "reid_edge"]


@pytest.fixture(scope="module")
def people(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("ends") / "people"
    return synthesize(folder, identities=2, test_identities=2, size_hw=(32, 32), progress=False)


def test_sigterm_is_no_error_to_carry_on_after() -> None:
    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises(Terminated) as ended, terminable():
        try:
            signal.raise_signal(signal.SIGTERM)
        except Exception:
            pytest.fail("code that survives a damaged image survived SIGTERM")
    assert ended.value.code == 143
    assert signal.getsignal(signal.SIGTERM) == before


@pytest.fixture
def heard() -> Iterator[None]:
    """Ctrl-C is not ignored, as it is in a shell's background jobs."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.parametrize("number, kind", [(signal.SIGINT, KeyboardInterrupt), (signal.SIGTERM, Terminated)])
def test_a_stop_that_compiled_code_swallows_ends_the_next_long_loop(
    number: signal.Signals, kind: type[BaseException], heard: None
) -> None:
    done = []
    with pytest.raises(kind), terminable():
        with contextlib.suppress(kind):
            signal.raise_signal(number)
        done += track(range(3), "counting")
    assert done == []
    assert list(track(range(3), "counting again")) == [0, 1, 2]


def test_a_library_leaves_sigterm_alone() -> None:
    code = "import signal, reid_edge; reid_edge.bench; print(signal.getsignal(signal.SIGTERM) == signal.SIG_DFL)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout == "True\n"


def _workers(process: int) -> list[int]:
    """The measuring processes of a running bench."""
    found = []
    for child in Path(f"/proc/{process}/task/{process}/children").read_text().split():
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):  # one that ended since
            if "reid_edge.benchmarks.worker" in Path(f"/proc/{child}/cmdline").read_text():
                found.append(int(child))
    return found


def _runs(process: int) -> bool:
    """Whether a process is there, and not just an entry that nobody has collected."""
    try:
        return "\nState:\tZ" not in Path(f"/proc/{process}/status").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return False


@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="finds child processes in /proc")
@pytest.mark.parametrize(
    ("number", "code", "line"), [(signal.SIGTERM, 143, "stopped by SIGTERM"), (signal.SIGINT, 130, "interrupted")]
)
def test_a_stopped_bench_takes_its_worker_and_folders_along(
    number: signal.Signals, code: int, line: str, tmp_path: Path
) -> None:
    model = write_tiny_model(tmp_path / "m.onnx")
    (tmp_path / "tmp").mkdir()
    process = subprocess.Popen(
        [*REID_EDGE, "-q", "bench", str(model), "--seconds", "60", "--json", str(tmp_path / "b.json")],
        env={**os.environ, "TMPDIR": str(tmp_path / "tmp")},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # a shell in the background ignores it
    )
    deadline = time.monotonic() + 60
    while not (workers := _workers(process.pid)) and time.monotonic() < deadline:
        time.sleep(0.01)
    if number == signal.SIGINT:
        os.killpg(process.pid, number)  # as a terminal does
    else:
        process.send_signal(number)
    out, err = process.communicate(timeout=60)
    assert (process.returncode, out, err) == (code, "", f"reid-edge: {line}\n")
    while any(map(_runs, workers)) and time.monotonic() < deadline:
        time.sleep(0.01)
    assert not any(map(_runs, workers))
    assert not list((tmp_path / "tmp").iterdir()) and not (tmp_path / "b.json").exists()


@pytest.mark.parametrize("command", [["--help"], ["data", "inspect", "PEOPLE"], ["train", "--help"]])
def test_a_closed_pipe_ends_in_silence(command: list[str], people: Path) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    words = [str(people) if word == "PEOPLE" else word for word in command]
    done = subprocess.run([*REID_EDGE, *words], stdout=writer, stderr=subprocess.PIPE, text=True)
    os.close(writer)
    assert (done.returncode, done.stderr) == (141, "")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_a_full_disk_under_standard_output_is_one_line(people: Path) -> None:
    with open("/dev/full", "w") as full:
        command = [*REID_EDGE, "data", "inspect", str(people)]
        done = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, text=True)
    assert done.returncode == 2 and done.stderr.startswith("reid-edge: no space left to write")
    assert done.stderr.count("\n") == 1


def test_closed_standard_output_is_no_error(people: Path) -> None:
    command = f'"$0" -m reid_edge data inspect {people} >&-'
    done = subprocess.run(["sh", "-c", command, sys.executable], stderr=subprocess.PIPE, text=True)
    assert (done.returncode, done.stderr) == (0, "")


def test_figures_on_standard_output_are_alone_there(people: Path) -> None:
    command = [*REID_EDGE, "data", "inspect", str(people), "--json", "/dev/stdout"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert json.loads(done.stdout) and "no problems found" in done.stderr
