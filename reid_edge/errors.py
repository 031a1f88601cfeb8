"""The exceptions of this package, as one small tree.

::

    ReidEdgeError            every error this package raises on purpose
    ├── InputError           bad use or bad input: exit code 2
    │   ├── ImageError       a file or array that is not a readable image
    │   ├── DatasetError     a folder or manifest that is not a usable data set
    │   └── ModelError       a checkpoint, ONNX file or engine that cannot be used as asked
    ├── MissingExtraError    an optional dependency is not installed: exit code 2
    ├── DeviceError          the GPU or its driver failed: exit code 2, as nothing was judged
    ├── GateError            everything ran and a check failed: exit code 1
    └── Stopped              a training stopped by ctrl-C or SIGTERM, its work saved: exit code 130 or 143

Every message is one line and names the remedy.
"""

from __future__ import annotations

__all__ = [
    "DatasetError",
    "DeviceError",
    "GateError",
    "ImageError",
    "InputError",
    "MissingExtraError",
    "ModelError",
    "ReidEdgeError",
    "Stopped",
]


_PACKAGES = {"torch": "torch torchvision tomlkit scipy", "onnx": "onnx onnxscript"}
"""What is installed together where the module in the key is missing; any other module is a package of its name."""


class ReidEdgeError(Exception):
    """Base of every error this package raises on purpose."""

    exit_code = 2


class InputError(ReidEdgeError):
    """Bad use or bad input."""


class ImageError(InputError):
    """A file or array that is not a readable image."""


class DatasetError(InputError):
    """A folder or manifest that is not a usable data set."""


class ModelError(InputError):
    """A checkpoint, ONNX file or engine that cannot be used as asked."""


class MissingExtraError(ReidEdgeError):
    """An optional dependency is not installed.

    The remedy names packages, not an extra of reid-edge: they are on PyPI however reid-edge was installed.
    ``install`` is the command where ``pip install MODULE`` is not enough.

    >>> print(MissingExtraError("onnx", "writing ONNX files"))
    writing ONNX files needs onnx: run  pip install onnx onnxscript
    """

    def __init__(self, module: str, purpose: str, *, install: str = "") -> None:
        pip = f"pip install {_PACKAGES.get(module, module)}"
        super().__init__(f"{purpose} needs {module}: run  {install or pip}")


class DeviceError(ReidEdgeError):
    """The GPU or its driver failed: out of memory, no device, an old driver, an illegal address."""


class GateError(ReidEdgeError):
    """A check ran and failed: parity, finiteness, a threshold."""

    exit_code = 1


class Stopped(ReidEdgeError):
    """A training was stopped by a signal, after its work was saved; other commands end by `core.signals.Terminated`.

    ``signal_number`` is SIGTERM's (15) or that of ctrl-C, SIGINT (2).
    """

    def __init__(self, message: str, signal_number: int = 15) -> None:
        super().__init__(message)
        self.exit_code = 128 + signal_number  # as a shell counts
