"""The tests that need a GPU, through each of the two CUDA bindings alone."""

from __future__ import annotations

import subprocess
import sys
import xml.etree.ElementTree as ElementTree
from collections.abc import Iterator
from pathlib import Path

import reid_edge

from .gpus import require_gpu
from .parts import CannotRunError, DayOptions, DayRow

__all__ = ["counted", "with_cuda_bindings", "with_pycuda"]

_HIDDEN = "import sys; sys.modules.update({name: None for name in %r}); import pytest; sys.exit(pytest.main(%r))"
"""What runs pytest where one binding cannot be imported, so that the other is taken."""


def with_cuda_bindings(folder: Path, options: DayOptions) -> Iterator[DayRow]:
    """A row of the tests through cuda-bindings."""
    return _tested(folder, "cuda-bindings", hidden=["pycuda"])


def with_pycuda(folder: Path, options: DayOptions) -> Iterator[DayRow]:
    """A row of the tests through PyCUDA."""
    return _tested(folder, "pycuda", hidden=["cuda", "cuda.bindings"])


def counted(report: Path) -> DayRow:
    """The tests of a JUnit file: how many ``passed``, which ``failed``, and why others were ``skipped``, by reason."""
    passed, failed, skipped = 0, [], dict[str, int]()
    for case in ElementTree.parse(report).getroot().iter("testcase"):
        name = f"{case.get('classname')}.{case.get('name')}"
        kinds = {child.tag: child.get("message", "") for child in case}
        if "failure" in kinds or "error" in kinds:
            reason = kinds.get("failure", kinds.get("error", ""))
            failed.append(f"{name}: {' '.join(reason.split())[:300]}")
        elif "skipped" in kinds:
            skipped[kinds["skipped"]] = skipped.get(kinds["skipped"], 0) + 1
        else:
            passed += 1
    return {"passed": passed, "failed": failed, "skipped": skipped}


def _tested(folder: Path, binding: str, hidden: list[str]) -> Iterator[DayRow]:
    require_gpu(binding)
    tests = Path(reid_edge.__file__).parent.parent / "tests"
    if not (tests / "engines" / "test_cuda.py").is_file():
        raise CannotRunError("an installed package has no tests: run this in a checkout")
    report = (folder / f"tests-{binding}.xml").resolve()
    flags = ["-m", "gpu", "-q", "--no-header", "-p", "no:cacheprovider", f"--junitxml={report}"]
    code = _HIDDEN % (hidden, [str(tests), *flags])
    done = subprocess.run([sys.executable, "-c", code], cwd=tests.parent, capture_output=True, text=True)
    if not report.exists():
        said = (done.stderr.strip() or done.stdout.strip()).splitlines() or ["no message"]
        raise CannotRunError(f"pytest did not run ({said[-1][:300]}): pip install pytest hypothesis")
    yield {"binding": binding, **counted(report)}
