"""Export: files that hold what house rules promise, agree with PyTorch, or are not there at all."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from numpy.typing import NDArray
from onnx import ModelProto, NodeProto, TensorProto, helper, numpy_helper
from rich.console import Console

from reid_edge.card import CARD_KEY
from reid_edge.engines.onnxruntime import OnnxEngine
from reid_edge.errors import GateError, InputError, ModelError
from reid_edge.export.graph.graph import Graph
from reid_edge.export.graph.io import write_onnx
from reid_edge.export.parity.crops import parity_crops
from reid_edge.export.parity.gate import check_parity, embed_in_batches
from reid_edge.export.parity.limits import Checks
from reid_edge.export.report import Exported
from reid_edge.export.tables import exported_table

torch = pytest.importorskip("torch", reason="needs the train extra")

from helpers.networks import settled_model  # noqa: E402

from reid_edge.api.export_model import export_model  # noqa: E402
from reid_edge.export.graph.from_torch import onnx_from_model  # noqa: E402
from reid_edge.training.models.checkpoint import card_of, load_model  # noqa: E402
from reid_edge.training.models.registry import build_model  # noqa: E402
from reid_edge.training.models.reid_model import ReidModel  # noqa: E402
from reid_edge.training.models.torch_engine import TorchEngine  # noqa: E402

Crops = NDArray[np.uint8]
FEW = Checks(crops=64)
"""As many as a reference from PyTorch takes a few seconds for."""
PARTS_OF_PATHS = [Path(torch.__file__).parent.parent, Path(__file__).parent.parent, Path.home(), "site-packages", ".py"]


class Case:
    """A model, its card, the crops it was compared on and the files that came of it."""

    def __init__(self, out: Path, model: ReidModel, input_hw: tuple[int, int]) -> None:
        self.out = out
        self.model = model
        self.card = card_of(model, input_hw=input_hw, trained_on="nothing")
        self.crops = parity_crops(self.card, count=FEW.crops)
        with TorchEngine(model, self.card) as engine:
            self.reference = embed_in_batches(engine, self.crops, 32)
        self.files: list[Exported] = []

    def path(self, precision: str) -> Path:
        return self.out / f"{self.card.architecture}_{precision}.onnx"


@pytest.fixture(scope="module")
def osnet(tmp_path_factory: pytest.TempPathFactory) -> Case:
    case = Case(tmp_path_factory.mktemp("osnet"), settled_model("osnet_x0_25"), (128, 64))
    report = export_model((case.model, case.card), case.out, precisions=("fp32", "fp16"), checks=FEW)
    report.raise_if_refused()
    case.files = list(report.files)
    return case


@pytest.fixture(scope="module")
def mobilenet(tmp_path_factory: pytest.TempPathFactory) -> Case:
    """Untrained, so that its values vanish in FP16: exported in FP32, and refused in FP16 over an older file."""
    torch.manual_seed(0)
    case = Case(tmp_path_factory.mktemp("mobilenet"), build_model("mobilenetv3_large"), (256, 128))
    case.path("fp16").write_text("an older file")
    with pytest.raises(
        GateError,
        match=r"_fp16\.onnx: \d+ of \d+ embeddings of a batch are zero .*: use the model's fp32 file",
    ):
        export_model((case.model, case.card), case.out, precisions=("fp32", "fp16"), checks=FEW).raise_if_refused()
    return case


EXPORTED = [("osnet", "fp32"), ("osnet", "fp16"), ("mobilenet", "fp32")]


@pytest.fixture(params=EXPORTED, ids="_".join)
def exported(request: pytest.FixtureRequest) -> tuple[Case, str]:
    name, precision = request.param
    return request.getfixturevalue(name), precision


def test_the_files_have_the_names_that_scripts_look_for(osnet: Case) -> None:
    assert sorted(path.name for path in osnet.out.iterdir()) == ["osnet_x0_25_fp16.onnx", "osnet_x0_25_fp32.onnx"]
    assert [(file.path, file.precision) for file in osnet.files] == [(osnet.path(p), p) for p in ("fp32", "fp16")]
    assert all(file.bytes == file.path.stat().st_size and file.seconds > 0 for file in osnet.files)


def test_a_refused_precision_leaves_the_older_file_and_nothing_else(mobilenet: Case) -> None:
    assert mobilenet.path("fp16").read_text() == "an older file"
    assert sorted(mobilenet.out.iterdir()) == [mobilenet.path("fp16"), mobilenet.path("fp32")]


def test_fp16_is_smaller(osnet: Case) -> None:
    fp32, fp16 = osnet.files
    assert fp16.bytes < 0.75 * fp32.bytes


def test_the_checker_passes_and_the_graph_is_what_the_house_says(exported: tuple[Case, str]) -> None:
    case, precision = exported
    model = onnx.load(case.path(precision))
    onnx.checker.check_model(model, full_check=True)
    height, width = case.card.input_hw
    assert shape_of(model.graph.input) == [("images", TensorProto.UINT8, ["N", height, width, 3])]
    assert shape_of(model.graph.output) == [("embeddings", TensorProto.FLOAT, ["N", case.card.embedding_dim])]
    assert [(entry.domain, entry.version) for entry in model.opset_import] == [("", 18)]
    assert model.ir_version == 8, "ONNX Runtime 1.17 reads no more than 9, TensorRT 10.3 no more than 10"
    operators = [node.op_type for node in model.graph.node]
    assert operators[:2] == ["Cast", "Transpose"]
    assert not {"BatchNormalization", "LpNormalization", "Identity", "Constant", "Dropout"} & set(operators)


def shape_of(values: Any) -> list[tuple[str, int, list[Any]]]:
    described = []
    for value in values:
        tensor = value.type.tensor_type
        described.append((value.name, tensor.elem_type, [dim.dim_param or dim.dim_value for dim in tensor.shape.dim]))
    return described


def test_the_file_is_self_contained_and_names_no_path_of_this_machine(exported: tuple[Case, str]) -> None:
    case, precision = exported
    content = case.path(precision).read_bytes()
    for part in PARTS_OF_PATHS:
        assert str(part).encode() not in content, f"{part} is in the file"
    model = onnx.load_from_string(content)
    assert not any(tensor.external_data for tensor in model.graph.initializer)
    assert not any(node.metadata_props or node.doc_string for node in model.graph.node)
    assert not model.graph.value_info and not model.graph.metadata_props


@pytest.mark.parametrize("batch", [1, 5, 32])
def test_any_batch_gives_what_pytorch_gives(exported: tuple[Case, str], batch: int) -> None:
    case, precision = exported
    with OnnxEngine(case.path(precision)) as engine:
        embeddings = engine.run(case.crops[:batch])
    assert embeddings.shape == (batch, case.card.embedding_dim)
    np.testing.assert_allclose(embeddings, case.reference[:batch], atol=1e-5 if precision == "fp32" else 1e-2)
    np.testing.assert_allclose(np.linalg.norm(embeddings, axis=1), 1, atol=1e-5)


def test_the_card_travels_with_the_file_and_says_what_was_measured(exported: tuple[Case, str]) -> None:
    case, precision = exported
    with OnnxEngine(case.path(precision)) as engine:
        card = engine.card
    assert card.with_(parity={}) == case.card.with_(precision=precision)
    assert card.parity["cosine_min"] > 0.999 and card.parity["crops"] == 64
    properties = {entry.key: entry.value for entry in onnx.load(case.path(precision)).metadata_props}
    assert json.loads(properties[CARD_KEY])["precision"] == properties["precision"] == precision
    assert properties["input"].startswith("images: uint8 [N, ")


def test_the_model_is_left_as_it_was(mobilenet: Case) -> None:
    torch.manual_seed(0)
    fresh = build_model("mobilenetv3_large")
    assert mobilenet.model.training
    for name, value in fresh.state_dict().items():
        assert torch.equal(mobilenet.model.state_dict()[name], value), name


def test_a_table_tells_what_was_written(osnet: Case) -> None:
    for width in (200, 80):  # a narrow terminal folds names and cuts no number
        out = io.StringIO()
        Console(width=width, file=out).print(exported_table(osnet.files))
        shown = out.getvalue()
        assert "passed" in shown and "1.00000" in shown and "…" not in shown
        assert "osnet_x0_25_fp16.onnx" in shown or width == 80


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"name": "a/b"}, "is not a plain file name"),
        ({"precisions": ("int4",)}, "'int4' is unknown: give one of fp32, fp16, int8"),
        ({"precisions": ("int8",)}, "INT8 needs training crops to find its activation ranges: add --calibrate"),
    ],
)
def test_bad_use_is_refused_before_any_work(osnet: Case, tmp_path: Path, options: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        export_model((osnet.model, osnet.card), tmp_path / "out", **options)
    assert not (tmp_path / "out").exists()


# What goes wrong in exports, planted in a graph that is right.


def node_after(graph: onnx.GraphProto, operator: str) -> NodeProto:
    """The node that reads what the first ``operator`` gives."""
    value = next(node.output[0] for node in graph.node if node.op_type == operator)
    return next(node for node in graph.node if value in node.input)


def insert(graph: onnx.GraphProto, reader: NodeProto, operator: str, *constants: str, **attributes: Any) -> None:
    """Put an operator before the first input of ``reader``."""
    value = reader.input[0]
    place = list(graph.node).index(reader)
    reader.input[0] = f"{value}_{operator}_planted"
    graph.node.insert(place, helper.make_node(operator, [value, *constants], [reader.input[0]], **attributes))


def normalised_twice(graph: onnx.GraphProto) -> None:
    subtract, divide = (next(node for node in graph.node if node.op_type == kind) for kind in ("Sub", "Div"))
    first_conv = node_after(graph, "Div")
    insert(graph, first_conv, "Sub", subtract.input[1])
    insert(graph, first_conv, "Div", divide.input[1])


def bgr_for_rgb(graph: onnx.GraphProto) -> None:
    graph.initializer.append(numpy_helper.from_array(np.array([2, 1, 0]), "bgr"))
    insert(graph, node_after(graph, "Transpose"), "Gather", "bgr", axis=1)


def weights_without_their_batch_norm(graph: onnx.GraphProto) -> None:
    """A bias that folding forgot."""
    conv = next(node for node in graph.node if node.op_type == "Conv" and len(node.input) == 3)
    bias = next(tensor for tensor in graph.initializer if tensor.name == conv.input[2])
    bias.CopyFrom(numpy_helper.from_array(np.zeros_like(numpy_helper.to_array(bias)), bias.name))


def statistics_of_the_batch(graph: onnx.GraphProto) -> None:
    """What a batch norm in training mode does: subtract the batch's own mean."""
    reader = node_after(graph, "Conv")
    value = reader.input[0]
    graph.initializer.append(numpy_helper.from_array(np.array([0, 2, 3]), "batch_axes"))
    mean = helper.make_node("ReduceMean", [value, "batch_axes"], ["batch_mean"])
    graph.node.insert(list(graph.node).index(reader), mean)
    insert(graph, reader, "Sub", "batch_mean")


