"""The house holds: imports point down, no circles, nothing heavy at import time, small folders, every name exists."""

from __future__ import annotations

import ast
import importlib
import os
import re
import subprocess
import sys
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PACKAGE = ROOT / "reid_edge"
MOST_FILES = 16

FLOORS = [
    set(row.split())
    for row in (
        "errors",
        "card core",
        "data device engines",
        "embedder",
        "scoring",
        "gallery integrations pair_head",
        "training export benchmarks",
        "api",
        "training.experiments",
        "commands",
        "cli",
        "__main__ training.__main__",
    )
]
"""Folders (or single modules) from the ground up; the longest name that fits a module is its floor."""

HEAVY = set("torch torchvision onnx onnxscript".split())
LAZY = set("onnxruntime openvino tensorrt pycuda cuda matplotlib cv2 PIL simplejpeg pyarrow rich".split())


def _modules() -> dict[str, Path]:
    """Every module of the package by its dotted name, found as Python finds it: through the links."""
    found = {}
    for folder, _, names in os.walk(PACKAGE, followlinks=True):
        for name in names:
            if name.endswith(".py"):
                path = Path(folder, name)
                parts = path.relative_to(ROOT).with_suffix("").parts
                found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return dict(sorted(found.items()))


MODULES = _modules()
TOP = "reid_edge"


def _imports(module: str, *, at_top: bool = False) -> set[str]:
    """Absolute dotted names that a module imports; ``at_top`` leaves out those inside functions and TYPE_CHECKING."""
    path = MODULES[module]
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


def _imported_modules(module: str) -> set[str]:
    """Modules of ours that a module imports, wherever in it; the top level names its modules lazily and is left out."""
    return {name for name in _imports(module) if name in MODULES} - {TOP, module}


def _top_level(tree: ast.Module) -> list[ast.AST]:
    """The statements that run on import: all but the insides of functions and what is under TYPE_CHECKING."""
    kept: list[ast.AST] = []
    for node in tree.body:
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test):
            continue
        kept.extend(ast.walk(node) if isinstance(node, ast.If | ast.Try) else [node])
    return kept


def _floor(module: str) -> int | None:
    """The floor of a module by the longest folder name that fits; None where there is none."""
    parts = module.split(".")[1:]
    for length in range(len(parts), 0, -1):
        name = ".".join(parts[:length])
        for floor, members in enumerate(FLOORS):
            if name in members:
                return floor
    return None


def _room(module: str) -> str:
    """The folder that a module stands in; entries (``__main__``) and the modules of the top level are their own."""
    if module.endswith("__main__") or module.count(".") == 1 and MODULES[module].stem != "__init__":
        return module
    return module if MODULES[module].stem == "__init__" else module.rpartition(".")[0]


@pytest.mark.parametrize("module", [name for name in MODULES if name != TOP])
def test_imports_point_down(module: str) -> None:
    own = _floor(module)
    assert own is not None, f"{module} has no floor: give its folder one here and in CONTRIBUTING.md"
    for name in _imported_modules(module):
        floor = _floor(name)
        assert floor is not None and floor <= own, f"{module} (floor {own}) imports {name} (floor {floor})"


def _circle(graph: dict[str, set[str]]) -> list[str]:
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        return list(error.args[1])
    return []


def test_no_modules_import_each_other_in_a_circle() -> None:
    """Also not inside functions or for types alone: a circle of types is a circle of ideas."""
    assert not _circle({module: _imported_modules(module) for module in MODULES if module != TOP})


def test_no_folders_import_each_other_in_a_circle() -> None:
    graph: dict[str, set[str]] = {}
    for module in MODULES:
        if module != TOP:
            rooms = {_room(name) for name in _imported_modules(module)}
            graph.setdefault(_room(module), set()).update(rooms - {_room(module)})
    assert not _circle(graph)


