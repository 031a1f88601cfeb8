"""What the package logs, as a list, also in fixtures that outlive a test."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest


@contextmanager
def logged(on_message: Callable[[str], None] = lambda message: None) -> Iterator[list[str]]:
    """The package's messages from INFO up, logged within; ``on_message`` may raise, to interrupt the one who logs."""
    messages: list[str] = []

    class Handler(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            messages.append(record.getMessage())
            on_message(messages[-1])

    package, handler = logging.getLogger("reid_edge"), Handler()
    level = package.level
    package.addHandler(handler)
    package.setLevel(logging.INFO)
    try:
        yield messages
    finally:
        package.removeHandler(handler)
        package.setLevel(level)


@contextmanager
def interrupted_at(line: str) -> Iterator[None]:
    """What runs within is stopped by an error when it logs a message that starts with ``line``; it must log one."""

    class Interrupted(Exception):
        pass

    def interrupt(message: str) -> None:
        if message.startswith(line):
            raise Interrupted

    with logged(interrupt), pytest.raises(Interrupted):
        yield
