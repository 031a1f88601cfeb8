"""The turns of a row, each measured in a process of its own, and the row that they make together."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from reid_edge.engines.facts import EngineFacts

from .measurement import Clocks, Energy, Measurement, Streamed, Turn, WarmUp
from .percentiles import Percentiles, thinned

__all__ = ["STAGES", "RawTurn", "merged"]

STAGES = ("decode", "resize", "host_to_device", "compute", "device_to_host", "rank")
"""In the order in which a crop passes them."""


@dataclass(frozen=True)
class RawTurn:
    """Every time of one turn, in ms: ``preprocess``, ``inference`` and each of the ``stages`` have one a batch.

    ``wall_s`` is the wall clock of all batches, on all streams. ``streamed_ms`` are crops' latencies through a stream,
    which gave ``streamed_crops_per_s``; empty where none was measured. ``severity`` is how much of the CPUs others had.
    ``cpu`` is each batch's CPU time on all threads, empty on several streams.
    """

    started: str
    batch: int
    preprocess: Sequence[float]
    inference: Sequence[float]
    wall_s: float
    load_ms: float
    first_run_ms: float
    peak_memory_bytes: int | None
    engine: Mapping[str, Any]
    warm_up: Mapping[str, Any]
    stages: Mapping[str, Sequence[float]] = field(default_factory=dict)
    streams: int = 1
    streamed_ms: Sequence[float] = ()
    streamed_crops_per_s: float | None = None
    joules: float | None = None
    energy_source: str = ""
    idle_watts: float | None = None
    clocks: Mapping[str, Any] | None = None
    disturbed: Sequence[str] = ()
    severity: float = 0.0
    attempts: int = 1
    cpu: Sequence[float] = ()

    @classmethod
    def from_dict(cls, raw: Mapping[str, Any]) -> RawTurn:
        """The inverse of `dataclasses.asdict`, through JSON. Raises ValueError or TypeError for anything else.

        What it returns can be merged, printed and written: every figure is a finite number, every name a text.
        """
        turn = cls(**raw)
        _require_figures(
            (*turn.preprocess, *turn.cpu, *turn.streamed_ms, *(time for each in turn.stages.values() for time in each))
        )
        _require_figures((*turn.inference, turn.batch, turn.streams, turn.attempts, turn.wall_s), positive=True)
        _require_figures((turn.load_ms, turn.first_run_ms, turn.severity, *list(turn.warm_up.values())))
        row = merged([turn])
        clocks = row.clocks or Clocks()
        known = (turn.peak_memory_bytes, turn.streamed_crops_per_s, clocks.cpu_mhz, clocks.gpu_mhz, clocks.memory_mhz)
        signed = (turn.joules, turn.idle_watts, clocks.celsius)
        _require_figures(each for each in known if each is not None)
        _require_figures(abs(each) for each in signed if each is not None)
        words = (
            turn.started,
            turn.energy_source,
            *turn.disturbed,
            *clocks.throttled,
            row.engine.provider,
            str(row.engine),
        )
        if not all(isinstance(each, str) for each in words):
            raise TypeError("a name is no text")
        return turn

    @property
    def end_to_end(self) -> list[float]:
        """From files to embeddings, a time a batch."""
        return [before + after for before, after in zip(self.preprocess, self.inference, strict=True)]

    def summary(self) -> Turn:
        """What is kept of it in a report."""
        p50 = float(np.median(self.end_to_end))
        cpu = float(np.median(self.cpu)) if self.cpu else None
        facts = (self.started, len(self.inference), p50, self.load_ms, self.first_run_ms)
        return Turn(*facts, tuple(self.disturbed), cpu)


def merged(turns: Sequence[RawTurn]) -> Measurement:
    """The row of at least one turn: percentiles of all times together, the first turn's first run, the highest peak.

    Crops per second are all crops over all time; on several streams over the wall clock.
    """
    first = turns[0]
    preprocess, inference, end_to_end = (
        np.concatenate([np.asarray(getattr(turn, name), float) for turn in turns])
        for name in ("preprocess", "inference", "end_to_end")
    )
    crops = first.batch * len(inference)
    wall_ms = 1e3 * sum(turn.wall_s for turn in turns)
    alone = first.streams == 1
    return Measurement(
        samples=len(inference),
        preprocess_ms=Percentiles.of(preprocess),
        inference_ms=Percentiles.of(inference),
        end_to_end_ms=Percentiles.of(end_to_end),
        crops_per_s=crops / (end_to_end.sum() if alone else wall_ms) * 1e3,
        inference_crops_per_s=crops * first.streams / inference.sum() * 1e3,
        load_ms=first.load_ms,
        first_run_ms=first.first_run_ms,
        peak_memory_bytes=max((turn.peak_memory_bytes or 0 for turn in turns), default=0) or None,
        engine=EngineFacts(**first.engine),
        stages=_stages(turns),
        latencies_ms=thinned(end_to_end),
        streams=first.streams,
        warm_up=_warm_up(turns),
        streamed=_streamed(turns),
        energy=_energy(turns),
        clocks=_clocks(turns[-1].clocks),
        disturbed=tuple(dict.fromkeys(reason for turn in turns for reason in turn.disturbed)),
        attempts=max(turn.attempts for turn in turns),
        turns=tuple(turn.summary() for turn in turns),
    )


def _stages(turns: Sequence[RawTurn]) -> dict[str, Percentiles]:
    names = [name for name in STAGES if all(turn.stages.get(name) for turn in turns)]
    return {name: Percentiles.of([time for turn in turns for time in turn.stages[name]]) for name in names}


def _warm_up(turns: Sequence[RawTurn]) -> WarmUp:
    """Of all turns together; steady if every one was."""
    all_of = [WarmUp(**turn.warm_up) for turn in turns]
    return WarmUp(
        sum(each.batches for each in all_of), sum(each.seconds for each in all_of), all(each.steady for each in all_of)
    )


def _streamed(turns: Sequence[RawTurn]) -> Streamed | None:
    times = [time for turn in turns for time in turn.streamed_ms]
    rates = [turn.streamed_crops_per_s for turn in turns if turn.streamed_crops_per_s]
    if not times or not rates:
        return None
    seconds = sum(len(turn.streamed_ms) / turn.streamed_crops_per_s for turn in turns if turn.streamed_crops_per_s)
    return Streamed(len(times) / seconds, Percentiles.of(times), turns[0].batch)


def _energy(turns: Sequence[RawTurn]) -> Energy | None:
    """Joules of all turns over all their crops; None unless every turn has them from the same source."""
    if any(turn.joules is None or turn.energy_source != turns[0].energy_source for turn in turns):
        return None
    joules = sum(turn.joules or 0.0 for turn in turns)
    crops = sum(turn.batch * len(turn.inference) for turn in turns)
    seconds = sum(turn.wall_s for turn in turns)
    return Energy(1e3 * joules / crops, turns[0].energy_source, joules, seconds, turns[0].idle_watts)


def _clocks(raw: Mapping[str, Any] | None) -> Clocks | None:
    return None if raw is None else Clocks(**{**raw, "throttled": tuple(raw["throttled"])})


def _require_figures(values: Iterable[Any], positive: bool = False) -> None:
    for value in values:
        if not isinstance(value, int | float) or not math.isfinite(value) or value < 0 or (positive and not value):
            raise ValueError(f"{str(value)[:40]!r} is no figure of a turn")
