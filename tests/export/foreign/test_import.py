"""A foreign file wrapped: what goes in and out, what the card says, and that it is the original."""

from __future__ import annotations

import hashlib
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from helpers.graphs.foreign import FOREIGN_HW, foreign_model, write_foreign
from numpy.typing import NDArray
from onnx import ModelProto, TensorProto, helper, numpy_helper

from reid_edge.cli import main
from reid_edge.engines.onnxruntime import OnnxEngine
from reid_edge.errors import GateError, InputError, ModelError
from reid_edge.export.foreign.preprocessing import PRESETS, preprocessing_of
from reid_edge.export.graph.io import read_graph

CAFFE = {"scale": 255, "mean": (103.94, 116.78, 123.68), "std": (57.0, 57.5, 58.0), "channels": "bgr"}


def crops(count: int = 5, seed: int = 3) -> NDArray[np.uint8]:
    return np.random.default_rng(seed).integers(0, 256, (count, *FOREIGN_HW, 3), dtype=np.uint8)


def by_hand(path: Path, images: NDArray[np.uint8], *, bgr: bool, unit: float, mean: Any, std: Any) -> Any:
    """The foreign file on pixels prepared one by one, and its rows divided by their length."""
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    planes = [images[..., place].astype(np.float32) * np.float32(unit) for place in ((2, 1, 0) if bgr else (0, 1, 2))]
    pixels = np.stack([(plane - m) / s for plane, m, s in zip(planes, mean, std, strict=True)], axis=1)
    (rows,) = session.run(None, {"input": pixels.astype(np.float32)})
    return rows / np.sqrt((rows**2).sum(axis=1, keepdims=True))


def embedded(path: Path, images: NDArray[np.uint8]) -> NDArray[np.float32]:
    with OnnxEngine(path, threads=1) as engine:
        return engine.run(images)


def test_pixels_go_in_as_the_preset_says(foreign: Path, imported: Any) -> None:
    report = imported(foreign, preset="torchreid")
    expected = by_hand(foreign, crops(), bgr=False, unit=1 / 255, mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225))
    np.testing.assert_allclose(embedded(report.path, crops()), expected, atol=1e-5)
    assert report.path.name == "net_v2_fp32.onnx" and report.parity.crops == 8


def test_bgr_of_0_to_255_with_a_mean_of_its_own(foreign: Path, imported: Any) -> None:
    report = imported(foreign, **CAFFE)
    expected = by_hand(foreign, crops(), bgr=True, unit=1, mean=CAFFE["mean"], std=CAFFE["std"])
    np.testing.assert_allclose(embedded(report.path, crops()), expected, atol=1e-5)
    wrong = by_hand(foreign, crops(), bgr=False, unit=1, mean=CAFFE["mean"], std=CAFFE["std"])
    assert np.abs(wrong - expected).max() > 0.01, "the test cannot tell RGB from BGR"
    assert report.card.mean == pytest.approx([value / 255 for value in (123.68, 116.78, 103.94)])
    assert report.card.std == pytest.approx([value / 255 for value in (58.0, 57.5, 57.0)])


def test_raw_pixels_need_no_operators(foreign: Path, imported: Any) -> None:
    """As fast-reid's files, which normalise inside."""
    report = imported(foreign, preset="fast-reid")
    graph, _ = read_graph(report.path)
    assert [node.op_type for node in graph.nodes[:3]] == ["Cast", "Transpose", "Conv"]
    expected = by_hand(foreign, crops(), bgr=False, unit=1, mean=(0, 0, 0), std=(1, 1, 1))
    np.testing.assert_allclose(embedded(report.path, crops()), expected, atol=1e-5)