def test_a_circle_would_be_found() -> None:
    assert _circle({"a": {"b"}, "b": {"c"}, "c": {"a"}})
    assert not _circle({"a": {"b", "c"}, "b": {"c"}})


def test_the_device_side_never_imports_torch() -> None:
    for module in MODULES:
        if module.startswith("reid_edge.training") or module == "reid_edge.export.graph.from_torch":
            continue
        used = {name.split(".")[0] for name in _imports(module)} & HEAVY
        if module.startswith(("reid_edge.api", "reid_edge.commands", "reid_edge.cli")):
            used &= {name.split(".")[0] for name in _imports(module, at_top=True)}
        if module.startswith("reid_edge.export."):
            used -= {"onnx", "onnxscript"}
        assert not used, f"{module} imports {used}"


def test_only_export_from_torch_imports_training() -> None:
    for module in MODULES:
        above = (_floor(module) or 0) >= (_floor("reid_edge.api") or 0)
        if module.startswith("reid_edge.training") or above or module in (TOP, "reid_edge.export.graph.from_torch"):
            continue  # the top level names its modules lazily
        reached = {name for name in _imports(module) if name.startswith("reid_edge.training")}
        assert not reached, f"{module} imports {reached}"


def test_the_runtime_imports_its_backends_lazily() -> None:
    for module in MODULES:
        imported = set(_imports(module, at_top=True))
        assert "reid_edge.core.bars" not in imported, f"{module} imports bars, and with it rich, at the top"
        if module.startswith(("reid_edge.training", "reid_edge.export", "reid_edge.core.bars")):
            continue
        used = {name.split(".")[0] for name in imported} & LAZY
        assert not used, f"{module} imports {used} at the top"


def test_onnx_runtime_is_imported_in_one_place() -> None:
    """`engines.ort.import_onnxruntime` turns its telemetry off first; for types alone nothing is imported."""
    for module, path in MODULES.items():
        body = ast.parse(path.read_text(encoding="utf-8")).body
        running = [part for part in body if not (isinstance(part, ast.If) and "TYPE_CHECKING" in ast.dump(part.test))]
        for node in (node for part in running for node in ast.walk(part)):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            found = [name for name in names if name.split(".")[0] == "onnxruntime" and not getattr(node, "level", 0)]
            assert not found, f"{module} imports {found}: use reid_edge.engines.ort.import_onnxruntime"


@pytest.mark.parametrize("statement", ["import reid_edge", "from reid_edge.cli import app"])
def test_importing_loads_no_backend(statement: str) -> None:
    loaded = _modules_loaded_by(statement)
    assert not loaded & (HEAVY | LAZY | {"numpy"}), "import reid_edge must stay light"


def _modules_loaded_by(statement: str) -> set[str]:
    """The top-level names in ``sys.modules`` of a fresh interpreter after a statement."""
    code = f"import sys; {statement}; print(*sorted({{m.split('.')[0] for m in sys.modules}}))"
    return set(subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split())


def _modules_after(statements: str) -> int:
    """How many modules a fresh interpreter has loaded: what start-up costs, and the same on a busy machine."""
    code = f"{statements}\nimport sys; print(len(sys.modules), file=sys.stderr)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return int(done.stderr.split()[-1])


def test_help_starts_quickly() -> None:
    """0.2 s of CPU with 180 modules. Without rich: its import takes longer than everything else in ``--help``."""
    shown = "from reid_edge.cli import main\ntry: main(['--help'])\nexcept SystemExit: pass"
    assert _modules_after(shown) - _modules_after("pass") < 400
    assert not _modules_loaded_by("from reid_edge.cli import app") & {"rich", "numpy"}


def test_the_package_is_imported_in_no_time() -> None:
    assert _modules_after("import reid_edge") - _modules_after("pass") < 40
    assert "numpy" not in _modules_loaded_by("import reid_edge")


def test_the_command_line_only_lists_commands() -> None:
    lines = MODULES["reid_edge.cli"].read_text(encoding="utf-8").splitlines()
    assert len(lines) < 220, "options and tables belong in reid_edge/commands"


