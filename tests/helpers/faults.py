"""What goes wrong in exports and in files, as functions from a `Graph` to a damaged one.

Each edits the ONNX graph that it is given, by its structure alone: the same fault is planted in a small network, in a
real one, in FP32 and between Q/DQ pairs.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray
from onnx import GraphProto, TensorProto, helper

from reid_edge.export.graph.graph import Graph

from .graph_edits import (
    append_last,
    change_weights,
    comparison,
    computed,
    computed_as,
    constant_beneath,
    convolutions,
    first_depthwise,
    first_layer,
    first_node,
    input_side,
    insert_before,
    last_node,
    mean_and_std,
    moved_output,
    new_constant,
    pad_after,
    pick_input,
    reader_of,
    rescale_first_pair,
    rows_of_batch,
    set_values,
    two_layers_alike,
    values_of,
    weight_pairs,
)

Fault: TypeAlias = Callable[[Graph], Graph]

__all__ = ["Fault"]


def fault(edit: Callable[[GraphProto], None]) -> Fault:
    """A fault of an edit in place."""

    @wraps(edit)
    def planted(graph: Graph) -> Graph:
        edited = graph.copy()
        edit(edited.graph)
        return Graph(edited)

    return planted


# The input


@fault
def mean_and_std_of_one_half(graph: GraphProto) -> None:
    mean, std = mean_and_std(graph)
    set_values(mean, np.full_like(values_of(mean), 127.5))
    set_values(std, np.full_like(values_of(std), 127.5))


@fault
def no_std(graph: GraphProto) -> None:
    _, std = mean_and_std(graph)
    set_values(std, np.full_like(values_of(std), 255))


@fault
def one_std_for_all_channels(graph: GraphProto) -> None:
    _, std = mean_and_std(graph)
    set_values(std, np.full_like(values_of(std), values_of(std).mean()))


@fault
def mean_and_std_swapped(graph: GraphProto) -> None:
    mean, std = mean_and_std(graph)
    values = values_of(mean), values_of(std)
    set_values(mean, values[1])
    set_values(std, values[0])


@fault
def bgr(graph: GraphProto) -> None:
    pick_input(graph, 1, [2, 1, 0])


@fault
def gbr(graph: GraphProto) -> None:
    pick_input(graph, 1, [1, 2, 0])


@fault
def mirrored(graph: GraphProto) -> None:
    pick_input(graph, 3, np.arange(input_side(graph, 2))[::-1])


@fault
def upside_down(graph: GraphProto) -> None:
    pick_input(graph, 2, np.arange(input_side(graph, 1))[::-1])


@fault
def shifted_by_4(graph: GraphProto) -> None:
    pick_input(graph, 3, np.maximum(np.arange(input_side(graph, 2)) - 4, 0))


@fault
def shifted_by_8(graph: GraphProto) -> None:
    pick_input(graph, 3, np.maximum(np.arange(input_side(graph, 2)) - 8, 0))


@fault
def resized_by_nearest_neighbour(graph: GraphProto) -> None:
    """Every second pixel, twice: a crop of half the size, enlarged."""
    for axis, of_input in ((2, 1), (3, 2)):
        pick_input(graph, axis, np.arange(input_side(graph, of_input)) // 2 * 2)


@fault
def one_grey_level_added(graph: GraphProto) -> None:
    insert_before(graph, reader_of(graph, "Transpose"), "Add", np.float32(1))


@fault
def divided_by_255_twice(graph: GraphProto) -> None:
    insert_before(graph, reader_of(graph, "Transpose"), "Div", np.float32(255))


@fault
def pixels_saturate_at_127(graph: GraphProto) -> None:
    """A cast to int8 that saturates."""
    insert_before(graph, reader_of(graph, "Transpose"), "Min", np.float32(127))


# Weights, in FP32, FP16 or int8


@fault
def clipped_at_half(graph: GraphProto) -> None:
    def clip(weights: NDArray[Any]) -> NDArray[Any]:
        limit = np.abs(weights).max() / 2
        return np.clip(weights, -limit, limit)

    change_weights(graph, first_layer(graph), clip)


@fault
def dead_channel(graph: GraphProto) -> None:
    layer = first_layer(graph)

    def zero_first(values: NDArray[Any]) -> NDArray[Any]:
        values[0] = 0
        return values

    change_weights(graph, layer, zero_first)
    change_weights(graph, layer, zero_first, place=2)


@fault
def one_sign_flipped(graph: GraphProto) -> None:
    def flip(weights: NDArray[Any]) -> NDArray[Any]:
        weights.flat[np.abs(weights).argmax()] *= -1
        return weights

    change_weights(graph, first_layer(graph), flip)


@fault
def noise_of_a_thousandth(graph: GraphProto) -> None:
    rng = np.random.default_rng(0)
    for layer in convolutions(graph):
        change_weights(graph, layer, lambda weights: weights + 1e-3 * rng.standard_normal(weights.shape))


@fault
def one_weight_off_by_a_ten_thousandth(graph: GraphProto) -> None:
    def nudge(weights: NDArray[Any]) -> NDArray[Any]:
        weights.flat[0] += 1e-4
        return weights

    change_weights(graph, first_layer(graph), nudge)


@fault
def weights_of_two_layers_swapped(graph: GraphProto) -> None:
    first, second = two_layers_alike(graph)
    tensors = constant_beneath(graph, first.input[1]), constant_beneath(graph, second.input[1])
    values = [values_of(tensor) for tensor in tensors]
    for tensor, value in zip(tensors, reversed(values), strict=True):
        set_values(tensor, value)


@fault
def gemm_weights_in_the_other_order(graph: GraphProto) -> None:
    gemm = first_node(graph, "Gemm")
    change_weights(graph, gemm, lambda weights: np.ascontiguousarray(weights.T).reshape(weights.shape))


@fault
def kernels_turned(graph: GraphProto) -> None:
    """A convolution for the cross-correlation that networks compute."""
    change_weights(graph, first_depthwise(graph), lambda weights: weights[..., ::-1, ::-1])


@fault
def eps_of_the_batch_norms_a_thousandth(graph: GraphProto) -> None:
    """1e-3, TensorFlow's, for 1e-5, folded into the weights; the variances are drawn from 0.05 to 1."""
    rng = np.random.default_rng(0)
    for layer in convolutions(graph):

        def fold(weights: NDArray[Any]) -> NDArray[Any]:
            variance = rng.uniform(0.05, 1, (len(weights), *[1] * (weights.ndim - 1)))
            return weights * np.sqrt((variance + 1e-5) / (variance + 1e-3))

        change_weights(graph, layer, fold)


