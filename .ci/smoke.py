"""What an installed copy must do without torch: every sub-package that needs none is there, once, under one name."""

import importlib
import importlib.util
import pkgutil
import sys
from pathlib import Path

import reid_edge

home = Path(reid_edge.__file__).parent
assert home.parent != Path.cwd(), f"imported from {home}: run this outside the checkout"
assert importlib.util.find_spec("torch") is None, "torch came in with the runtime"

needs_an_extra = ("reid_edge.training.", "reid_edge.export.", "reid_edge.api.", "reid_edge.__main__")
found = [module.name for module in pkgutil.walk_packages(reid_edge.__path__, "reid_edge.")]
for name in found:
    try:
        importlib.import_module(name)
    except ModuleNotFoundError as error:
        assert name.startswith(needs_an_extra), f"{name} does not import: {error}"
        assert (error.name or "").partition(".")[0] in {"torch", "torchvision", "onnx", "onnxscript", "tomlkit"}, error
for package in (
    "reid_edge.training",
    "reid_edge.export",
    "reid_edge.benchmarks",
    "reid_edge.embedder",
    "reid_edge.api",
):
    assert package in sys.modules, package

loaded = [module for name, module in list(sys.modules.items()) if name.partition(".")[0] == "reid_edge"]
files = [str(Path(module.__file__).resolve()) for module in loaded if module.__file__]
assert len(files) == len(set(files)), "a module was imported twice, under two names"
try:
    importlib.import_module("reid_edge.reid_edge")
except ModuleNotFoundError:
    pass
else:
    raise AssertionError("reid_edge.reid_edge exists")
print(f"{len(found)} modules in {home}")