def test_the_card_says_where_the_model_came_from(foreign: Path, imported: Any) -> None:
    report = imported(foreign, name="net")
    _, card = read_graph(report.path)
    assert card == report.card and report.path.name == "net_fp32.onnx"
    assert (card.architecture, card.embedding_dim, card.input_hw, card.resize) == (
        "net",
        24,
        FOREIGN_HW,
        "pillow-bilinear",
    )
    convolutions = 32 * 16 * (8 * 27 + 16 * 8)  # [32, 16] pixels, of 3 x 3 and 1 x 1
    assert card.macs == convolutions + 24 * 64
    recipe = card.recipe
    assert recipe["imported_from"] == "net.v2.onnx" and recipe["producer"] == "pytorch 1.13"
    assert recipe["sha256"] == hashlib.sha256(foreign.read_bytes()).hexdigest()
    assert (recipe["opset"], recipe["embedding"]) == (13, "output")
    assert card.parity["max_error"] < 1e-5 and card.parity["batches"] == [1, 2, 8, 32, 64, 256]
    assert json.loads(json.dumps(report.to_dict()))["notes"] == ["opset 13 was brought to 18"]
    assert repr(report) == "<ImportReport: wrote net_fp32.onnx, from net.v2.onnx>"


def test_layers_have_the_names_of_their_modules(foreign: Path, imported: Any) -> None:
    """Also where the exporter made up a name for a weight; and the batch norm is in the convolution before it."""
    graph, _ = read_graph(imported(foreign).path)
    names = list(graph.layers)
    assert names[1:] == ["layers.0.conv", "fc"] and names[0].startswith("backbone.conv1")
    assert "BatchNormalization" not in {node.op_type for node in graph.nodes}
    assert {version.version for version in graph.model.opset_import} == {18}


def _rename(model: ModelProto, old: str, new: str) -> None:
    for node in model.graph.node:
        node.input[:] = [new if name == old else name for name in node.input]
    next(value for value in (*model.graph.input, *model.graph.initializer) if value.name == old).name = new


@pytest.mark.parametrize("name", ["Conv_{}", ""])
def test_layers_without_scopes_take_the_names_of_their_weights(name: str, tmp_path: Path, imported: Any) -> None:
    """As PyTorch before 1.13 names nodes, and other exporters name none."""

    def edit(model: ModelProto) -> None:
        for number, node in enumerate(model.graph.node):
            node.name = name.format(number)

    graph, _ = read_graph(imported(write_foreign(tmp_path / "old.onnx", edit)).path)
    assert list(graph.layers)[-1] == "fc"


@pytest.mark.parametrize("name", ["Conv_0", "model.fc.weight", "embeddings", "nchw"])
def test_an_input_may_have_a_name_that_is_given_here(name: str, tmp_path: Path, imported: Any) -> None:
    path = write_foreign(tmp_path / "named.onnx", lambda model: _rename(model, "input", name))
    plain = write_foreign(tmp_path / "plain.onnx")
    np.testing.assert_array_equal(
        embedded(imported(path).path, crops()), embedded(imported(plain, name="plain").path, crops())
    )


@pytest.mark.parametrize("batch", [0, -1])
def test_an_axis_of_no_length_is_a_free_one(batch: int, tmp_path: Path, imported: Any) -> None:
    report = imported(write_foreign(tmp_path / "free.onnx", batch=batch))
    assert report.notes == ("opset 13 was brought to 18",) and len(embedded(report.path, crops())) == 5


def _normalise(model: ModelProto) -> None:
    """End in an L2 norm, as torch.nn.functional.normalize is exported."""
    nodes = model.graph.node
    nodes[-1].output[0] = "raw"
    nodes.append(helper.make_node("ReduceL2", ["raw"], ["length"], axes=[1], keepdims=1))
    nodes.append(helper.make_node("Div", ["raw", "length"], ["output"]))


def test_a_norm_in_the_graph_is_not_repeated(tmp_path: Path, imported: Any) -> None:
    report = imported(write_foreign(tmp_path / "unit.onnx", _normalise))
    graph, _ = read_graph(report.path)
    assert [node.op_type for node in graph.nodes].count("ReduceL2") == 1
    assert report.notes[-1] == "the graph ends in an L2 norm of its own, which was not repeated"


