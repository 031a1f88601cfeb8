"""The paper's experiments as one command: train, fine-tune and score whatever the given data allows.

`plan` says what there is to do, `lab` does one job, `table` writes what came out. A failed job is told and holds up
only what stands on it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from reid_edge.datasets import Dataset, open_dataset, require
from reid_edge.errors import DatasetError, GateError, InputError, ReidEdgeError, Stopped
from reid_edge.files import require_file, sha256_of
from reid_edge.layouts import LAYOUTS

from .lab import Lab
from .plan import MODELS, TITLES, Cell, Job, cells_of, jobs_for, recipe_maker, work_of
from .table import Filled, draw_figures, write_tables

__all__ = ["LAYOUT_OF", "reproduce"]

LAYOUT_OF = {"market": "market1501", "duke": "dukemtmc", "last": "last"}
"""The layout that each option's folder must have."""

# What a job may fail by; torch says "out of memory" by a RuntimeError. Anything else is our mistake and ends all.
_FAILURES = (ReidEdgeError, OSError, RuntimeError, MemoryError)


def reproduce(
    out: Path,
    *,
    market: Path | None = None,
    duke: Path | None = None,
    last: Path | None = None,
    last_part: str = "val",
    models: Sequence[str] = MODELS,
    recipes: Sequence[str] = ("seed",),
    epochs: int | None = None,
    weights: Mapping[str, Path] | None = None,
    change: Mapping[str, Any] | None = None,
    device: str = "auto",
    say: Callable[[str], None] = print,
) -> list[Path]:
    """Run the matrix and return what it wrote in ``out``: Table I (Markdown and CSV) and the CMC figures.

    ``last_part`` is LaST's split, "val" as in the paper, or "test". ``recipes`` are of `recipes.RECIPES`: by default
    the paper's own alone, since it is the paper's figures that stand beside ours. ``epochs`` replaces every training's
    own number and bounds that of fine-tuning (10): for a short try. ``weights`` names a file that a model starts from;
    without one it starts from random weights. ``change`` replaces other settings of every recipe. The tables are
    written after every job, the figures at the end; a second call does only what is left.

    Raises InputError for bad use, among it an ``out`` that was made with other settings; Stopped on SIGTERM; GateError
    at the end, when a job failed.
    """
    datasets = _opened({"market": market, "duke": duke, "last": last}, last_part, say)
    cells = cells_of(models, recipes)
    planned = jobs_for(cells, datasets, recipe_maker(epochs, change or {}))
    if not planned:
        raise InputError("there is nothing to train on: give --market PATH, --duke PATH or both")
    lab = Lab(out, datasets, _hashed(weights or {}, models), device, say)
    others = {name: said for name, dataset in datasets.items() if (said := _not_public(name, dataset))}
    failed: dict[str, str] = {}
    _tell_work(lab, _unique(planned))
    for number, job in enumerate(_unique(planned), start=1):
        if lab.result(job) is None:
            say(f"job {number}/{len(_unique(planned))}: {job.folder}")
            _attempt(lab, job, failed)
            write_tables(_rows(lab, planned, cells, failed), others, out)
    rows = _rows(lab, planned, cells, failed)
    written = [*write_tables(rows, others, out), *draw_figures(rows, others, out, say)]
    if failed:
        name, reason = next(iter(failed.items()))
        raise GateError(
            f"{len(failed)} of {len(_unique(planned))} jobs failed, first {name} ({reason}): "
            "repair what is named and repeat the command, which goes on from here"
        )
    return written


def _tell_work(lab: Lab, jobs: Sequence[Job]) -> None:
    """Say what is left and how long it may take; raises InputError before any work for a folder made otherwise."""
    for job in jobs:
        lab.check(job)
    left = [job for job in jobs if lab.result(job) is None]
    work = work_of(left, lab.datasets)
    speeds = ", ".join(f"{_duration(work.hours(speed))} at {speed:,}" for speed in (30, 300, 3000))
    lab.say(f"{len(jobs)} jobs, {len(left)} to do: {work}; {speeds} images/s of training")


