"""A comparison as a table of 80 columns: a heading for each model, a line for each batch."""

from __future__ import annotations

from typing import TYPE_CHECKING

from reid_edge.core.log import printable

from .comparison import BenchComparison, RowPair

if TYPE_CHECKING:
    from rich.console import Group, RenderableType

__all__ = ["comparison_table"]

_COLUMNS = (("\nbatch", 5), ("p50 ms\nold", 7), ("\nnew", 7), ("p50 %\n[95 %]", 21), ("p99 %\n", 7), ("mem %\n", 7))
_ACCURACIES = ("map_drop", "rank1_drop")


def comparison_table(found: BenchComparison) -> Group:
    """The rows by model, what the rules say, and the notes; to be printed with rich."""
    from rich.console import Group
    from rich.text import Text

    models: dict[str, list[RowPair]] = {}
    for pair in found.rows:
        models.setdefault(_heading(pair), []).append(pair)
    parts: list[RenderableType] = []
    for heading, pairs in models.items():
        parts += [Text(printable(heading), style="bold"), _lines(pairs), Text("")]
    lines = [str(each) for each in found.judged if each.verdict != "kept"]
    lines += [line for line in found.failures if line.startswith("missing")]
    if found.judged:
        kept = sum(each.verdict == "kept" for each in found.judged)
        lines.append(f"{kept} of {len(found.judged)} checks of rules on rows are surely kept")
    lines += [f"only new: {name}" for name in found.only_new]
    lines += [f"note: {note}" for note in found.notes]
    return Group(*parts, *(Text(printable(line), style=_style(line)) for line in lines))


def _heading(pair: RowPair) -> str:
    """The models' names and how their accuracy differs, the same at every batch."""
    old, new = pair.old, pair.new
    names = new.model if old.model == new.model else f"{old.model} -> {new.model}"
    same = " (the same file)" if old.sha256 and old.sha256 == new.sha256 else ""
    scores = [f"{_title(name)} {pair.differences[name]}" for name in _ACCURACIES if name in pair.differences]
    return f"{names}, {new.precision}, {new.measured.engine.provider}{same}" + "".join(f"; {each}" for each in scores)


def _title(name: str) -> str:
    return {"map_drop": "mAP", "rank1_drop": "R1"}[name]


def _lines(pairs: list[RowPair]) -> RenderableType:
    from rich.box import SIMPLE_HEAD
    from rich.table import Table

    table = Table(box=SIMPLE_HEAD, padding=(0, 1, 0, 0), show_edge=False, pad_edge=False)
    for title, width in _COLUMNS:
        table.add_column(title, justify="right", min_width=width, no_wrap=True)
    for pair in pairs:
        old, new = pair.old.measured.end_to_end_ms, pair.new.measured.end_to_end_ms
        changes = [_change(pair, name) for name in ("p50_rise", "p99_rise", "memory_rise")]
        changes[1:] = [each.partition(" ")[0] for each in changes[1:]]
        table.add_row(str(pair.new.batch), f"{old.p50:.2f}", f"{new.p50:.2f}", *changes)
    return table


def _change(pair: RowPair, name: str) -> str:
    return str(pair.differences[name]).replace(" %", "") if name in pair.differences else "-"


def _style(line: str) -> str:
    return {"broken": "bold red", "missing": "bold red", "unsure": "yellow"}.get(line.partition(":")[0], "")
