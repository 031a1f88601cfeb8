"""SIGTERM and ctrl-C as a flag that the loop reads between two batches, instead of the end of the process."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

__all__ = ["stop_on_signal"]

_STOPPING = b"\nstopping: saving first; ctrl-C again ends at once\n"


@contextmanager
def stop_on_signal() -> Iterator[Callable[[], int]]:
    """Within it, SIGTERM and ctrl-C (SIGINT) only make the yielded function return the signal's number, 0 before.

    Ctrl-C after either of them raises KeyboardInterrupt. A signal that the process ignores stays ignored: shells have
    it so for what runs in the background. Outside the main thread the number stays 0.
    """
    received = 0

    def note(number: int, frame: FrameType | None) -> None:
        nonlocal received
        if received and number == signal.SIGINT:
            raise KeyboardInterrupt
        received = number
        if number == signal.SIGINT:
            with contextlib.suppress(OSError):  # print may not be called again within itself
                os.write(2, _STOPPING)

    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
    taken = {number: handler for number, handler in before.items() if handler not in (signal.SIG_IGN, None)}
    if threading.current_thread() is not threading.main_thread():
        taken = {}
    for number in taken:
        signal.signal(number, note)
    try:
        yield lambda: received
    finally:
        for number, handler in taken.items():
            signal.signal(number, handler)
