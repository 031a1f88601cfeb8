"""What a Python has installed: real folders of metadata, real modules that break, and this interpreter."""

from __future__ import annotations

import sys
import textwrap
from pathlib import Path

import numpy as np
import pytest

from reid_edge.device.host import Host
from reid_edge.device.python import Package, read_import, read_python
from reid_edge.device.python_probe import describe_import, describe_python


def _package(folder: Path, name: str, version: str) -> None:
    info = folder / f"{name.replace('-', '_')}-{version}.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")


def test_two_wheels_of_onnxruntime_are_both_found(tmp_path: Path) -> None:
    for name in ("onnxruntime", "onnxruntime-gpu", "opencv_python_headless", "requests"):
        _package(tmp_path, name, "1.22.0")
    packages = describe_python([str(tmp_path)])["packages"]
    assert packages == {
        name: [["1.22.0", str(tmp_path)]] for name in ("onnxruntime", "onnxruntime-gpu", "opencv-python-headless")
    }


def test_the_first_on_the_path_is_the_one_in_use(tmp_path: Path) -> None:
    venv, system = tmp_path / "venv", tmp_path / "usr/lib/python3/dist-packages"
    _package(venv, "tensorrt", "10.9.0")
    _package(system, "tensorrt", "10.3.0")
    for folder in (venv, system):
        (folder / "cv2").mkdir()
        (folder / "cv2/__init__.py").touch()
    (tmp_path / "empty/cv2").mkdir(parents=True)
    found = describe_python([str(tmp_path / "empty"), str(venv), str(system)])
    assert found["packages"]["tensorrt"] == [["10.9.0", str(venv)], ["10.3.0", str(system)]]
    assert found["places"]["cv2"] == [str(venv), str(system)]


@pytest.mark.parametrize(
    ("folder", "of_system"),
    [
        ("/usr/lib/python3.10/dist-packages", True),
        ("/usr/lib/python3/dist-packages", True),
        ("/usr/local/lib/python3.10/dist-packages", False),
        ("/home/reid/venv/lib/python3.10/site-packages", False),
    ],
)
def test_who_installed_a_package(folder: str, of_system: bool) -> None:
    """pip without an environment writes to /usr/local on Debian and Ubuntu."""
    assert Package("tensorrt", "10.3.0", folder).of_system is of_system


def test_this_interpreter() -> None:
    python = read_python(Host())
    assert python is not None
    assert python.version == ".".join(map(str, sys.version_info[:3]))
    numpy = python.package("nonesuch", "numpy")
    assert numpy is not None and numpy.version == np.__version__
    assert Path(python.places["numpy"][0]) in [Path(folder).absolute() for folder in sys.path]


def test_a_module_that_imports() -> None:
    imported = read_import(Host(), "numpy")
    assert (imported.version, imported.error) == (np.__version__, "")
    assert Path(imported.file) == Path(np.__file__)


@pytest.mark.parametrize(
    ("code", "error"),
    [
        ("raise ImportError('built for numpy 1')", "ImportError: built for numpy 1"),
        ("raise SystemError", "SystemError: "),
        ("import os; os.abort()", "its import ended the process (exit status -6"),
        (
            "import sys; print('no answer', file=sys.stderr); sys.exit(7)",
            "its import ended the process (exit status 7: no answer",
        ),
    ],
)
def test_a_module_that_breaks(code: str, error: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever it does, this process lives."""
    (tmp_path / "broken_wheel.py").write_text(textwrap.dedent(code))
    monkeypatch.setenv("PYTHONPATH", f"{tmp_path}:{Path(__file__).parents[2]}")
    assert read_import(Host(), "broken_wheel").error.startswith(error)


def test_a_module_whose_files_another_package_removed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "hollow_wheel").mkdir()
    monkeypatch.syspath_prepend(str(tmp_path))
    assert "removed its files" in describe_import("hollow_wheel")["error"]


def test_a_module_that_is_missing() -> None:
    assert describe_import("nonesuch_module") == {"error": "ModuleNotFoundError: No module named 'nonesuch_module'"}
