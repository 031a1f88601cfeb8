"""Tables that programs and other packages add rows to: architectures, layouts, calibration methods, backends, commands.

A program adds a row with `Registry.register`. An installed package announces it in its ``pyproject.toml``, so that the
command line knows it too; the name is known without importing the package, and the row is imported when it is used::

    [project.entry-points."reid_edge.layouts"]
    piers = "my_package.piers:PIERS"
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import cache
from typing import TYPE_CHECKING, Any, TypeVar, cast

from reid_edge.errors import InputError

if TYPE_CHECKING:
    from importlib.metadata import EntryPoint

__all__ = ["Registry", "added_names"]

Row = TypeVar("Row")

_registered: dict[str, dict[str, Any]] = {}


class Registry(Mapping[str, Row]):
    """The rows of a table by name: its ``own``, then those registered, then those announced in ``reid_edge.TABLE``.

    ``own`` rows cannot be replaced.

    >>> shapes = Registry("shapes", {"square": 4})
    >>> shapes.register("triangle", 3)
    >>> list(shapes), shapes["triangle"]
    (['square', 'triangle'], 3)
    """

    def __init__(self, table: str, own: Mapping[str, Row] | None = None) -> None:
        self.table = table
        self.own: Mapping[str, Row] = own or {}

    def register(self, name: str, row: Row) -> None:
        """Add ``row`` in this process, or replace the one registered before. Raises InputError for an own ``name``."""
        if name in self.own:
            raise InputError(f"{name!r} is one of reid-edge's own {self.table}: choose another name")
        _registered.setdefault(self.table, {})[name] = row

    def added(self) -> dict[str, Row]:
        """The rows that are not reid-edge's own, imported."""
        return {name: self[name] for name in self if name not in self.own}

    def __getitem__(self, name: str) -> Row:
        """The row. Raises KeyError for an unknown name, InputError for an announced row that cannot be imported."""
        if name in self.own:
            return self.own[name]
        registered = _registered.get(self.table, {})
        return cast(Row, registered[name] if name in registered else _imported(_announced()[self.table][name]))

    def __contains__(self, name: object) -> bool:
        return name in self.own or name in added_names(self.table)

    def __iter__(self) -> Iterator[str]:
        return iter(dict.fromkeys([*self.own, *added_names(self.table)]))

    def __len__(self) -> int:
        return len(list(iter(self)))


def added_names(table: str) -> tuple[str, ...]:
    """The names registered and announced for a table; nothing is imported."""
    return tuple(dict.fromkeys([*_registered.get(table, {}), *_announced().get(table, {})]))


@cache
def _announced() -> dict[str, dict[str, EntryPoint]]:
    """What installed packages announce, by table and name; of two packages with one name the first on the path."""
    from importlib.metadata import distributions

    found: dict[str, dict[str, EntryPoint]] = {}
    for distribution in distributions():
        for point in distribution.entry_points:
            package, _, table = point.group.partition(".")
            if package == "reid_edge":
                found.setdefault(table, {}).setdefault(point.name, point)
    return found


def _imported(point: EntryPoint) -> Any:
    try:
        return point.load()
    except Exception as error:  # code of another package
        package = point.dist.name if point.dist else point.module
        what = f"{point.group}: {point.name} = {point.value!r} of the package {package}"
        raise InputError(f"{what} cannot be imported ({error}): reinstall {package}, or remove it") from None
