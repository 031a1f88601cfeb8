"""OpenCV, which a Jetson has from JetPack and others from the extra ``cpu`` or ``gpu``."""

from __future__ import annotations

from typing import Any

from reid_edge.core.optional import import_optional

__all__ = ["import_opencv"]


def import_opencv() -> Any:
    """The module ``cv2``. Raises MissingExtraError where it is missing or does not load."""
    jetson = "a Jetson has one: make the environment with  python3 -m venv --system-site-packages"
    return import_optional("cv2", "resizing and drawing crops", "opencv-python-headless", jetson)
