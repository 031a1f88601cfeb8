"""What TensorRT's own ``trtexec`` measured, beside our rows: its --exportTimes and --exportProfile files.

``trtexec --exportTimes=FILE`` writes a list with an object for each inference: when it was enqueued, copied to the GPU
(H2D), computed and copied back (D2H), and the differences ``h2dMs``, ``computeMs``, ``d2hMs``, ``latencyMs`` (their
sum) (NVIDIA/TensorRT, samples/common/sampleReporting.cpp, ``exportJSONTrace``; older releases wrote ``inMs`` and
``outMs``, samples/trtexec/tracer.py). ``--exportProfile=FILE`` writes ``{"count": N}`` and an object for each layer
with ``timeMs``, ``averageMs`` and ``percentage`` (``Profiler::exportJSONProfile``).
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from reid_edge.core.files import require_file
from reid_edge.errors import InputError

from .percentiles import Percentiles

__all__ = ["TrtexecTimes", "read_trtexec"]

_MOST_BYTES = 256 << 20
_NAMES = {
    "h2d_ms": ("h2dMs", "inMs"),
    "compute_ms": ("computeMs",),
    "d2h_ms": ("d2hMs", "outMs"),
    "latency_ms": ("latencyMs",),
}


@dataclass(frozen=True)
class TrtexecTimes:
    """One file of trtexec.

    ``times`` are percentiles by trtexec's word: "h2d_ms" (host to device), "compute_ms" (GPU Compute Time), "d2h_ms",
    "latency_ms" (H2D, compute and D2H of one inference, without waiting for its turn). ``per_second`` is trtexec's
    throughput: inferences from the first start to the last end, that is batches and not crops. Of a profile ``times``
    holds nothing; ``layers`` are the slowest layers, (name, mean ms, share of 1), and ``total_ms`` the sum of all
    means.
    """

    file: str
    samples: int
    times: Mapping[str, Percentiles] = field(default_factory=dict)
    per_second: float | None = None
    layers: tuple[tuple[str, float, float], ...] = ()
    total_ms: float | None = None

    @classmethod
    def from_dict(cls, raw: Mapping[str, Any]) -> TrtexecTimes:
        """The inverse of `dataclasses.asdict`, through JSON too."""
        times = {name: Percentiles.from_dict(each) for name, each in raw["times"].items()}
        layers = tuple((name, ms, share) for name, ms, share in raw["layers"])
        return cls(**{**raw, "times": times, "layers": layers})

    def lines(self) -> list[str]:
        """For people, beside the table of bench."""
        name = Path(self.file).name
        if not self.times:
            slowest = "; ".join(f"{layer[:48]} {ms:.3f} ms ({share:.0%})" for layer, ms, share in self.layers[:3])
            return [f"trtexec {name}: layers take {self.total_ms:.3f} ms a batch; slowest: {slowest}"]
        words = {"h2d_ms": "H2D", "compute_ms": "GPU compute", "d2h_ms": "D2H", "latency_ms": "latency"}
        parts = [f"{words[key]} p50 {each.p50:.3f} p99 {each.p99:.3f}" for key, each in self.times.items()]
        rate = "" if self.per_second is None else f", {self.per_second:.1f} batches/s"
        return [f"trtexec {name}: {self.samples} batches, ms: {', '.join(parts)}{rate}"]


def read_trtexec(path: Path | str) -> TrtexecTimes:
    """Read a file of ``trtexec --exportTimes`` or ``--exportProfile``. Raises InputError for any other file."""
    path = require_file(path, "a file of trtexec")
    try:
        if path.stat().st_size > _MOST_BYTES:
            raise ValueError(f"over {_MOST_BYTES >> 20} MiB")
        rows = json.loads(path.read_text(encoding="utf-8"))
        if not isinstance(rows, list) or not rows or not all(isinstance(row, dict) for row in rows):
            raise ValueError("no list of objects")
        return _profile(path, rows) if "count" in rows[0] or "averageMs" in rows[0] else _times(path, rows)
    except (OSError, ValueError, TypeError, KeyError, RecursionError) as error:
        remedy = "give what  trtexec --exportTimes=FILE  or  --exportProfile=FILE  wrote"
        raise InputError(f"{path} is not of trtexec ({type(error).__name__}: {str(error)[:100]}): {remedy}") from None


def _times(path: Path, rows: list[dict[str, Any]]) -> TrtexecTimes:
    columns = {name: next((key for key in keys if key in rows[0]), None) for name, keys in _NAMES.items()}
    if columns["compute_ms"] is None:
        raise ValueError("no computeMs")
    times = {name: Percentiles.of(_column(rows, key)) for name, key in columns.items() if key}
    start = next((key for key in ("startH2dMs", "startInMs", "startComputeMs") if key in rows[0]), None)
    end = next((key for key in ("endD2hMs", "endOutMs", "endComputeMs") if key in rows[0]), None)
    seconds = (max(_column(rows, end)) - min(_column(rows, start))) / 1e3 if start and end else 0.0
    return TrtexecTimes(str(path), len(rows), times, len(rows) / seconds if seconds > 0 else None)


def _profile(path: Path, rows: list[dict[str, Any]]) -> TrtexecTimes:
    layers = [(str(row["name"]), _number(row["averageMs"])) for row in rows if "averageMs" in row]
    total = sum(ms for _, ms in layers)
    count = int(rows[0].get("count", 1))
    slowest = sorted(layers, key=lambda layer: -layer[1])[:10]
    shares = tuple((name, ms, ms / total if total else 0.0) for name, ms in slowest)
    return TrtexecTimes(str(path), count, layers=shares, total_ms=total)


def _column(rows: list[dict[str, Any]], key: str) -> Any:
    return np.array([_number(row[key]) for row in rows])


def _number(value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise ValueError(f"{str(value)[:40]!r} is no time")
    return float(value)
