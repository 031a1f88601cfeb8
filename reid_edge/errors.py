"""What can go wrong, as one small tree.

::

    ReidEdgeError            every error this package raises on purpose
    ├── InputError           bad use or bad input: exit code 2
    │   ├── ImageError       a file or array that is no readable image
    │   ├── DatasetError     a folder or manifest that is no usable data set
    │   └── ModelError       a checkpoint, ONNX file or engine that cannot be used as asked
    ├── MissingExtraError    an optional dependency is not installed: exit code 2
    ├── GateError            everything ran, and the answer is no: exit code 1
    └── Stopped              asked to end; what was done is saved: exit code 0

Every message is one line and names the remedy.
"""

from __future__ import annotations

__all__ = [
    "DatasetError",
    "GateError",
    "ImageError",
    "InputError",
    "MissingExtraError",
    "ModelError",
    "ReidEdgeError",
    "Stopped",
]


class ReidEdgeError(Exception):
    """Base of every error this package raises on purpose."""

    exit_code = 2


class InputError(ReidEdgeError):
    """Bad use or bad input."""


class ImageError(InputError):
    """A file or array that is no readable image."""


class DatasetError(InputError):
    """A folder or manifest that is no usable data set."""


class ModelError(InputError):
    """A checkpoint, ONNX file or engine that cannot be used as asked."""


class MissingExtraError(ReidEdgeError):
    """An optional dependency is not installed."""

    def __init__(self, module: str, extra: str, purpose: str) -> None:
        super().__init__(f"{purpose} needs {module}: run  pip install 'reid-edge[{extra}]'")


class GateError(ReidEdgeError):
    """A check ran and failed: parity, finiteness, a threshold."""

    exit_code = 1


class Stopped(ReidEdgeError):
    """Somebody asked for the end (SIGTERM), and what was done until then is saved."""

    exit_code = 0
