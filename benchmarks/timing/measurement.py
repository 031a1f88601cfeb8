"""What is measured of one model at one batch size: times, energy, clocks and what disturbed them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from reid_edge.engines.facts import EngineFacts

from .percentiles import Percentiles

__all__ = ["Clocks", "Energy", "Measurement", "Streamed", "Turn", "WarmUp"]


@dataclass(frozen=True)
class WarmUp:
    """How a row was warmed up: batches run and seconds taken, and whether it ended because times were steady."""

    batches: int
    seconds: float
    steady: bool


@dataclass(frozen=True)
class Turn:
    """One of the times that a row was measured: each in a process of its own, the rows one after the other.

    ``started`` is UTC, ISO 8601. ``p50_ms`` is a batch's median from files to embeddings. ``disturbed`` are the
    reasons to mistrust it, empty for none. ``cpu_p50_ms`` is the median of a batch's CPU time, on all threads.
    """

    started: str
    samples: int
    p50_ms: float
    load_ms: float
    first_run_ms: float
    disturbed: tuple[str, ...] = ()
    cpu_p50_ms: float | None = None


@dataclass(frozen=True)
class Streamed:
    """The same crops through `reid_edge.Embedder.stream`, where reading, preparing and running overlap.

    ``latency_ms`` is a crop's, from when it was read to its embedding; ``max_batch`` the largest batch.
    """

    crops_per_s: float
    latency_ms: Percentiles
    max_batch: int


@dataclass(frozen=True)
class Energy:
    """What a row took: ``joules`` in ``seconds`` by ``source`` (e.g. "nvml", "VDD_IN", "rapl"), and mJ a crop.

    Only figures of the same source compare. ``idle_watts`` is what the source drew before the row, None where unknown;
    it is not subtracted.
    """

    mj_per_crop: float
    source: str
    joules: float
    seconds: float
    idle_watts: float | None = None

    @property
    def watts(self) -> float:
        """The mean power."""
        return self.joules / self.seconds


@dataclass(frozen=True)
class Clocks:
    """Clocks at the end of a row, under load: MHz, the hottest sensor, and why they are lowered; None where unknown."""

    cpu_mhz: float | None = None
    gpu_mhz: float | None = None
    memory_mhz: float | None = None
    celsius: float | None = None
    throttled: tuple[str, ...] = ()
    power_mode: str = ""


@dataclass(frozen=True)
class Measurement:
    """What was measured of one model at one batch size.

    Times are per batch; crops per second are all crops over all time, so a slow outlier counts. ``load_ms`` opens the
    engine, ``first_run_ms`` is its first batch, before any warm-up. ``peak_memory_bytes`` is the resident peak of the
    whole process: interpreter, libraries, model and batch. ``engine`` is what computed.

    ``stages`` are the percentiles of each stage that ran by itself, in order: of "decode", "resize", "host_to_device",
    "compute", "device_to_host", "rank". ``latencies_ms`` are end-to-end times of at most 500 batches, sorted, evenly
    spread over their ranks, for histograms. ``disturbed`` are the reasons to mistrust the row after ``attempts`` tries;
    empty for none. ``turns`` are its parts. With ``streams`` above 1, that many threads ran batches side by side.
    """

    samples: int
    preprocess_ms: Percentiles
    inference_ms: Percentiles
    end_to_end_ms: Percentiles
    crops_per_s: float
    inference_crops_per_s: float
    load_ms: float
    first_run_ms: float
    peak_memory_bytes: int | None
    engine: EngineFacts
    stages: Mapping[str, Percentiles] = field(default_factory=dict)
    latencies_ms: tuple[float, ...] = ()
    streams: int = 1
    warm_up: WarmUp | None = None
    streamed: Streamed | None = None
    energy: Energy | None = None
    clocks: Clocks | None = None
    disturbed: tuple[str, ...] = ()
    attempts: int = 1
    turns: tuple[Turn, ...] = ()

    @classmethod
    def from_dict(cls, raw: Mapping[str, Any]) -> Measurement:
        """The inverse of `dataclasses.asdict`, also of what was through JSON; version 1 has the first ten fields."""
        times = {name: Percentiles.from_dict(raw[name]) for name in ("preprocess_ms", "inference_ms", "end_to_end_ms")}
        rest: dict[str, Any] = {
            "engine": EngineFacts(**raw["engine"]),
            "stages": {name: Percentiles.from_dict(each) for name, each in raw.get("stages", {}).items()},
            "latencies_ms": tuple(raw.get("latencies_ms", ())),
            "warm_up": _made(WarmUp, raw.get("warm_up")),
            "streamed": _streamed(raw.get("streamed")),
            "energy": _made(Energy, raw.get("energy")),
            "clocks": _made(Clocks, raw.get("clocks")),
            "disturbed": tuple(raw.get("disturbed", ())),
            "turns": tuple(_made(Turn, each) for each in raw.get("turns", ())),
        }
        return cls(**{**raw, **times, **rest})


def _made(kind: Any, raw: Mapping[str, Any] | None) -> Any:
    """A record from JSON, whose lists are tuples."""
    if raw is None:
        return None
    return kind(**{name: tuple(value) if isinstance(value, list) else value for name, value in raw.items()})


def _streamed(raw: Mapping[str, Any] | None) -> Streamed | None:
    return None if raw is None else Streamed(**{**raw, "latency_ms": Percentiles.from_dict(raw["latency_ms"])})
