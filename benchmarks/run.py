"""The benchmark: models x batch sizes x streams, measured one at a time and in turns, on one set of files."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from reid_edge.core.files import require_output, scratch_folder
from reid_edge.core.progress import phase
from reid_edge.data.datasets import Dataset
from reid_edge.data.synthetic.dataset import synthesize
from reid_edge.engines.registry import open_engine
from reid_edge.errors import DatasetError, InputError
from reid_edge.scoring.distances import distance_by_name
from reid_edge.scoring.evaluation import dataset_of
from reid_edge.scoring.test_set import TestSet

from .options import BenchOptions
from .results import BenchReport
from .session import BenchJob, Session
from .timing.trtexec import read_trtexec

__all__ = ["bench"]

_FILES = 256  # enough to vary what is decoded, few enough to stay in the page cache


def bench(
    models: Path | str | Sequence[Path | str],
    data: Path | str | Dataset | TestSet | None = None,
    *,
    options: BenchOptions | None = None,
    distance: str = "cosine",
    layout: str | None = None,
    part: str = "test",
    trtexec: Sequence[Path | str] = (),
    save: Path | str | None = None,
) -> BenchReport:
    """Measure every model at every batch size, each turn in its own process, and score every model once.

    ``models`` are ``.onnx`` files or engines (one or several): a checkpoint is exported first, as torch's latency is
    not what a device will have. Latency is measured on at most 256 crops spread evenly over the query and gallery of
    ``data``, the same for every row (`reid_edge.benchmarks.latency`). Without ``data`` the crops are drawn
    (`reid_edge.data.synthetic`) and nothing is scored. ``data``, ``layout`` (None: auto-detected), ``part`` and
    ``distance`` are those of `reid_edge.evaluate`; ``options`` say how to measure (None: the defaults of
    `BenchOptions`). ``trtexec`` are files of trtexec's --exportTimes or --exportProfile, whose figures stand beside.

    ``save`` is a JSON file for the report, written whole after each turn, with the rows measured so far. A run that was
    interrupted continues there by itself, where models, data, options and machine are the same.

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
    if save is not None:
        require_output(save)
    distance_by_name(distance)
    jobs = [BenchJob(file, backend) for file in files for backend in options.backends or (None,)]
    for job in jobs:
        open_engine(job.model, backend=job.backend)  # its name alone: nothing is opened before the with statement
    beside = tuple(read_trtexec(file) for file in trtexec)
    with phase("measuring"), _crops(data, layout, part) as (test_set, paths):
        run = Session(jobs, paths, test_set, data, options, distance, beside)
        return run.measured(None if save is None else Path(save))


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
