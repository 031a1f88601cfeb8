"""What a part needs, and what of it is missing here."""

from __future__ import annotations

import ctypes
import sys
from typing import TYPE_CHECKING, Any

from reid_edge.engines.cuda import open_cuda
from reid_edge.errors import DeviceError, MissingExtraError

from .parts import CannotRunError

if TYPE_CHECKING:
    import torch

__all__ = ["require_gpu", "require_onnx", "torch_device"]


def require_gpu(binding: str | None = None) -> dict[str, Any]:
    """The facts of the first GPU. Raises CannotRunError without a GPU, its driver or a CUDA binding."""
    try:
        cuda = open_cuda(binding)
    except (DeviceError, MissingExtraError) as error:
        raise CannotRunError(str(error)) from None
    try:
        return cuda.gpu.facts()
    finally:
        cuda.close()


def torch_device(name: str) -> torch.device:
    """A device of torch. Raises CannotRunError where torch or the device is missing."""
    if name == "cuda" and not _has_driver():  # before torch is imported, which takes seconds
        raise CannotRunError("no NVIDIA driver (libcuda.so.1): install the driver")
    try:
        import torch
    except ModuleNotFoundError:
        raise CannotRunError("torch is not installed: pip install torch torchvision") from None
    if name == "cuda" and not torch.cuda.is_available():
        built = f"built for CUDA {torch.version.cuda}" if torch.version.cuda else "built without CUDA"
        raise CannotRunError(f"torch {torch.__version__}, {built}, finds no GPU")
    return torch.device(name)


def _has_driver() -> bool:
    """Whether CUDA's driver can be loaded; where it has another name, torch is asked."""
    try:
        return sys.platform != "linux" or bool(ctypes.CDLL("libcuda.so.1"))
    except OSError:
        return False


def require_onnx() -> None:
    """Raise CannotRunError without the package onnx."""
    try:
        import onnx  # noqa: F401 -- whether it is there
    except ModuleNotFoundError:
        raise CannotRunError("onnx is not installed: pip install onnx onnxscript") from None