def test_no_folder_is_crowded() -> None:
    """Code and tests alike: past this many files a folder hides a second idea."""
    folders = [PACKAGE, *(PACKAGE / name for name in ("training", "export", "benchmarks")), ROOT / "tests"]
    for top in folders:
        for folder in [top, *(path for path in top.rglob("*") if path.is_dir() and path.name != "__pycache__")]:
            files = [path.name for path in folder.iterdir() if path.is_file()]
            assert len(files) <= MOST_FILES, f"{folder.relative_to(ROOT)} holds {len(files)} files: find the two ideas"


def test_the_import_path_is_the_disk_path() -> None:
    """A checkout and an installed copy have each module once, under one name."""
    for module in ("reid_edge.training.loop", "reid_edge.export.pipeline", "reid_edge.benchmarks.run"):
        assert module in MODULES
    for name in ("training", "export", "benchmarks"):
        assert len({home.resolve() for home in (PACKAGE / name, ROOT / name) if home.exists()}) == 1
    with pytest.raises(ModuleNotFoundError):
        importlib.import_module("reid_edge.reid_edge")


def test_a_checkout_needs_no_installation() -> None:
    """``pip install .`` in a clone, then a command there: Python finds the clone's ``reid_edge/`` first."""
    code = (
        "import sys\n"
        "sys.meta_path = [finder for finder in sys.meta_path if 'editable' not in repr(finder).lower()]\n"
        "import reid_edge.benchmarks.worker, reid_edge.training, reid_edge.export.parity.compare\n"
        "print(reid_edge.benchmarks.__file__)"
    )
    child = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT)
    assert child.stdout.strip() == str(PACKAGE / "benchmarks" / "__init__.py"), child.stderr


def test_the_pages_that_sources_point_to_are_there() -> None:
    for page in [ROOT / "README.md", *ROOT.glob("docs/**/*.md"), *MODULES.values()]:
        for name in re.findall(r"\bdocs/[\w/]+\.md", page.read_text(encoding="utf-8")):
            assert (ROOT / name).is_file(), f"{page} points to {name}"


def test_every_folder_says_what_it_holds() -> None:
    for module, path in MODULES.items():
        if path.stem == "__init__":
            assert ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))), f"{module} has no docstring"


TWICE = {
    # The door for any model file, and the part of it that needs no torch.
    "evaluate": {"reid_edge.api.evaluate", "reid_edge.scoring.evaluation"},
}
"""Public names that are defined in two modules."""


def _defined_names(module: str) -> set[str]:
    """What ``__all__`` lists and the module itself defines: a name that it imports has its home elsewhere."""
    listed: set[str] = set()
    imported: set[str] = set()
    for node in ast.parse(MODULES[module].read_text(encoding="utf-8")).body:
        if isinstance(node, ast.ImportFrom):
            imported.update(alias.asname or alias.name for alias in node.names)
        target = node.targets[0] if isinstance(node, ast.Assign) else getattr(node, "target", None)
        if isinstance(target, ast.Name) and target.id == "__all__":
            listed.update(ast.literal_eval(node.value))  # type: ignore[union-attr]
    return listed - imported


def test_a_public_name_means_one_thing() -> None:
    """Commands and their options are named as they are typed, after what they call; entry points are all ``main``."""
    homes: dict[str, set[str]] = {}
    for module in MODULES:
        if module != TOP and not module.startswith("reid_edge.commands."):
            for name in _defined_names(module) - {"main"}:
                homes.setdefault(name, set()).add(module)
    clashes = {name: modules for name, modules in homes.items() if len(modules) > 1}
    assert clashes["evaluate"] == {"reid_edge.api.evaluate", "reid_edge.scoring.evaluation"}
    assert clashes == TWICE


@pytest.mark.parametrize("module", MODULES)
def test_every_public_name_exists(module: str) -> None:
    path = MODULES[module]
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
