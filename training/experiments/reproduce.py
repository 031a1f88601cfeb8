"""The paper's experiments as one command: train, fine-tune and evaluate as far as the given data allows.

`plan` lists the jobs, `lab` does one of them, `table` writes the results. A failed job is logged, and only the jobs
that need it are not done.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from reid_edge.core.files import sha256_of
from reid_edge.data.datasets import Dataset, open_dataset, require
from reid_edge.errors import DatasetError, GateError, InputError, ReidEdgeError, Stopped
from reid_edge.training.models.names import check_architecture, check_device
from reid_edge.training.pretrained.locate import find_weights

from .plan import ARCHS, DATA_TITLES, Cell, Job, cells_of, jobs_for, recipe_maker, work_of
from .table import Filled, draw_figures, write_tables

__all__ = ["LAYOUT_OF", "reproduce"]

LAYOUT_OF = {"market": "market1501", "duke": "dukemtmc", "last": "last"}
"""The layout that each option's folder must have."""

if TYPE_CHECKING:
    from .lab import Lab

logger = logging.getLogger(__name__)

# Errors that fail one job alone; torch raises RuntimeError when out of memory. Any other is a defect and ends the run.
_FAILURES = (ReidEdgeError, OSError, RuntimeError, MemoryError)


def reproduce(
    out: Path,
    *,
    market: Path | None = None,
    duke: Path | None = None,
    last: Path | None = None,
    last_part: str = "val",
    archs: Sequence[str] = ARCHS,
    recipes: Sequence[str] = ("seed",),
    epochs: int | None = None,
    weights: Mapping[str, Path] | None = None,
    change: Mapping[str, Any] | None = None,
    device: str = "auto",
    threads: int | None = None,
) -> list[Path]:
    """Run the matrix and return the files written in ``out``: Table I (Markdown and CSV) and the CMC figures.

    ``last_part`` is LaST's split, "val" as in the paper, or "test". ``recipes`` are of `recipes.RECIPES`: by default
    the paper's own alone, since its figures are the ones compared with. ``epochs`` replaces every training's own number
    and is the maximum for fine-tuning (10), for a short trial. ``weights`` are files, or names of public weights, that
    architectures start from;
    without one they start from random weights. ``change`` replaces other settings of every recipe. ``threads`` bounds
    torch's CPU threads. The tables are written after every job, the figures at the end; a second call does only the
    jobs that are not done.

    Raises InputError for bad use, such as an ``out`` that was made with other settings; Stopped on SIGTERM and ctrl-C;
    GateError at the end, when a job failed.
    """
    check_device(device)
    starts = _hashed(weights or {}, archs)
    datasets = _opened({"market": market, "duke": duke, "last": last}, last_part)
    cells = cells_of(archs, recipes)
    planned = jobs_for(cells, datasets, recipe_maker(epochs, change or {}))
    if not planned:
        raise InputError("there is nothing to train on: give --market PATH, --duke PATH or both")

    from reid_edge.training.models.torch_engine import limit_torch_threads

    from .lab import Lab

    limit_torch_threads(threads)
    lab = Lab(out, datasets, starts, device)
    others = {name: sentence for name, dataset in datasets.items() if (sentence := _not_public(name, dataset))}
    failed: dict[str, str] = {}
    _log_work(lab, _unique(planned))
    for number, job in enumerate(_unique(planned), start=1):
        if lab.result(job) is None:
            logger.info("job %d/%d: %s", number, len(_unique(planned)), job.folder)
            _attempt(lab, job, failed)
            write_tables(_rows(lab, planned, cells, failed), others, out)
    rows = _rows(lab, planned, cells, failed)
    written = [*write_tables(rows, others, out), *draw_figures(rows, others, out)]
    if failed:
        name, reason = next(iter(failed.items()))
        raise GateError(
            f"{len(failed)} of {len(_unique(planned))} jobs failed, first {name} ({reason}): "
            "repair its cause and repeat the command, which continues from here"
        )
    return written


