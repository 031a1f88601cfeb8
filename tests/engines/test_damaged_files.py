"""Damaged ONNX files, edited ones and those whose card lies: refused in one line, or the same embeddings."""

from __future__ import annotations

import hashlib
import json
import random
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from helpers.log import logged
from helpers.small_network import CARD, images_of, network, random_weights
from onnx import TensorProto, helper, numpy_helper

from reid_edge.card import CARD_KEY
from reid_edge.engines import onnx_file
from reid_edge.engines.onnx_file import SEAL_KEY, OnnxFile, check_content, checked_file, seal_of
from reid_edge.engines.onnxruntime import OnnxEngine
from reid_edge.errors import ModelError
from reid_edge.export.graph.fp16 import fp16_from_fp32
from reid_edge.export.graph.graph import Graph
from reid_edge.export.graph.input_format import in_input_format
from reid_edge.export.graph.io import read_graph, write_onnx
from reid_edge.export.int8.layers import quantized_values
from reid_edge.export.int8.qdq import quantized

CHANGED = "was changed after export, or damaged"


def _graph(precision: str) -> Graph:
    graph = network(random_weights())
    if precision == "fp32":
        return graph
    if precision == "fp16":
        return fp16_from_fp32(graph)
    return quantized(graph, dict.fromkeys(quantized_values(graph), 3.0))


def _content(precision: str, folder: Path) -> bytes:
    """A file as an export writes it."""
    write_onnx(_graph(precision), CARD.with_(precision=precision), folder / "whole.onnx")
    return (folder / "whole.onnx").read_bytes()


def _sealed(model: onnx.ModelProto) -> bytes:
    """A file with a seal, whatever is in it."""
    content: bytes = model.SerializeToString()
    return content + seal_of(content)


def _with_card(text: bytes) -> bytes:
    """A file of an earlier version, without a seal, with any bytes for its card."""
    model = network(random_weights()).copy()
    helper.set_model_props(model, {CARD_KEY: "?" * len(text)})
    content: bytes = model.SerializeToString()
    return content.replace(b"?" * len(text), text)


def _embeddings(path: Path) -> Any:
    with OnnxEngine(path, threads=1) as engine:
        return engine.run(images_of(3))


def _refusal(path: Path, content: bytes) -> str:
    """The one line in which the engine and the export refuse a file alike."""
    path.write_bytes(content)
    lines = set()
    for opened in (_embeddings, read_graph):
        with pytest.raises(ModelError) as caught:
            opened(path)
        lines.add(str(caught.value))
    (line,) = lines
    assert str(path) in line and "\n" not in line and len(line) < 500
    return line


def _damages(content: bytes, rng: random.Random) -> Iterator[bytes]:
    """A flipped bit in one of every 48 bytes, cuts, swapped blocks, zeroed blocks, and bytes more."""
    for start in range(0, len(content), 48):
        place = min(start + rng.randrange(48), len(content) - 1)
        yield content[:place] + bytes([content[place] ^ 1 << rng.randrange(8)]) + content[place + 1 :]
    for _ in range(40):
        yield content[: rng.randrange(1, len(content))]
        size = rng.choice([1, 4, 32, 256])
        first = rng.randrange(len(content) - 2 * size)
        second = rng.randrange(first + size, len(content) - size)
        one, other = content[first : first + size], content[second : second + size]
        yield content[:first] + other + content[first + size : second] + one + content[second + size :]
        yield content[:first] + bytes(size) + content[first + size :]
        yield content + rng.randbytes(size)


@pytest.mark.parametrize("precision", ["fp32", "fp16", "int8"])
def test_a_damaged_file_is_refused_or_gives_the_same_embeddings(precision: str, tmp_path: Path) -> None:
    path, content = tmp_path / "m.onnx", _content(precision, tmp_path)
    whole, refused = _embeddings(tmp_path / "whole.onnx"), 0
    for damaged in _damages(content, random.Random(precision)):
        path.write_bytes(damaged)
        try:
            np.testing.assert_array_equal(_embeddings(path), whole)
            assert damaged == content, "damage that nothing saw"
        except ModelError as error:
            assert "\n" not in str(error)
            refused += 1
    assert refused > 200