def _attempt(lab: Lab, job: Job, failed: dict[str, str]) -> None:
    """Run a job; on failure say so, and note the reason in ``failed`` by the job's folder."""
    if job.after in failed:
        failed[job.folder] = f"stands on {job.after}, which failed"
    else:
        try:
            lab.run(job)
        except Stopped:
            raise
        except _FAILURES as error:
            failed[job.folder] = " ".join(str(error).split())[:300] or type(error).__name__
    if job.folder in failed:
        lab.say(f"failed: {job.folder}: {failed[job.folder]}")


def _opened(paths: Mapping[str, Path | None], last_part: str, say: Callable[[str], None]) -> dict[str, Dataset]:
    """The data sets that were given, each of the layout that its option names; their notices are said."""
    datasets = {}
    for name, path in paths.items():
        if path is None:
            continue
        dataset = open_dataset(path, part=last_part if name == "last" else "test")
        if dataset.layout != LAYOUT_OF[name]:
            raise DatasetError(f"{path} is laid out as {dataset.layout}: --{name} takes the folder of {TITLES[name]}")
        require(dataset, *(("query", "gallery") if name == "last" else ("train", "query", "gallery")))
        for notice in dataset.notices:
            say(f"note: {notice}")
        datasets[name] = dataset
    return datasets


def _hashed(weights: Mapping[str, Path], models: Sequence[str]) -> dict[str, tuple[Path, str]]:
    """Each weights file with its hash. Raises InputError for a model that is not in the matrix, or no file."""
    if unknown := sorted(set(weights) - set(models)):
        raise InputError(f"weights for {', '.join(unknown)}, which is not in the matrix: name {', '.join(models)}")
    return {model: (Path(path), sha256_of(require_file(path, "weights"))) for model, path in weights.items()}


def _not_public(name: str, dataset: Dataset) -> str:
    """A sentence when the crops are not as many as the public set's, else ""."""
    first = 1 if name == "last" else 0  # nothing is trained on LaST
    split = dataset.split
    have = (len(split.train), len(split.query), len(split.gallery))[first:]
    public = LAYOUTS[dataset.layout].published[dataset.part][first:]
    if have == public:
        return ""
    ours, theirs = (" / ".join(f"{count:,}" for count in counts) for counts in (have, public))
    what = " / ".join(("to train on", "queries", "gallery")[first:])
    return (
        f"{TITLES[name]} as given has {ours} crops ({what}), the public set {theirs}: "
        "not to be compared with published figures."
    )


def _unique(planned: Mapping[Cell, Sequence[Job]]) -> list[Job]:
    """Every job once, in the order in which they must run."""
    return list({job.folder: job for jobs in planned.values() for job in jobs}.values())


def _rows(
    lab: Lab, planned: Mapping[Cell, Sequence[Job]], cells: Sequence[Cell], failed: Mapping[str, str]
) -> list[Filled]:
    """Every cell with its figures, or why it has none."""
    rows = []
    for cell in cells:
        jobs = planned.get(cell, ())
        if not jobs:
            missing = [f"--{name}" for name in cell.needs if name not in lab.datasets]
            rows.append(Filled(cell, None, f"Not run: {' and '.join(missing)} not given."))
            continue
        result = lab.result(jobs[-1])
        reasons = [f"{job.folder} failed: {failed[job.folder]}." for job in jobs if job.folder in failed]
        missing_why = "" if result else next(iter(reasons), "Not done yet: repeat the command.")
        configs = tuple(job.config for job in jobs if job.config is not None)
        start = lab.weights[cell.model][0].name if cell.model in lab.weights else "random weights"
        rows.append(Filled(cell, result, missing_why, configs, start, lab.datasets[cell.scored_on].part))
    return rows


def _duration(hours: float) -> str:
    return f"{hours:,.1f} h" if hours >= 1 else f"{60 * hours:.0f} min"
