"""What is installed with what, and that no advice names a package which pip cannot find."""

from __future__ import annotations

import ast
import re
from pathlib import Path
from typing import Any

import pytest

from reid_edge.cli import _PURPOSES
from reid_edge.engines.registry import ENGINE_BACKENDS
from reid_edge.errors import MissingExtraError

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "reid_edge"
SOURCES = sorted(
    {
        path.resolve()
        for folder in (PACKAGE, *(PACKAGE / name for name in ("training", "export", "benchmarks")))
        for path in folder.rglob("*.py")
    }
)
PAGES = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"), *ROOT.glob("examples/**/*.py")])
OF_THE_DEVICE = {"onnxruntime", "onnxruntime-gpu", "opencv-python", "opencv-python-headless"}


@pytest.fixture(scope="module")
def project() -> Any:
    tomllib = pytest.importorskip("tomllib", reason="needs Python 3.11")
    return tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]


def _names(requirements: list[str]) -> set[str]:
    return {re.split(r"[\[<>=; ]", requirement)[0] for requirement in requirements}


def test_only_the_extras_cpu_and_gpu_bring_opencv_and_onnx_runtime(project: Any) -> None:
    """A Jetson has both; their wheels would hide or overwrite them."""
    assert not _names(project["dependencies"]) & OF_THE_DEVICE
    with_them = {name: _names(extra) & OF_THE_DEVICE for name, extra in project["optional-dependencies"].items()}
    assert {name: found for name, found in with_them.items() if found} == {
        "cpu": {"onnxruntime", "opencv-python-headless"},
        "gpu": {"onnxruntime-gpu", "opencv-python-headless"},
    }


def test_remedies_name_packages_that_are_declared(project: Any) -> None:
    declared = _names(sum(project["optional-dependencies"].values(), project["dependencies"]))
    missing = set(_PURPOSES)
    for path in SOURCES:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and getattr(node.func, "id", "") == "MissingExtraError":
                if isinstance(node.args[0], ast.Constant) and not node.keywords:
                    missing.add(node.args[0].value)
    assert {"torch", "onnx", "pyarrow", "matplotlib"} <= missing
    remedies = [str(MissingExtraError(module, "this")) for module in sorted(missing)]
    for remedy in [*remedies, *(row.described() for row in ENGINE_BACKENDS.values())]:
        packages = remedy.partition("pip install ")[2].rstrip(")").split()
        assert packages and set(packages) <= declared, remedy


_UNKNOWN = re.compile(r"pip install [^\n#]*(?<![./\w-])reid-edge(?!\[[\w,]+\] @)")
"""A checkout (``'.[cpu]'``), the path of a wheel or a git address (``'reid-edge[cpu] @ git+...'``) are known to pip."""


@pytest.mark.parametrize("path", [PACKAGE, *PAGES], ids=lambda path: str(path.relative_to(ROOT)))
def test_no_advice_installs_reid_edge_from_an_index(path: Path) -> None:
    for file in SOURCES if path == PACKAGE else [path]:
        found = _UNKNOWN.search(file.read_text(encoding="utf-8"))
        assert not found, f"{file}: {found[0] if found else ''}"


def test_advice_from_an_index_would_be_seen() -> None:
    assert len(SOURCES) > 150 and len(PAGES) > 8
    assert _UNKNOWN.search("run  pip install 'reid-edge[train]'") and _UNKNOWN.search("pip install -U reid-edge")
    assert not _UNKNOWN.search("pip install './reid-edge[export]'")
    assert not _UNKNOWN.search("pip install 'reid-edge[cpu] @ git+https://example.org/a/reid-edge'")
