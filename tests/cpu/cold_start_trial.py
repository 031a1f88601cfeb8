"""Seconds from the shell to the end of `reid-edge embed` of one crop: interpreter, imports, model, embedding, file.

    python -m cpu.cold_start_trial --json cold.json          # models get random weights

Each run is a process of its own; the models take turns. The files are in the page cache, as those of a service that
starts again. As root the processes get a higher priority than others on the machine, so that these disturb less.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from PIL import Image

from reid_edge.core.progress import track

from .jpeg_trial import MODELS, random_model

PRIORITY = -10


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path, required=True)
    parser.add_argument("--runs", type=int, default=10)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        crop = Path(folder, "crop.jpg")
        Image.fromarray(np.random.default_rng(0).integers(0, 256, (128, 64, 3), np.uint8)).save(crop)
        models = {name: random_model(name, Path(folder)) for name in MODELS}
        found: dict[str, list[tuple[float, float]]] = {name: [] for name in models}
        for number in track(range(given.runs + 1), "starting"):
            for name, model in models.items():
                spent = started(model, crop, Path(folder, "gallery.npz"))
                if number:  # the first fills the page cache
                    found[name].append(spent)
    content = {"runs": given.runs, "priority": PRIORITY if os.geteuid() == 0 else 0, "seconds": found}
    given.json.write_text(json.dumps(content, indent=1) + "\n")


def started(model: Path, crop: Path, out: Path) -> tuple[float, float]:
    """Seconds of wall time and of CPU of one command."""
    command = [sys.executable, "-m", "reid_edge", "embed", str(crop), "--model", str(model), "--out", str(out)]
    before, began = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, preexec_fn=_first)
    seconds = time.perf_counter() - began
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return seconds, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def _first() -> None:
    if os.geteuid() == 0:
        os.setpriority(os.PRIO_PROCESS, 0, PRIORITY)


if __name__ == "__main__":
    main()
