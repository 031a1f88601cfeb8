"""Which layers INT8 rounds: their names, and those left unquantised."""

from __future__ import annotations

import pytest
from helpers.small_network import Array, network

from reid_edge.errors import InputError
from reid_edge.export.int8.layers import default_keep, depthwise_layers, gate_layers, match_layers, quantized_values


def test_layers_have_the_names_of_their_modules(weights: dict[str, Array]) -> None:
    graph = network(weights)
    names = [
        "backbone.conv1",
        "backbone.block.0.gate.fc",
        "backbone.block.0.depthwise",
        "backbone.block.1.conv",
        "fc.0",
    ]
    assert list(graph.layers) == names
    assert depthwise_layers(graph) == {"backbone.block.0.depthwise"}
    assert gate_layers(graph) == {"backbone.block.0.gate.fc"}
    assert default_keep(graph) == {"backbone.block.0.depthwise", "backbone.block.0.gate.fc"}


def test_a_name_keeps_all_that_is_below_it(weights: dict[str, Array]) -> None:
    graph = network(weights)
    assert match_layers(graph, ["backbone.block.0", "fc"]) == {
        "backbone.block.0.gate.fc",
        "backbone.block.0.depthwise",
        "fc.0",
    }
    assert quantized_values(graph, ["backbone.block.0", "fc"]) == ["normal", "gated"]
    with pytest.raises(InputError, match=r"no layer 'backbone\.conv' to keep: give some of backbone\.conv1,"):
        match_layers(graph, ["backbone.conv"])
