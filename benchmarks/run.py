"""The benchmark: models x batch sizes, measured one at a time, on one machine and one set of files."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from datetime import datetime, timezone
from pathlib import Path
from typing import TypeAlias

from reid_edge import __version__
from reid_edge.card import ModelCard
from reid_edge.core.files import scratch_folder
from reid_edge.core.progress import phase, track
from reid_edge.core.threads import usable_cores
from reid_edge.data.datasets import Dataset
from reid_edge.data.synthetic.dataset import synthesize
from reid_edge.engines.registry import open_engine
from reid_edge.errors import DatasetError, InputError
from reid_edge.scoring.distances import distance_by_name
from reid_edge.scoring.evaluation import dataset_of, evaluate
from reid_edge.scoring.metrics import Metrics
from reid_edge.scoring.test_set import TestSet

from .latency import Measurement
from .machine import describe_machine
from .options import BenchOptions
from .results import BenchReport, BenchRow
from .worker import in_child

__all__ = ["bench"]

_FILES = 256  # enough to vary what is decoded, few enough to stay in the page cache
_BUILT_IN = "the built-in synthetic set"


def bench(
    models: Path | str | Sequence[Path | str],
    data: Path | str | Dataset | TestSet | None = None,
    *,
    options: BenchOptions | None = None,
    distance: str = "cosine",
    layout: str | None = None,
    part: str = "test",
) -> BenchReport:
    """Measure every model at every batch size, each pair in its own process, and score every model once.

    ``models`` are ``.onnx`` files or engines (one or several): a checkpoint is exported first, as torch's latency is
    not what a device will have. Latency is measured on at most 256 crops spread evenly over the query and gallery of
    ``data``, the same for every row (`reid_edge.benchmarks.latency`). Without ``data`` the crops are drawn
    (`reid_edge.data.synthetic`) and nothing is scored. ``data``, ``layout`` (None: auto-detected), ``part`` and
    ``distance`` are those of `reid_edge.evaluate`; ``options`` say how to measure (None: the defaults of
    `BenchOptions`).

    Raises InputError, ModelError, DatasetError or ImageError for bad input, before anything is measured where the
    input shows it, and ReidEdgeError when a measuring process dies.

    >>> import reid_edge
    >>> options = reid_edge.BenchOptions(batches=(1, 4), repeats=2, min_seconds=0)
    >>> report = reid_edge.bench(model_file, options=options)
    >>> [(row.model, row.batch, row.measured.samples) for row in report.rows]
    [('model', 1, 2), ('model', 4, 2)]
    """
    files = [Path(model) for model in ([models] if isinstance(models, Path | str) else models)]
    options = options or BenchOptions()
    if not files:
        raise InputError("no model to measure: name at least one .onnx file")
    options.check()
    distance_by_name(distance)
    jobs = [(file, backend) for file in files for backend in options.backends or (None,)]
    for file, backend in jobs:
        open_engine(file, backend=backend)  # its name alone: nothing is opened before the with statement
    with phase("measuring"), _crops(data, layout, part) as (test_set, paths):
        return _measured(jobs, paths, test_set, data, options, distance)


_Job: TypeAlias = "tuple[Path, str | None]"
"""A model and what runs it; None is what its suffix names."""


def _measured(
    jobs: Sequence[_Job],
    paths: list[str],
    test_set: TestSet | None,
    data: Path | str | Dataset | TestSet | None,
    options: BenchOptions,
    distance: str,
) -> BenchReport:
    """Score every model on every backend, then time it on the files ``paths``."""
    machine = describe_machine()
    started = datetime.now(timezone.utc).isoformat(timespec="seconds")
    cards = [_card_of(job) for job in jobs]
    peaks = [_sgemm_peak(options.threads)]
    scores = [_score(job, test_set, distance, options.threads) for job in jobs]
    if test_set and test_set is not data:
        test_set.close()  # its memory is the timed processes' now
    pairs = [(index, batch) for index in range(len(jobs)) for batch in options.batches]
    measured = [_measure(jobs[index], paths, batch, options) for index, batch in track(pairs, "timing")]
    peaks.append(_sgemm_peak(options.threads))  # twice: other work must not pass for a low peak
    rows = [
        _row(jobs[index][0], cards[index], batch, result, scores[index])
        for (index, batch), result in zip(pairs, measured, strict=True)
    ]
    dataset = test_set.dataset if test_set else None
    source = dataset.root if dataset and isinstance(data, Dataset | TestSet) else data
    chosen = {"data": str(source or _BUILT_IN), "part": dataset.part if dataset else None, "distance": distance}
    return BenchReport(
        made_with=f"reid-edge {__version__}",
        started=started,
        machine=machine,
        settings={
            **chosen,
            "files": len(paths),
            **asdict(options),
            "batches": list(options.batches),
            "backends": list(options.backends),
        },
        notices=test_set.dataset.notices if test_set else (),
        sgemm_gflops=max(peaks),
        rows=tuple(rows),
    )


def _card_of(job: _Job) -> ModelCard:
    """The model's card; a file that does not open fails here, before minutes of measuring the others."""
    model, backend = job
    with phase(f"opening {model.name}"), open_engine(model, threads=1, max_batch=1, backend=backend) as engine:
        return engine.card


