"""SIGTERM and ctrl-C as exceptions: a command that is told to stop cleans up as one that fails does."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

__all__ = ["Terminated", "raise_if_stopped", "terminable"]

_stopped: list[BaseException] = []


class Terminated(SystemExit):
    """Raised in the main thread on SIGTERM; ends the process with 143.

    It is no `Exception`: code that carries on after a damaged image must not carry on after this.
    """


@contextmanager
def terminable() -> Iterator[None]:
    """Within it, SIGTERM raises `Terminated` and ctrl-C KeyboardInterrupt, which `raise_if_stopped` knows of.

    For programs: a library leaves signals alone, as other threads than the main one must. A SIGINT that is ignored or
    has a handler already stays so.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {signal.SIGTERM: signal.signal(signal.SIGTERM, _stop)}
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        before[signal.SIGINT] = signal.signal(signal.SIGINT, _stop)
    try:
        yield
    finally:
        _stopped.clear()
        for number, handler in before.items():
            signal.signal(number, handler)


def raise_if_stopped() -> None:
    """Raise a signal's exception again where compiled code swallowed it; for long loops.

    An exception is lost when the signal arrives in a function whose C caller clears errors: seen with NumPy 1.26's
    random generators, about one time in 200.
    """
    if _stopped and threading.current_thread() is threading.main_thread():
        raise _stopped[-1]


def _stop(number: int, frame: FrameType | None) -> None:
    _stopped.append(KeyboardInterrupt() if number == signal.SIGINT else Terminated(128 + number))
    raise _stopped[-1]
