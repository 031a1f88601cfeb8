"""What a Python has installed, asked in a process of its own: a wheel for another machine may end it at its import.

``python -m reid_edge.device.python_probe`` prints one line of JSON: the interpreter, its packages and where its modules
are; with the name of a module, whether that imports. Only the standard library is needed.
"""

from __future__ import annotations

import importlib
import json
import os
import platform
import re
import sys
from collections.abc import Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

__all__ = ["describe_import", "describe_python", "main"]

_PACKAGES = re.compile(
    r"(onnxruntime|opencv-|tensorrt|openvino$|cuda-(bindings|python|core)$|pycuda$|torch|onnx(script)?$|numpy$|reid-edge$)"
)
"""Which packages are listed."""

_MODULES = ("cv2", "tensorrt", "tensorrt_rtx", "tensorrt_rtx_bindings", "onnxruntime", "numpy", "openvino")
"""Which modules are looked for on the path: a device brings some of them without a package of Python's."""


def describe_python(path: Sequence[str] | None = None) -> dict[str, Any]:
    """The interpreter, and what lies on ``path`` (None: ``sys.path``), the first of each being the one in use.

    ``packages`` are [version, folder] by name, ``places`` the folders that hold a module, by its name.
    """
    path = sys.path if path is None else path
    return {
        "version": platform.python_version(),
        "prefix": sys.prefix,
        "virtual": sys.prefix != sys.base_prefix,
        "sees_system": _sees_system(Path(sys.prefix)),
        "packages": _packages(path),
        "places": {name: found for name in _MODULES if (found := _places(name, path))},
    }


def describe_import(name: str) -> dict[str, Any]:
    """Whether the module ``name`` imports: its version and file, and for OpenCV its build; else the ``error``."""
    os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
    try:
        module = importlib.import_module(name)
    except Exception as error:  # whatever a broken wheel raises
        return {"error": f"{type(error).__name__}: {' '.join(str(error).split())[:300]}"}
    if not (file := getattr(module, "__file__", None)):
        return {"error": "it is an empty folder: another package removed its files"}
    root = sys.modules[name.partition(".")[0]]
    version = next((str(each.__version__) for each in (module, root) if hasattr(each, "__version__")), "")
    build = module.getBuildInformation()[:100_000] if hasattr(module, "getBuildInformation") else ""
    return {"version": version, "file": str(file), "build": build}


def main(arguments: Sequence[str]) -> int:
    """Print what is asked for."""
    described = describe_import(arguments[0]) if arguments else describe_python()
    print(json.dumps(described))
    return 0


def _packages(path: Sequence[str]) -> dict[str, list[list[str]]]:
    found: dict[str, list[list[str]]] = {}
    for package in metadata.distributions(path=list(path)):
        name = re.sub(r"[-_.]+", "-", package.name or "").lower()
        if _PACKAGES.match(name):
            found.setdefault(name, []).append([package.version, str(package.locate_file(""))])
    return dict(sorted(found.items()))


def _places(name: str, path: Sequence[str]) -> list[str]:
    """The folders of ``path`` that hold the module: a folder with files, or a file of Python or of C."""
    folders = dict.fromkeys(os.path.abspath(folder) for folder in path)
    return [folder for folder in folders if _holds(Path(folder), name)]


def _holds(folder: Path, name: str) -> bool:
    try:
        return any((folder / name).glob("*.py")) or any(folder.glob(f"{name}.*so")) or (folder / f"{name}.py").is_file()
    except OSError:
        return False


def _sees_system(prefix: Path) -> bool:
    """Whether a virtual environment sees the system's packages, as a Jetson's must."""
    try:
        text = (prefix / "pyvenv.cfg").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return True
    return bool(re.search(r"^include-system-site-packages *= *true", text, re.M | re.I))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