def _log_work(lab: Lab, jobs: Sequence[Job]) -> None:
    """Log the jobs to do and how long they may take. Raises InputError for a folder made with other settings."""
    for job in jobs:
        lab.check(job)
    left = [job for job in jobs if lab.result(job) is None]
    work = work_of(left, lab.datasets)
    speeds = ", ".join(f"{_duration(work.hours(speed))} at {speed:,}" for speed in (30, 300, 3000))
    logger.info("%d jobs, %d to do: %s; %s images/s of training", len(jobs), len(left), work, speeds)


def _attempt(lab: Lab, job: Job, failed: dict[str, str]) -> None:
    """Run a job; on failure log the reason, and keep it in ``failed`` by the job's folder."""
    if job.after in failed:
        failed[job.folder] = f"needs {job.after}, which failed"
    else:
        try:
            lab.run(job)
        except Stopped as stopped:
            number = stopped.exit_code - 128
            raise Stopped(f"stopped in {job.folder}, all saved: repeat the command to go on", number) from None
        except _FAILURES as error:
            failed[job.folder] = " ".join(str(error).split())[:300] or type(error).__name__
    if job.folder in failed:
        logger.warning("failed: %s: %s", job.folder, failed[job.folder])


def _opened(paths: Mapping[str, Path | None], last_part: str) -> dict[str, Dataset]:
    """The data sets that were given, each in the layout that its option names; their notices are logged."""
    datasets = {}
    for name, path in paths.items():
        if path is None:
            continue
        dataset = open_dataset(path, part=last_part if name == "last" else "test")
        if dataset.layout != LAYOUT_OF[name]:
            raise DatasetError(
                f"{path} is laid out as {dataset.layout}: --{name} takes the folder of {DATA_TITLES[name]}"
            )
        require(dataset, *(("query", "gallery") if name == "last" else ("train", "query", "gallery")))
        for notice in dataset.notices:
            logger.warning("%s", notice)
        datasets[name] = dataset
    return datasets


def _hashed(weights: Mapping[str, Path], archs: Sequence[str]) -> dict[str, tuple[Path, str]]:
    """Each weights file with its hash. Raises InputError for an architecture outside the matrix, or a missing file."""
    if unknown := sorted(set(weights) - set(archs)):
        raise InputError(f"weights for {', '.join(unknown)}, which is not in the matrix: name {', '.join(archs)}")
    for arch in archs:
        check_architecture(arch)
    found = {arch: find_weights(path, arch) for arch, path in weights.items()}
    return {arch: (path, sha256_of(path)) for arch, path in found.items()}


def _not_public(name: str, dataset: Dataset) -> str:
    """A sentence when the number of crops is not the public set's, else ""."""
    first = 1 if name == "last" else 0  # nothing is trained on LaST
    split = dataset.split
    have = (len(split.train), len(split.query), len(split.gallery))[first:]
    assert dataset.published is not None, f"{dataset.layout} has no published counts"
    public = dataset.published[first:]
    if have == public:
        return ""
    here, published = (" / ".join(f"{count:,}" for count in counts) for counts in (have, public))
    what = " / ".join(("to train on", "queries", "gallery")[first:])
    return (
        f"{DATA_TITLES[name]} as given has {here} crops ({what}), the public set {published}: "
        "not to be compared with published figures."
    )


def _unique(planned: Mapping[Cell, Sequence[Job]]) -> list[Job]:
    """Every job once, in the order in which they must run."""
    return list({job.folder: job for jobs in planned.values() for job in jobs}.values())


def _rows(
    lab: Lab, planned: Mapping[Cell, Sequence[Job]], cells: Sequence[Cell], failed: Mapping[str, str]
) -> list[Filled]:
    """Every cell with its figures, or the reason why it has none."""
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
        start = lab.weights[cell.arch][0].name if cell.arch in lab.weights else "random weights"
        rows.append(Filled(cell, result, missing_why, configs, start, lab.datasets[cell.scored_on].part))
    return rows


def _duration(hours: float) -> str:
    return f"{hours:,.1f} h" if hours >= 1 else f"{60 * hours:.0f} min"
