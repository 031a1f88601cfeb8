"""Kill runs at random moments, as ``kill -9`` and the kernel out of memory do, and look at what they leave.

After each kill every output must be absent or whole: the old one or the new. After the next complete run nothing of the
killed ones may be left. Runs are forked from this process, where the slow imports are done, so that kills hit the work:
half of them at any moment, half while a temporary file is there.

    PYTHONPATH=tests python -m kill.kill_trial --kills 300 --seed 1
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import random
import signal
import sys
import tempfile
import time
import xml.etree.ElementTree
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from helpers.tiny_onnx import write_tiny_model

from reid_edge.cli import main as reid_edge
from reid_edge.data.synthetic.dataset import synthesize
from reid_edge.engines.onnxruntime import OnnxEngine
from reid_edge.gallery.memory import Gallery
from reid_edge.pair_head import PairHead

__all__ = ["JOBS", "Trial", "run_trial", "table"]

_SECONDS = 120.0
_fork = multiprocessing.get_context("fork")


@dataclass
class Trial:
    """What the kills of one job led to; ``faults`` say what was damaged or left, and must be empty."""

    job: str
    kills: int = 0
    ended_before: int = 0
    in_a_write: int = 0
    left_something: int = 0
    found: Counter[str] = field(default_factory=Counter)
    faults: list[str] = field(default_factory=list)


def _command(*arguments: object) -> Callable[[], None]:
    return lambda: reid_edge([str(each) for each in arguments])


def _save_galleries(path: Path) -> None:
    """A program that enrols and saves again and again, through the API."""
    gallery = Gallery()
    for row in range(100):
        gallery.enrol(np.eye(1, 256, row, dtype=np.float32), [f"person {row}"])
        gallery.save(path)


def _jobs(home: Path) -> dict[str, Callable[[Path], Callable[[], None]]]:
    """What each job does in its own folder; inputs lie in ``home``."""
    people, model, recipe = home / "people", home / "tiny.onnx", home / "recipe.toml"
    query = min((people / "query").glob("*.jpg"))
    data = ("--data", people)
    return {
        "train": lambda out: _command("train", "--config", recipe, *data, "--out", out / "run", "--resume"),
        "export": lambda out: _command(
            "export", home / "once" / "net_fp32.onnx", "--out", out, "--fp16", "--for", "triton"
        ),
        "embed": lambda out: _command("embed", people / "query", "--model", model, "--out", out / "gallery.npz"),
        "rank": lambda out: _command(
            *("rank", query, "--gallery", people / "query", "--model", model),
            *("--picture", out / "rank.png", "--json", out / "rank.json"),
        ),
        "pairs": lambda out: _command("pairs", model, *data, "--out", out, "--fit-on", "test"),
        "gallery": lambda out: lambda: _save_galleries(out / "gallery.npz"),
        "bench": lambda out: _command("bench", model, "--seconds", 0.1, "--batch", 1, "--json", out / "bench.json"),
        "synthesize": lambda out: _command(
            "data", "synthesize", out / "set", "--identities", 2, "--test-identities", 2
        ),
    }


JOBS = {"train": 2, "export": 1, "embed": 4, "rank": 3, "pairs": 2, "gallery": 4, "bench": 2, "synthesize": 2}
"""The jobs and their shares of the kills: fewer for the slow ones."""


def run_trial(
    home: Path, kills: int, seed: int, jobs: Sequence[str] = tuple(JOBS), log: Any = sys.stderr
) -> list[Trial]:
    """Share about ``kills`` between the ``jobs``; ``home`` is an empty folder for all that they read and write."""
    for name in ("TMPDIR", "REID_EDGE_CACHE"):
        os.environ[name] = str(home / name.lower())
        (home / name.lower()).mkdir()
    tempfile.tempdir = None  # which Python looks up once
    _prepare(home, jobs)
    each = kills / sum(JOBS[name] for name in jobs)
    return [_try(home, name, round(each * JOBS[name]), random.Random(f"{seed} {name}"), log) for name in jobs]


def _prepare(home: Path, jobs: Sequence[str]) -> None:
    synthesize(home / "people", identities=4, test_identities=8, cameras=3, size_hw=(64, 32), progress=False)
    write_tiny_model(home / "tiny.onnx")
    if not {"train", "export"} & set(jobs):
        return
    from reid_edge.api.train_plan import training_config

    small = {"input_hw": (64, 32), "identities_per_batch": 2, "crops_per_identity": 2}
    config = training_config(arch="osnet_x0_25", epochs=2, settings=small)
    (home / "recipe.toml").write_text(config.to_toml(), encoding="utf-8")
    train = _command("train", "--config", home / "recipe.toml", "--data", home / "people", "--out", home / "once")
    assert _run(train, home / "log") == 0, (home / "log").read_text()
    if "export" in jobs:
        export = _command("export", home / "once" / "model.pth", "--out", home / "once", "--name", "net")
        assert _run(export, home / "log") == 0, (home / "log").read_text()


def _try(home: Path, name: str, kills: int, chance: random.Random, log: Any) -> Trial:
    out, trial = home / name, Trial(name)
    out.mkdir()
    work = _jobs(home)[name](out)
    started = time.monotonic()
    _complete(trial, work, home, out)
    seconds = time.monotonic() - started
    attempts = 0
    while trial.kills < kills and attempts < 10 * kills:
        attempts += 1
        if chance.random() < 0.3:  # begin anew: kill also the first writer
            _empty(out)
        _kill(trial, work, home, out, seconds, chance)
        _look(trial, home, out)
        if attempts % 10 == 0 or trial.kills == kills:
            _complete(trial, work, home, out)
        print(f"{name}: {trial.kills} kills, {len(trial.faults)} faults", file=log, flush=True)
    return trial


def _kill(trial: Trial, work: Callable[[], None], home: Path, out: Path, seconds: float, chance: random.Random) -> None:
    """Start the work and kill it: alone, as the kernel does, or with its children, as a container's end does."""
    process = _started(work, home / "log")
    in_a_write, deadline = chance.random() < 0.5, time.monotonic() + _SECONDS
    until = time.monotonic() + chance.uniform(0, seconds)
    writes, pause = chance.randint(1, 4), chance.uniform(0, 0.004)
    before = False
    while process.is_alive() and time.monotonic() < (deadline if in_a_write else until):
        now = any(_leftovers(home, out))
        if in_a_write and now and not before and (writes := writes - 1) == 0:
            time.sleep(pause)
            break
        before = now
        time.sleep(0.0005)
    with suppress(ProcessLookupError):
        (os.kill if chance.random() < 0.5 else os.killpg)(process.pid or 0, signal.SIGKILL)
    process.join()
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid or 0, signal.SIGKILL)
    killed = process.exitcode == -signal.SIGKILL
    trial.kills += killed
    trial.ended_before += not killed
    left = any(_leftovers(home, out))
    trial.left_something += left
    trial.in_a_write += killed and in_a_write
    if process.exitcode not in (0, -signal.SIGKILL):
        trial.faults.append(f"exit code {process.exitcode}: {(home / 'log').read_text()[-300:]}")


