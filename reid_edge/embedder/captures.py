"""Video files, network addresses, GStreamer pipelines and cameras: opened by OpenCV, with errors that help."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from reid_edge.core.optional import import_optional
from reid_edge.errors import ImageError, InputError

__all__ = ["Address", "FrameReader", "VideoFrame", "checked_image", "read_address", "release"]

_TIMEOUT_MS = 10_000
_BACKENDS = {
    "file": ("FFMPEG", "GSTREAMER", "OPENCV_MJPEG"),
    "network": ("FFMPEG", "GSTREAMER"),
    "pipeline": ("GSTREAMER",),
    "camera": ("V4L2", "GSTREAMER", "AVFOUNDATION", "MSMF", "DSHOW"),
}
"""OpenCV's backends for each kind of address, best first. Others are left out: one reads any numbered picture."""
_LACKS = {
    "file": "FFmpeg or GStreamer: pip install opencv-python-headless, which has FFmpeg",
    "network": "FFmpeg or GStreamer: pip install opencv-python-headless, which has FFmpeg",
    "pipeline": "GStreamer: PyPI's never has it, a Jetson's own has (python3 -m venv --system-site-packages, and no "
    "opencv of pip in it)",
    "camera": "a backend for cameras: pip install opencv-python-headless, which has V4L2",
}
_REMEDIES = {
    "file": "it is damaged or no video: convert it to H.264 in MP4",
    "network": "check address, name and password with  ffprobe ADDRESS, and that the camera is reachable",
    "pipeline": "try it with  gst-launch-1.0; for OpenCV it ends in  ! videoconvert ! video/x-raw,format=BGR ! appsink",
    "camera": "another program may use it (fuser /dev/video*), or it gives no format that OpenCV knows",
}


class FrameReader(Protocol):
    """What gives frames: OpenCV's ``VideoCapture``, or any object with this method. It may have ``release()`` too."""

    def read(self) -> tuple[bool, Any]:
        """Wait for the next frame: (True, uint8 [H, W, 3] BGR), or (False, None) at the end and when it is lost."""
        ...


@dataclass(frozen=True, eq=False)
class VideoFrame:
    """A frame: ``image`` is uint8 [H, W, 3] BGR (color="bgr"), the caller's own.

    ``index`` counts the frames of the source from 0, also those that were dropped. ``time_s`` is the frame's place in
    its file, in seconds; live, the seconds since the source was opened, by a clock that is never set. ``read_at`` is
    the Unix time at which it was read.
    """

    image: NDArray[np.uint8]
    index: int
    time_s: float
    read_at: float


def checked_image(image: Any, name: str) -> NDArray[np.uint8]:
    """``image`` if it is one. Raises ImageError that names its source."""
    if not isinstance(image, np.ndarray) or image.dtype != np.uint8 or image.ndim not in (2, 3):
        found = f"{image.dtype} {list(image.shape)}" if isinstance(image, np.ndarray) else type(image).__name__
        raise ImageError(f"{name}: read() gave {found}: give uint8 [height, width, 3] BGR")
    return image


def release(reader: FrameReader) -> None:
    """Free a reader, if it can be freed."""
    getattr(reader, "release", lambda: None)()


@dataclass(frozen=True)
class Address:
    """Where frames come from: ``value`` as OpenCV takes it, ``kind`` file, network, pipeline or camera."""

    value: str | int
    kind: str

    def __str__(self) -> str:
        """For errors and logs: without names and passwords.

        >>> print(read_address("rtsp://admin:secret@10.0.0.7/stream1"), read_address("0"))
        rtsp://***@10.0.0.7/stream1 camera 0
        """
        if isinstance(self.value, int):
            return f"camera {self.value}"
        shown = re.sub(r"(\w://)[^/\s]*@", r"\1***@", self.value)
        return re.sub(r"\b(user-id|user-pw|user|username|passw(?:or)?d|pwd|token)=[^&\s]+", r"\1=***", shown)

    def open(self) -> Any:
        """OpenCV's capture, open. Raises InputError that names the remedy, MissingExtraError without OpenCV."""
        self._check_there()
        cv2 = import_optional("cv2", "reading video", "opencv-python-headless", _JETSON)
        registry = cv2.videoio_registry
        numbers = [getattr(cv2, f"CAP_{name}") for name in _BACKENDS[self.kind]]
        usable = [number for number in numbers if registry.hasBackend(number)]
        if not usable:
            raise InputError(f"{self} cannot be read: this OpenCV ({cv2.__version__}) has no {_LACKS[self.kind]}")
        for number in usable:
            capture = cv2.VideoCapture(self.value, number, self._options(cv2, number))
            if capture.isOpened():
                return capture
            capture.release()
        tried = ", ".join(registry.getBackendName(number) for number in usable)
        raise InputError(f"{self} does not open (OpenCV {cv2.__version__}, {tried}): {_REMEDIES[self.kind]}")

    def _options(self, cv2: Any, backend: int) -> list[int]:
        """Shorter waits, for FFmpeg's network; GStreamer refuses options that its version does not know."""
        if self.kind != "network" or backend != cv2.CAP_FFMPEG:
            return []
        return [cv2.CAP_PROP_OPEN_TIMEOUT_MSEC, _TIMEOUT_MS, cv2.CAP_PROP_READ_TIMEOUT_MSEC, _TIMEOUT_MS]

    def _check_there(self) -> None:
        """Say what is missing before OpenCV prints warnings about it."""
        if self.kind == "file" and not Path(str(self.value)).is_file():
            raise InputError(f"{self} is not a file: give a video file, {_OTHERS}")
        device = Path(f"/dev/video{self.value}" if isinstance(self.value, int) else self.value)
        if self.kind == "camera" and Path("/sys/class").is_dir() and not device.exists():
            found = ", ".join(sorted(map(str, Path("/dev").glob("video*")))) or "none"
            raise InputError(f"{self}: there is no {device} (found: {found}): plug it in, or name another")


def read_address(address: object) -> Address:
    """Tell what an address is: a number is a camera, ``scheme://`` the network, ``a ! b`` a pipeline, others a file.

    Raises InputError for what is neither text, Path nor number.

    >>> [read_address(each).kind for each in (0, "/dev/video2", "rtsp://cam/1", "nvarguscamerasrc ! appsink", "a.mp4")]
    ['camera', 'camera', 'network', 'pipeline', 'file']
    """
    if isinstance(address, bool) or not isinstance(address, str | Path | int):
        raise InputError(f"a {type(address).__name__} is no address of a video: give a video file, {_OTHERS}")
    text = str(address)
    if isinstance(address, Path):
        return Address(text, "camera" if _is_device(text) else "file")
    if re.fullmatch(r"[0-9]+", text):
        return Address(int(text), "camera")
    if isinstance(address, int):
        raise InputError(f"there is no camera {address}: they count from 0")
    if _is_device(text):
        return Address(text, "camera")
    if re.match(r"[a-zA-Z][a-zA-Z0-9+.-]*://", text):
        return Address(text, "network")
    return Address(text, "pipeline" if " ! " in text else "file")


def _is_device(text: str) -> bool:
    return text.startswith("/dev/")


_OTHERS = "an address (rtsp://...), a GStreamer pipeline (a ! b ! appsink) or the number of a camera"
_JETSON = "a Jetson has one: make the environment with  python3 -m venv --system-site-packages"
