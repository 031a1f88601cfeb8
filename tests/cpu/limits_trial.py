"""One core of several: what `threads=None` gives beside `threads=1` under a CPU set, and under a quota.

    python -m cpu.limits_trial --json limits.json            # as root, for the quota; models get random weights

A child process under the limit embeds the same drawn crops in turns: with the threads that reid-edge chooses, with one,
and with the number that ONNX Runtime would choose by itself. A ratio is taken within a round. The quota is a control
group of version 1 or 2, made for the child and removed after it; where none can be made, its rows are missing and the
reason is in the file.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from reid_edge.core.progress import track
from reid_edge.core.threads import usable_cores
from reid_edge.embedder.embedder import Embedder
from reid_edge.engines.ort import import_onnxruntime, session_options

from .jpeg_trial import MODELS, random_model

BATCH = 8
GROUPS = Path("/sys/fs/cgroup")
PERIOD_US = 100_000
LIMITS = ("CPU set", "quota")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--rounds", type=int, default=11)
    parser.add_argument("--seconds", type=float, default=0.6, help="of each way in each round")
    parser.add_argument("--child", type=Path, help="measure this file under the limits that hold, and print JSON")
    given = parser.parse_args()
    if given.child:
        print(json.dumps(measured(given.child, given.rounds, given.seconds)))
        return
    rows, missing = [], {}
    with tempfile.TemporaryDirectory() as folder:
        files = [random_model(name, Path(folder)) for name in MODELS]
        for limit, file in track([(limit, file) for limit in LIMITS for file in files], "timing"):
            try:
                rows.append({"limit": limit, "model": file.stem, **_child(limit, file, given)})
            except OSError as error:
                missing[limit] = str(error)
    found = {"machine_cores": os.cpu_count(), "rounds": given.rounds, "rows": rows, "missing": missing}
    given.json.write_text(json.dumps(found, indent=1) + "\n")


def _child(limit: str, file: Path, given: argparse.Namespace) -> dict[str, Any]:
    options = ["--rounds", str(given.rounds), "--seconds", str(given.seconds)]
    command = [sys.executable, "-m", "cpu.limits_trial", "--child", str(file), *options]
    with one_cpu_of_time() if limit == "quota" else contextlib.nullcontext(_one_core) as enter:
        done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True, preexec_fn=enter)
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def _one_core() -> None:
    """As ``taskset -c N`` does."""
    os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})


@contextlib.contextmanager
def one_cpu_of_time() -> Iterator[Callable[[], None]]:
    """What puts a process into a control group with the time of one CPU. Raises OSError where none can be made."""
    second = (GROUPS / "cgroup.controllers").exists()
    group = (GROUPS if second else GROUPS / "cpu") / f"reid-edge-trial-{os.getpid()}"
    group.mkdir()
    try:
        if second:
            (group / "cpu.max").write_text(f"{PERIOD_US} {PERIOD_US}")
        else:
            (group / "cpu.cfs_period_us").write_text(str(PERIOD_US))
            (group / "cpu.cfs_quota_us").write_text(str(PERIOD_US))
        yield lambda: _write(group / "cgroup.procs", str(os.getpid()))
    finally:
        group.rmdir()


def _write(path: Path, text: str) -> None:
    path.write_text(text)


def measured(file: Path, rounds: int, seconds: float) -> dict[str, Any]:
    """Crops a second of each way in each round, after one round that warms up, and the threads that were chosen."""
    crops = list(np.random.default_rng(0).integers(0, 256, (BATCH, 128, 64, 3), np.uint8))
    with Embedder(file, batch=BATCH) as chosen, Embedder(file, batch=BATCH, threads=1) as one:
        ways = {"chosen": chosen.embed, "one": one.embed, "ONNX Runtime's": _its_own_threads(file)}
        speeds: dict[str, list[float]] = {name: [] for name in ways}
        for number in range(rounds + 1):
            for name in list(ways) if number % 2 else reversed(ways):
                speed = _speed(ways[name], crops, seconds)
                if number:
                    speeds[name].append(speed)
        return {"usable_cores": usable_cores(), "threads": chosen.facts.threads, "crops_per_s": speeds}


def _its_own_threads(file: Path) -> Callable[[Any], object]:
    """The same work with the number of threads left to ONNX Runtime (0)."""
    from reid_edge.data.images import crops_of

    options = session_options(1)
    options.intra_op_num_threads = 0
    session = import_onnxruntime().InferenceSession(str(file), options, providers=["CPUExecutionProvider"])
    return lambda crops: session.run(None, {"images": crops_of(crops, (256, 128))})


def _speed(way: Callable[[Any], object], crops: list[Any], seconds: float) -> float:
    done, began, spent = 0, time.perf_counter(), 0.0
    while spent < seconds:
        way(crops)
        done += len(crops)
        spent = time.perf_counter() - began
    return done / spent


if __name__ == "__main__":
    main()