def _complete(trial: Trial, work: Callable[[], None], home: Path, out: Path) -> None:
    """Run to the end; then nothing of earlier runs may be there."""
    if (code := _run(work, home / "log")) != 0:
        trial.faults.append(f"the complete run ended with {code}: {(home / 'log').read_text()[-300:]}")
    if left := list(_leftovers(home, out)):
        trial.faults.append(f"left after a complete run: {', '.join(map(str, left))}")
    _look(trial, home, out)


def _look(trial: Trial, home: Path, out: Path) -> None:
    """Open every output, in another process: one that holds threads cannot be forked from."""
    report = home / "report.json"
    report.unlink(missing_ok=True)
    if _run(lambda: report.write_text(json.dumps(_opened(out))), home / "log") != 0:
        trial.faults.append(f"outputs cannot be opened: {(home / 'log').read_text()[-500:]}")
        return
    kinds = json.loads(report.read_text())
    trial.found.update(kinds)
    trial.found["rounds without output"] += not kinds


def _opened(out: Path) -> list[str]:
    """Open everything in a folder; the suffixes of what was there. Raises for what is damaged."""
    files = [path for path in sorted(out.rglob("*")) if path.is_file() and not path.name.startswith(".")]
    for path in files:
        if not any(part.startswith(".") for part in path.relative_to(out).parts):
            _OPEN.get(path.suffix, lambda path: path.read_bytes())(path)
    return [path.suffix for path in files]


