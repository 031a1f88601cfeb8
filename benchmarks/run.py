"""The benchmark: models x batch sizes, measured one at a time, on one machine and one set of files."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from reid_edge import __version__
from reid_edge.card import ModelCard
from reid_edge.datasets import Dataset, open_dataset
from reid_edge.distances import distance_by_name
from reid_edge.engine import open_engine
from reid_edge.errors import DatasetError, InputError
from reid_edge.evaluation import evaluate
from reid_edge.files import sha256_of
from reid_edge.metrics import Metrics
from reid_edge.progress import track
from reid_edge.synthetic import synthesize

from .latency import Measurement
from .machine import Machine, describe_machine
from .results import BenchReport, Row
from .worker import in_child

__all__ = ["bench"]

_FILES = 256  # enough to vary what is decoded, few enough to stay in the page cache
_BUILT_IN = "the built-in synthetic set"


def bench(
    models: Sequence[Path | str],
    data: Path | str | None = None,
    batches: Sequence[int] = (1, 8, 32),
    *,
    repeats: int = 20,
    min_seconds: float = 2.0,
    threads: int | None = None,
    distance: str = "cosine",
    layout: str | None = None,
    part: str = "test",
) -> BenchReport:
    """Measure every model at every batch size, each pair in a process of its own, and score every model once.

    Latency is measured on at most 256 crops spread evenly over the query and gallery of ``data``, the same for every
    row, for at least ``repeats`` batches and ``min_seconds`` seconds (`reid_edge.benchmarks.latency`). Without
    ``data`` the crops are drawn (`reid_edge.synthetic`) and nothing is scored. ``threads`` bounds the CPU threads of
    inference, None leaves them to the backend; crops are always read by one.

    Raises InputError, ModelError, DatasetError or ImageError for bad input, before anything is measured where the
    input shows it, and ReidEdgeError when a measuring process dies.
    """
    machine = describe_machine()
    started = datetime.now(timezone.utc).isoformat(timespec="seconds")
    _check(models, batches, repeats, min_seconds, distance)
    cards = [_card_of(model) for model in models]
    with _crops(data, layout, part) as (dataset, paths):
        peaks = [_sgemm_peak(machine, threads)]
        scores = [_score(model, dataset, distance, threads) for model in models]
        pairs = [(index, batch) for index in range(len(models)) for batch in batches]
        timing: dict[str, Any] = {"repeats": repeats, "min_seconds": min_seconds, "threads": threads}
        measured = [_measure(models[index], paths, batch, timing) for index, batch in track(pairs, "timing models")]
    peaks.append(_sgemm_peak(machine, threads))  # twice: a neighbour's work must not pass for a low ceiling
    rows = [
        _row(models[index], cards[index], batch, result, scores[index])
        for (index, batch), result in zip(pairs, measured, strict=True)
    ]
    chosen = {"data": str(data) if data else _BUILT_IN, "part": part if data else None, "distance": distance}
    return BenchReport(
        made_with=f"reid-edge {__version__}",
        started=started,
        machine=machine,
        settings={**chosen, "batches": list(batches), "files": len(paths), **timing},
        notices=dataset.notices if dataset else (),
        sgemm_gflops=max((peak for peak in peaks if peak), default=None),
        rows=tuple(rows),
    )


def _check(models: Sequence[Path | str], batches: Sequence[int], repeats: int, seconds: float, distance: str) -> None:
    if not models:
        raise InputError("no model to measure: name at least one .onnx file")
    if not batches or min(batches) < 1:
        raise InputError(f"batch sizes {list(batches)} cannot be measured: give whole numbers from 1")
    if repeats < 1 or seconds < 0:
        raise InputError(f"{repeats} repeats over {seconds:g} s measure nothing: give at least 1 and 0")
    distance_by_name(distance)


def _card_of(model: Path | str) -> ModelCard:
    """The model's card; a file that does not open is found out here, before minutes of measuring the others."""
    with open_engine(model, threads=1, max_batch=1) as engine:
        return engine.card


@contextmanager
def _crops(data: Path | str | None, layout: str | None, part: str) -> Iterator[tuple[Dataset | None, list[str]]]:
    """The data set to score on, if any, and the files to time."""
    with tempfile.TemporaryDirectory(prefix="reid-edge-bench-") as scratch:
        folder = data or synthesize(Path(scratch) / "drawn", people=2, test_people=8, cameras=4, progress=False)
        dataset = open_dataset(folder, layout, part)
        crops = dataset.split.query + dataset.split.gallery
        if not crops:
            raise DatasetError(f"{folder} has no query and no gallery crops: name a data set with a {part} part")
        step = max(1, len(crops) // _FILES)
        yield dataset if data else None, [str(crop.path) for crop in crops[::step][:_FILES]]


def _score(model: Path | str, dataset: Dataset | None, distance: str, threads: int | None) -> Metrics | None:
    if dataset is None:
        return None
    with open_engine(model, threads=threads) as engine:
        return evaluate(engine, dataset, distance, progress=True).metrics


def _measure(model: Path | str, paths: list[str], batch: int, timing: dict[str, Any]) -> Measurement:
    job = {"do": "latency", "model": str(model), "paths": paths, "batch": batch, **timing}
    return Measurement.from_dict(in_child(job, f"measuring {model} at batch {batch}"))


def _sgemm_peak(machine: Machine, threads: int | None) -> float | None:
    """The ceiling for engines on the CPU; a GPU's is not measured."""
    if "CUDAExecutionProvider" in machine.providers:
        return None
    peak: float = in_child({"do": "sgemm"}, "measuring the matrix product", blas_threads=threads)
    return peak


def _row(model: Path | str, card: ModelCard, batch: int, measured: Measurement, metrics: Metrics | None) -> Row:
    path = Path(model)
    return Row(
        model=path.stem,
        path=str(path),
        sha256=sha256_of(path),
        file_bytes=path.stat().st_size,
        architecture=card.architecture,
        precision=card.precision,
        embedding_dim=card.embedding_dim,
        macs=card.macs,
        batch=batch,
        measured=measured,
        rank1=metrics.rank(1) if metrics else None,
        mAP=metrics.mAP if metrics else None,
    )
