"""Does a TensorRT have every call that reid-edge makes? ``python -m reid_edge.export.engines.api_check WHEEL...``.

The calls are read from the sources, so that none can be forgotten. Each wheel of bindings (``tensorrt-cu12-bindings``,
``tensorrt-cu13-bindings``, from PyPI) is unpacked and imported over stub libraries made with the C compiler, in a
process of its own: only names are compared, without a GPU or NVIDIA's libraries. Without wheels, the installed TensorRT
is checked.
"""

from __future__ import annotations

import argparse
import ast
import importlib.util
import re
import subprocess
import sys
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from reid_edge.core.files import scratch_folder
from reid_edge.engines.tensorrt_api import load_backend
from reid_edge.errors import InputError

__all__ = ["calls_made", "lacking", "main"]

_CLASSES = {
    "api": "",
    "builder": "Builder",
    "network": "INetworkDefinition",
    "parser": "OnnxParser",
    "config": "IBuilderConfig",
    "profile": "IOptimizationProfile",
    "runtime": "Runtime",
    "engine": "ICudaEngine",
    "inspector": "EngineInspector",
    "_context": "IExecutionContext",
    "context": "IExecutionContext",
    "cache": "ITimingCache",
}
"""Which class of TensorRT a variable of that name holds in the sources."""

_SOURCES = (
    "reid_edge.engines.tensorrt_api",
    "reid_edge.engines.tensorrt_plan",
    "reid_edge.engines.lanes.graphs",
    "reid_edge.engines.lanes.lane",
    "reid_edge.export.engines.adopt",
    "reid_edge.export.engines.compile",
    "reid_edge.export.engines.kernels",
)

_STUBS = {
    "libnvinfer": (
        "createInferBuilder_INTERNAL",
        "createInferRefitter_INTERNAL",
        "createInferRuntime_INTERNAL",
        "getBuilderPluginRegistry",
        "getPluginRegistry",
    ),
    "libnvonnxparser": (
        "createNvOnnxParserRefitter_INTERNAL",
        "createNvOnnxParser_INTERNAL",
        "getNvOnnxParserVersion",
    ),
    "libnvinfer_plugin": ("initLibNvInferPlugins",),
}
"""The functions that bindings link against."""

_IMPORT = """
import ctypes, sys
for library in {libraries}: ctypes.CDLL(library, mode=ctypes.RTLD_GLOBAL)
sys.path.insert(0, {folder!r})
import tensorrt_bindings as api
from reid_edge.export.engines.api_check import calls_made, lacking
print(api.__version__, *lacking(api, calls_made()))
"""


def calls_made() -> list[str]:
    """Every name of TensorRT's that the sources use without a check that it exists, as "Class.member", sorted."""
    found: set[str] = set()
    for module in _SOURCES:
        spec = importlib.util.find_spec(module)
        assert spec and spec.origin
        for node in ast.walk(ast.parse(Path(spec.origin).read_text(encoding="utf-8"))):
            if isinstance(node, ast.Attribute) and (name := _name(node)):
                found.add(name)
    # "A" is used wherever "A.b" is.
    return sorted(name for name in found if not any(other.startswith(f"{name}.") for other in found))


def lacking(api: Any, names: Sequence[str]) -> list[str]:
    """Those of ``names`` that the module ``api`` does not have."""
    missing = []
    for name in names:
        owner = api
        for part in name.split("."):
            owner = getattr(owner, part, None)
        if owner is None:
            missing.append(name)
    return missing


def main(wheels: Sequence[str]) -> int:
    """Print a line per TensorRT; gives 1 when one lacks something."""
    names = calls_made()
    print(f"{len(names)} names: {', '.join(names)}")
    bad = 0
    for checked in [_of_wheel(Path(wheel)) for wheel in wheels] or [_of_installed(names)]:
        label, *missing = checked
        print(f"{label}: {'lacks ' + ', '.join(missing) if missing else 'has them all'}")
        bad += bool(missing)
    return int(bool(bad))


def _name(node: ast.Attribute) -> str | None:
    """What an attribute is in TensorRT: "Builder.create_network", or None when it belongs to something else."""
    parts: list[str] = []
    at: ast.expr = node
    while isinstance(at, ast.Attribute) and at.attr not in _CLASSES:
        parts.insert(0, at.attr)
        at = at.value
    held = at.attr if isinstance(at, ast.Attribute) else at.id if isinstance(at, ast.Name) else ""
    if held not in _CLASSES or not parts or parts[0].startswith("__"):
        return None
    return ".".join([_CLASSES[held], *parts] if _CLASSES[held] else parts)


def _of_installed(names: Sequence[str]) -> list[str]:
    backend = load_backend()
    return [f"{backend.name} {backend.version}", *lacking(backend.api, names)]


def _of_wheel(wheel: Path) -> list[str]:
    version = re.search(r"-(\d+)\.[\d.]+", wheel.name)
    if not version or not zipfile.is_zipfile(wheel):
        raise InputError(
            f"{wheel} is not a wheel of TensorRT bindings: pip download --no-deps tensorrt-cu12-bindings==10.3.0"
        )
    with scratch_folder() as folder:
        with zipfile.ZipFile(wheel) as content:
            content.extractall(folder)
        libraries = []
        for library, functions in _STUBS.items():
            soname = f"{library}.so.{version[1]}"
            code = "\n".join(f"void *{function}(void) {{ return 0; }}" for function in functions)
            (folder / "stub.c").write_text(code)
            command = [
                "cc",
                "-shared",
                "-fPIC",
                f"-Wl,-soname,{soname}",
                "-o",
                str(folder / soname),
                str(folder / "stub.c"),
            ]
            subprocess.run(command, check=True)
            libraries.append(str(folder / soname))
        code = _IMPORT.format(libraries=libraries, folder=str(folder))
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
        if done.returncode:
            raise InputError(f"{wheel.name} does not import: {done.stderr.strip().splitlines()[-1]}")
        version_found, *missing = done.stdout.split()
        return [f"tensorrt {version_found}", *missing]


if __name__ == "__main__":
    arguments = argparse.ArgumentParser(description="Does a TensorRT have every call that reid-edge makes?")
    arguments.add_argument("wheels", nargs="*", help="Wheels of bindings; the installed TensorRT without them.")
    sys.exit(main(arguments.parse_args().wheels))
