"""README and docs say what docs/measured holds, and measurements nothing that was typed by hand."""

from __future__ import annotations

import importlib.util
import json
import re
import sys
from functools import cache
from types import ModuleType

import pytest
from pages import PAGES, ROOT, prose

DOCS = ROOT / "docs"
MEASURED = sorted((DOCS / "measured").glob("*.json"))
FROM_MEASURED = [page for page in PAGES if page.name == "README.md" or page.parent.name == "measurements"]
BY_NO_PART = {"distances", "faults", "int8-methods"}
"""Figures that no part of `make measured` remakes."""

_UNITS = r"%|per cent|points?\b|[mµn]?s\b|seconds?\b|MB\b|GB\b|images/s|crops/s|times as\b|nats\b"
_FIGURE = re.compile(rf"(?<![\w.])(?<!\w-)[-+]?\d[\d,]*(?:\.\d+|(?:\.\d+)? ?(?:{_UNITS}))")
_VERSION = re.compile(
    r"\b(?:Python|TensorRT|JetPack|CUDA|NumPy|OpenCV|ONNX Runtime) \d[\d.]*|https?://\S+|\(.*?\.md.*?\)"
)


@cache
def _script(name: str) -> ModuleType:
    """A script of docs/, which are no package."""
    sys.path.insert(0, str(DOCS))
    try:
        spec = importlib.util.spec_from_file_location(f"docs_{name}", DOCS / f"{name}.py")
        assert spec and spec.loader
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        return module
    finally:
        sys.path.remove(str(DOCS))


def _typed(text: str) -> list[str]:
    """Figures outside the markers: a number with a decimal point or a unit."""
    return _FIGURE.findall(_VERSION.sub("", prose(_script("render").MARKED.sub("", text))))


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_a_page_says_what_was_measured(page) -> None:  # type: ignore[no-untyped-def]
    text = page.read_text(encoding="utf-8")
    assert _script("render").rendered(text) == text, "run: python docs/render.py"
    assert text.count("<!-- measured:") == text.count("<!-- end -->") == len(_script("render").MARKED.findall(text))


@pytest.mark.parametrize("page", FROM_MEASURED, ids=lambda page: page.stem)
def test_no_figure_is_typed_by_hand(page) -> None:  # type: ignore[no-untyped-def]
    assert _typed(page.read_text(encoding="utf-8")) == []


def test_a_typed_figure_would_be_found() -> None:
    text = "OSNet x0.25 (Apache-2.0) on Python 3.10 gains 2.8 points of 654, 36 % in 7 ms: `1.5` and "
    assert _typed(f"{text}<!-- measured: a b c -->9.9<!-- end -->.") == ["2.8", "36 %", "7 ms"]
    assert _typed("# 2.4\n\n```\n1.5\n```\n\n| 90.52 | 3 |\n") == ["2.4", "90.52"]


def test_a_changed_figure_would_be_found() -> None:
    page = DOCS / "measurements" / "accuracy.md"
    text = page.read_text(encoding="utf-8")
    wrong = text.replace("| 62.23 |", "| 62.32 |", 1)
    assert wrong != text and _script("render").rendered(wrong) == text


@pytest.mark.parametrize("path", MEASURED, ids=lambda path: path.stem)
def test_a_measurement_is_whole_and_shown(path) -> None:  # type: ignore[no-untyped-def]
    content = json.loads(path.read_text(encoding="utf-8"))
    assert {"part", "date", "commit", "machine", "versions", "data", "seed", "commands", "columns", "rows"} == set(
        content
    )
    assert re.fullmatch(r"20\d\d-\d\d-\d\d", content["date"]) and re.fullmatch(r"[0-9a-f]{7,}", content["commit"])
    for row in content["rows"].values():
        assert set(row) <= set(content["columns"])
    shown = {
        source.split()[0] for page in PAGES for _, source, *_ in _script("render").MARKED.findall(page.read_text())
    }
    assert path.stem in shown


def test_every_measurement_can_be_made_again() -> None:
    pytest.importorskip("tomlkit", reason="measuring needs the train extra")
    measure = _script("measure")
    made = {table: name for name, part in measure.PARTS.items() for table in part["tables"]}
    assert set(made) == set(measure.TABLES)
    assert {path.stem for path in MEASURED} <= set(made) | BY_NO_PART
    for path in MEASURED:
        content = json.loads(path.read_text(encoding="utf-8"))
        assert content["part"] == made.get(path.stem)
        if content["part"]:
            part = measure.PARTS[content["part"]]
            assert content["commands"] == part.get("commands", []), f"{path.name}: measure it again, or say how it was"
            assert content["columns"] == measure.TABLES[path.stem][0]
            assert set(part.get("after", [])) <= set(measure.PARTS)


def test_the_limits_of_the_gate_are_those_of_the_code() -> None:
    pytest.importorskip("tomlkit", reason="measuring needs the train extra")
    content = json.loads((DOCS / "measured" / "gate.json").read_text(encoding="utf-8"))
    assert content["rows"] == _script("tables").TABLES["gate"][1](DOCS)
