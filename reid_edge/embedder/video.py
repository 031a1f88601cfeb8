"""Video: frames of a file, a network camera, a GStreamer pipeline, a local camera or an object of one's own."""

from __future__ import annotations

import logging
import math
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import TracebackType

from reid_edge.errors import InputError

from .captures import FrameReader, VideoFrame, checked_image, read_address, release
from .live import LiveReader

__all__ = ["VideoSource", "open_video"]

logger = logging.getLogger(__name__)

_USUAL_FPS = 25.0
_POSITION_MS, _FPS, _COUNT = 0, 5, 7  # OpenCV's CAP_PROP_POS_MSEC, CAP_PROP_FPS and CAP_PROP_FRAME_COUNT


def open_video(address: str | Path | int | FrameReader, *, live: bool | None = None) -> VideoSource:
    """Open a source of frames: an iterator of `reid_edge.embedder.captures.VideoFrame`, for ``with``.

    ``address`` is a video file; an address of the network (``rtsp://``, ``http://``); a GStreamer pipeline
    (``nvarguscamerasrc ! ... ! appsink``); the number of a camera, or its device; or any object with the method
    ``read()`` of OpenCV's captures. All but the last need OpenCV.

    Files wait for the consumer. Everything else is live: of frames that come faster than they are taken the newest is
    kept, the others are dropped and counted (`VideoSource.dropped`). ``live=True`` plays a file at its own speed, as if
    it came from a camera (25 frames a second where it does not say). ``live=False`` takes every frame of a source, and
    ends with it: for a file behind an address, which as a live source would begin anew.

    A live source that stops giving frames is opened again after half a second, then after twice as long each time up to
    30 s, for five minutes, with a line in the log each time. A file or an object ends.

    Raises InputError that names the remedy: nothing there, nothing that OpenCV can decode, a backend that this OpenCV
    lacks; also later, for a live source that stays away. Raises MissingExtraError without OpenCV.

    >>> import numpy as np
    >>> class Camera:  # of your own
    ...     left = 3
    ...     def read(self):
    ...         self.left -= 1
    ...         return self.left >= 0, np.zeros((480, 640, 3), np.uint8)
    >>> with open_video(Camera(), live=False) as video:
    ...     [(frame.index, frame.image.shape) for frame in video]
    [(0, (480, 640, 3)), (1, (480, 640, 3)), (2, (480, 640, 3))]
    """
    if not isinstance(address, str | Path | int):
        if not hasattr(address, "read"):
            read_address(address)  # raises
        return VideoSource(address, f"a {type(address).__name__}", live=live is not False)
    where = read_address(address)
    is_file = where.kind == "file"
    is_live = not is_file if live is None else live
    return VideoSource(where.open(), str(where), live=is_live, ends=is_file, reopen=None if is_file else where.open)


class VideoSource:
    """An iterator of frames that `open_video` gives; one thread at a time may take them.

    ``live`` says whether frames are dropped when nobody takes them. ``fps`` are the frames a second that the source
    claims, None where it does not say. There are no more frames after the end or `close`.
    """

    def __init__(
        self,
        reader: FrameReader,
        name: str,
        *,
        live: bool,
        ends: bool = False,
        reopen: Callable[[], FrameReader] | None = None,
    ) -> None:
        self.live = live
        self.fps = _fps(reader)
        self._name = name
        self._reader = reader
        self._expected = _property(reader, _COUNT) if ends else 0.0
        self._read = 0
        self._closed = False
        period_s = 1 / (self.fps or _USUAL_FPS) if ends else 0.0
        self._live = LiveReader(reader, name, period_s=period_s, reopen=reopen) if live else None

    @property
    def dropped(self) -> int:
        """How many frames of a live source were not taken in time."""
        return self._live.dropped if self._live else 0

    @property
    def reconnects(self) -> int:
        """How often a live source was opened again."""
        return self._live.reconnects if self._live else 0

    def __iter__(self) -> VideoSource:
        return self

    def __next__(self) -> VideoFrame:
        if self._closed:
            raise StopIteration
        frame = self._live.take() if self._live else self._next_of_file()
        if frame is None:
            self.close()
            raise StopIteration
        return frame

    def close(self) -> None:
        """Free the source and end its thread; nothing happens the second time."""
        if not self._closed:
            self._closed = True
            if self._live:
                self._live.close()
            else:
                release(self._reader)

    def __enter__(self) -> VideoSource:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        state = "closed" if self._closed else "open"
        return f"<VideoSource {self._name}: {state}{f', {self.dropped} frames dropped' if self.live else ''}>"

    def _next_of_file(self) -> VideoFrame | None:
        ok, image = self._reader.read()
        if not ok:
            self._check_end()
            return None
        index, self._read = self._read, self._read + 1
        time_s = _property(self._reader, _POSITION_MS) / 1e3 or index / (self.fps or _USUAL_FPS)
        return VideoFrame(checked_image(image, self._name), index, time_s, time.time())

    def _check_end(self) -> None:
        """A decoder ends at damage as at the end: say so where frames are missing. Files estimate their number."""
        if self._expected and not self._read:
            raise InputError(f"{self._name}: no frame of it can be decoded: convert it to H.264 in MP4")
        if self._read < 0.98 * self._expected:
            counts = self._read, int(self._expected)
            logger.warning("%s ended after %d of about %d frames: it may be cut off", self._name, *counts)


def _fps(reader: FrameReader) -> float | None:
    fps = _property(reader, _FPS)
    return fps if 0 < fps <= 1000 else None


def _property(reader: FrameReader, number: int) -> float:
    """A property of OpenCV's capture; 0 for another reader, and where it does not know."""
    cv2 = sys.modules.get("cv2")
    if cv2 is None or not isinstance(reader, cv2.VideoCapture):
        return 0.0
    value = float(reader.get(number))
    return value if math.isfinite(value) else 0.0
