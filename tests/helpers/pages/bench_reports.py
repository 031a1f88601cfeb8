"""Reports of `bench` without measuring: rows of the figures given, on this machine."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from reid_edge.benchmarks.machine import describe_machine
from reid_edge.benchmarks.results import BenchReport, BenchRow
from reid_edge.benchmarks.timing.measurement import Energy, Measurement
from reid_edge.benchmarks.timing.percentiles import Percentiles
from reid_edge.engines.facts import EngineFacts

__all__ = ["bench_report", "bench_row"]


def bench_row(model: str, p50: float, *, precision: str = "fp32", batch: int = 1, **fields: Any) -> BenchRow:
    """A row whose batches took around ``p50`` ms; ``fields`` are a row's, and ``energy`` in mJ a crop."""
    times = tuple(p50 * share for share in (0.9, 0.95, 1.0, 1.05, 1.5))
    taken, energy = Percentiles.of(times), fields.pop("energy", None)
    measured = Measurement(
        samples=len(times),
        preprocess_ms=taken,
        inference_ms=taken,
        end_to_end_ms=taken,
        crops_per_s=1000 * batch / p50,
        inference_crops_per_s=1000 * batch / p50,
        load_ms=1.0,
        first_run_ms=2.0,
        peak_memory_bytes=None,
        engine=EngineFacts("onnxruntime", "CPUExecutionProvider", {"onnxruntime": "1"}, 1, "ab" * 32),
        stages={"decode": taken, "compute": taken},
        latencies_ms=times,
        energy=None if energy is None else Energy(energy, "nvml", energy * 100 / 1e3, 2.0),
        disturbed=fields.pop("disturbed", ()),
    )
    own: dict[str, Any] = {"path": f"{model}.onnx", "file_bytes": 1_000_000, "architecture": "tiny", **fields}
    return BenchRow(model, precision=precision, embedding_dim=24, macs=10, batch=batch, measured=measured, **own)


def bench_report(rows: Sequence[BenchRow], data: str = "drawn") -> BenchReport:
    """A report of these rows."""
    settings = {"files": 4, "data": data, "part": "test", "distance": "cosine"}
    return BenchReport("reid-edge 0", "2026-01-01T00:00:00", describe_machine(), settings, (), None, tuple(rows))