def no_l2_norm(graph: onnx.GraphProto) -> None:
    last = graph.node[-1]
    graph.node.append(helper.make_node("Identity", [last.input[0]], ["embeddings"]))
    last.output[0] = "unused"


WRONG = [normalised_twice, bgr_for_rgb, weights_without_their_batch_norm, statistics_of_the_batch, no_l2_norm]


@pytest.mark.parametrize("precision", ["fp32", "fp16", "int8"])
@pytest.mark.parametrize("damage", WRONG, ids=lambda damage: damage.__name__)
def test_the_gate_catches(
    osnet: Case, tmp_path: Path, damage: Callable[[onnx.GraphProto], None], precision: str
) -> None:
    model = onnx.load(osnet.path("fp32"))
    damage(model.graph)
    write_onnx(Graph(model), osnet.card, tmp_path / "wrong.onnx")
    caught = "differs from the reference|are not of norm 1|are zero"
    with OnnxEngine(tmp_path / "wrong.onnx") as engine, pytest.raises((GateError, ModelError), match=caught):
        check_parity(osnet.reference, engine, osnet.crops, precision)


def test_the_gate_catches_the_weights_of_another_model(osnet: Case) -> None:
    torch.manual_seed(1)
    other = build_model("osnet_x0_25")
    with TorchEngine(other, osnet.card) as engine:
        reference = embed_in_batches(engine, osnet.crops, 32)
    with OnnxEngine(osnet.path("fp32")) as engine, pytest.raises(GateError, match="differs from the reference"):
        check_parity(reference, engine, osnet.crops)


