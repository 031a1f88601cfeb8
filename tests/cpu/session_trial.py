"""What options of an ONNX Runtime session change on a CPU: speed, CPU time and memory, each beside the default.

    python -m cpu.session_trial --json session.json          # models get random weights; files after --model are added
    python -m cpu.session_trial --busy --json busy.json      # beside a program that computes on one core

The options take turns within a round, in a drawn order, in one process, on the same crops; a ratio is taken within a
round, to the default with as many threads. "the default again" is how far two equal sessions are apart here. CPU time
is that of the whole process: a thread that spins costs it without computing. Memory is the peak of a process of its
own, which opens the model and runs it. A model with trained weights tells whether they have denormal numbers, which
random ones have not. As root it runs at a higher priority than others on the machine, which disturb it less then.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from reid_edge.core.progress import track
from reid_edge.engines.ort import import_onnxruntime, session_options

from .jpeg_trial import MODELS, random_model

BATCHES = (1, 8)
PRIORITY = -10
AFTERWARDS = 0.05
"""Seconds in which the threads of a session stop spinning before another's turn."""
Change = Callable[[Any], None]


def _entry(key: str, value: str) -> Change:
    return lambda options: options.add_session_config_entry(key, value)


def _attribute(name: str, value: Any) -> Change:
    return lambda options: setattr(options, name, value)


def _level(name: str) -> Change:
    return lambda options: setattr(
        options, "graph_optimization_level", getattr(import_onnxruntime().GraphOptimizationLevel, name)
    )


def _parallel(options: Any) -> None:
    options.execution_mode = import_onnxruntime().ExecutionMode.ORT_PARALLEL
    options.inter_op_num_threads = 2


def _nothing(options: Any) -> None: ...


ONE_THREAD: Mapping[str, Change] = {
    "the default again": _nothing,
    "no arena": _attribute("enable_cpu_mem_arena", False),
    "no memory pattern": _attribute("enable_mem_pattern", False),
    "graph: basic": _level("ORT_ENABLE_BASIC"),
    "graph: extended": _level("ORT_ENABLE_EXTENDED"),
    "denormals are zero": _entry("session.set_denormal_as_zero", "1"),
}
TWO_THREADS: Mapping[str, Change] = {
    "the default again, 2 threads": _nothing,
    "no spinning": _entry("session.intra_op.allow_spinning", "0"),
    "threads pinned": _entry("session.intra_op_thread_affinities", "2"),  # the calling thread is not in the list
    "parallel branches": _parallel,
}
"""https://onnxruntime.ai/docs/performance/tune-performance/threading.html and ONNX Runtime's header
``onnxruntime_session_options_config_keys.h``."""

DEFAULTS = {1: "default", 2: "default, 2 threads"}
CHANGES = {**ONE_THREAD, **TWO_THREADS, **dict.fromkeys(DEFAULTS.values(), _nothing)}
MEMORY = ("default", "no arena", "no memory pattern")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--seconds", type=float, default=0.15, help="of each option in each round")
    parser.add_argument("--options", nargs="+", default=[*ONE_THREAD, *TWO_THREADS], help="beside the default")
    parser.add_argument("--busy", action="store_true", help="beside a program that computes on one core")
    parser.add_argument("--model", type=Path, nargs="*", default=[], help="further model files")
    parser.add_argument("--peak", nargs=2, metavar=("FILE", "OPTION"), help="print the peak of memory, and stop")
    given = parser.parse_args()
    if given.peak:
        print(peak_mib(Path(given.peak[0]), given.peak[1]))
        return
    if os.geteuid() == 0:
        os.setpriority(os.PRIO_PROCESS, 0, PRIORITY)
    options = list(dict.fromkeys([*(DEFAULTS[_threads(name)] for name in given.options), *given.options]))
    with tempfile.TemporaryDirectory() as folder, computing() if given.busy else contextlib.nullcontext():
        files = [random_model(name, Path(folder)) for name in MODELS] + given.model
        rows = [
            {"model": file.stem, "batch": batch, **in_turns(file, batch, options, given.rounds, given.seconds)}
            for file, batch in track([(file, batch) for file in files for batch in BATCHES], "timing")
        ]
        peaks = {file.stem: {name: _peak(file, name) for name in MEMORY if name in options} for file in files}
    defaults = {name: DEFAULTS[_threads(name)] for name in given.options}
    found = {"rounds": given.rounds, "rows": rows, "peak_mib": peaks, "defaults": defaults}
    given.json.write_text(json.dumps(found, indent=1) + "\n")


def opened(file: Path, change: str) -> Any:
    """A session with one of ONNX Runtime's defaults changed."""
    options = session_options(_threads(change))
    options.enable_mem_pattern = True  # as ONNX Runtime has it, unlike this package
    CHANGES[change](options)
    return import_onnxruntime().InferenceSession(str(file), options, providers=["CPUExecutionProvider"])


def _threads(change: str) -> int:
    return 2 if change in TWO_THREADS or change == DEFAULTS[2] else 1


@contextlib.contextmanager
def computing() -> Iterator[None]:
    """Beside another program, which computes without a pause on one core at the same priority."""
    other = subprocess.Popen([sys.executable, "-c", "while True: sum(range(1000))"])
    try:
        yield
    finally:
        other.kill()
        other.wait()


def in_turns(
    file: Path, batch: int, names: Sequence[str], rounds: int, seconds: float
) -> dict[str, dict[str, list[float]]]:
    """Crops a second and milliseconds of CPU a crop, of each option in each round, after one that warms up."""
    sessions = {name: opened(file, name) for name in names}
    draw = np.random.default_rng(0)
    crops = draw.integers(0, 256, (batch, 256, 128, 3), np.uint8)
    found: dict[str, dict[str, list[float]]] = {
        "crops_per_s": {name: [] for name in names},
        "cpu_ms": {name: [] for name in names},
    }
    for number in range(rounds + 1):
        for name in draw.permutation(names).tolist():
            speed, cpu = _timed(sessions[name], crops, seconds)
            if number:
                found["crops_per_s"][name].append(speed)
                found["cpu_ms"][name].append(cpu)
    return found


def _timed(session: Any, crops: Any, seconds: float) -> tuple[float, float]:
    done, spent = 0, 0.0
    began, cpu = time.perf_counter(), time.process_time()
    while spent < seconds:
        session.run(None, {"images": crops})
        done += len(crops)
        spent = time.perf_counter() - began
    time.sleep(AFTERWARDS)
    return done / spent, (time.process_time() - cpu) * 1e3 / done


def _peak(file: Path, change: str) -> float:
    command = [sys.executable, "-m", "cpu.session_trial", "--peak", str(file), change]
    return float(subprocess.run(command, capture_output=True, text=True, check=True).stdout)


def peak_mib(file: Path, change: str) -> float:
    """The most memory of this process after batches of 8 and of 1, less what it had before it opened the model."""
    import_onnxruntime()
    before = _status("VmRSS")
    session = opened(file, change)
    for batch in (8, 1, 8):
        session.run(None, {"images": np.zeros((batch, 256, 128, 3), np.uint8)})
    return _status("VmHWM") - before


def _status(name: str) -> float:
    """A size of this process, MiB; the peak that ``resource`` knows is also that of the parent before the fork."""
    found = re.search(rf"^{name}:\s*(\d+) kB$", Path("/proc/self/status").read_text(), re.M)
    assert found
    return int(found[1]) / 1024


if __name__ == "__main__":
    main()
