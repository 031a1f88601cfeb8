"""The package's cache folder: what can be computed again, and takes long. Its files can be deleted at any time."""

from __future__ import annotations

import os
from pathlib import Path

__all__ = ["cache_folder"]


def cache_folder() -> Path:
    """``$REID_EDGE_CACHE``, else ``$XDG_CACHE_HOME/reid-edge``, else ``~/.cache/reid-edge``; it may not exist yet.

    >>> import unittest.mock
    >>> with unittest.mock.patch.dict(os.environ, {"REID_EDGE_CACHE": "/data/cache"}):
    ...     cache_folder().as_posix()
    '/data/cache'
    """
    if chosen := os.environ.get("REID_EDGE_CACHE"):
        return Path(chosen)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "reid-edge"
