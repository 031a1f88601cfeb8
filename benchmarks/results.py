"""The report of `bench` as data: rows, how each differs from the first, and the JSON (``bench.json``)."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

from reid_edge.core.files import require_file
from reid_edge.engines.facts import EngineFacts
from reid_edge.errors import InputError

from .machine import Machine
from .queries import QueryScores
from .timing.measurement import Measurement
from .timing.percentiles import Percentiles
from .timing.trtexec import TrtexecTimes

__all__ = ["VERSION", "BenchReport", "BenchRow", "Change"]

VERSION = 2
"""Of ``bench.json``. Files without a version are 1: neither stages, bounds, turns, energy nor clocks."""

_MOST_BYTES = 256 << 20


@dataclass(frozen=True)
class BenchRow:
    """One model at one batch size. ``rank1`` and ``mAP`` are fractions, None where no data set was given."""

    model: str
    path: str
    file_bytes: int
    architecture: str
    precision: str
    embedding_dim: int
    macs: int
    batch: int
    measured: Measurement
    rank1: float | None = None
    mAP: float | None = None  # noqa: N815 -- the metric's own spelling

    @property
    def sha256(self) -> str:
        """The model file's hash."""
        return self.measured.engine.sha256

    @property
    def gflops(self) -> float | None:
        """Achieved GFLOP/s of inference: two per multiply-accumulate of the card; None where the card has none."""
        return 2 * self.macs * self.measured.inference_crops_per_s / 1e9 if self.macs else None


@dataclass(frozen=True)
class Change:
    """A row against the first one.

    Latencies are ratios of the p50 **per crop** (below 1 is faster), so that rows of different batch sizes compare;
    accuracies are differences in percentage points.
    """

    end_to_end: float
    inference: float
    rank1_points: float | None
    mAP_points: float | None  # noqa: N815

    @classmethod
    def between(cls, first: BenchRow, row: BenchRow) -> Change:
        """How ``row`` differs from ``first``."""
        return cls(
            end_to_end=_per_crop(row, "end_to_end_ms") / _per_crop(first, "end_to_end_ms"),
            inference=_per_crop(row, "inference_ms") / _per_crop(first, "inference_ms"),
            rank1_points=_points(first.rank1, row.rank1),
            mAP_points=_points(first.mAP, row.mAP),
        )


