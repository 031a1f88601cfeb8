"""The CPU's INT8 graph, and what it gains."""

from __future__ import annotations

import logging

import numpy as np
import pytest
from helpers.small_network import Array, images_of, network, run

from reid_edge.errors import GateError, InputError
from reid_edge.export.int8.cpu import CpuTimes, quantized_for_cpu, require_faster, time_on_cpu
from reid_edge.export.int8.layers import quantized_values
from reid_edge.export.parity.compare import compare


def test_the_cpus_graph_rounds_outputs_and_biases_too(weights: dict[str, Array]) -> None:
    graph, images = network(weights), images_of(8)
    for_cpu = quantized_for_cpu(graph, images)
    zeros = {array.dtype for name, array in for_cpu.constants.items() if name.endswith("_zero_point")}
    assert np.dtype(np.uint8) in zeros
    assert any(array.dtype == np.int32 for array in for_cpu.constants.values()), "no bias was rounded"
    inputs = {node.input[0] for node in for_cpu.nodes if node.op_type == "QuantizeLinear"}
    assert inputs > set(quantized_values(graph))
    assert not inputs & {"images", "float", "nchw", "norm", "embeddings"}
    assert compare(run(graph, images), run(for_cpu, images)).cosine_min > 0.99


def test_the_cpus_graph_keeps_layers_too(weights: dict[str, Array]) -> None:
    graph = network(weights)
    for_cpu = quantized_for_cpu(graph, images_of(8), keep=["backbone.conv1"])
    held = for_cpu.constants
    assert held["model.backbone.conv1.weight"].dtype == np.float32
    assert held["model.fc.0.weight_quantized"].dtype == np.int8
    with pytest.raises(InputError, match="no crops were given"):
        quantized_for_cpu(graph, images_of(0))


def test_the_root_logger_stays_as_it_was(weights: dict[str, Array], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(logging.root, "handlers", [])
    quantized_for_cpu(network(weights), images_of(2))
    assert not logging.root.handlers


def test_a_cpu_file_that_is_slower_is_refused(weights: dict[str, Array]) -> None:
    slower = CpuTimes(fp32_ms=10, int8_ms=12.5, batch=1, threads=1)
    assert slower.speedup == 0.8
    with pytest.raises(GateError, match=r"INT8 is not faster on this CPU \(INT8 12\.5 ms, FP32 10\.0 ms.*0\.80 x\)"):
        require_faster(slower)
    require_faster(CpuTimes(fp32_ms=30, int8_ms=10, batch=1, threads=1))
    measured = time_on_cpu(network(weights), network(weights), images_of(2), runs=3, threads=1)
    assert measured.fp32_ms > 0 and measured.int8_ms > 0 and measured.batch == 2
