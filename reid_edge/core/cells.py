"""Cells of tables on a terminal of 80 columns."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from .log import printable

if TYPE_CHECKING:
    from rich.console import Console, ConsoleOptions
    from rich.measure import Measurement
    from rich.text import Text

__all__ = ["FileName", "broken_name"]

_PIECE = re.compile(r"[^_/-]*[_/-]+|[^_/-]+")


def broken_name(name: str, width: int) -> list[str]:
    """A file's name in lines of at most ``width``, broken behind ``_ - /`` where there are any, else anywhere.

    >>> broken_name("osnet_x0_25_market_fp16.onnx", 16)
    ['osnet_x0_25_', 'market_fp16.onnx']
    >>> broken_name("a" * 5, 3)
    ['aaa', 'aa']
    """
    lines = [""]
    for piece in _PIECE.findall(name):
        if lines[-1] and len(lines[-1]) + len(piece) > width:
            lines.append("")
        lines[-1] += piece
        while len(lines[-1]) > width:
            lines[-1:] = [lines[-1][:width], lines[-1][width:]]
    return [line for line in lines if line]


class FileName:
    """A file's name as a cell of a rich table: where the column is narrow, it is broken as `broken_name` says.

    The name is text: neither rich's markup nor terminal codes in it have an effect.
    """

    def __init__(self, name: str) -> None:
        self._name = printable(name)

    def __rich_measure__(self, console: Console, options: ConsoleOptions) -> Measurement:
        from rich.measure import Measurement

        longest = max(map(len, _PIECE.findall(self._name)), default=0)
        return Measurement(min(longest, options.max_width), min(len(self._name), options.max_width))

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> list[Text]:
        from rich.text import Text

        return [Text(line) for line in broken_name(self._name, options.max_width)]
