"""One run of `bench`: its turns in order, each in a process of its own, and the report of those that are done."""

from __future__ import annotations

import json
import logging
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from reid_edge import __version__
from reid_edge.card import ModelCard
from reid_edge.core.files import written_whole
from reid_edge.core.progress import phase, track
from reid_edge.core.threads import usable_cores
from reid_edge.data.datasets import Dataset
from reid_edge.engines.facts import EngineFacts
from reid_edge.engines.registry import open_engine
from reid_edge.scoring.evaluation import evaluate
from reid_edge.scoring.test_set import TestSet

from .machine import describe_machine
from .options import BenchOptions
from .power.state import power_warnings
from .queries import QueryScores
from .results import BenchReport, BenchRow
from .timing.journal import Journal
from .timing.trtexec import TrtexecTimes
from .timing.turns import RawTurn, merged
from .worker import in_child

__all__ = ["BUILT_IN", "BenchJob", "Session"]

logger = logging.getLogger(__name__)

BUILT_IN = "the built-in synthetic set"


@dataclass(frozen=True)
class BenchJob:
    """A model and what runs it; None is what its suffix names."""

    model: Path
    backend: str | None


@dataclass(frozen=True)
class _Turn:
    """One of the times that a row is measured."""

    job: int
    batch: int
    streams: int
    number: int

    def row(self) -> tuple[int, int, int]:
        """The row that it is of."""
        return self.job, self.batch, self.streams

    def key(self) -> str:
        """Its name in the journal."""
        return "/".join(map(str, (*self.row(), self.number)))


