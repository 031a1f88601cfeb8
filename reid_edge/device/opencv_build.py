"""What an OpenCV can read videos and cameras with, by its ``cv2.getBuildInformation()``."""

from __future__ import annotations

import re

__all__ = ["VIDEO_READERS", "parse_video_readers"]

VIDEO_READERS = ("FFMPEG", "GStreamer")
"""Files and network streams; and a Jetson's cameras and decoders."""


def parse_video_readers(text: str) -> dict[str, bool]:
    r"""Whether it was built with each of `VIDEO_READERS`; empty where the text has no such part.

    >>> parse_video_readers("  Video I/O:\n    FFMPEG:      YES\n    GStreamer:   NO\n\n")
    {'FFMPEG': True, 'GStreamer': False}
    """
    part = re.search(r"^( *)Video I/O:\n((?:\1 .*\n|\n(?=\1  ))*)", text[: 256 << 10] + "\n", re.M)
    if part is None:
        return {}
    # Before OpenCV 4, GStreamer had no word of its own, but a line of deeper indent for each of its libraries.
    found = {name: re.search(rf"^( *){name}:(.*(?:\n\1 .*)*)", part[2], re.M) for name in VIDEO_READERS}
    return {name: bool(match and re.match(r"\s*YES|.*\n.*\bYES\b", match[2])) for name, match in found.items()}
