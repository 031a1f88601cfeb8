"""Frames that do not wait: a thread reads them, keeps the newest, and counts those that nobody took in time."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from reid_edge.errors import InputError

from .captures import FrameReader, VideoFrame, checked_image, release

__all__ = ["LiveReader", "backoff_delays"]

logger = logging.getLogger(__name__)

_JOIN_S = 12.0  # longer than OpenCV waits for a frame


def backoff_delays(first_s: float = 0.5, most_s: float = 30.0, total_s: float = 300.0) -> Iterator[float]:
    """Seconds to wait before each attempt to connect again: doubled each time up to ``most_s``, ``total_s`` in all.

    >>> list(backoff_delays(1, 4, 12))
    [1, 2, 4, 4, 1]
    """
    delay, left = first_s, total_s
    while left > 0:
        yield min(delay, left)
        left -= delay
        delay = min(2 * delay, most_s)


class LiveReader:
    """Reads frames in a thread of its own as they come, and keeps the newest until it is taken.

    With ``period_s`` each frame comes that long after the one before, as from a camera; 0 is as fast as they are read.
    ``reopen`` opens the reader again where frames are lost, after each of ``delays()``, which begin anew with the next
    frame; without it the frames end there. The thread alone reads and releases: OpenCV's captures are for one thread.
    """

    def __init__(
        self,
        reader: FrameReader,
        name: str,
        *,
        period_s: float = 0.0,
        reopen: Callable[[], FrameReader] | None = None,
        delays: Callable[[], Iterable[float]] = backoff_delays,
    ) -> None:
        self.dropped = self.reconnects = 0
        self._name = name
        self._period_s = period_s
        self._reopen = reopen
        self._delays = delays
        self._waits = iter(delays())
        self._count = 0
        self._newest: VideoFrame | None = None
        self._error: BaseException | None = None
        self._ended = False
        self._stop = threading.Event()
        self._changed = threading.Condition()
        self._thread = threading.Thread(target=self._run, args=(reader,), name=f"reid-edge {name}", daemon=True)
        self._began = time.monotonic()
        self._thread.start()

    def take(self) -> VideoFrame | None:
        """Wait for a frame that was not taken yet; None at the end. Raises what ended the reading."""
        with self._changed:
            self._changed.wait_for(lambda: self._newest is not None or self._ended)
            frame, self._newest = self._newest, None
            if frame is None and self._error is not None:
                raise self._error
            return frame

    def close(self) -> None:
        """End the thread; a wait in `take` ends too."""
        self._stop.set()
        with self._changed:
            self._newest, self._error, self._ended = None, None, True
            self._changed.notify_all()
        self._thread.join(_JOIN_S)
        if self._thread.is_alive():  # in the reader's own code, which nothing can interrupt
            logger.warning("%s: no frame for %.0f s: its thread is left", self._name, _JOIN_S)

    def _run(self, reader: FrameReader) -> None:
        error: BaseException | None = None
        try:
            self._read_until_stopped(reader)
        except BaseException as caught:
            error = caught
        with self._changed:
            self._ended = True
            self._error = None if self._stop.is_set() else error
            self._changed.notify_all()

    def _read_until_stopped(self, first: FrameReader) -> None:
        reader: FrameReader | None = first
        while reader is not None:
            try:
                self._read_from(reader)
            finally:
                release(reader)
            reader = self._opened_again()

    def _read_from(self, reader: FrameReader) -> None:
        """Until it gives no more frames, or until the stop."""
        due = time.monotonic()
        while not self._stop.is_set():
            ok, image = reader.read()
            if not ok:
                return
            due += self._period_s
            if self._period_s and self._stop.wait(max(0.0, due - time.monotonic())):
                return
            self._keep(image)

    def _keep(self, image: Any) -> None:
        pixels = checked_image(image, self._name)
        with self._changed:
            self.dropped += self._newest is not None
            self._newest = VideoFrame(pixels, self._count, time.monotonic() - self._began, time.time())
            self._count += 1
            self._changed.notify_all()
        self._waits = iter(self._delays())

    def _opened_again(self) -> FrameReader | None:
        """The reader, opened again; None at the end. Raises InputError after the last attempt."""
        if self._reopen is None or self._stop.is_set():
            return None
        last: InputError | None = None
        for delay in self._waits:
            logger.warning("%s gives no frames: opening it again in %.1f s", self._name, delay)
            if self._stop.wait(delay):
                return None
            try:
                reader = self._reopen()
            except InputError as error:
                last = error
                continue
            self.reconnects += 1
            return reader
        raise last or InputError(f"{self._name} gives no more frames: check the camera, its cable and its network")