def test_every_flipped_bit_of_the_seal_and_of_the_cards_word_for_it_is_seen(tmp_path: Path) -> None:
    """None of them makes the file pass for one of an earlier version, which has no seal."""
    content = _content("fp32", tmp_path)
    word = content.index(b'"sealed": true')
    places = [*range(word, word + 14), *range(len(content) - len(seal_of(b"")), len(content))]
    for place in places:
        for bit in range(8):
            flipped = content[:place] + bytes([content[place] ^ 1 << bit]) + content[place + 1 :]
            with pytest.raises(ModelError):
                check_content(flipped, "m.onnx")
    for cut in (1, 64, len(seal_of(b""))):
        with pytest.raises(ModelError, match=f"{CHANGED}|breaks off"):
            check_content(content[:-cut], "m.onnx")


def test_the_seal_is_the_hash_of_all_bytes_before_it_and_the_last_property(tmp_path: Path) -> None:
    content = _content("fp32", tmp_path)
    properties = onnx.load_from_string(content).metadata_props
    assert properties[-1].key == SEAL_KEY == "reid_edge.sha256"
    assert properties[-1].value == hashlib.sha256(content[:-64]).hexdigest() == content[-64:].decode()
    file = check_content(content, "m.onnx")
    assert file == OnnxFile(CARD, hashlib.sha256(content).hexdigest()) and file.card.sealed


def test_a_file_edited_by_another_program_says_that_it_was_changed_after_export(tmp_path: Path) -> None:
    path = tmp_path / "m.onnx"
    model = onnx.load_from_string(_content("fp32", tmp_path))
    model.graph.initializer[0].raw_data = model.graph.initializer[0].raw_data[::-1]
    assert CHANGED in _refusal(path, model.SerializeToString())
    kept = {each.key: each.value for each in model.metadata_props if each.key != SEAL_KEY}
    helper.set_model_props(model, kept)  # without the seal
    assert CHANGED in _refusal(path, model.SerializeToString())
    model.metadata_props.add(key="note", value="mine")
    assert CHANGED in _refusal(path, model.SerializeToString())


def test_a_file_of_an_earlier_version_opens_with_one_note(tmp_path: Path) -> None:
    path = tmp_path / "m.onnx"
    path.write_bytes(_content("fp32", tmp_path))
    whole = _embeddings(path)
    path.write_bytes(_with_card(CARD.to_json().encode()))
    with logged() as messages:
        np.testing.assert_array_equal(_embeddings(path), whole)
    assert messages == [f"{path} has no seal, as files of earlier versions, and damage may go unseen: export it again"]
    path.write_bytes(_with_card(CARD.with_(weights_sha256="").to_json().encode()))
    assert read_graph(path)[1].weights_sha256 == ""


def test_a_file_that_is_replaced_while_it_opens_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "m.onnx"
    path.write_bytes(_content("fp32", tmp_path))
    with checked_file(path):
        path.read_bytes()
    with pytest.raises(ModelError, match=r"m\.onnx was changed while it was opened: open it again"), checked_file(path):
        write_onnx(network(random_weights()), CARD, path)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"precision": "fp16"}, "says fp16, and its graph is fp32"),
        ({"precision": "int8"}, "says int8, and its graph is fp32"),
        ({"mean": (0.0, 0.0, 0.01)}, "says mean [0.0, 0.0, 0.01], and its graph has another one"),
        ({"std": (0.4, 0.4, 0.4)}, "says std [0.4, 0.4, 0.4], and its graph has another one"),
        ({"weights_sha256": "0" * 64}, "weights_sha256 is not a hash"),
        ({"weights_sha256": "5e"}, "weights_sha256 is not a hash"),
        ({"weights_sha256": ""}, "weights_sha256 is missing"),
    ],
)
def test_a_sealed_file_whose_card_lies(change: dict[str, Any], said: str, tmp_path: Path) -> None:
    nodes = network(random_weights()).copy()
    nodes.graph.node[2].input[0] = "centred"
    nodes.graph.node.insert(2, helper.make_node("Sub", ["nchw", "mean"], ["centred"], name="centre"))
    nodes.graph.initializer.append(numpy_helper.from_array(np.zeros((1, 3, 1, 1), np.float32), "mean"))
    write_onnx(Graph(nodes), CARD, tmp_path / "true.onnx")
    _embeddings(tmp_path / "true.onnx")
    write_onnx(Graph(nodes), CARD.with_(**change), tmp_path / "m.onnx")
    line = _refusal(tmp_path / "m.onnx", (tmp_path / "m.onnx").read_bytes())
    assert said in line and line.endswith("export the model again")


