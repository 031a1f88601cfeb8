"""Files without their rounding: what INT8's limits let pass in the structure of a graph is refused."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import onnx
import pytest
from helpers.small_network import CARD, Array, images_of, network, random_weights, run
from onnx import numpy_helper

from reid_edge.errors import GateError
from reid_edge.export.graph.fp16 import fp16_from_fp32
from reid_edge.export.graph.graph import Graph, finish
from reid_edge.export.int8.calibrate import ranges_over
from reid_edge.export.int8.cpu import quantized_for_cpu
from reid_edge.export.int8.qdq import quantized
from reid_edge.export.parity.limits import THRESHOLDS
from reid_edge.export.parity.structure import check_structure, check_weights, unrounded

FP32 = network(random_weights())
IMAGES = images_of(16)
RANGES = ranges_over(FP32, images_of(16, seed=2), "mse", 1)
WEIGHT = "model.backbone.block.1.conv.weight"


def fp16() -> Graph:
    return fp16_from_fp32(FP32)


def int8() -> Graph:
    return quantized(FP32, RANGES)


def int8_around_fp16() -> Graph:
    return fp16_from_fp32(quantized(FP32, RANGES, keep=["backbone.block.0", "fc"]))


def cpu() -> Graph:
    return quantized_for_cpu(FP32, IMAGES)


FORMS = pytest.mark.parametrize("form", [fp16, int8, int8_around_fp16, cpu], ids=lambda form: form.__name__)


def check(graph: Graph) -> None:
    check_structure(graph, CARD, FP32.constants, run(FP32, IMAGES), IMAGES, THRESHOLDS["fp32"])


def with_constant(graph: Graph, name: str, change: Callable[[Array], Array]) -> Graph:
    edited = graph.copy()
    (tensor,) = (one for one in edited.graph.initializer if one.name == name)
    tensor.CopyFrom(numpy_helper.from_array(change(graph.constants[name].copy()), name))
    return finish(edited)


def added(number: int | float, place: tuple[int, ...]) -> Callable[[Array], Array]:
    def change(array: Array) -> Array:
        array[place] += array.dtype.type(number)
        return array

    return change


@FORMS
def test_without_its_rounding_a_file_is_the_fp32_model(form: Callable[[], Graph]) -> None:
    graph = form()
    exact = unrounded(graph, FP32.constants)
    assert graph.precision != "fp32" and exact.precision == "fp32"
    assert (
        np.abs(run(exact, IMAGES) - run(FP32, IMAGES)).max()
        < 1e-6
        < np.abs(run(graph, IMAGES) - run(FP32, IMAGES)).max()
    )
    check(graph)


@FORMS
@pytest.mark.parametrize("number, said", [(1.1, "relative_error"), (1.01, "relative_error")])
def test_another_normalisation_is_refused(form: Callable[[], Graph], number: float, said: str) -> None:
    """The standard deviation of the pixels, by a tenth and by a hundredth: INT8's limits see neither."""
    graph = with_constant(form(), "std", lambda std: (std * number).astype(np.float32))
    with pytest.raises(GateError, match=f"without its rounding differs from the reference on 16 crops.*{said}"):
        check(graph)


@FORMS
def test_a_lost_bias_is_refused(form: Callable[[], Graph]) -> None:
    graph = form()
    edited = graph.copy()
    (layer,) = (node for node in edited.graph.node if node.name.startswith("c1"))
    del layer.input[2]
    with pytest.raises(GateError, match="without its rounding differs"):
        check(finish(edited))


def test_a_mirrored_input_is_refused() -> None:
    graph = int8()
    edited = graph.copy()
    for node in edited.graph.node:
        node.input[:] = ["mirrored" if name == "nchw" else name for name in node.input]
    (place,) = (i for i, node in enumerate(edited.graph.node) if "nchw" in node.output)
    parts = {"starts": -1, "ends": -(1 << 31), "axes": 3, "steps": -1}
    edited.graph.initializer.extend(numpy_helper.from_array(np.array([n]), name) for name, n in parts.items())
    edited.graph.node.insert(place + 1, onnx.helper.make_node("Slice", ["nchw", *parts], ["mirrored"], name="mirror"))
    with pytest.raises(GateError, match="int8 without its rounding differs"):
        check(finish(edited))


