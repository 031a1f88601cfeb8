"""Foreign files that are damaged, hostile or simply something else: one line with the reason, and nothing written."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers.graphs.foreign import write_foreign
from helpers.mutations import mutations
from helpers.tiny_onnx import write_tiny_model
from onnx import ModelProto, TensorProto, helper, numpy_helper

from reid_edge.cli import main
from reid_edge.errors import GateError, ModelError, ReidEdgeError

FLOAT = TensorProto.FLOAT


def constant(model: ModelProto, name: str, value: Any, kind: Any = np.float32) -> None:
    model.graph.initializer.append(numpy_helper.from_array(np.asarray(value, kind), name))


def end_in(
    model: ModelProto, op: str, *inputs: str, shape: Any = ("batch", 24), kind: int = FLOAT, **attributes: Any
) -> None:
    """Put an operator behind the last one, which then gives ``before``."""
    model.graph.node[-1].output[0] = "before"
    model.graph.node.append(helper.make_node(op, ["before", *inputs], ["output"], "last", **attributes))
    model.graph.output[0].CopyFrom(helper.make_tensor_value_info("output", kind, shape))


def two_inputs(model: ModelProto) -> None:
    model.graph.input.append(helper.make_tensor_value_info("cameras", FLOAT, ["batch", 24]))
    end_in(model, "Add", "cameras")


def uint8_in(model: ModelProto) -> None:
    model.graph.input[0].type.tensor_type.elem_type = TensorProto.UINT8
    model.graph.node.insert(0, helper.make_node("Cast", ["input"], ["as_float"], to=FLOAT))
    model.graph.node[1].input[0] = "as_float"


def channels_last(model: ModelProto) -> None:
    model.graph.input[0].CopyFrom(helper.make_tensor_value_info("input", FLOAT, ["batch", 64, 32, 3]))
    model.graph.node.insert(0, helper.make_node("Transpose", ["input"], ["planes"], perm=[0, 3, 1, 2]))
    model.graph.node[1].input[0] = "planes"


def rank_3(model: ModelProto) -> None:
    constant(model, "shape", [0, 4, 6], np.int64)
    end_in(model, "Reshape", "shape", shape=("batch", 4, 6))


def no_batch_axis(model: ModelProto) -> None:
    end_in(model, "ReduceMean", shape=(24,), axes=[0], keepdims=0)


def no_numbers(model: ModelProto) -> None:
    for name in ("first", "last"):
        constant(model, name, [0], np.int64)
    constant(model, "axis", [1], np.int64)
    end_in(model, "Slice", "first", "last", "axis", shape=("batch", 0))


def zeros(model: ModelProto) -> None:
    constant(model, "nothing", 0)
    end_in(model, "Mul", "nothing")


def not_of_the_images(model: ModelProto) -> None:
    constant(model, "ones", np.ones((8, 24)))
    model.graph.node.append(helper.make_node("Relu", ["ones"], ["constant"]))
    model.graph.output[0].CopyFrom(helper.make_tensor_value_info("constant", FLOAT, [8, 24]))


def nan_weights(model: ModelProto) -> None:
    model.graph.initializer[0].CopyFrom(
        numpy_helper.from_array(np.full((8, 3, 3, 3), np.nan, np.float32), "backbone.conv1.weight")
    )


def half_weights(model: ModelProto) -> None:
    constant(model, "half", np.ones(24), np.float16)
    model.graph.node.append(helper.make_node("Cast", ["half"], ["full"], to=FLOAT))


def nan_out(model: ModelProto) -> None:
    constant(model, "nothing", 0)
    end_in(model, "Div", "nothing")


def control_flow(model: ModelProto) -> None:
    constant(model, "yes", True, np.bool_)
    out = helper.make_tensor_value_info("inner", FLOAT, None)
    branch = helper.make_graph([helper.make_node("Relu", ["before"], ["inner"])], "branch", [], [out])
    model.graph.node[-1].output[0] = "before"
    model.graph.node.append(helper.make_node("If", ["yes"], ["output"], then_branch=branch, else_branch=branch))


def of_microsoft(model: ModelProto) -> None:
    end_in(model, "Gelu", domain="com.microsoft")
    model.opset_import.append(helper.make_opsetid("com.microsoft", 1))


def quantized(model: ModelProto) -> None:
    constant(model, "scale", 0.1)
    end_in(model, "QuantizeLinear", "scale", kind=TensorProto.UINT8)


def outside_weights(location: str) -> Callable[[ModelProto], None]:
    def edit(model: ModelProto) -> None:
        tensor = model.graph.initializer[0]
        tensor.ClearField("raw_data")
        tensor.data_location = TensorProto.EXTERNAL
        tensor.external_data.add(key="location", value=location)

    return edit


def wrong_size(model: ModelProto) -> None:
    model.graph.initializer[0].raw_data = model.graph.initializer[0].raw_data[:-4]


def unknown_operator(model: ModelProto) -> None:
    end_in(model, "Frobnicate")


def batch_norm_in_training(model: ModelProto) -> None:
    node = model.graph.node[1]
    node.op_type = "BatchNormalization"
    node.attribute.append(helper.make_attribute("training_mode", 1))
    node.output.extend(["running_mean", "running_var"])
    model.opset_import[0].version = 14


BAD: list[tuple[Any, str]] = [
    (two_inputs, "2 inputs .*export only that"),
    (uint8_in, "takes input uint8 .*only float32"),
    (channels_last, "only float32 .N, 3, H, W. can be wrapped"),
    (rank_3, r"is float32 \[\d+, 4, 6\] for \d+ crops, not one vector a crop"),
    (no_batch_axis, r"is float32 \[24\] for \d+ crops, not float32 \[N, D\]"),
    (no_numbers, r"is float32 \[\d+, 0\]"),
    (zeros, "not finite, or all zero"),
    (nan_out, "not finite, or all zero"),
    (not_of_the_images, "does not depend on the images|not float32"),
    (lambda model: end_in(model, "Cast", to=TensorProto.INT64, kind=TensorProto.INT64), "an embedding is float32"),
    (nan_weights, "weights 'backbone.conv1.weight' are not finite"),
    (half_weights, "are FP16: give the FP32 file"),
    (control_flow, "'If' is control flow"),
    (of_microsoft, "is of 'com.microsoft', not of ONNX"),
    (quantized, "makes it an INT8 file"),
    (outside_weights("/etc/passwd"), "not in a file beside it"),
    (outside_weights("../weights.bin"), "not in a file beside it"),
    (outside_weights("missing.bin"), "which is not there"),
    (wrong_size, "cannot be read|breaks ONNX's rules"),
    (unknown_operator, "breaks ONNX's rules|cannot open it"),
    (batch_norm_in_training, "eval"),
    (lambda model: model.graph.ClearField("output"), "not an ONNX file, or an empty one"),
    (lambda model: model.graph.node[3].input.__setitem__(0, "nowhere"), "breaks ONNX's rules"),
]


@pytest.mark.parametrize(("edit", "reason"), BAD, ids=lambda value: getattr(value, "__name__", None))
def test_a_bad_file_is_refused_in_one_line(edit: Any, reason: str, tmp_path: Path, imported: Any) -> None:
    with pytest.raises(ReidEdgeError, match=reason) as caught:
        imported(write_foreign(tmp_path / "bad.onnx", edit))
    assert len(str(caught.value).splitlines()) == 1 and "bad.onnx" in str(caught.value)
    assert not list((tmp_path / "out").glob("*.onnx"))


def test_a_crop_that_depends_on_the_others_is_refused(tmp_path: Path, imported: Any) -> None:
    def edit(model: ModelProto) -> None:
        """Centre by half the mean of the batch, as a layer in training mode does."""
        model.graph.node[-1].output[0] = "before"
        model.graph.node.append(helper.make_node("ReduceMean", ["before"], ["centre"], axes=[0], keepdims=1))
        constant(model, "half", 0.5)
        model.graph.node.append(helper.make_node("Mul", ["centre", "half"], ["part"]))
        model.graph.node.append(helper.make_node("Sub", ["before", "part"], ["output"]))

    with pytest.raises(GateError, match=r"fp32 differs from the reference .*batch_error .*eval mode"):
        imported(write_foreign(tmp_path / "bad.onnx", edit))


def test_a_batch_of_one_that_cannot_be_freed_is_refused(tmp_path: Path, imported: Any) -> None:
    def edit(model: ModelProto) -> None:
        """A constant that is joined to the crop's own values, as a class token is."""
        constant(model, "token", np.ones((1, 24)))
        end_in(model, "Concat", "token", axis=1, shape=(1, 48))

    with pytest.raises(ModelError, match=r"its batch is fixed at 1, and the graph does not hold in others"):
        imported(write_foreign(tmp_path / "bad.onnx", edit, batch=1))


