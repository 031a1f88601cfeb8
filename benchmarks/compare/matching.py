"""Which rows of two reports belong together, and whether the reports may be compared at all."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

from reid_edge.benchmarks.results import BenchReport, BenchRow
from reid_edge.errors import InputError

__all__ = ["ALLOWED", "Matched", "check_comparable", "match_models", "match_rows", "name_of"]

ALLOWED = ("machine", "data", "missing")
"""What may differ when it is allowed by name: the machine, the crops and settings, and rows that only OLD has."""

_MACHINE = ("cpu", "cores", "board", "gpus", "power_mode", "governor")
_SETTINGS = ("data", "part", "distance", "files", "threads")


@dataclass(frozen=True)
class Matched:
    """Rows by pairs (old, new), and the names of the rows that only one of the reports has."""

    pairs: tuple[tuple[BenchRow, BenchRow], ...]
    only_old: tuple[str, ...]
    only_new: tuple[str, ...]


_Key: TypeAlias = "tuple[Any, ...]"


def check_comparable(old: BenchReport, new: BenchReport, allow: Collection[str]) -> None:
    """Raise InputError where machine, crops or settings differ and that is not among ``allow``."""
    machines, settings = (old.machine.to_dict(), new.machine.to_dict()), (old.settings, new.settings)
    for what, names, (before, after) in (("machine", _MACHINE, machines), ("data", _SETTINGS, settings)):
        differ = [
            f"{name} {before.get(name)!r} and {after.get(name)!r}"
            for name in names
            if before.get(name) != after.get(name)
        ]
        if differ and what not in allow:
            raise InputError(
                f"the reports differ in {', '.join(differ)}: measure both alike, or "
                f"compare anyway with --allow {what} (allow=)"
            )


def match_rows(old: BenchReport, new: BenchReport) -> Matched:
    """The rows of two runs: those of the same model, precision, batch, backend and provider belong together.

    Raises InputError where no row of one belongs to any of the other.
    """
    before, after = _by_key(old.rows), _by_key(new.rows)
    return _matched(before, after, "model, precision, batch, backend and provider")


def match_models(report: BenchReport) -> Matched:
    """The rows of one run: those of its first model beside those of every other, at the same batch.

    Raises InputError where the run has but one model, or nothing of the same batch.
    """
    by_model: dict[_Key, dict[_Key, BenchRow]] = {}
    for row in report.rows:
        by_model.setdefault(_key(row, batch=False), {})[(row.batch, row.measured.streams)] = row
    if len(by_model) < 2:
        raise InputError("the report has one model, and nothing to compare it with: give a second report, NEW.json")
    (_, base), *others = by_model.items()
    pairs = [(base[key], row) for _, rows in others for key, row in rows.items() if key in base]
    if not pairs:
        raise InputError(
            "no two models of the report were measured at the same batch: give both the same --batch (batches=)"
        )
    return Matched(tuple(pairs), (), ())


def _matched(before: Mapping[_Key, BenchRow], after: Mapping[_Key, BenchRow], by: str) -> Matched:
    pairs = [(row, after[key]) for key, row in before.items() if key in after]
    if not pairs:
        first = name_of(next(iter(before.values()))) if before else "no row"
        other = name_of(next(iter(after.values()))) if after else "no row"
        raise InputError(f"no row of the reports agrees in {by} ({first}; {other}): measure the same models again")
    return Matched(
        tuple(pairs),
        tuple(name_of(row) for key, row in before.items() if key not in after),
        tuple(name_of(row) for key, row in after.items() if key not in before),
    )


def _by_key(rows: Sequence[BenchRow]) -> dict[_Key, BenchRow]:
    """Rows by what makes them the same; of several files of one name the order tells them apart."""
    found: dict[_Key, BenchRow] = {}
    for row in rows:
        key = _key(row)
        place = (*key, sum(each[:-1] == key for each in found))
        found[place] = row
    return found


def _key(row: BenchRow, batch: bool = True) -> _Key:
    engine = row.measured.engine
    provider = engine.provider.partition(" ")[0]  # "TensorRT 10.3.0": another version is what one compares
    facts = (row.model, row.precision, engine.backend, provider)
    return (*facts, row.batch, row.measured.streams) if batch else (*facts, row.path)


def name_of(row: BenchRow) -> str:
    """A row in words, e.g. ``osnet_x0_25_fp16, batch 8 on CPUExecutionProvider``."""
    precision = "" if row.precision in row.model else f" ({row.precision})"
    return f"{row.model}{precision}, batch {row.batch} on {row.measured.engine.provider}"
