"""`reid-edge compare`: two reports of bench, row by row, and rules for CI."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from reid_edge.errors import GateError

from .parts import choices
from .parts.console import show, write_json
from .parts.options import CHECKS, Json

__all__ = ["EXAMPLES", "compare"]

EXAMPLES = 'compare old.json new.json --fail-if "map_drop>0.5" --fail-if "p50_rise>10%"\ncompare both.json'


def compare(
    old: Annotated[Path, typer.Argument(metavar="OLD.json", help="What reid-edge bench --json wrote.")],
    new: Annotated[
        Path | None,
        typer.Argument(metavar="NEW.json", help="The same, later; without it, the models of OLD.json with its first."),
    ] = None,
    fail_if: Annotated[
        list[str] | None,
        typer.Option(
            metavar="RULE",
            help="Exit with 1 if a row is surely worse than this, e.g. p50_rise>10%, p50_rise>2ms, map_drop>0.5; "
            "also p90_rise, p99_rise, inference_rise, cpu_rise, load_rise, throughput_drop, memory_rise, size_rise, "
            "energy_rise, rank1_drop. Repeatable.",
            rich_help_panel=CHECKS,
        ),
    ] = None,
    strict: Annotated[
        bool,
        typer.Option("--strict", help="Also exit with 1 where it cannot be told.", rich_help_panel=CHECKS),
    ] = False,
    allow: Annotated[
        list[choices.Allowed] | None,
        typer.Option(
            help="What may differ: the machine, crops and settings, or rows missing in NEW; repeatable.",
            rich_help_panel=CHECKS,
        ),
    ] = None,
    json_file: Json = None,
) -> None:
    """Compare two reports of bench row by row: time, memory and accuracy, with 95 % intervals where the files allow."""
    from reid_edge.api.compare import compare_benchmarks
    from reid_edge.benchmarks.compare.table import comparison_table

    allowed = [choices.value_of(each) for each in allow or ()]
    found = compare_benchmarks(old, new, rules=fail_if or (), allow=allowed, strict=strict)
    show(comparison_table(found), json_file)
    write_json(json_file, found.to_dict())
    if found.failures:
        more = f" (and {len(found.failures) - 1} more)" if len(found.failures) > 1 else ""
        raise GateError(f"{found.failures[0]}{more}")
