"""What commands print: messages, tables and the file of figures."""

from __future__ import annotations

import json
import logging
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, TextIO

from reid_edge.core.log import printable

__all__ = ["given", "program_name", "say", "show", "show_notices", "tell", "write_json"]

logger = logging.getLogger(__name__)


def given(options: dict[str, Any]) -> dict[str, Any]:
    """The options that are not None.

    >>> given({"epochs": None, "seed": 0})
    {'seed': 0}
    """
    return {name: value for name, value in options.items() if value is not None}


def program_name() -> str:
    """How the user starts the command line: by its path where the environment is not active, as under make."""
    if shutil.which("reid-edge"):
        return "reid-edge"
    return "python -m reid_edge" if Path(sys.argv[0]).name == "__main__.py" else sys.argv[0]


def say(message: str) -> None:
    """A line about what is being done; ``--quiet`` leaves it out."""
    logger.info("%s", message)


def show_notices(notices: Sequence[str]) -> None:
    """Lines that a user should know, on standard error."""
    for notice in notices:
        logger.warning("%s", notice)


def tell(line: str, json_file: Path | None = None) -> None:
    """Print a line that is a result; ``--quiet`` shows it too. ``json_file``: see `show`."""
    print(printable(line), file=_stream(json_file))


def show(renderable: Any, json_file: Path | None = None) -> None:
    """Print a table; in a log or a pipe it is not cut at 80 columns.

    Where ``json_file`` is standard output, tables go to standard error, so that a program reads JSON alone. File names
    are text: neither rich's markup nor terminal codes in them have an effect.
    """
    from rich.console import Console
    from rich.segment import Segment, Segments

    stream = _stream(json_file)
    console = Console(markup=False, emoji=False, highlight=False, file=stream)
    console.width = console.width if console.is_terminal else 160
    drawn = [
        segment if segment.control else Segment("\n".join(map(printable, segment.text.split("\n"))), segment.style)
        for segment in console.render(renderable)
    ]
    with console.capture() as captured:  # rich would answer a closed pipe by itself
        console.print(Segments(drawn))
    print(captured.get(), end="", file=stream)


def _stream(json_file: Path | None) -> TextIO:
    """Where tables go: standard error when the figures go to standard output."""
    from reid_edge.core.files import is_standard_output

    return sys.stderr if json_file and is_standard_output(json_file) else sys.stdout


def write_json(path: Path | None, content: dict[str, Any]) -> None:
    """Write the figures where ``--json`` says, whole or not at all."""
    if path is None:
        return
    from reid_edge.core.files import write_text

    write_text(path, json.dumps(content, indent=1) + "\n")
    if _stream(path) is sys.stdout:  # else the line would stand beside the figures
        logger.info("wrote %s", path)