def test_a_frozen_batch_does_not_open(osnet: Case, tmp_path: Path) -> None:
    model = onnx.load(osnet.path("fp32"))
    model.graph.initializer.append(numpy_helper.from_array(np.array([32, -1]), "shape"))
    insert(model.graph, model.graph.node[-1], "Reshape", "shape")
    write_onnx(Graph(model), osnet.card, tmp_path / "frozen.onnx")
    with (
        pytest.raises(ModelError, match=r"embeddings tensor\(float\) \[32, 512\]"),
        OnnxEngine(tmp_path / "frozen.onnx"),
    ):
        pass


def test_tidying_drops_what_exporters_leave_behind() -> None:
    node = helper.make_node("Neg", ["x"], ["y"], doc_string="File /home/me/net.py, line 7")
    node.metadata_props.add(key="pkg.torch.onnx.stack_trace", value="/home/me/net.py")
    values = [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["N"]) for name in ("x", "y")]
    unread = numpy_helper.from_array(np.zeros(3, np.float32), "unread")
    graph = helper.make_graph([node], "/home/me", values[:1], values[1:], [unread], doc_string="/home/me")
    model: ModelProto = helper.make_model(graph, producer_name="/home/me", doc_string="/home/me")
    model.metadata_props.add(key="made in", value="/home/me")
    clean = Graph(model).copy().SerializeToString()
    assert b"/home/me" not in clean and b"unread" not in clean and b"Neg" in clean