@dataclass(frozen=True)
class BenchReport:
    """The machine, how it was measured, and at least one row.

    ``settings`` are the arguments of `bench`; ``notices`` are the data set's, to be printed; ``sgemm_gflops`` is the
    peak of a float32 matrix product on this CPU, with the same number of threads. ``rates`` are the measured limits of
    the machine (`reid_edge.benchmarks.timing.rates`): billions of operations a second by type, and copies in GB/s.
    ``slow`` says what holds the machine below its best; ``trtexec`` are figures of TensorRT's own tool, to stand
    beside. ``complete`` is False for a run that is under way or was interrupted: it has the rows measured so far.
    """

    made_with: str
    started: str
    machine: Machine
    settings: dict[str, Any]
    notices: tuple[str, ...]
    sgemm_gflops: float | None
    rows: tuple[BenchRow, ...]
    rates: Mapping[str, float] = field(default_factory=dict)
    slow: tuple[str, ...] = ()
    trtexec: tuple[TrtexecTimes, ...] = ()
    complete: bool = True
    queries: QueryScores | None = None

    def __repr__(self) -> str:
        models = ", ".join(dict.fromkeys(row.model for row in self.rows))
        return f"<BenchReport: {models} in {len(self.rows)} rows, on {self.machine.board or self.machine.cpu}>"

    @property
    def warnings(self) -> tuple[str, ...]:
        """Reasons not to quote the figures; first what holds the machine below its best."""
        found = list(self.slow)
        if not self.complete:
            found.append("this run was interrupted: rows are missing, or have fewer turns than asked for")
        if disturbed := [row for row in self.rows if row.measured.disturbed]:
            found.append(
                f"{len(disturbed)} of {len(self.rows)} rows were disturbed, the first because "
                f"{disturbed[0].measured.disturbed[0]}: their times are too long"
            )
        if self.machine.busy:
            load, cores = self.machine.load_average, self.machine.cores
            found.append(
                f"this machine was busy before the start (load average {load:.1f} on {cores} cores): "
                "the times are too long, run it again when it is idle"
            )
        if any((self.of_peak(row) or 0) > 1 for row in self.rows):
            found.append(
                "inference was faster than the matrix product it is compared with: other work slowed the product down, "
                "run it again when the machine is idle"
            )
        return tuple(found)

    def change(self, row: BenchRow) -> Change:
        """``row`` against the first row."""
        return Change.between(self.rows[0], row)

    def of_peak(self, row: BenchRow) -> float | None:
        """The share of the machine's peak in the row's own type that inference reached; None where it has no peak."""
        peak = self.peak(row)
        return None if row.gflops is None or not peak else row.gflops / peak

    def peak(self, row: BenchRow) -> float | None:
        """The best matrix product of the row's type on what ran it, in billions of operations a second.

        On a CPU FP32, bf16 and INT8; FP16 is computed in FP32 there and has none. On a GPU the types that were timed.
        """
        provider, rates = row.measured.engine.provider, self.rates
        if any(name in provider for name in ("CUDA", "TensorRT", "Tensorrt")):
            return rates.get(f"gpu_{row.precision}")
        if row.precision == "fp32":
            known = [rate for rate in (self.sgemm_gflops, rates.get("sgemm"), rates.get("fp32")) if rate]
            return max(known, default=None)
        return rates.get(row.precision)

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON: milliseconds per batch, crops per second, bytes, fractions."""
        return {
            "version": VERSION,
            "made_with": self.made_with,
            "started": self.started,
            "machine": self.machine.to_dict(),
            "settings": self.settings,
            "notices": list(self.notices),
            "warnings": list(self.warnings),
            "sgemm_gflops": self.sgemm_gflops,
            "rates": dict(self.rates),
            "slow": list(self.slow),
            "trtexec": [_plain(asdict(each)) for each in self.trtexec],
            "complete": self.complete,
            "queries": _plain(asdict(self.queries)) if self.queries else None,
            "rows": [self._row(row) for row in self.rows],
        }

    def _row(self, row: BenchRow) -> dict[str, Any]:
        flat = asdict(row)
        measured: dict[str, Any] = flat.pop("measured")
        facts: dict[str, Any] = measured.pop("engine")
        derived = {"gflops": row.gflops, "of_peak": self.of_peak(row), "change": asdict(self.change(row))}
        plain: dict[str, Any] = _plain(flat | facts | measured | derived)
        return plain

    @classmethod
    def from_dict(cls, raw: Mapping[str, Any]) -> BenchReport:
        """The inverse of `to_dict`, of version 1 too. Raises InputError for what is no report of bench."""
        version = raw.get("version", 1) if isinstance(raw, Mapping) else None
        if version not in (1, VERSION):
            remedy = "update reid-edge" if isinstance(version, int) and version > VERSION else "give a bench.json"
            raise InputError(f"a report of version {version!r} cannot be read here: {remedy}")
        try:
            return cls(
                made_with=raw["made_with"],
                started=raw["started"],
                machine=Machine.from_dict(raw["machine"]),
                settings=dict(raw["settings"]),
                notices=tuple(raw["notices"]),
                sgemm_gflops=raw["sgemm_gflops"],
                rates=dict(raw.get("rates", {})),
                slow=tuple(raw.get("slow", ())),
                trtexec=tuple(TrtexecTimes.from_dict(each) for each in raw.get("trtexec", ())),
                complete=bool(raw.get("complete", True)),
                queries=QueryScores.from_dict(raw["queries"]) if raw.get("queries") else None,
                rows=tuple(_row_of(row) for row in raw["rows"]),
            )
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            reason = f"{type(error).__name__}: {error}"[:200]
            raise InputError(f"this is no report of  reid-edge bench --json  ({reason}): write it again") from None

    @classmethod
    def read(cls, path: Path | str) -> BenchReport:
        """The report in a file written by ``reid-edge bench --json``. Raises InputError for any other file."""
        path = require_file(path, "a report of bench")
        if path.stat().st_size > _MOST_BYTES:
            raise InputError(f"{path} has over {_MOST_BYTES >> 20} MiB: it is no report of  reid-edge bench --json")
        try:
            raw = json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError, RecursionError) as error:
            raise InputError(f"{path} is no JSON ({error}): give a file of  reid-edge bench --json") from None
        try:
            return cls.from_dict(raw)
        except InputError as error:
            raise InputError(f"{path}: {error}") from None


def _row_of(raw: Mapping[str, Any]) -> BenchRow:
    """A row from its flat JSON: its own fields, the engine's and the measurement's by their names."""

    def part(kind: type[Any]) -> dict[str, Any]:
        return {each.name: raw[each.name] for each in fields(kind) if each.name in raw}

    return BenchRow(**part(BenchRow), measured=Measurement.from_dict(part(Measurement) | {"engine": part(EngineFacts)}))


def _plain(value: Any) -> Any:
    """The same value as JSON reads it back: lists in place of tuples."""
    if isinstance(value, Mapping):
        return {name: _plain(each) for name, each in value.items()}
    return [_plain(each) for each in value] if isinstance(value, list | tuple) else value


def _per_crop(row: BenchRow, name: str) -> float:
    times: Percentiles = getattr(row.measured, name)
    return times.p50 / row.batch


def _points(first: float | None, value: float | None) -> float | None:
    return None if first is None or value is None else (value - first) * 100
