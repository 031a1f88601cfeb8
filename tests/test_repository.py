"""Files for GitHub, pre-commit and citation: they parse, and what they name exists."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any

import pytest

import reid_edge
from reid_edge.data.readers.registry import READERS

yaml = pytest.importorskip("yaml")
ROOT = Path(__file__).parent.parent
FORMS = sorted(path for path in (ROOT / ".github/ISSUE_TEMPLATE").glob("*.yml") if path.stem != "config")


def _parsed(path: Path | str) -> Any:
    return yaml.safe_load((ROOT / path).read_text(encoding="utf-8"))


def test_the_workflow_runs_the_checks_of_this_repository() -> None:
    (job,) = _parsed(".github/workflows/ci.yml")["jobs"].values()
    commands = [step["run"] for step in job["steps"] if "run" in step]
    assert commands == [".ci/run"] and os.access(ROOT / ".ci/run", os.X_OK)
    assert all(re.fullmatch(r"actions/[\w-]+@v\d+", step["uses"]) for step in job["steps"] if "uses" in step)


@pytest.mark.parametrize("form", FORMS, ids=lambda path: path.stem)
def test_a_form_asks_something(form: Path) -> None:
    """As GitHub wants it: a name, a description, and fields with an id and a label of their own."""
    content = _parsed(form)
    assert content["name"] and content["description"]
    fields = [field for field in content["body"] if field["type"] != "markdown"]
    assert {field["type"] for field in fields} <= {"textarea", "input", "dropdown", "checkboxes"}
    assert len({field["id"] for field in fields}) == len(fields) == len({f["attributes"]["label"] for f in fields})
    assert any(field.get("validations", {}).get("required") for field in fields)


PAGES = [ROOT / "SECURITY.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / ".github").rglob("*.*"))]


@pytest.mark.parametrize("page", PAGES, ids=lambda path: path.name)
def test_the_files_and_targets_that_a_page_names_exist(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    targets = set(re.findall(r"^(\w+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.M))
    assert set(re.findall(r"`make (\w+)`", text)) <= targets
    for name in re.findall(r"\b((?:docs/[\w/]+|[A-Z]+)\.(?:md|cff))\b", text):
        assert (ROOT / name).is_file(), f"{page.name} names {name}"


def test_pre_commit_has_pinned_hooks() -> None:
    for repository in _parsed(".pre-commit-config.yaml")["repos"]:
        assert re.fullmatch(r"v\d+\.\d+\.\d+", repository["rev"]) and repository["hooks"]


def test_the_citation_is_of_this_version_and_of_every_data_set() -> None:
    """Schema 1.2.0 asks each reference for type, title and authors."""
    citation = _parsed("CITATION.cff")
    assert citation["cff-version"] == "1.2.0" and citation["version"] == reid_edge.__version__
    for reference in citation["references"]:
        assert reference["title"] and reference["year"] >= 2007 and reference["notes"]
        assert all(author["given-names"] and author["family-names"] for author in reference["authors"])
    cited = " ".join(reference["notes"] for reference in citation["references"])
    public = [reader.title for reader in READERS if reader.published]
    assert len(public) >= 4
    assert not [title for title in public if title.partition(" (")[0] not in cited]