def _fix_reshape(model: ModelProto) -> None:
    """A fixed batch of 1 that an exporter wrote into a reshape."""
    flatten = next(node for node in model.graph.node if node.op_type == "Flatten")
    flatten.op_type = "Reshape"
    del flatten.attribute[:]
    flatten.input.append("shape")
    model.graph.initializer.append(numpy_helper.from_array(np.array([1, 64]), "shape"))


@pytest.mark.parametrize("edit", [None, _fix_reshape])
def test_a_fixed_batch_is_freed(edit: Any, tmp_path: Path, imported: Any) -> None:
    path = write_foreign(tmp_path / "fixed.onnx", edit, batch=1)
    report = imported(path)
    assert report.notes[0] == "the batch was fixed at 1, and is free now"
    images = crops(7)
    alone = np.concatenate([embedded(report.path, images[i : i + 1]) for i in range(7)])
    np.testing.assert_allclose(embedded(report.path, images), alone, atol=1e-6)


def test_a_fixed_batch_above_one_is_run_as_it_is(tmp_path: Path, imported: Any) -> None:
    report = imported(write_foreign(tmp_path / "four.onnx", batch=4))
    assert report.parity.batches[0] == 1 and report.notes[0] == "the batch was fixed at 4, and is free now"
    with pytest.raises(ModelError, match="takes 100000 images at once, above 256: export it with a free batch"):
        imported(write_foreign(tmp_path / "many.onnx", batch=100_000))


def test_axes_of_length_one_are_taken_off(tmp_path: Path, imported: Any) -> None:
    def edit(model: ModelProto) -> None:
        """[N, 24, 1, 1], as a network that ends in a pooling."""
        model.graph.node[-1].output[0] = "flat_output"
        model.graph.initializer.append(numpy_helper.from_array(np.array([0, 24, 1, 1]), "four"))
        model.graph.node.append(helper.make_node("Reshape", ["flat_output", "four"], ["output"]))
        model.graph.output[0].CopyFrom(helper.make_tensor_value_info("output", TensorProto.FLOAT, ["b", 24, 1, 1]))

    report = imported(write_foreign(tmp_path / "maps.onnx", edit))
    assert embedded(report.path, crops()).shape == (5, 24)


def _with_logits(model: ModelProto) -> None:
    weights = np.ones((24, 3), np.float32)
    model.graph.initializer.append(numpy_helper.from_array(weights, "classes"))
    model.graph.node.append(helper.make_node("MatMul", ["output", "classes"], ["logits"]))
    model.graph.output.append(helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["batch", 3]))


def test_of_several_outputs_one_is_named(tmp_path: Path, imported: Any) -> None:
    path = write_foreign(tmp_path / "two.onnx", _with_logits)
    with pytest.raises(
        ModelError, match=r"2 outputs: name one as --embedding \(embedding=\): output float32 \[batch, 24"
    ):
        imported(path)
    report = imported(path, embedding="output")
    graph, card = read_graph(report.path)
    assert card.embedding_dim == 24 and "model.classes" not in graph.constants, "the classifier travels on"
    with pytest.raises(ModelError, match="has no value 'outputs'.*; did you mean output?"):
        imported(path, embedding="outputs")


def test_a_value_inside_the_graph_may_be_the_embedding(foreign: Path, imported: Any) -> None:
    report = imported(foreign, embedding="flat")
    assert report.card.embedding_dim == 64 and report.card.recipe["embedding"] == "flat"
    with pytest.raises(ModelError, match=r"'r2' is float32 \[8, 16, 32, 16\] for 8 crops, not one vector a crop"):
        imported(foreign, embedding="r2")


