"""The measurement of streams itself, short and with a small model: what it counts adds up."""

from __future__ import annotations

from pathlib import Path

import pytest
from helpers.tiny_onnx import write_tiny_model

from reid_edge.data.synthetic.dataset import synthesize
from reid_edge.engines.registry import open_engine

from .stream_trial import latency, memory, soak, throughput


def test_what_is_measured_adds_up(tmp_path: Path) -> None:
    people = synthesize(tmp_path / "people", identities=1, test_identities=2, cameras=2, size_hw=(64, 32))
    files = sorted(people.rglob("*.jpg"))
    with open_engine(write_tiny_model(tmp_path / "tiny.onnx", input_hw=(32, 16)), threads=1) as engine:
        found = throughput(engine, files, rounds=1, seconds=0.05)
        (rates,) = found["rounds"]
        slowest = min(rates["prepare"][0], rates["engine"][0])
        assert found["share"]["value"] == pytest.approx(100 * rates["stream"][0] / slowest)
        late = latency(engine, rounds=2, seconds=0.1)
        assert sum(int(size) * count for size, count in late["batches"].items()) == late["crops"] > 0
        assert late["p50_ms"]["low"] <= late["p50_ms"]["value"] <= late["p99_ms"]["high"]
        long = soak(engine, seconds=0.3, rate=400.0, out=tmp_path / "soak.json")
        assert (long["errors"], long["threads_left"]) == (0, 0) and long["crops"] > long["frames"] == 29
    assert len(memory(crops=500)["resident_mib"]) == 10