class Session:
    """One call of `bench`: what is measured, and what was measured so far."""

    def __init__(
        self,
        jobs: Sequence[BenchJob],
        paths: list[str],
        test_set: TestSet | None,
        data: Path | str | Dataset | TestSet | None,
        options: BenchOptions,
        distance: str,
        trtexec: tuple[TrtexecTimes, ...],
    ) -> None:
        self.jobs, self.paths, self.options, self.trtexec = jobs, paths, options, trtexec
        self.machine, self.slow = describe_machine(), power_warnings()
        self.started = datetime.now(timezone.utc).isoformat(timespec="seconds")
        self.notices = test_set.dataset.notices if test_set else ()
        self._test_set, self._data, self._distance = test_set, data, distance
        self.settings = self._settings()
        self.rates: dict[str, float] = {}
        self.scores: list[dict[str, Any]] = []
        rows = [
            (index, batch, streams)
            for index in range(len(jobs))
            for batch in options.batches
            for streams in options.streams
        ]
        self._turns = [_Turn(*row, number) for number in range(len(options.turn_sizes())) for row in rows]
        self._rows = rows

    def measured(self, save: Path | None) -> BenchReport:
        """Score every model on every backend, then time it, turn by turn."""
        opened = [_opened(job) for job in self.jobs]
        self._cards = [card for card, _ in opened]
        journal = Journal(save, self._header([facts for _, facts in opened]), QueryScores.from_dict)
        self._measure_rates()
        self.scores = [self._score(index, journal) for index in range(len(self.jobs))]
        if self._test_set and self._test_set is not self._data:
            self._test_set.close()  # its memory is the timed processes' now
        try:
            for turn in track(self._turns, "timing"):
                if turn.key() not in journal.turns:
                    journal.add_turn(turn.key(), self._measure(turn))
                self._write(save, journal)
        except BaseException:
            if journal.path and journal.turns:
                of = f"{len(journal.turns)} of {len(self._turns)} turns"
                logger.warning("%s are kept in %s: the same command continues there", of, journal.path)
            raise
        self._measure_rates()  # twice: other work must not pass for a low peak
        report = self.report(journal, complete=True)
        if save is not None and journal.path:
            _write_report(save, report)
        journal.finished()
        return report

    def report(self, journal: Journal, *, complete: bool) -> BenchReport:
        """The rows that have at least one turn."""
        rows = [self._row(row, journal) for row in self._rows]
        return BenchReport(
            made_with=f"reid-edge {__version__}",
            started=self.started,
            machine=self.machine,
            settings=self.settings,
            notices=self.notices,
            sgemm_gflops=self.rates.get("sgemm"),
            rows=tuple(row for row in rows if row),
            rates=self.rates,
            slow=self.slow,
            trtexec=self.trtexec,
            complete=complete,
            queries=QueryScores.joined(
                [QueryScores.from_dict(each["queries"]) for each in self.scores if "queries" in each]
            ),
        )

    def _settings(self) -> dict[str, Any]:
        dataset = self._test_set.dataset if self._test_set else None
        source = dataset.root if dataset and isinstance(self._data, Dataset | TestSet) else self._data
        chosen = {"data": str(source or BUILT_IN), "part": dataset.part if dataset else None}
        options = json.loads(json.dumps(asdict(self.options)))
        return {**chosen, "distance": self._distance, "files": len(self.paths), **options}

    def _header(self, engines: Sequence[EngineFacts]) -> dict[str, Any]:
        """What must be the same for an interrupted run to continue."""
        machine = self.machine
        return {
            "models": [[facts.sha256, job.backend] for job, facts in zip(self.jobs, engines, strict=True)],
            "engines": [[facts.provider, dict(facts.versions)] for facts in engines],
            "settings": self.settings,
            "machine": [machine.cpu, machine.cores, list(machine.gpus), machine.board, machine.power_mode],
            "software": [machine.kernel, machine.python, machine.onnxruntime, __version__],
        }

    def _measure_rates(self) -> None:
        """The roofline, with as many threads as the engines have; of two measurements the higher rates."""
        threads = self.options.threads or usable_cores()
        bf16 = any((job.backend or "").endswith(":bf16") for job in self.jobs)
        with phase("timing products and copies"):
            seconds = min(0.3, max(0.02, self.options.min_seconds / 4))  # a short run needs no long ones
            request = {"do": "rates", "threads": threads, "seconds": seconds, "bf16": bf16}
            again = in_child(request, "measuring matrix products", blas_threads=threads)
        self.rates = {name: max(rate, self.rates.get(name, 0.0)) for name, rate in again.items()}

    def _score(self, index: int, journal: Journal) -> dict[str, Any]:
        if self._test_set is None:
            return {}
        if str(index) not in journal.scores:
            job, threads = self.jobs[index], self.options.threads
            with (
                phase(f"scoring {job.model.name}"),
                open_engine(job.model, threads=threads, backend=job.backend) as engine,
            ):
                metrics = evaluate(engine, self._test_set, self._distance, progress=True).metrics
                scores = asdict(QueryScores.of(engine.facts, metrics))
            journal.add_score(str(index), {"rank1": metrics.rank(1), "mAP": metrics.mAP, "queries": scores})
        return journal.scores[str(index)]

    def _measure(self, turn: _Turn) -> RawTurn:
        job, options = self.jobs[turn.job], self.options
        repeats, seconds = options.turn_sizes()[turn.number]
        request = {
            "do": "latency",
            "model": str(job.model),
            "paths": self.paths,
            "batch": turn.batch,
            "backend": job.backend,
            "repeats": repeats,
            "min_seconds": seconds,
            "threads": options.threads,
            "streams": turn.streams,
            "retries": options.retries,
            "gallery": options.gallery,
            "streamed": options.stream,
        }
        side_by_side = f", {turn.streams} streams" if turn.streams > 1 else ""
        with phase(f"{job.model.name}, batch {turn.batch}{side_by_side}", 1) as line:
            what = f"measuring {job.model} at batch {turn.batch}"
            return RawTurn(**in_child(request, what, on_progress=line.advance))

    def _row(self, row: tuple[int, int, int], journal: Journal) -> BenchRow | None:
        job, batch, _ = row
        keys = [turn.key() for turn in self._turns if turn.row() == row]
        turns = [journal.turns[key] for key in keys if key in journal.turns]
        if not turns:
            return None
        measured, card, model = merged(turns), self._cards[job], self.jobs[job].model
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
            rank1=self.scores[job].get("rank1"),
            mAP=self.scores[job].get("mAP"),
        )

    def _write(self, save: Path | None, journal: Journal) -> None:
        """The rows so far, where a file keeps them."""
        if save is not None and journal.path:
            _write_report(save, self.report(journal, complete=False))


def _write_report(save: Path, report: BenchReport) -> None:
    with written_whole(save) as beside:
        beside.write_text(
            json.dumps(report.to_dict(), indent=2, ensure_ascii=False, allow_nan=False) + "\n", encoding="utf-8"
        )


def _opened(job: BenchJob) -> tuple[ModelCard, EngineFacts]:
    """The model's card, and what runs it; a file that does not open fails here, before minutes of measuring."""
    with (
        phase(f"opening {job.model.name}"),
        open_engine(job.model, threads=1, max_batch=1, backend=job.backend) as engine,
    ):
        return engine.card, engine.facts
