"""The API reference shows every public name, and the site finds every page. `make docs` builds it without warnings."""

from __future__ import annotations

import importlib
import re
from pathlib import Path

import pytest

import reid_edge

DOCS = Path(__file__).parents[2] / "docs"
SHOWN = re.findall(r"^\.\. auto\w+:: ([\w.]+)$", (DOCS / "reference/index.md").read_text(encoding="utf-8"), re.M)


def test_every_public_name_is_in_the_reference() -> None:
    public = {name.partition(".")[2] for name in SHOWN if name.count(".") == 1}
    errors = {"ReidEdgeError"}  # with the whole tree of reid_edge.errors
    assert public - {"errors"} | errors == {*reid_edge.__all__} - {"__version__"}
    assert "reid_edge.errors" in SHOWN


@pytest.mark.parametrize("name", [name for name in SHOWN if name.count(".") > 1])
def test_what_else_the_reference_shows_is_there(name: str) -> None:
    module, _, attribute = name.rpartition(".")
    assert attribute in importlib.import_module(module).__all__


def test_the_site_finds_every_page() -> None:
    """Pages lie in the four folders of its navigation, or are the first page."""
    pages = {path.relative_to(DOCS).as_posix() for path in DOCS.rglob("*.md")} - {"index.md"}
    lost = {page for page in pages if page.split("/")[0] not in {"guides", "extend", "measurements", "reference"}}
    assert not lost
