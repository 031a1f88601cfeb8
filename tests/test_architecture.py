"""The house holds: imports point down, nothing heavy at import time, every folder is packaged, every name exists."""

from __future__ import annotations

import ast
import importlib
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
ROOMS = {"reid_edge": ROOT / "reid_edge"} | {
    f"reid_edge.{name}": ROOT / name for name in ("training", "export", "benchmarks")
}

FLOORS = [
    set(row.split())
    for row in (
        "__init__ errors records files progress card metrics distances tiles arrays engine_card",
        "images datasets layouts manifest engine engine_onnx engine_tensorrt cuda tensorrt_api synthetic"
        " synthetic_person synthetic_figure synthetic_camera",
        "embedder evaluation gallery inspection ranking pictures cmc verification",
        "training export benchmarks",
        "cli demo __main__",
    )
]
HEAVY = set("torch torchvision onnx onnxscript".split())
LAZY = set("onnxruntime tensorrt pycuda cuda matplotlib cv2 PIL simplejpeg pyarrow rich".split())


def _modules() -> list[tuple[str, Path]]:
    found = []
    for package, folder in ROOMS.items():
        for path in sorted(folder.glob("*.py")):
            found.append((package if path.stem == "__init__" else f"{package}.{path.stem}", path))
    return found


MODULES = _modules()


def _imports(module: str, path: Path, *, at_top: bool = False) -> set[str]:
    """Absolute dotted names that a module imports; ``at_top`` leaves out those inside functions and TYPE_CHECKING."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    nodes = list(_top_level(tree)) if at_top else list(ast.walk(tree))
    package = module if path.stem == "__init__" else module.rpartition(".")[0]
    names: set[str] = set()
    for node in nodes:
        if isinstance(node, ast.Import):
            names.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = package if node.level == 1 else ""
            assert node.level < 2, f"{path}: use reid_edge.* across folders"
            full = ".".join(part for part in (base, node.module or "") if part)
            names.update(f"{full}.{alias.name}" for alias in node.names)
            names.add(full)
    return names


def _top_level(tree: ast.Module) -> list[ast.AST]:
    """The statements that run on import: all but the insides of functions and what is under TYPE_CHECKING."""
    kept: list[ast.AST] = []
    for node in tree.body:
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test):
            continue
        kept.extend(ast.walk(node) if isinstance(node, ast.If | ast.Try) else [node])
    return kept


def _floor(name: str) -> int | None:
    """The floor of a dotted name inside our package; None for names that are no module of ours."""
    parts = name.split(".")
    if parts[0] != "reid_edge" or len(parts) < 2:
        return None
    if parts[-1] == "__main__":  # an entry, whichever room it stands in
        return len(FLOORS) - 1
    for floor, members in enumerate(FLOORS):
        if parts[1] in members:
            return floor
    return None


@pytest.mark.parametrize(("module", "path"), MODULES, ids=[m for m, _ in MODULES])
def test_imports_point_down(module: str, path: Path) -> None:
    if module == "reid_edge":
        return  # names its modules lazily
    own = _floor(module)
    assert own is not None, f"{module} has no floor: give it one here and in CONTRIBUTING.md"
    for name in _imports(module, path):
        floor = _floor(name)
        assert floor is None or floor <= own, f"{module} (floor {own}) imports {name} (floor {floor})"


def test_the_device_side_never_imports_torch() -> None:
    for module, path in MODULES:
        if module.startswith("reid_edge.training"):
            continue
        used = {name.split(".")[0] for name in _imports(module, path)} & HEAVY
        if module in {"reid_edge.cli", "reid_edge.demo"}:
            used &= {name.split(".")[0] for name in _imports(module, path, at_top=True)}
        if module == "reid_edge.export.onnx":
            continue
        if module.startswith("reid_edge.export."):
            used -= {"onnx", "onnxscript"}
        assert not used, f"{module} imports {used}"


def test_only_export_onnx_imports_training() -> None:
    for module, path in MODULES:
        if module.startswith("reid_edge.training") or _floor(module) == 4 or module == "reid_edge.export.onnx":
            continue
        reached = {name for name in _imports(module, path) if name.startswith("reid_edge.training")}
        assert not reached, f"{module} imports {reached}"


def test_the_runtime_imports_its_backends_lazily() -> None:
    for module, path in MODULES:
        if module.split(".")[1:2] and module.split(".")[1] in {"training", "export"}:
            continue
        used = {name.split(".")[0] for name in _imports(module, path, at_top=True)} & LAZY
        assert not used, f"{module} imports {used} at the top"


@pytest.mark.parametrize("statement", ["import reid_edge", "from reid_edge.cli import app"])
def test_importing_loads_no_backend(statement: str) -> None:
    code = f"import sys; {statement}; print(*sorted({{m.split('.')[0] for m in sys.modules}}))"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert not set(loaded) & (HEAVY | (LAZY - {"rich"})), "import reid_edge must stay light"


def test_help_takes_under_half_a_second_of_cpu() -> None:
    """Measured in CPU time of the child, the best of three: a busy machine does not make it fail."""
    code = (
        "import resource, subprocess, sys\n"
        "subprocess.run([sys.executable, '-m', 'reid_edge', '--help'], check=True, stdout=subprocess.DEVNULL)\n"
        "used = resource.getrusage(resource.RUSAGE_CHILDREN)\n"
        "print(used.ru_utime + used.ru_stime)"
    )
    runs = [
        float(subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout)
        for _ in range(3)
    ]
    assert min(runs) < 0.5


def test_every_folder_is_packaged_and_flat() -> None:
    text = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    for package, folder in ROOMS.items():
        assert f'"{package}"' in text
        below = [p for p in folder.rglob("*.py") if p.parent != folder]
        assert not below, f"{folder.name} must stay flat: {below}"


def test_a_checkout_finds_its_rooms_where_the_package_is_installed_plainly() -> None:
    """``pip install .`` in a clone, then a command there: Python finds the clone's ``reid_edge/`` first."""
    code = (
        "import sys\n"
        "sys.meta_path = [finder for finder in sys.meta_path if 'editable' not in repr(finder).lower()]\n"
        "import reid_edge.benchmarks.worker, reid_edge.training, reid_edge.export.parity\n"
        "print(reid_edge.benchmarks.__file__)"
    )
    child = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT)
    assert child.stdout.strip() == str(ROOT / "benchmarks" / "__init__.py"), child.stderr


def test_the_pages_that_sources_point_to_are_there() -> None:
    for page in [ROOT / "README.md", *ROOT.glob("docs/*.md"), *(path for _, path in MODULES)]:
        for name in re.findall(r"\bdocs/\w+\.md", page.read_text(encoding="utf-8")):
            assert (ROOT / name).is_file(), f"{page} points to {name}"


@pytest.mark.parametrize(("module", "path"), MODULES, ids=[m for m, _ in MODULES])
def test_every_public_name_exists(module: str, path: Path) -> None:
    if module == "reid_edge.__main__":
        return
    try:
        loaded = importlib.import_module(module)
    except ModuleNotFoundError as error:
        if (error.name or "").split(".")[0] not in HEAVY:
            raise
        pytest.skip(f"needs the train extra: {error}")
    if path.stem == "__init__" and module != "reid_edge":
        return
    assert loaded.__all__ == sorted(set(loaded.__all__), key=loaded.__all__.index), "a name is listed twice"
    for name in loaded.__all__:
        assert hasattr(loaded, name), f"{module}.__all__ names {name}, which is not there"