@pytest.mark.parametrize("precision", ["fp16", "int8"])
def test_a_file_that_says_fp32_and_is_not(precision: str, tmp_path: Path) -> None:
    write_onnx(_graph(precision), CARD, tmp_path / "m.onnx")
    said = f"says fp32, and its graph is {precision}"
    assert said in _refusal(tmp_path / "m.onnx", (tmp_path / "m.onnx").read_bytes())


@pytest.mark.parametrize(
    "change", [{"embedding_dim": 9}, {"input_hw": (16, 32)}, {"input_format": "nchw-float"}], ids=str
)
def test_a_sealed_file_of_other_sizes_than_its_card(change: dict[str, Any], tmp_path: Path) -> None:
    path = tmp_path / "m.onnx"
    write_onnx(network(random_weights()), CARD.with_(**change), path)
    for opened in (_embeddings, read_graph):
        with pytest.raises(ModelError, match=r"m\.onnx: its graph has images.* and its card says images"):
            opened(path)
    write_onnx(*in_input_format(network(random_weights()), CARD, "nchw-float"), path)
    assert read_graph(path)[0].input_format == "nchw-float"


def test_weights_that_are_not_finite_are_neither_written_nor_read(tmp_path: Path) -> None:
    weights = random_weights()
    weights["model.fc.0.bias"][3] = np.nan
    with pytest.raises(
        ModelError, match=r"^the weights 'model\.fc\.0\.bias' are not finite: take an earlier checkpoint"
    ):
        write_onnx(network(weights), CARD, tmp_path / "m.onnx")
    assert not list(tmp_path.iterdir())
    model = network(weights).copy()
    helper.set_model_props(model, {CARD_KEY: CARD.with_(sealed=True).to_json()})
    (tmp_path / "m.onnx").write_bytes(_sealed(model))
    with pytest.raises(ModelError, match=r"m\.onnx: its weights 'model\.fc\.0\.bias' are not finite"):
        read_graph(tmp_path / "m.onnx")
    with pytest.raises(ModelError, match="embeddings of a batch are not finite"):
        _embeddings(tmp_path / "m.onnx")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (b'{"architecture": "\xff\xfe"}', "its model card is not UTF-8 text"),
        (b'{"a": ' * 5000 + b"1" + b"}" * 5000, "its model card is not JSON"),
        (json.dumps({**json.loads(CARD.to_json()), "recipe": {"\x1b[2J": 1}}).encode(), "holds control characters"),
    ],
)
def test_a_card_of_odd_bytes_is_one_line(text: bytes, said: str, tmp_path: Path) -> None:
    assert said in _refusal(tmp_path / "m.onnx", _with_card(text))


def _external(tensor: TensorProto) -> TensorProto:
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value="other.bin")
    return tensor


def _in_the_graph(model: onnx.ModelProto) -> None:
    _external(model.graph.initializer[0])


def _by_its_location_alone(model: onnx.ModelProto) -> None:
    model.graph.initializer[0].data_location = TensorProto.EXTERNAL


def _with_another_key_first(model: onnx.ModelProto) -> None:
    model.graph.initializer[0].external_data.add(key="offset", value="0")


