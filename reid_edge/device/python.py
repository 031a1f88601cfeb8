"""The Python of a machine: its version, its packages, and which modules import."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from .host import CommandOutput, Host

__all__ = ["Imported", "Package", "PythonFacts", "last_json", "read_import", "read_python"]

_PROBE = "reid_edge.device.python_probe"
_IMPORT_SECONDS = 60.0


@dataclass(frozen=True)
class Package:
    """An installed package of Python: its version, and the folder that holds it."""

    name: str
    version: str
    folder: str

    @property
    def of_system(self) -> bool:
        """Whether the system's package manager put it there, on Debian and Ubuntu."""
        return "/dist-packages" in self.folder and not self.folder.startswith("/usr/local")


@dataclass(frozen=True)
class PythonFacts:
    """An interpreter. ``packages`` are by name, the one in use first; ``places`` are the folders that hold a module.

    ``virtual`` says that it is a virtual environment, ``sees_system`` that this one sees the system's packages.
    """

    version: str
    prefix: str
    virtual: bool
    sees_system: bool
    packages: Mapping[str, tuple[Package, ...]] = field(default_factory=dict)
    places: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

    def package(self, *names: str) -> Package | None:
        """The first of ``names`` that is installed."""
        return next((self.packages[name][0] for name in names if self.packages.get(name)), None)

    def starting_with(self, prefix: str) -> tuple[Package, ...]:
        """The packages in use whose name starts with ``prefix``."""
        return tuple(found[0] for name, found in self.packages.items() if name.startswith(prefix) and found)


@dataclass(frozen=True)
class Imported:
    """What importing a module gave: a version and a file, or the ``error``. ``build`` is OpenCV's description."""

    version: str = ""
    file: str = ""
    build: str = ""
    error: str = ""


def read_python(host: Host) -> PythonFacts | None:
    """The interpreter that ``host.python`` starts; None where it does not answer."""
    raw = last_json(host.run([host.python, "-m", _PROBE], _IMPORT_SECONDS))
    if not raw:
        return None
    packages = {
        name: tuple(Package(name, *map(str, pair)) for pair in found if isinstance(pair, list) and len(pair) == 2)
        for name, found in _lists(raw.get("packages")).items()
    }
    places = {name: tuple(map(str, found)) for name, found in _lists(raw.get("places")).items()}
    virtual, sees_system = (raw.get(name) is True for name in ("virtual", "sees_system"))
    version, prefix = (str(raw.get(name, "")) for name in ("version", "prefix"))
    return PythonFacts(version, prefix, virtual, sees_system, packages, places)


def read_import(host: Host, module: str) -> Imported:
    """Import ``module`` in a process of its own."""
    output = host.run([host.python, "-m", _PROBE, module], _IMPORT_SECONDS)
    raw = last_json(output)
    if raw:
        return Imported(*(str(raw.get(name, "")) for name in ("version", "file", "build", "error")))
    return Imported(error=_end_of(output))


def last_json(output: CommandOutput) -> dict[str, Any]:
    """The object of JSON in the last line that a command printed; empty where there is none."""
    try:
        raw = json.loads((output.text.strip().splitlines() or [""])[-1])
    except (ValueError, RecursionError):
        return {}
    return raw if isinstance(raw, dict) else {}


def _end_of(output: CommandOutput) -> str:
    """How a process ended that gave no answer."""
    words = (output.errors.strip().splitlines() or ["no message"])[-1][:300]
    if output.code is None:
        return f"its import did not end within {_IMPORT_SECONDS:g} seconds"
    return f"its import ended the process (exit status {output.code}: {words})"


def _lists(raw: Any) -> dict[str, list[Any]]:
    items = raw.items() if isinstance(raw, dict) else ()
    return {str(name): value for name, value in items if isinstance(value, list)}
