"""Cards, reports and caches are input: what is wrong in them is one line, whatever it is."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import pytest
from helpers.small_network import CARD

from reid_edge.card import ModelCard
from reid_edge.engines.engine_card import EngineCard
from reid_edge.errors import InputError, ModelError
from reid_edge.export.int8.calibrate import _read_cache
from reid_edge.export.int8.sensitivity_report import keep_from_json

NESTED: list[Any] = []
for _ in range(600):  # as deep as json reads, and deeper than it writes
    NESTED = [NESTED]


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("architecture", "../../escaped"),
        ("architecture", "a/b"),
        ("architecture", ".hidden"),
        ("architecture", "x" * 101),
        ("architecture", ""),
        ("precision", "bf16"),
        ("input_format", "nchw"),
        ("input_hw", [1e999, 16]),
        ("mean", [10**400, 0.5, 0.5]),
        ("std", [float("nan"), 0.5, 0.5]),
        ("std", [0.2, 0.2, 0]),
        ("input_hw", [16.5, 16]),
        ("embedding_dim", 0),
        ("embedding_dim", 8.0),
        ("embedding_dim", [8] * 100_000),
        ("embedding_dim", True),
        ("parameters", -1),
        ("macs", 10**300),
        ("weights_sha256", "0" * 64),
        ("weights_sha256", "5E" * 32),
        ("weights_sha256", "5e" * 31),
        ("sealed", "yes"),
        ("trained_on", "a\nb"),
        ("made_with", "\ud800"),
        ("options", {"a\x1b[2J": 1}),
        ("options", ["feature_dim"]),
        ("recipe", {"a": [{"b": "\r"}]}),
        ("parity", {"a": NESTED}),
        ("quantization", {"layers": {"a": ["abc"]}}),
        ("quantization", {"layers": {"a": [None]}}),
        ("quantization", {"layers": {"a": [-1.0]}}),
        ("quantization", {"layers": {"a": [float("inf")]}}),
        ("quantization", {"layers": {"a": 1.0}}),
        ("quantization", {"layers": [1.0]}),
        ("quantization", {"residuals": {"a": [-1.0]}}),
        ("quantization", {"residuals": {"a": 1.0}}),
    ],
)
def test_a_bad_card_is_one_line(field: str, value: Any) -> None:
    raw = {**json.loads(CARD.to_json()), field: value}
    with pytest.raises(ModelError, match=r"^f\.onnx: bad model card \(.*\): export the model again$") as caught:
        ModelCard.from_dict(raw, "f.onnx")
    assert str(caught.value).isprintable() and len(str(caught.value)) < 300


def test_a_good_card_is_read_back() -> None:
    card = CARD.with_(architecture="osnet_x0_25", quantization={"layers": {"a": [1.0, 0]}, "note": "mse"})
    assert ModelCard.from_json(card.to_json()) == card
    assert ModelCard.from_json(card.with_(trained_on="données/市场 1501").to_json()).trained_on == "données/市场 1501"
    assert ModelCard.from_json(card.with_(sealed=True).to_json()).sealed


def test_what_a_bad_card_holds_is_not_shown_whole() -> None:
    for text in (json.dumps({"schema": [7] * 9999}), "[" * 100_000, "9" * 5000, '{"a' * 9999, "null"):
        with pytest.raises(ModelError, match=r"^f\.onnx: (its )?model card ") as caught:
            ModelCard.from_json(text, "f.onnx")
        assert str(caught.value).isprintable() and len(str(caught.value)) < 350


ENGINE_CARD = EngineCard(
    CARD,
    "0" * 64,
    "tensorrt",
    "10.3.0",
    gpu={"name": "Orin", "compute_capability": "8.7", "multiprocessors": 8, "driver": "12.6"},
    engine_sha256="1" * 64,
    options={"batches": [1, 2, 4]},
    layers={"conv Half -> Half": 3},
)


def planted(content: dict[str, Any], engine: Path) -> None:
    """Write a card with a seal that fits, so that what is wrong in it is found by itself."""
    content.pop("sha256", None)
    seal = hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()
    EngineCard.path_for(engine).write_text(json.dumps({**content, "sha256": seal}))


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"layers": {"a": 1e999}}, "'a' is not a count of layers"),
        ({"layers": {"a": True}}, "'a' is not a count of layers"),
        ({"layers": ["a"]}, "not an engine card"),
        ({"placed": {"DLA": -1}}, "'DLA' is not a count of layers"),
        ({"options": {"batches": [5, 0, -3]}}, "do not grow from 1"),
        ({"options": {"batches": [1, 2, 1 << 40]}}, "do not grow from 1"),
        ({"options": {"batches": "1:2:3"}}, "not three numbers"),
        ({"options": {"batches": [1, 2, 4], "profiles": [[1, 2, 4]]}}, "not a list of 2 to 8"),
        ({"options": {"batches": [1, 2, 4], "profiles": [[1, 2, 4]] * 9}}, "not a list of 2 to 8"),
        ({"options": {"batches": [1, 2, 4], "profiles": {"a": 1, "b": 2}}}, "not a list of 2 to 8"),
        ({"options": {"batches": [1, 2, 4], "profiles": [[1, 1, 2], [4, 3, 4]]}}, "do not grow from 1"),
        ({"options": {"batches": [1, 2, 4], "profiles": [[1, 1, 2], "abc"]}}, "not three numbers"),
        ({"options": {"batches": [1, 2, 4], "profiles": [[1, 1, 2], [3, 4, 1 << 20]]}}, "do not span the profiles"),
        ({"options": {"batches": [1, 2, 4], "dla": "0; rm -rf /"}}, "dla is not a whole number"),
        ({"options": {"batches": [1, 2, 4], "version_compatible": "yes"}}, "version_compatible is not true or false"),
        ({"options": []}, "not an engine card"),
        ({"backend": "tvm"}, "backend 'tvm' is unknown"),
        ({"version": "10.3\nall is well"}, "is not one"),
        ({"version": 10.3}, "not an engine card"),
        ({"engine_sha256": "00"}, "'00' is not a SHA-256"),
        ({"gpu": "an Orin"}, "not an engine card"),
        ({"gpu": {"name": "Orin\nall is well"}}, "'name' is not a fact of a GPU"),
        ({"gpu": {"multiprocessors": "many"}}, "'multiprocessors' is not a fact of a GPU"),
        ({"gpu": {"name": ["a"] * 9}}, "'name' is not a fact of a GPU"),
        ({"model": {"schema": 1}}, "bad model card"),
        ({"schema": 3}, "unknown schema"),
    ],
)
def test_a_bad_engine_card_is_one_line(change: dict[str, Any], said: str, tmp_path: Path) -> None:
    engine = tmp_path / "m.engine"
    planted(json.loads(ENGINE_CARD.to_json()), engine)
    assert EngineCard.read(engine) == ENGINE_CARD
    planted({**json.loads(ENGINE_CARD.to_json()), **change}, engine)
    with pytest.raises(ModelError, match=said) as found:
        EngineCard.read(engine)
    assert "\n" not in str(found.value)


@pytest.mark.parametrize("content", [b"\xff\xfe{", b"[" * 100_000, b'{"schema": 2}', b'{"a": ' * 50_000, b"NaN"])
def test_a_file_that_is_no_card_at_all_is_one_line(content: bytes, tmp_path: Path) -> None:
    EngineCard.path_for(tmp_path / "m.engine").write_bytes(content)
    with pytest.raises(ModelError, match=r"m\.engine\.json is not an engine card \(.*\): build the engine again"):
        EngineCard.read(tmp_path / "m.engine")


def test_every_changed_letter_of_an_engine_card_is_refused(tmp_path: Path) -> None:
    """Whatever is changed gives an error or, like the space between two fields, the same card."""
    engine, text = tmp_path / "m.engine", ENGINE_CARD.to_json().encode()
    refused = 0
    for at in range(0, len(text), 3):
        EngineCard.path_for(engine).write_bytes(text[:at] + bytes([text[at] ^ 1]) + text[at + 1 :])
        try:
            assert EngineCard.read(engine) == ENGINE_CARD
        except ModelError as error:
            refused += "\n" not in str(error)
    assert refused > 0.8 * len(text) / 3
    for lie in ({"batches": [1, 2, 8]}, {"batches": [2, 2, 4]}):
        EngineCard.path_for(engine).write_text(json.dumps({**json.loads(text), "options": lie}))
        with pytest.raises(ModelError, match="does not match its seal"):
            EngineCard.read(engine)
    removed = {name: value for name, value in json.loads(text).items() if name != "sha256"}
    EngineCard.path_for(engine).write_text(json.dumps(removed))
    with pytest.raises(ModelError, match="does not match its seal"):
        EngineCard.read(engine)


def test_an_engine_card_of_an_earlier_version_is_read_with_a_note(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """As reid-edge 0.1 wrote it: schema 1, the GPU as one text, no seal."""
    old = {name: value for name, value in json.loads(ENGINE_CARD.to_json()).items() if name not in ("sha256", "placed")}
    old |= {"schema": 1, "gpu": "Orin, compute capability 8.7, driver CUDA 12.6"}
    EngineCard.path_for(tmp_path / "m.engine").write_text(json.dumps(old))
    card = EngineCard.read(tmp_path / "m.engine")
    assert EngineCard.beside(tmp_path / "m.engine") == card, "without another note"
    assert card == ENGINE_CARD.with_(gpu={"name": "Orin", "compute_capability": "8.7", "driver": "12.6"})
    assert [record.levelname for record in caplog.records] == ["WARNING"] and "earlier version" in caplog.text
    EngineCard.path_for(tmp_path / "m.engine").write_text(json.dumps({**old, "gpu": ""}))
    assert EngineCard.read(tmp_path / "m.engine").gpu == {}


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