def _in_a_constant(model: onnx.ModelProto) -> None:
    tensor = _external(numpy_helper.from_array(np.ones(3, np.float32), "hidden"))
    model.graph.node.append(helper.make_node("Constant", [], ["hidden"], value=tensor))


def _in_a_branch(model: onnx.ModelProto) -> None:
    tensor = _external(numpy_helper.from_array(np.ones(3, np.float32), "hidden"))
    branch = helper.make_graph([helper.make_node("Identity", ["hidden"], ["out"])], "branch", [], [], [tensor])
    inner = helper.make_graph([helper.make_node("If", ["c"], ["o"], then_branch=branch)], "outer", [], [])
    model.graph.node.append(helper.make_node("If", ["c"], ["o"], then_branch=inner, else_branch=inner))


def _in_a_sparse_tensor(model: onnx.ModelProto) -> None:
    values = _external(numpy_helper.from_array(np.ones(3, np.float32), "hidden"))
    model.graph.sparse_initializer.add().values.CopyFrom(values)


def _in_a_function(model: onnx.ModelProto) -> None:
    tensor = _external(numpy_helper.from_array(np.ones(3, np.float32), "hidden"))
    node = helper.make_node("Constant", [], ["hidden"], value=tensor)
    model.functions.append(helper.make_function("own", "f", [], ["hidden"], [node], [helper.make_opsetid("", 18)]))


@pytest.mark.parametrize(
    "hide",
    [
        _in_the_graph,
        _by_its_location_alone,
        _with_another_key_first,
        _in_a_constant,
        _in_a_branch,
        _in_a_sparse_tensor,
        _in_a_function,
    ],
    ids=lambda hide: hide.__name__,
)
def test_weights_in_another_file_are_found_wherever_they_hide(
    hide: Callable[[onnx.ModelProto], None], tmp_path: Path
) -> None:
    model = network(random_weights()).copy()
    hide(model)
    assert "has its weights in another file: run  reid-edge export" in _refusal(tmp_path / "m.onnx", _sealed(model))


def test_bytes_that_look_like_a_location_are_weights(tmp_path: Path) -> None:
    weights = random_weights()
    looks = b"\n\x08location\x12\x09other.bin\x00\x00\x00"
    weights["model.fc.0.bias"][:6] = np.frombuffer(looks, "<f4")
    write_onnx(network(weights), CARD, tmp_path / "m.onnx")
    assert looks in (tmp_path / "m.onnx").read_bytes()
    with OnnxEngine(tmp_path / "m.onnx") as engine:  # such weights are too large to run
        assert engine.card == read_graph(tmp_path / "m.onnx")[1] == CARD


def test_graphs_nested_without_end_and_fields_without_number_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    inner = b""
    for level in range(3000):
        for field in (0x0A, 0x2A, 0x32):  # a node of a graph, an attribute of a node, a graph of an attribute
            if level == 0 and field == 0x32:
                break
            inner = bytes([field]) + _size(len(inner)) + inner
    with pytest.raises(ModelError, match=r"m\.onnx was not written by reid-edge export"):
        check_content(b"\x3a" + _size(len(inner)) + inner, "m.onnx")
    monkeypatch.setattr(onnx_file, "_MAX_FIELDS", 100)
    check = b"\x08\x08" * 99
    with pytest.raises(ModelError, match="was not written by"):
        check_content(check, "m.onnx")
    with pytest.raises(ModelError, match="over 100 fields"):
        check_content(check + b"\x08\x08", "m.onnx")


@pytest.mark.parametrize(
    "content", [b"\x3a\xff\xff\xff\xff\x7f", b"\x3a\x05ab", b"\x0b", b"\x80" * 12, b"\x02\x01", b"\x3a"], ids=repr
)
def test_bytes_that_are_no_protobuf(content: bytes) -> None:
    with pytest.raises(ModelError, match=r"^m\.onnx is damaged, or not an ONNX file \(it breaks off, or"):
        check_content(content, "m.onnx")


def _size(value: int) -> bytes:
    out = b""
    while value > 127:
        out, value = out + bytes([value & 127 | 128]), value >> 7
    return out + bytes([value])
