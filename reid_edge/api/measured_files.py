"""Files of figures as `report` takes them: which command wrote one, and what its page is. They are untrusted input."""

from __future__ import annotations

import csv
import json
import logging
import math
from collections.abc import Callable
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

from reid_edge.benchmarks.html.charts import Series
from reid_edge.benchmarks.html.pages.bench import write_bench_page
from reid_edge.benchmarks.html.pages.evaluation import write_evaluation_page
from reid_edge.benchmarks.html.pages.reproduction import write_reproduction_page
from reid_edge.benchmarks.html.pages.training import write_ablation_page, write_run_page
from reid_edge.benchmarks.results import BenchReport
from reid_edge.errors import InputError
from reid_edge.training.history import EpochReport, history_from

__all__ = ["page_of"]

HISTORY, TABLE = "history.json", "table1.csv"
logger = logging.getLogger(__name__)

_USUAL = "cosine"
_BASE = "all_tricks"
_MOST_BYTES = 64 << 20
_MOST_FILES = 1000
_KNOWN = "a file of  bench --json  or  eval --json,  or the folder of  train,  an ablation or  reproduce"
_COUNTS = ("queries", "valid_queries", "gallery")
_COLUMNS = (
    *("model", "recipe", "trained_on", "finetuned_on", "scored_on", "distance", "missing"),
    *("rank1_percent", "mAP_percent", "mINP_percent", "paper_rank1_percent", "paper_mAP_percent"),
)


def page_of(path: Path) -> tuple[Callable[..., Path], str]:
    """What writes the page of ``path``, and the distance that its figures are by.

    The writer is a function of the page's path and, for files, of what `score_model` found.

    Raises InputError where nothing that was measured is there, or what is there is damaged.
    """
    if path.is_dir():
        return _guarded(_page_of_folder(path), path), ""
    if not path.is_file():
        raise InputError(f"{path} is not there: give {_KNOWN}")
    content = _read(path)
    if isinstance(content, dict) and {"rows", "machine"} <= set(content):
        found = _checked_bench(BenchReport.read(path), path)
        return _guarded(partial(write_bench_page, found), path), str(found.settings.get("distance") or _USUAL)
    if isinstance(content, dict) and {"mAP", "valid_queries"} <= set(content):
        figures = _checked_evaluation(content, path)
        return _guarded(partial(write_evaluation_page, figures), path), figures["distance"]
    raise InputError(f"{path} holds no figures that have a page: give {_KNOWN}")


def _guarded(write: Callable[..., Path], path: Path) -> Callable[..., Path]:
    """The same, which raises InputError where a figure is of another type than its command writes.

    Nothing but figures of a file is read while a page is written, and the page is written whole or not at all.
    """

    def guarded(*arguments: Any, **options: Any) -> Path:
        try:
            return write(*arguments, **options)
        except (TypeError, ValueError, AttributeError, LookupError, ArithmeticError) as error:
            logger.debug("while the page was written", exc_info=error)
            raise InputError(f"{path} is damaged ({type(error).__name__}): write it again by its command") from None

    return guarded


def _page_of_folder(folder: Path) -> Callable[..., Path]:
    if (folder / TABLE).is_file():
        rows, curves = _table(folder / TABLE), _curves(folder)
        return partial(write_reproduction_page, rows, curves, name=folder.name)
    if (folder / HISTORY).is_file():
        history, (settings, note) = _history(folder / HISTORY), _settings(folder)
        return partial(write_run_page, history, name=folder.name, settings=settings, note=note)
    if runs := _runs(folder):
        return partial(write_ablation_page, runs, name=folder.name)
    raise InputError(f"{folder} holds neither {HISTORY} nor {TABLE}, nor runs: give {_KNOWN}")


def _read(path: Path) -> Any:
    """The JSON in a file. Raises InputError for one that is too large or no JSON."""
    if path.stat().st_size > _MOST_BYTES:
        raise InputError(f"{path} has over {_MOST_BYTES >> 20} MiB: it holds no figures of reid-edge")
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError):
        raise InputError(f"{path} is no JSON: give {_KNOWN}") from None


def _checked_bench(report: BenchReport, path: Path) -> BenchReport:
    """The same, whose figures can be drawn."""
    for number, row in enumerate(report.rows, start=1):
        measured, names = row.measured, (row.model, row.path, row.precision, row.measured.engine.provider)
        times = (measured.end_to_end_ms.p50, measured.end_to_end_ms.p99, *measured.latencies_ms)
        sizes = [row.batch, row.file_bytes, measured.crops_per_s]
        sizes += [measured.energy.mj_per_crop] if measured.energy else []
        sizes += [stage.p50 for stage in measured.stages.values()]
        shares = [share for share in (row.rank1, row.mAP) if share is not None]
        if not (
            all(isinstance(name, str) for name in names)
            and all(_is_number(time) and time > 0 for time in times)
            and all(_is_number(size) and size >= 0 for size in sizes)
            and all(_is_number(share) and 0 <= share <= 1 for share in shares)
        ):
            raise InputError(f"{path} is damaged: row {number} has impossible figures: measure again")
    if not report.rows:
        raise InputError(f"{path} has no rows yet: let  reid-edge bench  finish one")
    return report


