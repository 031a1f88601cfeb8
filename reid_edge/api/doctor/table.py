"""The doctor's report for a terminal of 80 columns: a table of findings, and the commands below it, to be copied."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from reid_edge.core.log import printable

from .findings import DoctorReport, Finding, Level

if TYPE_CHECKING:
    from rich.console import Console, ConsoleOptions, Group, RenderableType
    from rich.segment import Segment
    from rich.table import Table

__all__ = ["doctor_lines", "doctor_table"]

_STYLES = {Level.OK: "green", Level.NOTE: "yellow", Level.WRONG: "bold red"}


def doctor_table(report: DoctorReport) -> Group:
    """The findings under their headings, to be printed with rich."""
    from rich.console import Group
    from rich.text import Text

    width = max((len(finding.part) for finding in report.findings), default=0)
    parts: list[RenderableType] = []
    for group, findings in report.groups():
        parts += [Text(""), Text(group.capitalize(), style="bold"), _Trimmed(_table(findings, width))]
    return Group(*parts[1:])


def doctor_lines(report: DoctorReport) -> Iterator[str]:
    """What mends each finding, a line each so that a terminal breaks no command, and how many there are."""
    for title, findings in (("To mend what is wrong:", report.wrong), ("Worth doing:", report.notes)):
        if findings:
            yield ""
            yield title
            yield from (f"  {finding.part}:  {finding.remedy}" for finding in findings)
    yield ""
    yield _summary(len(report.wrong), len(report.notes))


def _table(findings: list[Finding], width: int) -> Table:
    """One group; those of all groups stand below each other."""
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, show_header=False, padding=(0, 2, 0, 0), pad_edge=False)
    table.add_column(no_wrap=True, width=len(Level.WRONG.value))
    table.add_column(no_wrap=True, width=width)
    table.add_column(overflow="fold")
    for finding in findings:
        # Text: what a machine says of itself is no markup
        table.add_row(
            Text(finding.level.value, style=_STYLES[finding.level]), finding.part, Text(printable(finding.found))
        )
    return table


class _Trimmed:
    """A table whose lines end with their last word: rich fills the last column with spaces, which a paste keeps."""

    def __init__(self, table: Table) -> None:
        self._table = table

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> Iterator[Segment]:
        from rich.segment import Segment

        for line in console.render_lines(self._table, options, pad=False):
            while line and not line[-1].text.strip():
                line.pop()
            yield from line[:-1]
            yield from (Segment(last.text.rstrip(), last.style) for last in line[-1:])
            yield Segment.line()


def _summary(wrong: int, notes: int) -> str:
    counted = f"{notes} note{'s' * (notes != 1)}"
    if wrong:
        return f"{wrong} wrong, {counted}."
    return f"Nothing is wrong; {counted}." if notes else "Nothing is wrong."
