"""What can be compared of two rows: its name in a rule, its unit, and which way is worse."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from statistics import median

from reid_edge.benchmarks.results import BenchRow

__all__ = ["MEASURES", "Measure", "cpu_ms"]


@dataclass(frozen=True)
class Measure:
    """A figure of a row, None where the row has none, in ``unit``; ``sign`` is -1 where less is worse.

    ``share`` says whether a change is one in per cent of the old value too; accuracies change by points alone.
    """

    title: str
    unit: str
    value: Callable[[BenchRow], float | None]
    sign: int = 1
    share: bool = True

    def worse_by(self, old: float, new: float, unit: str) -> float:
        """How much worse ``new`` is than ``old`` in ``unit``: "%" of the old value, or the measure's own."""
        change = self.sign * (new - old)
        return change / old * 100 if unit == "%" else change

    @property
    def units(self) -> tuple[str, ...]:
        """The units that a rule may have."""
        return ("%", self.unit) if self.share else (self.unit,)


def cpu_ms(row: BenchRow) -> float | None:
    """The median over turns of a batch's CPU time; None where a turn has none."""
    times = [turn.cpu_p50_ms for turn in row.measured.turns if turn.cpu_p50_ms is not None]
    return median(times) if times and len(times) == len(row.measured.turns) else None


def _points(value: float | None) -> float | None:
    return None if value is None else value * 100


def _megabytes(value: float | None) -> float | None:
    return None if value is None else value / 1e6


MEASURES: Mapping[str, Measure] = {
    "p50_rise": Measure("p50", "ms", lambda row: row.measured.end_to_end_ms.p50),
    "p90_rise": Measure("p90", "ms", lambda row: row.measured.end_to_end_ms.p90),
    "p99_rise": Measure("p99", "ms", lambda row: row.measured.end_to_end_ms.p99),
    "inference_rise": Measure("inference p50", "ms", lambda row: row.measured.inference_ms.p50),
    "cpu_rise": Measure("CPU time", "ms", cpu_ms),
    "load_rise": Measure("opening", "ms", lambda row: row.measured.load_ms),
    "throughput_drop": Measure("throughput", "crops/s", lambda row: row.measured.crops_per_s, sign=-1),
    "memory_rise": Measure("peak memory", "MB", lambda row: _megabytes(row.measured.peak_memory_bytes)),
    "size_rise": Measure("file", "MB", lambda row: _megabytes(row.file_bytes)),
    "energy_rise": Measure(
        "energy", "mJ", lambda row: row.measured.energy.mj_per_crop if row.measured.energy else None
    ),
    "map_drop": Measure("mAP", "points", lambda row: _points(row.mAP), sign=-1, share=False),
    "rank1_drop": Measure("R1", "points", lambda row: _points(row.rank1), sign=-1, share=False),
}
"""By the name in a rule. Times are milliseconds a batch, from files to embeddings.

CPU time is that of all threads, which waiting for a CPU does not enter: on a machine that is shared it finds what the
clock cannot tell. It does not see a GPU, nor threads that wait for each other, as both are no CPU time."""