@contextmanager
def _crops(
    data: Path | str | Dataset | TestSet | None, layout: str | None, part: str
) -> Iterator[tuple[TestSet | None, list[str]]]:
    """The data set to score on, if any, and the files to time."""
    with scratch_folder() as scratch:
        given = data or synthesize(scratch / "drawn", identities=2, test_identities=8, cameras=4)
        dataset = dataset_of(given, layout, part)
        crops = dataset.split.query + dataset.split.gallery
        if not crops:
            raise DatasetError(f"{dataset.root} has no query and no gallery crops: name a data set with a {part} part")
        step = max(1, len(crops) // _FILES)
        paths = [str(crop.path) for crop in crops[::step][:_FILES]]
        if isinstance(data, TestSet):
            yield data, paths
            return
        with TestSet(dataset) as test_set:
            yield test_set if data else None, paths


def _score(job: _Job, test_set: TestSet | None, distance: str, threads: int | None) -> Metrics | None:
    if test_set is None:
        return None
    model, backend = job
    with phase(f"scoring {model.name}"), open_engine(model, threads=threads, backend=backend) as engine:
        return evaluate(engine, test_set, distance, progress=True).metrics


def _measure(job: _Job, paths: list[str], batch: int, options: BenchOptions) -> Measurement:
    model, backend = job
    timing = {"repeats": options.repeats, "min_seconds": options.min_seconds, "threads": options.threads}
    request = {"do": "latency", "model": str(model), "paths": paths, "batch": batch, "backend": backend, **timing}
    with phase(f"{model.name}, batch {batch}", 1) as line:
        return Measurement.from_dict(in_child(request, f"measuring {model} at batch {batch}", on_progress=line.advance))


def _sgemm_peak(threads: int | None) -> float:
    """The roofline of engines on the CPU, with as many threads as they have; a GPU's is not measured."""
    threads = threads or usable_cores()
    with phase("timing a matrix product, to compare with"):
        peak: float = in_child({"do": "sgemm"}, "measuring the matrix product", blas_threads=threads)
    return peak


def _row(model: Path, card: ModelCard, batch: int, measured: Measurement, metrics: Metrics | None) -> BenchRow:
    return BenchRow(
        model=model.stem,
        path=str(model),
        file_bytes=model.stat().st_size,
        architecture=card.architecture,
        precision=measured.engine.computes or card.precision,
        embedding_dim=card.embedding_dim,
        macs=card.macs,
        batch=batch,
        measured=measured,
        rank1=metrics.rank(1) if metrics else None,
        mAP=metrics.mAP if metrics else None,
    )
