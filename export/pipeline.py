"""Files of every precision from one FP32 graph, each behind its gates: agreement first, then the task's own scores."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from onnx import ModelProto

from reid_edge.card import ModelCard
from reid_edge.datasets import open_dataset
from reid_edge.engine_onnx import OnnxEngine
from reid_edge.errors import GateError, InputError, ModelError
from reid_edge.evaluation import evaluate
from reid_edge.files import written_whole
from reid_edge.metrics import Metrics

from .fp16 import fp16_from_fp32, overflowing_layer, simulated_fp16, stores_fp16
from .graph import read_fp32, write_onnx
from .int8 import Int8Options, int8_from_fp32
from .layout import LAYOUTS, in_layout
from .parity import THRESHOLDS, Parity, Thresholds, check_parity, check_scores, embed_in_batches
from .quantize_cpu import require_faster, time_on_cpu

__all__ = ["PRECISIONS", "Exported", "Plan", "Source", "onnx_source", "scorer", "write_files"]

PRECISIONS = ("fp32", "fp16", "int8")
"""In the order in which they are written."""

_REFERENCE_BATCH = 32

Score = Callable[[Path], Metrics]


@dataclass(frozen=True)
class Source:
    """A model in FP32, and what its files must agree with.

    ``reference`` float32 [N, D] are the embeddings of ``crops`` uint8 [N, H, W, 3], by PyTorch where there is one;
    ``file`` is the FP32 file when the source is one.
    """

    graph: ModelProto
    card: ModelCard
    crops: NDArray[np.uint8]
    reference: NDArray[np.float32]
    file: Path | None = None


@dataclass(frozen=True)
class Plan:
    """What to write of a model, and how to judge it.

    ``name`` is the architecture's unless given; ``score`` measures a file on the task itself (see `scorer`), or is
    None; ``limits`` replace the rows of `THRESHOLDS`; ``force`` keeps an INT8 file that makes the CPU slower;
    ``layout`` is one of `layout.LAYOUTS`.
    """

    precisions: Sequence[str] = ("fp32",)
    name: str | None = None
    int8: Int8Options = field(default_factory=Int8Options)
    score: Score | None = None
    limits: Mapping[str, Thresholds] = field(default_factory=dict)
    force: bool = False
    layout: str = "nhwc-uint8"

    def check(self) -> None:
        """Raise InputError for an unknown precision and a name with a folder in it."""
        if self.name is not None and (Path(self.name).name != self.name or "\0" in self.name):
            raise InputError(f"name {self.name!r} is no plain file name: give the folder as --out")
        if self.layout not in LAYOUTS:
            raise InputError(f"layout {self.layout!r} is unknown: give one of {', '.join(LAYOUTS)}")
        if unknown := [precision for precision in self.precisions if precision not in PRECISIONS]:
            raise InputError(f"precision {unknown[0]!r} is unknown: give some of {', '.join(PRECISIONS)}")


@dataclass(frozen=True)
class Exported:
    """A file that passed the gates, or one that did not: then ``refused`` says why, and there is none.

    ``metrics`` are its scores, and ``lost`` the mAP that the FP32 model has above it, as fractions; None without data.
    """

    path: Path
    precision: str
    bytes: int
    seconds: float
    parity: Parity | None = None
    metrics: Metrics | None = None
    lost: float | None = None
    note: str = ""
    refused: GateError | None = None


def scorer(data: Path | str, layout: str | None = None, part: str = "test", threads: int | None = None) -> Score | None:
    """What scores a file on ``data``; None when that has no queries or no gallery."""
    split = open_dataset(data, layout, part).split
    if not (split.query and split.gallery):
        return None

    def score(path: Path) -> Metrics:
        with OnnxEngine(path, threads=threads, providers=["CPUExecutionProvider"]) as engine:
            return evaluate(engine, data, layout=layout, part=part, progress=True).metrics

    return score


def onnx_source(path: Path | str, crops_for: Callable[[ModelCard], NDArray[np.uint8]]) -> Source:
    """One of our FP32 ONNX files as a source, for a device without PyTorch; ONNX Runtime gives the reference."""
    graph, card = read_fp32(path)
    crops = crops_for(card)
    with OnnxEngine(path, providers=["CPUExecutionProvider"]) as engine:
        reference = embed_in_batches(engine, crops, _REFERENCE_BATCH)
    return Source(graph, card, crops, reference, Path(path))


def write_files(source: Source, out: Path | str, plan: Plan) -> list[Exported]:
    """Write ``NAME_PRECISION.onnx`` into the folder ``out`` for each precision of the ``plan``.

    A file appears under its name only after `check_parity` and, where the plan can score, `check_scores`; one that was
    there before stays until then. A refused file does not stop the others: its row holds the GateError. Raises
    InputError for a bad plan and DatasetError for crops that cannot be read.
    """
    plan.check()
    if "int8" in plan.precisions:
        plan.int8.ready(source.graph, source.card)
    base = plan.score(source.file) if plan.score and source.file else None
    rows: list[Exported] = []
    for precision in (one for one in PRECISIONS if one in plan.precisions):
        rows.append(_written(source, Path(out), plan, precision, base))
        if precision == "fp32" and rows[-1].metrics:
            base = rows[-1].metrics
        if precision == "fp32" and rows[-1].refused:
            break  # the others would be made of the same graph
    return rows


def _written(source: Source, out: Path, plan: Plan, precision: str, base: Metrics | None) -> Exported:
    for_cpu = precision == "int8" and plan.int8.target == "cpu"
    path = out / f"{plan.name or source.card.architecture}_{precision}{'_cpu' if for_cpu else ''}"
    path = path.with_name(f"{path.name}{'_nchw' if plan.layout == 'nchw-float' else ''}.onnx")
    if source.file and path.resolve() == source.file.resolve():
        raise InputError(f"{path} is the model given: give another --out or --name")
    limits = plan.limits.get(precision, THRESHOLDS[precision])
    started = time.perf_counter()
    metrics: Metrics | None = None
    note = ""
    try:
        graph, card = _graph(source, plan.int8, precision)
        if for_cpu:
            times = time_on_cpu(source.graph, graph, source.crops[:4], threads=plan.int8.threads)
            note = str(times)
            if not plan.force:
                require_faster(times)
        half = graph if stores_fp16(graph) else None  # with the uint8 input that an overflow is looked for with
        graph, card = in_layout(graph, card, plan.layout)
        with written_whole(path) as beside:
            try:
                parity = _agreement(graph, card, beside, source, limits, half)
                write_onnx(graph, card.with_(parity=parity.to_dict()), beside)
                if plan.score:
                    metrics = plan.score(beside)
                    if base:
                        check_scores(base, metrics, limits, precision)
            except (GateError, ModelError) as error:
                raise GateError(str(error).replace(str(beside), path.name)) from None
    except GateError as error:
        if path.exists():
            error = GateError(f"{error} (the {path.name} that was there before is untouched)")
        return Exported(path, precision, 0, time.perf_counter() - started, metrics=metrics, note=note, refused=error)
    lost = None if metrics is None or base is None else base.mAP - metrics.mAP
    seconds = time.perf_counter() - started
    return Exported(path, precision, path.stat().st_size, seconds, parity, metrics, lost, note)


def _graph(source: Source, options: Int8Options, precision: str) -> tuple[ModelProto, ModelCard]:
    if precision == "int8":
        return int8_from_fp32(source.graph, source.card, options)
    graph = fp16_from_fp32(source.graph) if precision == "fp16" else source.graph
    return graph, source.card.with_(precision=precision)


def _agreement(
    graph: ModelProto, card: ModelCard, beside: Path, source: Source, limits: Thresholds, fp16: ModelProto | None
) -> Parity:
    """Check a graph as the file that it will be, and halves also as a GPU computes them: the harder test is last."""
    forms = [graph, simulated_fp16(graph)] if fp16 else [graph]
    for form in forms:
        write_onnx(form, card, beside)
        with OnnxEngine(beside, providers=["CPUExecutionProvider"]) as candidate:
            try:
                parity = check_parity(source.reference, candidate, source.crops, card.precision, limits=limits)
            except (GateError, ModelError) as error:
                layer = overflowing_layer(fp16, source.crops) if fp16 else None
                remedy = limits.remedy if card.precision == "fp16" else "add --rest fp32"
                raise GateError(f"{layer}: {remedy}" if layer else str(error)) from None
    return parity
