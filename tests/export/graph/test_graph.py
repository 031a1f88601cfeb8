"""What a Graph looks up against a naive search, its copies, and the file that is written of it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from helpers.small_network import CARD, Array, network, random_weights
from onnx import TensorProto, helper, numpy_helper, shape_inference

from reid_edge.export.graph.fold import fold_batch_norms
from reid_edge.export.graph.fp16 import fp16_from_fp32, overflowing_layer, simulated_fp16, stores_fp16
from reid_edge.export.graph.graph import Graph, attribute, finish, set_nodes
from reid_edge.export.graph.input_format import in_input_format
from reid_edge.export.graph.io import read_graph, write_onnx
from reid_edge.export.int8.layers import quantized_values
from reid_edge.export.int8.qdq import quantized


@pytest.fixture
def weights() -> dict[str, Array]:
    return random_weights()


def test_values_have_the_readers_and_the_producer_that_a_search_finds(weights: dict[str, Array]) -> None:
    graph = network(weights)
    names = {name for node in graph.model.graph.node for name in (*node.input, *node.output)}
    for name in names:
        readers = [node.name for node in graph.model.graph.node for read in node.input if read == name]
        assert [node.name for node in graph.consumers.get(name, [])] == readers
        makers = [node.name for node in graph.model.graph.node if name in node.output]
        assert [graph.producers[name].name] == makers if makers else name not in graph.producers
    assert [node.name for node in graph.consumers["relu1"]] == ["m1", "c3"]
    assert graph.outputs == ["embeddings"]


def test_constants_shapes_and_types(weights: dict[str, Array]) -> None:
    graph = network(weights)
    np.testing.assert_array_equal(graph.constants["model.fc.0.bias"], weights["model.fc.0.bias"].astype(np.float32))
    assert graph.shapes["images"] == (None, 16, 16, 3)
    assert graph.shapes["squeezed"] == (None, 4, 1, 1)
    assert graph.shapes["embeddings"] == (None, 8)
    inferred = shape_inference.infer_shapes(graph.model).graph.value_info
    assert {value.name: value.type.tensor_type.elem_type for value in inferred}.items() <= graph.types.items()
    assert (graph.types["images"], graph.types["map1"]) == (TensorProto.UINT8, TensorProto.FLOAT)


def test_a_graph_knows_its_input_format(weights: dict[str, Array]) -> None:
    graph = network(weights)
    planar, card = in_input_format(graph, CARD, "nchw-float")
    assert graph.input_format == CARD.input_format == "nhwc-uint8"
    assert planar.input_format == card.input_format == "nchw-float"


def test_a_graph_knows_its_precision(weights: dict[str, Array]) -> None:
    fp32 = network(weights)
    int8 = quantized(fp32, dict.fromkeys(quantized_values(fp32), 3.0))
    one_layer = quantized(fp32, dict.fromkeys(quantized_values(fp32), 3.0), keep=list(fp32.layers)[1:])
    fp16 = fp16_from_fp32(fp32)
    graphs = [fp32, fp16, simulated_fp16(fp16), int8, one_layer, fp16_from_fp32(one_layer)]
    assert [graph.precision for graph in graphs] == ["fp32", "fp16", "fp16", "int8", "int8", "int8"]


def test_attributes_have_the_operators_default(weights: dict[str, Array]) -> None:
    nodes = network(weights).producers
    assert [attribute(nodes[name], "group", 1) for name in ("map1", "map2")] == [1, 4]


def test_a_copy_is_tidy_and_apart(weights: dict[str, Array]) -> None:
    graph = network(weights)
    graph.model.doc_string = "made at home"
    graph.model.graph.initializer.append(numpy_helper.from_array(np.zeros(3, np.float32), "unread"))
    copy = graph.copy()
    assert not copy.doc_string and "unread" not in {tensor.name for tensor in copy.graph.initializer}
    copy.graph.node[0].name = "changed"
    assert graph.nodes[0].name == "cast"
    assert not graph.tidy and graph.tidied().tidy
    assert graph.tidied().tidied().model.SerializeToString() == graph.copy().SerializeToString()


def test_a_finished_pass_drops_constants_that_nothing_reads_any_more(weights: dict[str, Array]) -> None:
    edited = network(weights).copy()
    del edited.graph.node[-3].input[2]  # the bias of the last layer
    edited.graph.node.insert(0, helper.make_node("Identity", ["images"], ["same"], name="new"))
    graph = finish(edited)
    assert graph.model is edited and graph.tidy and graph.tidied() is graph
    assert set(network(weights).constants) - set(graph.constants) == {"model.fc.0.bias"}
    again = Graph(graph.model).copy()
    assert again.SerializeToString(deterministic=True) == edited.SerializeToString(deterministic=True)


def test_a_watched_graph_also_gives_values_inside(weights: dict[str, Array]) -> None:
    graph = network(weights)
    assert graph.with_outputs(["relu1", "embeddings"]).outputs == ["embeddings", "relu1"]
    assert graph.outputs == ["embeddings"]


def test_nodes_can_be_replaced_by_themselves_and_others(weights: dict[str, Array]) -> None:
    edited = network(weights).copy()
    set_nodes(edited, [helper.make_node("Relu", ["a"], ["b"], name="new"), *edited.graph.node])
    assert [node.name for node in edited.graph.node][:2] == ["new", "cast"]
    assert len(edited.graph.node) == len(network(weights).nodes) + 1


def test_writing_copies_only_what_is_not_tidy_and_leaves_no_header(weights: dict[str, Array], tmp_path: Path) -> None:
    graph = network(weights)
    tidy = graph.tidied()
    before = tidy.model.SerializeToString(deterministic=True)
    for name, each in (("loose", graph), ("tidy", tidy), ("again", tidy)):
        write_onnx(each, CARD, tmp_path / f"{name}.onnx")
    assert tidy.model.SerializeToString(deterministic=True) == before
    assert graph.model.graph.name == "network", "the graph given was changed"
    contents = {path.read_bytes() for path in tmp_path.iterdir()}
    assert len(contents) == 1
    read, card = read_graph(tmp_path / "tidy.onnx")
    assert card == CARD and read.model.producer_name == "reid-edge"
    assert read.copy().SerializeToString(deterministic=True) == before


@pytest.mark.parametrize(
    "graph_pass",
    [
        fold_batch_norms,
        fp16_from_fp32,
        lambda graph: in_input_format(graph, CARD, "nchw-float")[0],
        lambda graph: quantized(graph, dict.fromkeys(quantized_values(graph), 3.0)),
    ],
)
def test_a_pass_copies_the_model_once_and_writing_its_graph_never(
    graph_pass: Callable[[Graph], Graph], weights: dict[str, Array], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    copies, copy = [], Graph.copy
    monkeypatch.setattr(Graph, "copy", lambda graph: (copies.append(graph), copy(graph))[1])
    graph = network(weights)
    after = graph_pass(graph)
    graph.with_outputs(["relu1"])
    assert [copies.pop(), *copies] == [graph, graph], "one for each"
    write_onnx(after, CARD, tmp_path / "m.onnx")
    if stores_fp16(after):
        simulated_fp16(after)
        overflowing_layer(after, np.zeros((1, 16, 16, 3), np.uint8))
        copies.remove(after)
        copies.remove(after)
    assert copies == [graph]


def test_a_header_is_taken_off_also_when_the_graph_is_refused(weights: dict[str, Array], tmp_path: Path) -> None:
    edited = network(weights).copy()
    edited.graph.node[5].op_type = "NoSuchOperator"
    broken = finish(edited)
    with pytest.raises(onnx.checker.ValidationError, match="NoSuchOperator"):
        write_onnx(broken, CARD, tmp_path / "broken.onnx")
    assert not broken.model.metadata_props and not broken.model.producer_name
    assert not list(tmp_path.iterdir())