def _open_npz(path: Path) -> None:
    if path.name == "pair_head.npz":
        PairHead.load(path)
        return
    gallery = Gallery.load(path)
    assert len(gallery), f"{path} is empty"


def _open_checkpoint(path: Path) -> None:
    from reid_edge.training.models.checkpoint import load_checkpoint

    load_checkpoint(path)


def _open_onnx(path: Path) -> None:
    with OnnxEngine(path, providers=["CPUExecutionProvider"]) as engine:
        engine.run(np.zeros((1, *engine.card.input_hw, 3), np.uint8))


def _open_picture(path: Path) -> None:
    from PIL import Image

    with Image.open(path) as picture:
        picture.load()


_OPEN: dict[str, Callable[[Path], Any]] = {
    ".npz": _open_npz,
    ".npy": np.load,
    ".pth": _open_checkpoint,
    ".onnx": _open_onnx,
    ".json": lambda path: json.loads(path.read_text()),
    ".png": _open_picture,
    ".jpg": _open_picture,
    ".svg": xml.etree.ElementTree.parse,
}


def _leftovers(home: Path, out: Path) -> Iterator[Path]:
    """Hidden files: any beside the outputs, ours elsewhere (ONNX Runtime keeps its own in the temporary folder)."""
    for folder in (out, home / "tmpdir", home / "reid_edge_cache"):
        for parent, folders, names in os.walk(folder):
            hidden = [Path(parent, name) for name in (*folders, *names) if name.startswith(".")]
            yield from (path for path in hidden if folder == out or "reid-edge" in path.name)


def _empty(folder: Path) -> None:
    """Delete the outputs, not what a killed run left."""
    import shutil

    for path in folder.iterdir():
        if not path.name.startswith("."):
            shutil.rmtree(path) if path.is_dir() else path.unlink()


def _started(work: Callable[[], Any], log: Path) -> Any:
    process = _fork.Process(target=_child, args=(work, log))
    process.start()
    return process


def _run(work: Callable[[], Any], log: Path) -> int:
    process = _started(work, log)
    process.join(_SECONDS)
    if process.is_alive():
        process.kill()
    return int(process.exitcode if process.exitcode is not None else -signal.SIGKILL)


def _child(work: Callable[[], Any], log: Path) -> None:
    """In the forked process: a group of its own, its prints in a file."""
    os.setsid()
    file = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    os.dup2(file, 1)
    os.dup2(file, 2)
    work()


def table(trials: Sequence[Trial]) -> str:
    """The figures as text, a line for each job."""
    rows = [("job", "kills", "in a write", "ended before", "left something", "faults")]
    for each in trials:
        figures = (each.kills, each.in_a_write, each.ended_before, each.left_something, len(each.faults))
        rows.append((each.job, *map(str, figures)))
    lines = ["".join(f"{cell:>16}" for cell in row) for row in rows]
    lines += [f"{each.job}: outputs opened {dict(each.found)}" for each in trials]
    return "\n".join([*lines, *(f"{each.job}: {fault}" for each in trials for fault in each.faults)])


def main() -> int:
    """Run the trial and print its table."""
    parser = argparse.ArgumentParser(description="Kill runs at random moments, and look at what they leave.")
    parser.add_argument("--kills", type=int, default=300)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--jobs", nargs="+", choices=JOBS, default=list(JOBS))
    parser.add_argument("--json", type=Path, help="also write the table there")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="kill-trial-") as home:
        trials = run_trial(Path(home), given.kills, given.seed, given.jobs)
    print(table(trials))
    if given.json:
        given.json.write_text(json.dumps([vars(each) for each in trials], indent=1) + "\n", encoding="utf-8")
    return 1 if any(each.faults for each in trials) else 0


if __name__ == "__main__":
    import matplotlib.figure  # noqa: F401  # before the forks
    import onnx  # noqa: F401
    import onnxruntime  # noqa: F401

    with suppress(ImportError):  # for training and pairs alone
        import torch

        torch.set_num_threads(1)
    sys.exit(main())
