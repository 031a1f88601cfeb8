"""The report of `bench` as data: rows, how each differs from the first, and the JSON."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from .latency import Measurement, Percentiles
from .machine import Machine

__all__ = ["BenchReport", "BenchRow", "Change"]


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
    peak of a float32 matrix product on this CPU, with the same number of threads.
    """

    made_with: str
    started: str
    machine: Machine
    settings: dict[str, Any]
    notices: tuple[str, ...]
    sgemm_gflops: float | None
    rows: tuple[BenchRow, ...]

    def __repr__(self) -> str:
        models = ", ".join(dict.fromkeys(row.model for row in self.rows))
        return f"<BenchReport: {models} in {len(self.rows)} rows, on {self.machine.board or self.machine.cpu}>"

    @property
    def warnings(self) -> tuple[str, ...]:
        """Reasons not to quote the figures."""
        found = []
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
        """The share of the peak that inference reached; None unless it was float32 on the CPU, as the peak is."""
        comparable = row.precision == "fp32" and row.measured.engine.provider == "CPUExecutionProvider"
        if not comparable or row.gflops is None or not self.sgemm_gflops:
            return None
        return row.gflops / self.sgemm_gflops

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON: milliseconds per batch, crops per second, bytes, fractions."""
        return {
            "made_with": self.made_with,
            "started": self.started,
            "machine": self.machine.to_dict(),
            "settings": self.settings,
            "notices": list(self.notices),
            "warnings": list(self.warnings),
            "sgemm_gflops": self.sgemm_gflops,
            "rows": [self._row(row) for row in self.rows],
        }

    def _row(self, row: BenchRow) -> dict[str, Any]:
        flat = asdict(row)
        measured: dict[str, Any] = flat.pop("measured")
        facts: dict[str, Any] = measured.pop("engine")
        derived = {"gflops": row.gflops, "of_peak": self.of_peak(row), "change": asdict(self.change(row))}
        return flat | facts | measured | derived


def _per_crop(row: BenchRow, name: str) -> float:
    times: Percentiles = getattr(row.measured, name)
    return times.p50 / row.batch


def _points(first: float | None, value: float | None) -> float | None:
    return None if first is None or value is None else (value - first) * 100
