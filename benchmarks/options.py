"""How the benchmark measures: batch sizes, how often and how long, in how many turns, and on how many threads."""

from __future__ import annotations

from dataclasses import dataclass
from math import inf

from reid_edge.errors import InputError

__all__ = ["BenchOptions"]

_MOST_STREAMS = 64


@dataclass(frozen=True, kw_only=True)
class BenchOptions:
    """Batch sizes, and for each at least ``repeats`` batches and ``min_seconds`` seconds.

    These are spread over ``turns``: every row is measured once, then every row again, each time in a new process, so
    that whatever drifts meets all rows. A turn that other processes disturb is measured again up to ``retries`` times.
    ``streams`` are how many threads run batches side by side, a row each. ``gallery`` is how many rows the search after
    embedding has (0: no search), ``stream`` whether the crops go through `reid_edge.Embedder.stream` too.

    ``threads`` bounds the CPU threads of inference (None: all usable cores); in the serial rows crops are read by one
    thread. ``backends`` are what runs each model, as `reid_edge.open_engine` takes them, a row each; empty for the one
    that its suffix names.

    >>> BenchOptions(batches=(1, 8), min_seconds=0.5).turns
    2
    """

    batches: tuple[int, ...] = (1, 8, 32)
    repeats: int = 20
    min_seconds: float = 2.0
    threads: int | None = None
    backends: tuple[str, ...] = ()
    turns: int = 2
    retries: int = 1
    streams: tuple[int, ...] = (1,)
    gallery: int = 10_000
    stream: bool = True

    def check(self) -> None:
        """Raise InputError for options that measure nothing, or never end."""
        if not self.batches or min(self.batches) < 1:
            raise InputError(f"batch sizes {list(self.batches)} cannot be measured: give whole numbers from 1")
        if self.repeats < 1:
            raise InputError(f"{self.repeats} repeats measure nothing: give repeats= of at least 1")
        if not 0 <= self.min_seconds < inf:
            seconds = f"{self.min_seconds:g} s cannot be measured for"
            raise InputError(f"{seconds}: give --seconds (min_seconds=) a finite number from 0 up, such as 2")
        if self.turns < 1 or self.retries < 0 or self.gallery < 0:
            raise InputError(
                "turns below 1, and retries or a gallery below 0, measure nothing: give turns=2, retries=1"
            )
        if not self.streams or not all(1 <= each <= _MOST_STREAMS for each in self.streams):
            raise InputError(
                f"streams {list(self.streams)} are not from 1 to {_MOST_STREAMS}: give --streams 4 (streams=)"
            )

    def turn_sizes(self) -> list[tuple[int, float]]:
        """Batches and seconds of each turn, which add up; no more turns than batches.

        >>> BenchOptions(repeats=5, min_seconds=2).turn_sizes()
        [(3, 1.0), (2, 1.0)]
        """
        turns = min(self.turns, self.repeats)
        counts = [self.repeats // turns + (turn < self.repeats % turns) for turn in range(turns)]
        return [(count, self.min_seconds / turns) for count in counts]
