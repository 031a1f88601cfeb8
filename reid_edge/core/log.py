"""Messages go through ``logging``, under the name "reid_edge"; a program decides what to show.

Every module has ``logger = logging.getLogger(__name__)``. As a library nothing is printed unless the program configures
logging; the command line shows messages as plain lines with `show_messages`.
"""

from __future__ import annotations

import logging
import sys

__all__ = ["printable", "show_messages"]

_LEVELS = {-1: logging.WARNING, 0: logging.INFO, 1: logging.DEBUG}


class _Console(logging.Handler):
    """Notes and progress to standard output, warnings to standard error; looked up each time, as tests replace them."""

    def emit(self, record: logging.LogRecord) -> None:
        """Print one message as a line."""
        stream = sys.stderr if record.levelno >= logging.WARNING else sys.stdout
        prefix = "note: " if record.levelno == logging.WARNING else ""
        print(f"{prefix}{printable(record.getMessage())}", file=stream, flush=True)


def printable(text: str) -> str:
    r"""``text`` on one line: line breaks, terminal codes and undecodable bytes, which file names may hold, are escaped.

    >>> printable("cam\x1b[2J\n[1]é.jpg")
    'cam\\x1b[2J\\n[1]é.jpg'
    """
    return "".join(sign if sign.isprintable() else ascii(sign)[1:-1] for sign in text)


def show_messages(verbosity: int = 0) -> None:
    """Show the package's messages: -1 warnings only, 0 also progress, 1 also details.

    >>> show_messages(0)
    >>> logging.getLogger("reid_edge").level == logging.INFO
    True
    """
    logger = logging.getLogger("reid_edge")
    logger.propagate = False  # a library that configures the root logger would show each message again
    logger.setLevel(_LEVELS[max(-1, min(1, verbosity))])
    if not any(isinstance(handler, _Console) for handler in logger.handlers):
        logger.addHandler(_Console())
