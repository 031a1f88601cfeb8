"""The parts of a day with a GPU: what each does, its budget in minutes, and the function that does it."""

from __future__ import annotations

import importlib
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from math import inf
from pathlib import Path
from typing import Any

from reid_edge.core.names import require_name
from reid_edge.errors import InputError, ReidEdgeError

__all__ = ["PARTS", "CannotRunError", "DayOptions", "DayRow", "Part", "rows_of"]

DayRow = dict[str, Any]


class CannotRunError(ReidEdgeError):
    """Why a part cannot run here; the other parts go on."""


@dataclass(frozen=True, kw_only=True)
class DayOptions:
    """What is measured: ``architectures`` with crops of ``input_hw`` pixels in ``batches``, each for ``seconds``.

    ``data`` is a data set with training crops, and ``layout`` its layout (None: drawn people, auto-detected).
    ``device`` is torch's: with "cpu" the parts that need torch alone are tried without a GPU.
    """

    architectures: tuple[str, ...] = ("osnet_x0_25", "mobilenetv3_large", "resnet50_bot")
    batches: tuple[int, ...] = (1, 8, 64)
    input_hw: tuple[int, int] = (256, 128)
    seconds: float = 0.5
    data: str | None = None
    layout: str | None = None
    device: str = "cuda"

    def check(self) -> None:
        """Raise InputError for sizes that cannot be measured."""
        from reid_edge.training.models.names import check_architecture

        for name in self.architectures:
            check_architecture(name)
        if not self.batches or min(self.batches) < 1 or min(self.input_hw) < 16:
            raise InputError("give --batch (batches=) and --size (input_hw=) whole numbers, from 1 and from 16")
        if not 0 < self.seconds < inf:
            raise InputError(f"{self.seconds:g} s cannot be measured for: give --seconds (seconds=) a number above 0")
        require_name(self.device, ("cuda", "cpu"), "device")

    def to_dict(self) -> dict[str, Any]:
        """As JSON has it; `from_dict` reads it back."""
        return {name: list(value) if isinstance(value, tuple) else value for name, value in asdict(self).items()}

    @classmethod
    def from_dict(cls, raw: dict[str, Any]) -> DayOptions:
        """The inverse of `to_dict`."""
        tuples = {name: tuple(raw[name]) for name in ("architectures", "batches", "input_hw")}
        return cls(**{**raw, **tuples})


@dataclass(frozen=True)
class Part:
    """``what`` a part does, the ``minutes`` it may take, and the ``function`` that gives its rows ("module:name")."""

    what: str
    minutes: float
    function: str


PARTS = {
    "tests-cuda-bindings": Part("pytest -m gpu through cuda-bindings", 0.8, "checks:with_cuda_bindings"),
    "tests-pycuda": Part("pytest -m gpu through PyCUDA", 0.8, "checks:with_pycuda"),
    "peak": Part("matrix products and copies, for the roofline", 0.4, "torch_parts:peaks"),
    "files": Part("ONNX files: plain and merged, FP32, FP16, INT8", 1.9, "files:written"),
    "torch": Part("the files' graphs in torch, with CUDA graphs", 1.0, "torch_parts:graphs"),
    "onnxruntime-cuda": Part("the files in ONNX Runtime, CUDA", 0.8, "engine_parts:onnxruntime_cuda"),
    "onnxruntime-tensorrt": Part("the files in ONNX Runtime, TensorRT", 1.0, "engine_parts:onnxruntime_tensorrt"),
    "tensorrt": Part("the files' engines by TensorRT, INT8 beside FP16", 1.3, "engine_parts:tensorrt"),
    "tensorrt-rtx": Part("the files' engines by TensorRT-RTX, INT8 beside FP16", 1.0, "engine_parts:tensorrt_rtx"),
    "training": Part("images/s of training, and its waiting for data", 0.8, "training_part:speeds"),
}
"""In the order in which they run: together under ten minutes. ``files`` writes what the parts after it measure."""


def rows_of(name: str, folder: Path, options: DayOptions) -> Iterator[DayRow]:
    """The rows of a part, as they are measured. Raises CannotRunError, and what the part raises."""
    module, _, function = PARTS[name].function.partition(":")
    rows: Iterator[DayRow] = getattr(importlib.import_module(f"{__package__}.{module}"), function)(folder, options)
    return rows