@pytest.mark.long
def test_resnet50_exports_and_twice_the_same(tmp_path: Path) -> None:
    case = Case(tmp_path, settled_model("resnet50_bot"), (128, 64))
    (file,) = export_model((case.model, case.card), tmp_path, name="mine", checks=FEW).files
    assert not file.refused and file.parity
    assert file.path == tmp_path / "mine_fp32.onnx"
    assert file.parity.max_error < 2e-5
    again = onnx_from_model(case.model, case.card)
    write_onnx(again, case.card.with_(parity=file.parity.to_dict()), tmp_path / "again.onnx")
    assert (tmp_path / "again.onnx").read_bytes() == file.path.read_bytes()


@pytest.mark.long
def test_real_weights_agree_with_another_exporter(
    dev_weights: Path, dev_onnx: Path, dev_crops: Path, tmp_path: Path
) -> None:
    model, card = load_model(dev_weights, "osnet_x0_25")
    crops = parity_crops(card, dev_crops, count=64)
    fp32, fp16 = export_model((model, card), tmp_path, precisions=("fp32", "fp16"), data=dev_crops).files
    assert not fp32.refused and not fp16.refused and fp32.parity and fp16.parity
    assert fp32.parity.max_error < 1e-5 and fp16.parity.cosine_min > 0.9999
    pixels = (crops / 255 - card.mean) / card.std
    session = onnxruntime.InferenceSession(str(dev_onnx), providers=["CPUExecutionProvider"])
    inputs = {session.get_inputs()[0].name: pixels.transpose(0, 3, 1, 2).astype(np.float32)}
    theirs = session.run(None, inputs)[0]
    with OnnxEngine(fp32.path) as engine:
        ours = embed_in_batches(engine, crops, 32)
    cosine = (ours * theirs / np.linalg.norm(theirs, axis=1, keepdims=True)).sum(axis=1)
    assert cosine.min() > 0.9999