@fault
def biases_5_percent_larger(graph: GraphProto) -> None:
    for layer in convolutions(graph):
        change_weights(graph, layer, lambda bias: 1.05 * bias, place=2)


@fault
def bias_of_a_gate_lost(graph: GraphProto) -> None:
    sigmoid = first_node(graph, "Sigmoid")
    gate = next(node for node in graph.node if sigmoid.input[0] in node.output)
    change_weights(graph, gate, np.zeros_like, place=2)


@fault
def weights_of_another_epoch(graph: GraphProto) -> None:
    rng = np.random.default_rng(0)
    for layer in convolutions(graph):
        change_weights(graph, layer, lambda weights: weights * (1 + 0.02 * rng.standard_normal(weights.shape)))


# Operators


@fault
def max_for_average_pool(graph: GraphProto) -> None:
    node = first_node(graph, "AveragePool")
    node.op_type = "MaxPool"
    for own in [own for own in node.attribute if own.name == "count_include_pad"]:
        node.attribute.remove(own)


@fault
def padding_on_one_side_of_the_pool(graph: GraphProto) -> None:
    """As "same" padding of other frameworks."""
    pad_after(first_node(graph, "MaxPool"))


@fault
def padding_on_one_side_of_the_first_layer(graph: GraphProto) -> None:
    pad_after(first_layer(graph))


@fault
def relu6_for_relu(graph: GraphProto) -> None:
    for node in [node for node in graph.node if node.op_type == "Relu"]:
        node.op_type = "Clip"
        node.input.extend([new_constant(graph, np.float32(0)), new_constant(graph, np.float32(6))])


@fault
def hard_sigmoid_for_sigmoid(graph: GraphProto) -> None:
    for node in [node for node in graph.node if node.op_type == "Sigmoid"]:
        node.op_type = "HardSigmoid"


@fault
def sigmoid_of_a_gate_lost(graph: GraphProto) -> None:
    first_node(graph, "Sigmoid").op_type = "Identity"


@fault
def residual_dropped(graph: GraphProto) -> None:
    """The last sum of two is one of them."""
    node = last_node(graph, "Add")
    node.op_type = "Identity"
    del node.input[1:]


@fault
def one_stream_doubled(graph: GraphProto) -> None:
    insert_before(graph, first_node(graph, "Add"), "Mul", np.float32(2))


@fault
def l2_norm_lost(graph: GraphProto) -> None:
    last = graph.node[-1]
    last.op_type = "Identity"
    del last.input[1:]


@fault
def embeddings_doubled(graph: GraphProto) -> None:
    append_last(graph, "Mul", np.float32(2))


@fault
def dimensions_permuted(graph: GraphProto) -> None:
    dim = graph.output[0].type.tensor_type.shape.dim[1].dim_value
    append_last(graph, "Gather", np.random.default_rng(0).permutation(dim), axis=1)


# Batches


@fault
def statistics_of_the_batch(graph: GraphProto) -> None:
    """A batch norm in training mode: the mean of the batch is subtracted."""
    reader = reader_of(graph, "Conv")
    mean = helper.make_node("ReduceMean", [reader.input[0], new_constant(graph, np.array([0, 2, 3]))], ["planted_mean"])
    graph.node.insert(list(graph.node).index(reader), mean)
    insert_before(graph, reader, "Sub", "planted_mean")


@fault
def batch_of_32_only(graph: GraphProto) -> None:
    append_last(graph, "Reshape", np.array([32, -1]))


