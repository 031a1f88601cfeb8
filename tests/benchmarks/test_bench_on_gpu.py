"""What bench reads of a real GPU: its stages by CUDA events, its energy and clocks, and its limits."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from helpers.small_network import CARD, network, random_weights

from reid_edge.benchmarks.latency import measure_turn
from reid_edge.benchmarks.power.nvml import NvmlGpu
from reid_edge.benchmarks.timing.rates import measure_rates
from reid_edge.benchmarks.timing.turns import merged
from reid_edge.data.synthetic.dataset import synthesize
from reid_edge.engines.cuda import find_gpu
from reid_edge.errors import MissingExtraError
from reid_edge.export.engines.build import engine_from_onnx
from reid_edge.export.graph.io import write_onnx

pytestmark = pytest.mark.gpu


@pytest.fixture(autouse=True)
def _needs_a_gpu() -> None:
    if not find_gpu():
        pytest.skip("needs an NVIDIA GPU, its driver and cuda-bindings or pycuda")


@pytest.fixture
def card() -> Iterator[NvmlGpu]:
    opened = NvmlGpu.open()
    if opened is None:
        pytest.skip("needs nvidia-ml-py and a GPU with an energy counter")
    yield opened
    opened.close()


def test_an_engine_has_its_copies_and_kernels_as_stages_and_energy_a_crop(tmp_path: Path) -> None:
    write_onnx(network(random_weights()), CARD, tmp_path / "small.onnx")
    try:
        built = engine_from_onnx(tmp_path / "small.onnx", tmp_path)
    except MissingExtraError as error:
        pytest.skip(str(error))
    people = synthesize(tmp_path / "drawn", identities=2, test_identities=3, cameras=2)
    crops = sorted((people / "query").glob("*.jpg"))
    row = merged([measure_turn(built.path, crops, 4, repeats=20, min_seconds=1.0, streams=1, gallery=100)])
    assert list(row.stages) == ["decode", "resize", "host_to_device", "compute", "device_to_host", "rank"]
    on_gpu = sum(row.stages[name].p50 for name in ("host_to_device", "compute", "device_to_host"))
    assert 0 < on_gpu <= 1.05 * row.inference_ms.p50
    if row.energy is not None:
        assert row.energy.mj_per_crop > 0 and row.energy.watts < 2000


def test_the_counter_of_energy_rises_and_clocks_are_known(card: NvmlGpu) -> None:
    """An idle card draws watts too; its counter moves within 0.1 s."""
    before = card.joules()
    time.sleep(0.5)
    assert 0 < card.joules() - before < 1000
    graphics, memory = card.clocks_mhz()
    assert graphics and memory and card.celsius()


def test_copies_to_a_discrete_gpu_have_rates() -> None:
    gpu = find_gpu()
    assert gpu is not None
    rates = measure_rates(seconds=0.1)
    assert gpu.board or (rates["gpu_h2d"] > 0.5 and rates["gpu_d2h"] > 0.5)
