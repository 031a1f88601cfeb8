"""Every wait is shown on a terminal, here a pseudo-terminal of 80 columns; results are never mixed with it."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from helpers.small_network import CARD, network, random_weights

from reid_edge.data.synthetic.dataset import synthesize
from reid_edge.export.graph.io import write_onnx

pty = pytest.importorskip("pty")

DATA = "--data people --threads 1"
WAITS = {
    "data synthesize drawn --identities 2 --test-identities 2": ["drawing crops"],
    "data inspect people": ["reading people", "looking for problems", "decoding 46 crops"],
    f"eval m.onnx {DATA}": ["embedding with m.onnx", "  embedding", "scoring"],
    "embed people --model m.onnx --out g.npz": ["embedding with m.onnx", "  embedding"],
    "rank people/query --gallery people --model m.onnx": ["ranking people", "  embedding"],
    f"bench m.onnx {DATA} --batch 2 --seconds 0.1": [
        "measuring",
        "  opening m.onnx",
        "  timing products and copies",
        "  scoring m.onnx",
        "  timing",
        "    m.onnx, batch 2",
    ],
    f"export m.onnx --out models --fp16 --int8 --calibrate people --sensitivity block {DATA}": [
        "exporting m.onnx",
        "  decoding crops",
        "  embedding with the model itself",
        "  measuring what each block loses",
        "    finding the largest magnitudes",
        "    counting histograms",
        "    each layer or block alone in INT8",
        "    keeping the worst blocks",
        "  scoring the FP32 model",
        "  making tiny_fp16.onnx",
        "  comparing tiny_fp16.onnx with the mod",
        "    without its rounding",
        "    in batches of 64",
        "    with every value rounded to FP16",
        "  scoring tiny_fp16.onnx",
        "  the interval of what tiny_fp16.onnx",
        "  making tiny_int8.onnx",
        "  comparing tiny_int8.onnx with the mod",
    ],
    "export m.onnx --out cpu --int8 --for-runtime cpu --calibrate people": ["    timing INT8 and FP32 on this CPU"],
    "verify-export models/tiny_fp16.onnx --reference m.onnx --data people": [
        "comparing with m.onnx",
        "  checking tiny_fp16.onnx",
        "    in batches of 64",
        "    without its rounding",
        "    with every value rounded to FP16",
    ],
}
"""A command line, and the phases that are shown while it runs; two blanks deeper inside another."""

CHILD = """
import sys
from reid_edge.cli import main
for command in sys.argv[1:]:
    print(f"== {command}", file=sys.stderr, flush=True)
    print(f"== {command}", flush=True)
    try:
        main(command.split())
    except SystemExit:
        pass
"""

_CODES = re.compile(r"\x1b\[[0-9;?]*[a-zA-Z]")


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    home = tmp_path_factory.mktemp("waits")
    synthesize(home / "people", identities=2, test_identities=3, cameras=2, size_hw=(64, 32), progress=False)
    write_onnx(network(random_weights()), CARD, home / "m.onnx")
    return home


@pytest.fixture(scope="module")
def shown(home: Path) -> tuple[dict[str, str], dict[str, str]]:
    """What each command wrote to the terminal on standard error, and to standard output, which is a pipe."""
    return _run(home, list(WAITS))


def _run(home: Path, commands: list[str]) -> tuple[dict[str, str], dict[str, str]]:
    terminal, end = pty.openpty()
    environment = {
        **os.environ,
        "COLUMNS": "80",
        "LINES": "24",
        "TERM": "xterm",
        "REID_EDGE_CACHE": str(home / "cache"),
    }
    child = subprocess.Popen(
        [sys.executable, "-c", CHILD, *commands], stdout=subprocess.PIPE, stderr=end, cwd=home, env=environment
    )
    os.close(end)
    written = bytearray()
    reader = threading.Thread(target=_read_all, args=(terminal, written))
    reader.start()
    out = child.communicate()[0].decode()
    reader.join()
    os.close(terminal)
    return _by_command(written.decode()), _by_command(out)


def _read_all(terminal: int, into: bytearray) -> None:
    try:
        while block := os.read(terminal, 65536):
            into += block
    except OSError:  # Linux's end of a terminal
        return


def _by_command(text: str) -> dict[str, str]:
    parts = [part.partition("\n") for part in _CODES.sub("", text).replace("\r\n", "\n").split("== ")[1:]]
    return {command: said for command, _, said in parts}


@pytest.mark.parametrize("command", WAITS)
def test_each_phase_is_shown(command: str, shown: tuple[dict[str, str], dict[str, str]]) -> None:
    lines = re.split(r"[\r\n]+", shown[0][command])
    for phase in WAITS[command]:
        assert any(phase in line for line in lines), (phase, shown[0][command])


@pytest.mark.parametrize("command", WAITS)
def test_results_stand_alone_on_standard_output(command: str, shown: tuple[dict[str, str], dict[str, str]]) -> None:
    """A pipe gets tables and messages; no bar, no spinner and no line of progress."""
    out = shown[1][command]
    assert "\r" not in out
    assert not re.search("[⠋⠙⠹⠸⠼⠴⠦⠧⠇⠏]", out)
    for phase in WAITS[command]:
        if phase.strip() not in ("scoring", "embedding", "timing", "measuring"):
            assert phase.strip() not in out


EPOCH = """
import time
from reid_edge.core.progress import phase
with phase("loading PyTorch"):
    time.sleep(0.3)
with phase("epoch 100/120", 144) as line:
    line.advance(70, note="id 6.46 triplet 4.85 center 0.34 distill 0.12 1273/s")
    time.sleep(0.6)
"""


def test_a_long_note_leaves_the_bar_its_place() -> None:
    """An epoch of training has the longest line; the note is cut, not the bar."""
    terminal, end = pty.openpty()
    environment = {**os.environ, "COLUMNS": "80", "TERM": "xterm"}
    child = subprocess.Popen([sys.executable, "-c", EPOCH], stderr=end, env=environment)
    os.close(end)
    written = bytearray()
    _read_all(terminal, written)
    os.close(terminal)
    assert child.wait() == 0
    drawn = [line for line in re.split(r"[\r\n]+", _CODES.sub("", written.decode())) if "70/144" in line]
    assert drawn and all(line.count("━") + line.count("╸") + line.count("╺") == 14 for line in drawn), drawn
    assert re.search(r"loading PyTorch {1,4}0:0\d", _CODES.sub("", written.decode())), "no gap where there is no bar"
    assert all("id 6.46" in line and len(line) <= 80 for line in drawn)