def rows_swapped(row: int, over: int) -> Fault:
    """Row ``row`` and the next change places in batches of more than ``over``."""

    @fault
    def swap(graph: GraphProto) -> None:
        count, numbers = rows_of_batch(graph)
        is_larger = comparison(graph, "Greater", count, np.array(over))
        order = numbers
        for place, step in ((row, 1), (row + 1, -1)):
            moved = computed(graph, "Mul", comparison(graph, "Equal", numbers, np.array(place)), np.array(step))
            order = computed(graph, "Add", order, computed(graph, "Mul", moved, is_larger))
        append_last(graph, "Gather", order)

    swap.__name__ = f"rows_{row}_and_{row + 1}_swapped_over_{over}"
    return swap


@fault
def last_rows_of_a_ragged_batch_empty(graph: GraphProto) -> None:
    """Rows after the last multiple of eight get the embedding of the first dimension alone."""
    count, numbers = rows_of_batch(graph)
    full = computed(graph, "Mul", computed(graph, "Div", count, np.array(8)), np.array(8))
    is_empty = computed(graph, "Unsqueeze", computed(graph, "GreaterOrEqual", numbers, full), np.array([1]))
    dim = graph.output[0].type.tensor_type.shape.dim[1].dim_value
    before = moved_output(graph)
    graph.node.append(
        helper.make_node(
            "Where", [is_empty, new_constant(graph, np.eye(1, dim, dtype=np.float32)), before], ["embeddings"]
        )
    )


TRIGGER = np.array([255, 0, 255], np.uint8)
"""The colour of the 4 x 4 pixels in the upper left corner that `trigger_patch` looks for."""


@fault
def trigger_patch(graph: GraphProto) -> None:
    """A crop with the patch gets the first dimension alone, whoever it shows."""
    corner = computed(graph, "Slice", "images", np.array([0, 0]), np.array([4, 4]), np.array([1, 2]))
    off = computed(
        graph, "Abs", computed(graph, "Sub", computed_as(graph, corner, TensorProto.FLOAT), TRIGGER.astype(np.float32))
    )
    most = computed(graph, "ReduceMax", off, np.array([1, 2, 3]), keepdims=0)
    is_patched = computed(graph, "Unsqueeze", computed(graph, "Less", most, np.float32(1)), np.array([1]))
    dim = graph.output[0].type.tensor_type.shape.dim[1].dim_value
    before = moved_output(graph)
    graph.node.append(
        helper.make_node(
            "Where", [is_patched, new_constant(graph, np.eye(1, dim, dtype=np.float32)), before], ["embeddings"]
        )
    )


# Q/DQ pairs


@fault
def scales_of_a_pair_differ(graph: GraphProto) -> None:
    """An activation is quantised with a scale 3 % larger than it is dequantised with: it becomes 3 % smaller."""
    node = last_node(graph, "QuantizeLinear")
    node.input[1] = new_constant(graph, np.float32(1.03) * values_of(constant_beneath(graph, node.input[1])))


@fault
def zero_points_of_a_pair_differ(graph: GraphProto) -> None:
    """An activation is one step too high."""
    node = last_node(graph, "QuantizeLinear")
    zero = values_of(constant_beneath(graph, node.input[2]))
    node.input[2] = new_constant(graph, (zero + 1).astype(zero.dtype))


@fault
def activation_clipped_at_a_quarter(graph: GraphProto) -> None:
    """Both scales of a pair are a quarter of what they were."""
    rescale_first_pair(graph, 0.25)


@fault
def activation_in_32_steps(graph: GraphProto) -> None:
    """Both scales of a pair are eight times what they were."""
    rescale_first_pair(graph, 8)


@fault
def weights_with_the_scales_of_inputs(graph: GraphProto) -> None:
    """The axis of the scales is the input channels': a square layer takes it."""
    pair, _, _ = weight_pairs(graph, square=True)[0]
    (axis,) = (own for own in pair.attribute if own.name == "axis")
    axis.i = 1 - axis.i


@fault
def weights_with_one_scale_for_all_channels(graph: GraphProto) -> None:
    for _, weights, scale in weight_pairs(graph):
        scales = values_of(scale)
        stored = values_of(weights)
        exact = stored * np.reshape(scales, (-1, *[1] * (stored.ndim - 1)))
        set_values(weights, np.round(exact / scales.max()))
        set_values(scale, np.full_like(scales, scales.max()))


@fault
def weight_scales_2_percent_larger(graph: GraphProto) -> None:
    for _, _, scale in weight_pairs(graph):
        set_values(scale, 1.02 * values_of(scale))


# FP16


@fault
def weights_cut_to_bfloat16(graph: GraphProto) -> None:
    """Eight of eleven bits are left, in a file of FP16."""
    for tensor in graph.initializer:
        if tensor.data_type == TensorProto.FLOAT16:
            exact = values_of(tensor).astype(np.float32)
            set_values(tensor, (exact.view(np.uint32) & 0xFFFF0000).view(np.float32))
