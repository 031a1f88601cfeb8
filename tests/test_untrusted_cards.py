"""Cards, reports and caches are input: what is wrong in them is one line, whatever it is."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest
from small_network import CARD, network, random_weights

from reid_edge.card import ModelCard
from reid_edge.engine_card import EngineCard
from reid_edge.errors import InputError, ModelError
from reid_edge.export.calibrate import _read_cache
from reid_edge.export.deploy import deployed
from reid_edge.export.graph import write_onnx
from reid_edge.export.sensitivity import keep_from_json


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("architecture", "../../escaped"),
        ("architecture", "a/b"),
        ("architecture", ".hidden"),
        ("architecture", "x" * 101),
        ("architecture", ""),
        ("precision", "bf16"),
        ("layout", "nchw"),
        ("input_hw", [1e999, 16]),
        ("mean", [10**400, 0.5, 0.5]),
        ("std", [float("nan"), 0.5, 0.5]),
        ("quantization", {"layers": {"a": ["abc"]}}),
        ("quantization", {"layers": {"a": [None]}}),
        ("quantization", {"layers": {"a": [-1.0]}}),
        ("quantization", {"layers": {"a": [float("inf")]}}),
        ("quantization", {"layers": {"a": 1.0}}),
        ("quantization", {"layers": [1.0]}),
    ],
)
def test_a_bad_card_is_one_line(field: str, value: Any) -> None:
    raw = {**json.loads(CARD.to_json()), field: value}
    with pytest.raises(ModelError, match=r"^f\.onnx: bad model card \(.*\): export the model again$"):
        ModelCard.from_dict(raw, "f.onnx")


def test_a_good_card_is_read_back() -> None:
    card = CARD.with_(architecture="osnet_x0_25", quantization={"layers": {"a": [1.0, 0]}, "note": "mse"})
    assert ModelCard.from_json(card.to_json()) == card


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"layers": {"a": 1e999}}, "no card of an engine"),
        ({"options": {"batches": [5, 0, -3]}}, "do not grow from 1"),
        ({"options": {"batches": [1, 2, 1 << 40]}}, "do not grow from 1"),
        ({"options": {"batches": "1:2:3"}}, "not three numbers"),
    ],
)
def test_a_bad_engine_card_is_one_line(change: dict[str, Any], said: str, tmp_path: Path) -> None:
    card = EngineCard(CARD, "0" * 64, "tensorrt", "10.3.0", options={"batches": [1, 2, 4]})
    engine = tmp_path / "m.engine"
    EngineCard.path_for(engine).write_text(card.to_json())
    assert EngineCard.read(engine) == card
    EngineCard.path_for(engine).write_text(json.dumps({**json.loads(card.to_json()), **change}))
    with pytest.raises(ModelError, match=said):
        EngineCard.read(engine)


def test_a_report_without_end_is_refused(tmp_path: Path) -> None:
    (tmp_path / "deep.json").write_text("[" * 100_000)
    with pytest.raises(InputError, match='has no "keep"'):
        keep_from_json(tmp_path / "deep.json")


@pytest.mark.parametrize("value", ["Infinity", "NaN", "-1", "1e300", "null", '"a"'])
def test_a_cache_of_impossible_ranges_is_none(value: str, tmp_path: Path) -> None:
    (tmp_path / "cache.json").write_text(f'{{"ranges": {{"x": {value}}}}}')
    assert _read_cache(tmp_path / "cache.json", ["x"]) is None
    (tmp_path / "cache.json").write_text('{"ranges": {"x": 2.5}}')
    assert _read_cache(tmp_path / "cache.json", ["x"]) == {"x": 2.5}


def test_a_folders_name_is_no_command(tmp_path: Path) -> None:
    """The shell reads the script back as one word a path."""
    folder = tmp_path / "a b;touch x"
    folder.mkdir()
    write_onnx(network(random_weights()), CARD, folder / "m.onnx")
    (script,) = deployed(folder / "m.onnx", folder, "trtexec", (1, 4, 8))
    shown = script.read_text().replace("\ntrtexec ", "\nprintf '%s\\n' ")
    words = subprocess.run(["sh", "-c", shown], capture_output=True, text=True, cwd=tmp_path).stdout.splitlines()
    assert words[:2] == [f"--onnx={folder}/m.onnx", f"--saveEngine={folder}/m_trtexec.engine"]
    assert not (tmp_path / "x").exists()
