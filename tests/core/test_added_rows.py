"""Tables that others add to: own rows stay, others join them, and a name imports nothing."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from reid_edge.core import registry
from reid_edge.core.registry import Registry, added_names
from reid_edge.errors import InputError

pytestmark = pytest.mark.usefixtures("empty_registry")


@pytest.fixture
def announced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A package in the environment that announces a row, one that is broken, and one with an own name."""
    points = "[reid_edge.shapes]\npentagon = shapes_of_others:FIVE\nbroken = shapes_of_others:SIX\nsquare = shapes:X\n"
    (tmp_path / "others-1.0.dist-info").mkdir()
    (tmp_path / "others-1.0.dist-info/METADATA").write_text("Metadata-Version: 2.1\nName: others\nVersion: 1.0\n")
    (tmp_path / "others-1.0.dist-info/entry_points.txt").write_text(points)
    (tmp_path / "shapes_of_others.py").write_text("FIVE = 5\n")
    monkeypatch.syspath_prepend(tmp_path)
    registry._announced.cache_clear()
    yield tmp_path
    registry._announced.cache_clear()
    sys.modules.pop("shapes_of_others", None)


def test_own_rows_cannot_be_replaced_and_registered_ones_can() -> None:
    shapes = Registry("shapes", {"square": 4})
    shapes.register("triangle", 2)
    shapes.register("triangle", 3)
    assert dict(shapes) == {"square": 4, "triangle": 3} and len(shapes) == 2
    assert shapes.added() == {"triangle": 3} and added_names("shapes") == ("triangle",)
    with pytest.raises(InputError, match="'square' is one of reid-edge's own shapes: choose another name"):
        shapes.register("square", 5)
    with pytest.raises(KeyError):
        shapes["circle"]
    assert added_names("colours") == ()


def test_an_announced_row_is_imported_when_it_is_used(announced: Path) -> None:
    shapes = Registry("shapes", {"square": 4})
    assert list(shapes) == ["square", "pentagon", "broken"] and "pentagon" in shapes
    assert "shapes_of_others" not in sys.modules
    assert shapes["pentagon"] == 5 and shapes["square"] == 4
    shapes.register("pentagon", 6)
    assert shapes["pentagon"] == 6, "what the program itself registers goes first"


def test_a_row_that_cannot_be_imported_names_its_package(announced: Path) -> None:
    with pytest.raises(
        InputError, match=r"broken = 'shapes_of_others:SIX' of the package others cannot .*: reinstall others"
    ):
        Registry("shapes")["broken"]
