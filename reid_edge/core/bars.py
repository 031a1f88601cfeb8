"""The lines of progress on a terminal, drawn by rich: the display behind `progress.phase`."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from threading import Lock
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, Progress, ProgressColumn, SpinnerColumn, Task, TaskID, TextColumn
from rich.table import Column
from rich.text import Text

from .log import printable

__all__ = ["BARS", "Bars", "Line"]

_PER_SECOND = 4
"""How often it is drawn: a thread does it, and what is measured meanwhile must not notice."""


class Line:
    """One line of the display, which is a `progress.Phase`."""

    def __init__(self, progress: Progress, task: TaskID) -> None:
        self._progress, self._task = progress, task

    def advance(self, steps: float = 1, note: str = "") -> None:
        """Move the bar by ``steps``, and show a ``note`` at its end."""
        fields: dict[str, Any] = {"note": printable(note)} if note else {}
        self._progress.update(self._task, advance=steps, **fields)


class Bars:
    """The lines of this process in one display, inner phases below outer ones; it is gone when the last one ends.

    What is printed meanwhile appears above it. Standard output is left alone where it is not the terminal.
    """

    def __init__(self) -> None:
        self._lock = Lock()
        self._progress: Progress | None = None

    @contextmanager
    def line(self, description: str, total: float | None) -> Iterator[Line]:
        """Show a line while the ``with`` block runs."""
        with self._lock:
            progress = self._progress = self._progress or _started()
            task = progress.add_task("  " * len(progress.tasks) + description, total=total, note="")
        progress.refresh()  # also a phase shorter than a frame is shown
        try:
            yield Line(progress, task)
        finally:
            with self._lock:
                progress.remove_task(task)
                if not progress.tasks:
                    progress.stop()
                    self._progress = None


BARS = Bars()
"""The display of this process."""


def _started() -> Progress:
    cut: dict[str, Any] = {"no_wrap": True, "overflow": "ellipsis"}
    columns = (
        SpinnerColumn(),
        TextColumn("{task.description}", markup=False, table_column=Column(**cut, max_width=40)),
        _Bar(bar_width=14, table_column=Column(no_wrap=True)),
        _Count(table_column=Column(no_wrap=True)),
        _Time(table_column=Column(no_wrap=True)),
        _Note(table_column=Column()),  # the only one that may be narrowed: the bar stays
    )
    progress = Progress(
        *columns,
        console=Console(stderr=True, soft_wrap=True),  # a path that is printed meanwhile stays whole
        transient=True,
        refresh_per_second=_PER_SECOND,
        redirect_stdout=sys.stdout.isatty(),
    )
    progress.start()
    return progress


class _Bar(BarColumn):
    """A bar where the length is known."""

    def render(self, task: Task) -> Text:  # type: ignore[override]  # nothing, or a bar
        """Draw it."""
        return Text() if task.total is None else super().render(task)  # type: ignore[return-value]


class _Count(ProgressColumn):
    """How many steps are done of how many; of a total of 1 the share."""

    def render(self, task: Task) -> Text:
        """Write it."""
        done, total = task.completed, task.total
        return Text("" if total is None else f"{done:.0%}" if total == 1 else f"{done:g}/{total:g}")


class _Note(ProgressColumn):
    """A few words at the end of the line, cut where it is too short for them."""

    def render(self, task: Task) -> Text:
        """Write them."""
        return Text(task.fields["note"], no_wrap=True, overflow="ellipsis")


class _Time(ProgressColumn):
    """The time left where it can be estimated, else the time passed."""

    def render(self, task: Task) -> Text:
        """Write it as minutes and seconds."""
        left = task.time_remaining if task.total is not None else None
        seconds = int(task.elapsed or 0 if left is None else left)
        return Text(f"{seconds // 60}:{seconds % 60:02d}{'' if left is None else ' left'}", style="progress.elapsed")
