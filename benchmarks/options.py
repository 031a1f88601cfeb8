"""How the benchmark measures: batch sizes, how often and how long, and on how many threads."""

from __future__ import annotations

from dataclasses import dataclass
from math import inf

from reid_edge.errors import InputError

__all__ = ["BenchOptions"]


@dataclass(frozen=True, kw_only=True)
class BenchOptions:
    """Batch sizes, and for each at least ``repeats`` batches and ``min_seconds`` seconds.

    ``threads`` bounds the CPU threads of inference (None: all usable cores); crops are always read by one thread.
    ``backends`` are what runs each model, as `reid_edge.open_engine` takes them, a row each; empty for the one that its
    suffix names.

    >>> BenchOptions(batches=(1, 8), min_seconds=0.5)
    BenchOptions(batches=(1, 8), repeats=20, min_seconds=0.5, threads=None, backends=())
    """

    batches: tuple[int, ...] = (1, 8, 32)
    repeats: int = 20
    min_seconds: float = 2.0
    threads: int | None = None
    backends: tuple[str, ...] = ()

    def check(self) -> None:
        """Raise InputError for options that measure nothing, or never end."""
        if not self.batches or min(self.batches) < 1:
            raise InputError(f"batch sizes {list(self.batches)} cannot be measured: give whole numbers from 1")
        if self.repeats < 1:
            raise InputError(f"{self.repeats} repeats measure nothing: give repeats= of at least 1")
        if not 0 <= self.min_seconds < inf:
            seconds = f"{self.min_seconds:g} s cannot be measured for"
            raise InputError(f"{seconds}: give --seconds (min_seconds=) a finite number from 0 up, such as 2")