def _checked_evaluation(figures: dict[str, Any], path: Path) -> dict[str, Any]:
    """The same, whose figures can be drawn."""
    shares = [value for name, value in figures.items() if name in ("mAP", "mINP") or name.startswith("rank")]
    curve = figures.get("cmc", [])
    texts = all(isinstance(figures.get(name), str) for name in ("model", "dataset", "part", "distance"))
    if not (
        texts
        and isinstance(curve, list)
        and all(_is_number(share) and 0 <= share <= 1 for share in (*shares, *curve))
        and all(_is_number(figures.get(name)) for name in _COUNTS)
    ):
        raise InputError(f"{path} is damaged: write it again with  reid-edge eval --json")
    return figures


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _history(path: Path) -> list[EpochReport]:
    """The epochs of a run: at least one, with figures that can be drawn. Raises InputError for a damaged file."""
    try:
        history = history_from(_read(path))
        for row in history:
            scores = [row.metrics[name] for name in ("rank1", "mAP", "mINP")] if row.metrics else []
            numbers = [row.epoch, row.learning_rate, row.images_per_second, *row.losses.values(), *scores]
            if not all(map(_is_number, numbers)) or any(not 0 <= score <= 1 for score in scores):
                raise ValueError("its figures are impossible")
    except (TypeError, ValueError, AttributeError, LookupError):
        raise InputError(f"{path} is damaged: repeat the run with --resume (resume=True)") from None
    if not history:
        raise InputError(f"{path} holds no epoch yet: let the training finish one")
    return history


def _settings(folder: Path) -> tuple[dict[str, Any], str]:
    """A run's recipe and a sentence on its data, from ``run.json``; nothing where a run has none."""
    from reid_edge.training.run_record import read_record

    record = read_record(folder)
    if record is None:
        return {}, ""
    data = " and ".join(f"{Path(each.path).name} ({each.crops} crops)" for each in record.data)
    return asdict(record.config), f"{record.config.arch} on {data}."


def _runs(folder: Path) -> dict[str, dict[str, list[EpochReport]]]:
    """The runs below a folder, by change and seed, as an ablation names their folders: all tricks first."""
    runs: dict[str, dict[str, list[EpochReport]]] = {}
    for path in sorted(folder.glob(f"*/{HISTORY}"))[:_MOST_FILES]:
        change, _, seed = path.parent.name.rpartition("-")
        change, seed = (change, seed) if change and seed.isdigit() else (path.parent.name, "0")
        runs.setdefault(change.replace("_", " "), {})[seed] = _history(path)
    first = _BASE.replace("_", " ")
    return {name: runs[name] for name in sorted(runs, key=lambda name: name != first)}


def _table(path: Path) -> list[dict[str, str]]:
    """The lines of Table I. Raises InputError for a file that `reproduce` did not write."""
    if path.stat().st_size > _MOST_BYTES:
        raise InputError(f"{path} has over {_MOST_BYTES >> 20} MiB: it is no table of  reid-edge reproduce")
    try:
        with path.open(encoding="utf-8", newline="") as file:
            rows = list(csv.DictReader(file))
        numbers = [row[name] for row in rows for name in _COLUMNS if name.endswith("_percent")]
        if not rows or not all(math.isfinite(float(each)) for each in numbers if each):
            raise ValueError("a figure is impossible")
        return [{name: row[name] or "" for name in _COLUMNS} for row in rows]
    except (ValueError, KeyError, TypeError, csv.Error):
        raise InputError(f"{path} is damaged: repeat  reid-edge reproduce,  which writes it again") from None


def _curves(folder: Path) -> dict[str, list[Series]]:
    """CMC of every evaluation below a folder, by data set, by euclidean distance."""
    curves: dict[str, list[Series]] = {}
    for path in sorted(folder.glob("**/result.json"))[:_MOST_FILES]:
        result = _read(path)
        if not isinstance(result, dict) or not isinstance(result.get("distances"), dict):
            continue  # of a training
        try:
            shares = result["distances"]["euclidean"]["cmc"]
            points = [(float(rank), 100 * float(share)) for rank, share in enumerate(shares, start=1)]
            data = f"{result['settings']['data']} ({result['settings']['part']})"
        except (TypeError, ValueError, LookupError):
            raise InputError(f"{path} is damaged: delete it and repeat  reid-edge reproduce") from None
        if points and all(0 <= share <= 100 for _, share in points):
            curves.setdefault(data, []).append(Series(path.parent.relative_to(folder).as_posix(), points))
    return curves