@pytest.mark.parametrize("form, name", [(int8, f"{WEIGHT}.int8"), (cpu, f"{WEIGHT}_quantized")])
def test_a_weight_one_step_away_and_a_dead_channel_are_refused(form: Callable[[], Graph], name: str) -> None:
    graph = form()
    place = (2, 1, 0, 0)
    towards_zero = -1 if graph.constants[name][place] > 0 else 1
    with pytest.raises(GateError, match=r"int8 weights of backbone\.block\.1\.conv are (0\.[5-9]|1\.[0-5])\d* steps"):
        check_weights(with_constant(graph, name, added(towards_zero, place)), FP32.constants)

    def dead(array: Array) -> Array:
        array[3] = 0
        return array

    with pytest.raises(GateError, match=r"backbone\.block\.1\.conv are 127 steps of rounding from the model's"):
        check_weights(with_constant(graph, name, dead), FP32.constants)


def test_weights_per_tensor_are_refused() -> None:
    """One scale for six channels; those with smaller weights have fewer steps than they may."""
    graph, floats = int8(), FP32.constants[WEIGHT]
    scale = np.abs(floats).max() / 127
    edited = with_constant(graph, f"{WEIGHT}.int8", lambda _: np.rint(floats / scale).astype(np.int8))
    edited = with_constant(edited, f"{WEIGHT}.scale", lambda old: np.full_like(old, scale))
    check_weights(graph, FP32.constants)
    with pytest.raises(GateError, match=r"backbone\.block\.1\.conv are 0\.\d+ steps of rounding from the model's"):
        check_weights(edited, FP32.constants)
    assert np.abs(run(edited, IMAGES) - run(FP32, IMAGES)).max() < THRESHOLDS["int8"].max_error


def test_a_weight_that_fp16_does_not_round_to_is_refused() -> None:
    """Two of its 1024 last digits away; one of them is how far it may be rounded."""
    changed = with_constant(fp16(), f"{WEIGHT}.fp16", lambda array: (array * 1.002).astype(np.float16))
    with pytest.raises(GateError, match=r"fp16 weights of backbone\.block\.1\.conv are [12]\.\d+ steps"):
        check_weights(changed, FP32.constants)


def test_weights_that_the_reference_lacks_are_named() -> None:
    floats = {name: array for name, array in FP32.constants.items() if name != WEIGHT}
    with pytest.raises(GateError, match=r"no weights 'model\.backbone\.block\.1\.conv\.weight\.int8': give the fp32"):
        check_weights(int8(), floats)
    with pytest.raises(GateError, match="have another shape than the model's"):
        check_weights(int8(), {**FP32.constants, WEIGHT: np.zeros((6, 4, 3, 3), np.float32)})


def test_pairs_without_a_zero_point_are_uint8_and_drop_negatives() -> None:
    edited = int8().copy()
    for node in edited.graph.node:
        if node.op_type in {"QuantizeLinear", "DequantizeLinear"} and node.name.startswith("relu1."):
            del node.input[2]
    exact = unrounded(finish(edited), FP32.constants)
    assert [node.op_type for node in exact.nodes].count("Relu") == 3
    check(finish(edited))


def test_a_scale_that_is_computed_is_refused() -> None:
    edited = int8().copy()
    (pair,) = (node for node in edited.graph.node if node.name == f"{WEIGHT}.dq")
    pair.input[1] = "computed"
    with pytest.raises(GateError, match="'computed' of a Q/DQ pair is not a constant"):
        check_weights(finish(edited), FP32.constants)
