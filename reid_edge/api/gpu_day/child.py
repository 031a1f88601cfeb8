"""A part in a process of its own: one that crashes, hangs or runs out of memory ends alone, and its rows stay.

``run_part`` starts ``python -m reid_edge.api.gpu_day.child PART FOLDER OPTIONS``. Each line of its standard output is
JSON: a row as soon as it is measured, or ``{"cannot": reason}``.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any

from reid_edge.errors import ReidEdgeError

from .parts import PARTS, CannotRunError, DayOptions, DayRow, rows_of

__all__ = ["main", "run_part"]

_MOST_SHOWN = 400


def run_part(
    name: str,
    folder: Path,
    options: DayOptions,
    minutes: float | None = None,
    on_row: Callable[[DayRow], None] = lambda row: None,
) -> dict[str, Any]:
    """Run a part, at most for as many ``minutes`` (None: its own).

    ``status`` is "done", "cannot" (with the ``reason``), "failed" (its last words) or "out of time"; ``rows`` are
    those measured until then.
    """
    minutes = PARTS[name].minutes if minutes is None else minutes
    command = [sys.executable, "-m", __name__, name, str(folder), json.dumps(options.to_dict())]
    started = time.perf_counter()
    found: list[DayRow] = []
    with (
        tempfile.TemporaryFile("w+", errors="replace") as complaints,
        subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=complaints, text=True, start_new_session=True
        ) as child,
    ):
        reader = threading.Thread(target=_collect, args=(child.stdout, found, on_row), daemon=True)
        reader.start()
        late = False
        try:
            code = child.wait(minutes * 60)
        except subprocess.TimeoutExpired:
            late, code = True, 1
        finally:
            _end_with_children(child)
        reader.join(5)
        complaints.seek(0)
        last = (complaints.read().strip().splitlines() or ["no message"])[-1][-_MOST_SHOWN:]
    reasons = [row["cannot"] for row in found if set(row) == {"cannot"}]
    rows = [row for row in found if set(row) != {"cannot"}]
    result: dict[str, Any] = {"seconds": round(time.perf_counter() - started, 1), "budget_minutes": minutes}
    if late:
        return {**result, "status": "out of time", "reason": f"over {minutes:g} minutes", "rows": rows}
    if reasons:
        return {**result, "status": "cannot", "reason": reasons[0], "rows": rows}
    if code:
        return {**result, "status": "failed", "reason": f"exit code {code}: {last}", "rows": rows}
    return {**result, "status": "done", "reason": "", "rows": rows}


def main(arguments: list[str]) -> int:
    """Print the rows of a part."""
    name, folder, options = arguments
    parent = sys.stdout
    with contextlib.redirect_stdout(sys.stderr):  # a library's prints are no rows
        try:
            for row in rows_of(name, Path(folder), DayOptions.from_dict(json.loads(options))):
                print(json.dumps(row), file=parent, flush=True)
        except CannotRunError as error:
            print(json.dumps({"cannot": str(error)}), file=parent, flush=True)
        except ReidEdgeError as error:
            print(error, file=sys.stderr)
            return 1
    return 0


def _end_with_children(child: subprocess.Popen[str]) -> None:
    """Kill a part with all that it started: pytest runs below one of them."""
    with contextlib.suppress(OSError):
        if hasattr(os, "killpg"):
            os.killpg(child.pid, signal.SIGKILL)
        else:
            child.kill()


def _collect(lines: IO[str] | None, found: list[DayRow], on_row: Callable[[DayRow], None]) -> None:
    for line in lines or ():
        with contextlib.suppress(ValueError):  # a line that a killed child did not finish
            found.append(json.loads(line))
            on_row(found[-1])


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
