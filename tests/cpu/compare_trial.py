"""What `reid-edge compare` finds: planted slow-downs, and as many trials in which nothing was slowed.

    python -m cpu.compare_trial --json compare.json        # OSNet x0.25 with random weights, batch 1, one thread

A trial measures one file against itself. It is open several times, as two engines of one process differ by where their
memory lies, and in each turn two of these are drawn; they alternate run by run, so that what slows the machine slows
both. The second is slowed by an engine that computes on for a share more of the CPU time that each run took. A further,
long trial in which nothing is slowed is for resampling. Nothing is judged here, so that every way to judge sees the
same times (docs/compare_tables.py).
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from reid_edge.core.progress import track
from reid_edge.engines.base import Engine
from reid_edge.engines.registry import open_engine

from .jpeg_trial import random_model

SLOWED = 0.10
RANKS = (0, 10, 25, 50)
"""Percentiles of a turn: on a busy machine other work delays most runs, and few get through undisturbed."""
_WARM_UP = 5
_ENGINES = 8


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path, required=True)
    parser.add_argument("--trials", type=int, default=20, help="slowed, and as many that are not")
    parser.add_argument("--rounds", type=int, default=16, help="turns of each in a trial")
    parser.add_argument("--seconds", type=float, default=0.4, help="of a turn")
    parser.add_argument("--long", type=int, default=150, help="rounds of the long trial")
    given = parser.parse_args()
    plan = [(slowed, given.rounds) for _ in range(given.trials) for slowed in (0.0, SLOWED)] + [(0.0, given.long)]
    loads = [os.getloadavg()[0]]
    with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
        path = random_model("osnet_x0_25", Path(folder))
        engines = [stack.enter_context(open_engine(path, threads=1)) for _ in range(_ENGINES)]
        trials = []
        for seed, (slowed, rounds) in enumerate(track(plan, "trials")):
            trials.append(trial(engines, slowed, rounds, given.seconds, seed))
            loads.append(os.getloadavg()[0])
    found = {"seconds": given.seconds, "loads": loads, "trials": trials[:-1], "long": trials[-1]}
    given.json.write_text(json.dumps(found) + "\n")


class Slowed:
    """An engine that is a share slower than the one it holds: it computes on for as much more CPU time."""

    def __init__(self, engine: Engine, share: float) -> None:
        self.engine, self.share = engine, share

    def run(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        began = time.thread_time()
        embeddings = self.engine.run(images)
        end = began + (time.thread_time() - began) * (1 + self.share)
        while time.thread_time() < end:
            pass
        return embeddings


def trial(engines: list[Engine], slowed: float, rounds: int, seconds: float, seed: int) -> dict[str, Any]:
    """By clock, what each turn gives: percentiles in milliseconds, [rounds] of the first and of the second, and "runs".

    The latter are the median of the ratios of neighbouring runs, [rounds], beside as many ones.
    """
    random = np.random.default_rng(seed)
    images = random.integers(0, 256, (1, 256, 128, 3), np.uint8)
    found = {clock: {name: [[], []] for name in (*map(str, RANKS), "runs")} for clock in ("wall", "cpu")}
    for _ in range(rounds):
        for clock, times in zip(found, turn(engines, slowed, images, seconds, random), strict=True):
            for rank, both in zip(RANKS, np.percentile(times, RANKS, axis=0).tolist(), strict=True):
                for row, value in zip(found[clock][str(rank)], both, strict=True):
                    row.append(round(value, 5))
            found[clock]["runs"][0].append(1.0)
            found[clock]["runs"][1].append(float(np.median(times[:, 1] / times[:, 0])))
    return {"slowed": slowed, **found}


def turn(
    engines: list[Engine], slowed: float, images: NDArray[np.uint8], seconds: float, random: np.random.Generator
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Milliseconds of each run [runs, 2]: by the wall's clock, and of CPU time, which waiting does not enter."""
    drawn = random.choice(len(engines), 2, replace=False).tolist()
    both = [Slowed(engines[place], which * slowed) for which, place in enumerate(drawn)]
    for engine in both * _WARM_UP:
        engine.run(images)
    rows: list[tuple[list[float], list[float]]] = []
    end = time.perf_counter() + seconds
    while time.perf_counter() < end:
        wall, cpu = [0.0, 0.0], [0.0, 0.0]
        for which in (0, 1) if len(rows) % 2 else (1, 0):
            began, worked = time.perf_counter(), time.thread_time()
            both[which].run(images)
            wall[which] = (time.perf_counter() - began) * 1e3
            cpu[which] = (time.thread_time() - worked) * 1e3
        rows.append((wall, cpu))
    return np.array([wall for wall, _ in rows]), np.array([cpu for _, cpu in rows])


if __name__ == "__main__":
    main()