def test_files_that_are_something_else(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "text.onnx").write_text("not a model\n" * 40)
    (tmp_path / "empty.onnx").write_bytes(b"")
    write_tiny_model(tmp_path / "ours.onnx", input_hw=(64, 32))
    (tmp_path / "model.pth").write_bytes(b"weights")
    for name, reason in (
        ("text.onnx", "is not an ONNX file"),
        ("empty.onnx", "is empty"),
        ("ours.onnx", "was written by reid-edge"),
        ("model.pth", "is a checkpoint"),
        ("missing.onnx", "missing.onnx"),
    ):
        with pytest.raises(SystemExit) as ended:
            main(["import", str(tmp_path / name), "--preset", "torchreid", "--out", str(tmp_path / "out")])
        error = capsys.readouterr().err
        assert ended.value.code == 2 and reason in error and len(error.strip().splitlines()) == 1, error


def test_a_damaged_file_is_refused_or_still_the_original(tmp_path: Path, imported: Any) -> None:
    """Whatever bytes change, the outcome is a file that agrees with what the bytes say, or one of our errors."""
    whole = write_foreign(tmp_path / "whole.onnx").read_bytes()
    refused = 0
    for kind, damaged in mutations(whole, seed=0, count=12):
        path = tmp_path / f"{kind}.onnx"
        path.write_bytes(damaged)
        try:
            imported(path)
        except ReidEdgeError as error:
            refused += 1
            assert len(str(error).splitlines()) == 1
    assert 6 <= refused < 12
