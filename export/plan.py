"""What to make of a model, and how to judge it: the values of one export, refused early when they make no sense."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from reid_edge.card import ModelCard
from reid_edge.core.files import is_utf8
from reid_edge.core.names import require_name
from reid_edge.errors import InputError

from .engines.options import EngineOptions
from .graph.input_format import INPUT_FORMATS
from .graph.merge_streams import FORMS
from .handover.programs import HandOver
from .int8.plan import Int8Options
from .int8.sensitivity import BY
from .parity.limits import Checks

__all__ = ["OPTIMIZE_FOR", "PRECISIONS", "ExportPlan"]

OPTIMIZE_FOR = ("auto", *FORMS, "cpu", "none")
"""What FP16 and INT8 files can be optimised for: `forms.formed`."""

PRECISIONS = ("fp32", "fp16", "int8")
"""In the order in which they are written."""


@dataclass(frozen=True, kw_only=True)
class ExportPlan:
    """What to make of a model, and how to judge it; all of it values, which `check` can refuse before any work.

    ``precisions`` are some of `PRECISIONS`, ``name`` is the stem of file names (None: the architecture's name),
    ``input_format`` one of `INPUT_FORMATS`, ``optimize_for`` one of `OPTIMIZE_FOR`; engines are built where ``engine``
    says how; ``hand_over`` names another program to write files for; ``sensitivity`` is one of `int8.sensitivity.BY`,
    or None; ``threads`` bounds the CPU threads that score files.
    """

    precisions: Sequence[str] = ("fp32",)
    name: str | None = None
    input_format: str = "nhwc-uint8"
    optimize_for: str = "auto"
    int8: Int8Options = field(default_factory=Int8Options)
    engine: EngineOptions | None = None
    checks: Checks = field(default_factory=Checks)
    hand_over: HandOver | None = None
    sensitivity: str | None = None
    threads: int | None = None

    def check(self) -> None:
        """Raise InputError for unknown words, a name with a folder in it, and options that contradict each other."""
        if self.name is not None and (Path(self.name).name != self.name or "\0" in self.name or not is_utf8(self.name)):
            raise InputError(f"name {self.name!r} is not a plain file name: give the folder as --out (out=)")
        for what, values, known in (
            ("input format", [self.input_format], INPUT_FORMATS),
            ("precision", self.precisions, PRECISIONS),
            ("optimize for", [self.optimize_for], OPTIMIZE_FOR),
            ("sensitivity by", [self.sensitivity] if self.sensitivity else [], BY),
        ):
            for value in values:
                require_name(value, known, what)
        self.int8.check()
        self.checks.limits()
        if self.engine:
            self.engine.check()
        if self.engine and self.hand_over and self.hand_over.program == "triton" and self.engine.batches[0] > 1:
            raise InputError(
                "Triton also sends single crops to an engine: give a --profile (batches=) that begins with 1"
            )
        for_cpu = "int8" in self.precisions and self.int8.for_runtime == "cpu"
        if for_cpu and (self.engine or self.hand_over or self.input_format != "nhwc-uint8"):
            others = "--engine (engine=), --for (hand_over=) and --input-format (input_format=)"
            raise InputError(f"--for-runtime cpu (for_runtime=) is for ONNX Runtime: leave it out, or {others}")
        for_gpu = set(self.precisions) - {"fp32", *(["int8"] if self.int8.for_runtime == "cpu" else [])}
        if self.optimize_for in FORMS and not for_gpu and (not self.sensitivity or self.int8.for_runtime == "cpu"):
            raise InputError(
                f"--optimize-for {self.optimize_for} (optimize_for=) is for FP16 and INT8 files, and those in FP32 and "
                "for a CPU stay as trained: add --fp16 or --int8 without --for-runtime cpu (precisions=, for_runtime=)"
            )
        if self.sensitivity and self.int8.calibrate is None:
            raise InputError(
                "INT8 needs training crops to find its activation ranges: add --calibrate DATASET (calibrate=)"
            )

    def check_for(self, card: ModelCard) -> None:
        """Raise InputError for what cannot be made of the model of ``card``; to be asked before crops are drawn."""
        if self.engine:
            self.engine.check_for({card.precision, *self.precisions})
        if "int8" in self.precisions:
            self.int8.check_for(card)

    @property
    def writes_fp32_alone(self) -> bool:
        """Whether nothing but the FP32 file is asked for."""
        return not (self.sensitivity or self.engine or self.hand_over or set(self.precisions) - {"fp32"})