def test_weights_beside_the_file_are_taken_in(tmp_path: Path, imported: Any) -> None:
    """As PyTorch's exporter writes them."""
    path = tmp_path / "split.onnx"
    onnx.save(foreign_model(), path, save_as_external_data=True, location="split.onnx.data", size_threshold=0)
    report = imported(path)
    together = imported(write_foreign(tmp_path / "split_not.onnx"))
    np.testing.assert_array_equal(embedded(report.path, crops()), embedded(together.path, crops()))
    assert report.card.recipe["sha256"] != hashlib.sha256(path.read_bytes()).hexdigest()
    data = tmp_path / "split.onnx.data"
    data.write_bytes(data.read_bytes()[:-8])
    with pytest.raises(ModelError, match="not whole in the file beside it"):
        imported(path)
    data.unlink()
    with pytest.raises(ModelError, match=r"split.onnx.data, which is not there: copy both files"):
        imported(path)


def test_size_is_asked_for_where_the_graph_takes_any(tmp_path: Path, imported: Any) -> None:
    path = write_foreign(tmp_path / "any.onnx", hw=("h", "w"))
    with pytest.raises(ModelError, match="images of any size: give --size HEIGHT WIDTH"):
        imported(path, **CAFFE)
    assert imported(path, **CAFFE, size=FOREIGN_HW).card.input_hw == FOREIGN_HW
    with pytest.raises(ModelError, match=r"does not run on .* 128 x 64 pixels .*: check --size"):
        imported(path, **CAFFE, size=(128, 64))


def test_a_size_that_the_graph_does_not_take_is_refused(foreign: Path, imported: Any) -> None:
    """A preset's size is for graphs that take any: this one's own goes before it."""
    assert imported(foreign, preset="torchreid").card.input_hw == FOREIGN_HW != PRESETS["torchreid"].size
    with pytest.raises(ModelError, match=r"64 x 32 pixels alone: leave --size \(size=\) out"):
        imported(foreign, preset="torchreid", size=(256, 128))


def test_the_guide_lists_every_preset() -> None:
    guide = (Path(__file__).parents[3] / "docs/guides/import.md").read_text(encoding="utf-8")
    for name, preset in PRESETS.items():
        (row,) = [line for line in guide.splitlines() if line.startswith(f"| `{name}` |")]
        assert ("0..255" in row) == (preset.scale == 255) and f"`{preset.resize}`" in row


def test_nothing_is_guessed() -> None:
    with pytest.raises(InputError, match=r"add --mean \(mean=\), --channels \(channels=\), or --preset torchreid"):
        preprocessing_of(None, {"scale": 1, "std": (1, 1, 1)})
    with pytest.raises(InputError, match="std.*above 0"):
        preprocessing_of("torchreid", {"std": (1, 0, 1)})
    assert preprocessing_of("torchreid", {"channels": "bgr"}).channels == "bgr"
    for preset in PRESETS.values():
        preset.check()


def test_a_graph_that_is_not_the_original_is_refused(foreign: Path, imported: Any, monkeypatch: Any) -> None:
    """A wrapper that forgot the channel order: the gate sees it, and nothing is written."""
    from reid_edge.export.foreign import imported as module

    right = module.wrapped

    def forgetful(plain: Any, preprocessing: Any, *rest: Any, **options: Any) -> Any:
        order = {"mean": preprocessing.mean[::-1], "std": preprocessing.std[::-1], "channels": "rgb"}
        return right(plain, replace(preprocessing, **order), *rest, **options)

    monkeypatch.setattr(module, "wrapped", forgetful)
    with pytest.raises(GateError, match=r"fp32 differs from the reference on 8 crops: .*export the model in eval mode"):
        imported(foreign, **CAFFE)
    assert not list((foreign.parent / "out").glob("*.onnx"))


def test_the_command(foreign: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    given = (
        "--scale 255 --mean 1 2 3 --std 4 5 6 --channels bgr --size 64 32 --input-format nchw-float --name n".split()
    )
    with pytest.raises(SystemExit) as ended:
        main(["import", str(foreign), "--out", str(tmp_path), *given, "--json", str(tmp_path / "r.json")])
    assert ended.value.code == 0, capsys.readouterr().err
    assert "n_fp32.onnx: opset 13 was brought to 18" in capsys.readouterr().out
    card = json.loads((tmp_path / "r.json").read_text())["card"]
    assert card["std"] == pytest.approx([6 / 255, 5 / 255, 4 / 255])
