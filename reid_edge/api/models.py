"""Any model file to an engine: what an ONNX file or an engine needs is loaded, and torch only for a checkpoint."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from reid_edge.core.files import require_file, sha256_of
from reid_edge.core.progress import phase
from reid_edge.engines.registry import CHECKPOINT_SUFFIXES, open_engine
from reid_edge.errors import InputError, MissingExtraError
from reid_edge.training.models.names import check_architecture

if TYPE_CHECKING:
    from reid_edge.engines.base import Engine

__all__ = ["is_checkpoint", "open_model", "require_model"]


def is_checkpoint(path: Path | str) -> bool:
    """Whether torch reads this file: one of training, torchreid or torchvision, by its suffix.

    >>> is_checkpoint("run/model.pth"), is_checkpoint("osnet_fp16.onnx")
    (True, False)
    """
    return Path(path).suffix.lower() in CHECKPOINT_SUFFIXES


def require_model(path: Path | str, arch: str | None = None, what: str = "a model", backend: str | None = None) -> Path:
    """``path``, if `open_model` may open it: refused by its name alone, before torch or ONNX Runtime is imported.

    Raises InputError and ModelError as `open_model` does.
    """
    path = require_file(path, what)
    if arch:
        check_architecture(arch)
    if not is_checkpoint(path):
        if arch:
            raise InputError(f"{path} names its own architecture: leave --arch {arch} (arch=) out")
        open_engine(path, backend=backend)  # nothing is opened before its with statement
    elif backend:
        raise InputError(f"{path} is a checkpoint, which PyTorch runs: leave --backend {backend} (backend=) out")
    return path


def open_model(
    path: Path | str, arch: str | None = None, threads: int | None = None, backend: str | None = None
) -> Engine:
    """An engine for any model file: ``.onnx``, an engine, a checkpoint, or a foreign ``.pth`` with its ``arch``.

    Use it in a ``with`` statement. ``threads`` bounds the CPU threads (None: all usable cores); for a checkpoint
    they are set for the whole process, as torch has it. A checkpoint runs on the GPU where torch sees one. ``backend``
    is `open_engine`'s, for other files.

    Raises InputError when the file is missing, or ``arch`` is given for a file that names its own architecture,
    ModelError for a file that cannot be used, and MissingExtraError for a checkpoint where torch is not installed.

    >>> with open_model(model_file) as engine:
    ...     engine.card.input_hw
    (256, 128)
    """
    path = require_model(path, arch, backend=backend)
    if not is_checkpoint(path):
        return open_engine(path, threads=threads, backend=backend)
    with phase("loading PyTorch and the model"):
        try:
            from reid_edge.training.models.checkpoint import load_model
            from reid_edge.training.models.torch_engine import TorchEngine, device_for, limit_torch_threads
        except ModuleNotFoundError:
            raise MissingExtraError("torch", "reading checkpoints") from None

        limit_torch_threads(threads)
        return TorchEngine(*load_model(path, arch), device_for("auto"), sha256=sha256_of(path))
