"""The ONNX Runtime engine: the right numbers, the caller's own, and one line for files that are not ours."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import onnx
import pytest
from helpers.tiny_onnx import tiny_card, tiny_embeddings, tiny_model, write_tiny_model
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from reid_edge.card import CARD_KEY, ModelCard
from reid_edge.engines.onnx_file import seal_of
from reid_edge.engines.onnxruntime import OnnxEngine
from reid_edge.engines.registry import open_engine
from reid_edge.errors import InputError, ModelError
from reid_edge.export.graph.graph import Graph
from reid_edge.export.graph.io import write_onnx

HW = (32, 16)


def _crops(number: int, seed: int = 0) -> NDArray[np.uint8]:
    return np.random.default_rng(seed).integers(0, 256, (number, *HW, 3), np.uint8)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("model") / "tiny.onnx"
    return write_tiny_model(path, input_hw=HW, embedding_dim=10)


@pytest.mark.parametrize("number", [1, 3, 8])
def test_embeddings_are_those_of_the_definition(model: Path, number: int) -> None:
    with open_engine(model, threads=1, max_batch=8) as engine:
        embeddings = engine.run(_crops(number))
    assert embeddings.shape == (number, 10) and embeddings.dtype == np.float32
    np.testing.assert_allclose(embeddings, tiny_embeddings(_crops(number), embedding_dim=10), atol=1e-5)
    np.testing.assert_allclose(np.linalg.norm(embeddings, axis=1), 1, atol=1e-6)


def test_the_card_is_read_from_the_file(tmp_path: Path) -> None:
    path = write_tiny_model(tmp_path / "a.onnx", input_hw=HW, resize="pillow-bilinear", recipe={"epochs": 3})
    with OnnxEngine(path) as engine:
        assert (engine.card.input_hw, engine.card.resize) == (HW, "pillow-bilinear")
        assert (engine.card.embedding_dim, engine.card.recipe) == (24, {"epochs": 3})


def test_no_later_run_writes_into_a_result(model: Path) -> None:
    with OnnxEngine(model, threads=1) as engine:
        first = engine.run(_crops(4, seed=1))
        kept = first.copy()
        for seed in range(2, 12):
            engine.run(_crops(4, seed))
    assert first.flags.owndata and first.flags.writeable
    np.testing.assert_array_equal(first, kept)


def test_crops_in_any_memory_order_are_the_same_crops(model: Path) -> None:
    crops = _crops(4)
    with OnnxEngine(model, threads=1) as engine:
        wanted = engine.run(crops)
        np.testing.assert_array_equal(engine.run(np.asfortranarray(crops)), wanted)
        np.testing.assert_array_equal(engine.run(np.repeat(crops, 2, axis=0)[::2]), wanted)


def test_several_threads_may_run_one_engine(model: Path) -> None:
    with OnnxEngine(model, threads=1) as engine, ThreadPoolExecutor(4) as pool:
        results = list(pool.map(lambda seed: engine.run(_crops(3, seed)), range(24)))
        for seed, result in enumerate(results):
            np.testing.assert_array_equal(result, engine.run(_crops(3, seed)))


def test_batches_that_do_not_fit_are_refused(model: Path) -> None:
    with OnnxEngine(model, threads=1, max_batch=4) as engine:
        for crops in (_crops(0), _crops(5)):
            with pytest.raises(ModelError, match=r"outside 1\.\.4"):
                engine.run(crops)
        for wrong in (_crops(1)[0], _crops(1).transpose(0, 2, 1, 3), _crops(1).astype(np.float32)):
            with pytest.raises(ModelError, match=r"takes uint8 \[N, 32, 16, 3\] RGB"):
                engine.run(wrong)  # type: ignore[arg-type]


def test_an_engine_works_only_while_open_and_may_be_opened_again(model: Path) -> None:
    engine = OnnxEngine(model)
    with pytest.raises(ModelError, match="is not open: use  with open_engine"):
        _ = engine.card
    for _ in range(2):
        with engine:
            engine.run(_crops(1))
        with pytest.raises(ModelError, match="is not open"):
            engine.run(_crops(1))


def test_wrong_options_say_what_is_right(model: Path) -> None:
    with pytest.raises(InputError, match="0 threads"):
        OnnxEngine(model, threads=0)
    with pytest.raises(InputError, match="maximum batch of 0"):
        OnnxEngine(model, max_batch=0)
    with pytest.raises(InputError, match="no provider AbacusExecutionProvider.*CPUExecutionProvider"):
        OnnxEngine(model, providers=["AbacusExecutionProvider"]).__enter__()
    with OnnxEngine(model, providers=["CPUExecutionProvider"]) as engine:
        assert engine.run(_crops(1)).shape == (1, 10)


def _one_line(path: Path) -> str:
    with pytest.raises(InputError) as caught:
        OnnxEngine(path).__enter__()
    text = str(caught.value)
    assert str(path) in text and "\n" not in text
    return text


def test_files_that_are_no_model(tmp_path: Path, model: Path) -> None:
    path = tmp_path / "m.onnx"
    assert "does not exist" in _one_line(path)
    assert "is a folder" in _one_line(tmp_path)
    for content in (b"no model at all", model.read_bytes()[:300]):
        path.write_bytes(content)
        assert "copy or export the model again" in _one_line(path)
    path.write_bytes(b"")
    assert "is empty" in _one_line(path)


def test_a_file_over_two_gibibytes_is_refused_unread(tmp_path: Path) -> None:
    path = tmp_path / "huge.onnx"
    with open(path, "wb") as file:
        file.truncate((2 << 30) + 1)  # sparse: takes no disk
    assert "over 2 GiB" in _one_line(path)


def test_weights_in_another_file_are_refused_whether_it_is_there_or_not(tmp_path: Path) -> None:
    path = tmp_path / "m.onnx"
    onnx.save(
        tiny_model(input_hw=HW, embedding_dim=10),
        str(path),
        save_as_external_data=True,
        location="m.data",
        size_threshold=0,
    )
    assert "weights in another file: run  reid-edge export" in _one_line(path)
    (tmp_path / "m.data").unlink()
    assert "weights in another file" in _one_line(path)


def test_a_model_of_another_maker_is_refused_with_the_remedy(tmp_path: Path) -> None:
    path = tmp_path / "m.onnx"
    onnx.save(tiny_model(input_hw=HW), str(path))
    assert "was not written by reid-edge export: run  reid-edge export CHECKPOINT --out DIR" in _one_line(path)


def test_the_development_model_of_another_exporter_is_refused(dev_onnx: Path) -> None:
    assert "was not written by reid-edge export" in _one_line(dev_onnx)


@pytest.mark.parametrize(
    ("card", "complaint"),
    [
        ("{", "its model card is not JSON"),
        ("[1]", "not a JSON object"),
        (json.dumps({"schema": 7}), "schema 7 is unknown"),
        (json.dumps({"schema": 1}), "bad model card"),
        (
            ModelCard("tiny", 24, input_hw=(64, 16)).to_json(),
            "card says images tensor(uint8) [N, 64, 16, 3]",
        ),
        (ModelCard("tiny", 25, input_hw=HW).to_json(), "embeddings tensor(float) [N, 25]"),
    ],
)
def test_cards_that_cannot_be_read_or_are_of_another_model(tmp_path: Path, card: str, complaint: str) -> None:
    model = tiny_model(input_hw=HW)
    helper.set_model_props(model, {CARD_KEY: card})
    onnx.save(model, str(tmp_path / "m.onnx"))
    text = _one_line(tmp_path / "m.onnx")
    assert complaint in text and "export" in text


def test_warnings_of_onnx_runtime_stay_off_the_terminal(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    model = tiny_model(input_hw=HW)
    model.graph.initializer.append(numpy_helper.from_array(np.zeros(3), "unused"))  # ONNX Runtime warns of it
    write_onnx(Graph(model, tidy=True), tiny_card(input_hw=HW), tmp_path / "m.onnx")
    with OnnxEngine(tmp_path / "m.onnx") as engine:
        engine.run(_crops(1))
    assert capfd.readouterr() == ("", "")


def _pretender(path: Path, name: str, kind: int, shape: list[str | int], output: str = "embeddings") -> Path:
    """A graph that carries our card and has another input or output than ours."""
    nodes = [
        helper.make_node("Cast", [name], ["float"], to=TensorProto.FLOAT),
        helper.make_node("ReduceMean", ["float"], ["mean"], axes=[1, 2], keepdims=0),
        helper.make_node("Identity", ["mean"], [output]),
    ]
    inputs = [helper.make_tensor_value_info(name, kind, shape)]
    outputs = [helper.make_tensor_value_info(output, TensorProto.FLOAT, [shape[0], 3])]
    model = helper.make_model(
        helper.make_graph(nodes, "g", inputs, outputs),
        opset_imports=[helper.make_opsetid("", 17)],
        ir_version=8,
    )
    helper.set_model_props(model, {CARD_KEY: tiny_card(input_hw=HW, stripes=1).with_(sealed=True).to_json()})
    content = model.SerializeToString()  # write_onnx would refuse shapes that do not agree
    path.write_bytes(content + seal_of(content))
    return path


def test_graphs_that_are_not_as_their_card_says(tmp_path: Path) -> None:
    path = tmp_path / "m.onnx"
    with OnnxEngine(_pretender(path, "images", TensorProto.UINT8, ["N", 32, 16, 3])) as engine:
        assert engine.card.embedding_dim == 3  # the rest of this test differs from this one thing by thing
    assert "has input tensor(uint8)" in _one_line(_pretender(path, "input", TensorProto.UINT8, ["N", 32, 16, 3]))
    assert "images tensor(float)" in _one_line(_pretender(path, "images", TensorProto.FLOAT, ["N", 32, 16, 3]))
    assert "[N, 3, 32, 16]" in _one_line(_pretender(path, "images", TensorProto.UINT8, ["N", 3, 32, 16]))
    assert "[4, 32, 16, 3]" in _one_line(_pretender(path, "images", TensorProto.UINT8, [4, 32, 16, 3]))
    swapped = _pretender(path, "images", TensorProto.UINT8, ["N", 32, 16, 3], output="features")
    assert "features tensor(float)" in _one_line(swapped)


def test_embeddings_that_are_not_finite_are_an_error_that_names_the_rows(tmp_path: Path) -> None:
    model = tiny_model(input_hw=HW, embedding_dim=10)
    for tensor in model.graph.initializer:
        if tensor.name == "weights":  # finite weights, and products beyond float32, as an FP16 overflow gives
            huge = np.zeros_like(numpy_helper.to_array(tensor))
            huge[0] = 3e38
            tensor.CopyFrom(numpy_helper.from_array(huge, "weights"))
    write_onnx(Graph(model), tiny_card(input_hw=HW, embedding_dim=10), tmp_path / "m.onnx")
    crops = np.full((4, *HW, 3), 124, np.uint8)  # near the mean: a small product
    crops[[1, 3]] = 255
    with OnnxEngine(tmp_path / "m.onnx") as engine:
        # On aarch64 ONNX Runtime's L2 norm overflows before its input does: there the rows are zero.
        with pytest.raises(ModelError, match=r"of 4 embeddings of a batch are (not finite \(rows 1, 3\)|zero .*): use"):
            engine.run(crops)
