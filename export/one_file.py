"""One file of a precision: made, compared with the model, scored, and only then there under its name."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from reid_edge.card import ModelCard
from reid_edge.core.files import written_whole
from reid_edge.core.progress import phase
from reid_edge.engines.onnxruntime import OnnxEngine
from reid_edge.errors import GateError, ModelError
from reid_edge.scoring.evaluation import evaluate
from reid_edge.scoring.metrics import Metrics

from .forms import Formed
from .graph.fp16 import fp16_from_fp32, overflowing_layer, simulated_fp16, stores_fp16
from .graph.graph import Graph
from .graph.input_format import in_input_format
from .graph.io import write_onnx
from .graph.traffic import graph_cost
from .int8.convert import int8_from_fp32
from .int8.cpu import require_faster, time_on_cpu
from .int8.plan import Int8Plan
from .parity.gate import Parity, check_parity
from .parity.limits import Thresholds
from .parity.scores import check_scores, score_loss
from .parity.structure import check_structure
from .plan import ExportPlan
from .report import Exported
from .source import ExportData, ExportSource

__all__ = ["TooLossyError", "graph_of", "score_file", "write_file"]

_CPU = ["CPUExecutionProvider"]
_BATCH = 32


def write_file(
    form: Formed,
    path: Path,
    plan: ExportPlan,
    int8: Int8Plan | None,
    precision: str,
    data: ExportData,
    base: Metrics | None,
) -> Exported:
    """Write one file and judge it; the row of a refused one says why."""
    source, limits = form.source, plan.checks.limits()
    started = time.perf_counter()
    row = Exported(path, precision)
    try:
        with phase(f"making {path.name}"):
            draft = _draft(source, plan, int8, precision)
        row = replace(row, note="; ".join(filter(None, (form.note, draft.note))))
        with _named(path) as beside:
            with phase(f"comparing {path.name} with the model"):
                parity = _agreement(draft, beside, source, limits)
            write_onnx(draft.graph, draft.card.with_(parity=parity.to_dict()), beside)
            with phase(f"scoring {path.name}"):
                row = replace(row, parity=parity, metrics=score_file(beside, data, plan.threads))
            if base and row.metrics:
                with phase(f"the interval of what {path.name} loses"):
                    lost = score_loss(base, row.metrics, limits[precision])
                row = replace(row, lost=lost)
                check_scores(lost, limits[precision], precision)
    except GateError as error:
        if path.exists():
            error = type(error)(f"{error} (the {path.name} that was there before is untouched)")
        return replace(row, seconds=time.perf_counter() - started, refused=error)
    cost = graph_cost(draft.graph)
    return replace(row, bytes=path.stat().st_size, seconds=time.perf_counter() - started, cost=cost)


class TooLossyError(GateError):
    """Rounding costs too much: with fewer layers in INT8 it may cost less."""


@dataclass(frozen=True)
class _Draft:
    """A graph to be written; ``fp16`` is the one with the uint8 input that an overflow is looked for with, if any."""

    graph: Graph
    card: ModelCard
    fp16: Graph | None
    note: str


def _draft(source: ExportSource, plan: ExportPlan, int8: Int8Plan | None, precision: str) -> _Draft:
    """The graph of a precision in its input format. Raises GateError for one that loses weights or gains no speed."""
    graph, card = graph_of(source, plan, int8, precision)
    note = _faster(source, graph, plan) if precision == "int8" and plan.int8.for_runtime == "cpu" else ""
    changed, card = in_input_format(graph, card, plan.input_format)
    return _Draft(changed, card, graph if stores_fp16(graph) else None, note)


def graph_of(source: ExportSource, plan: ExportPlan, int8: Int8Plan | None, precision: str) -> tuple[Graph, ModelCard]:
    """The graph of a precision with its card. Raises GateError for weights that FP16 cannot hold."""
    if precision == "int8" and int8:
        return int8_from_fp32(source.graph, source.card, int8)
    graph = fp16_from_fp32(source.graph) if precision == "fp16" else source.graph
    return graph, source.card.with_(precision=precision)


def _faster(source: ExportSource, int8: Graph, plan: ExportPlan) -> str:
    """What an INT8 file for the CPU gains on this one. Raises GateError when that is nothing, unless it is forced."""
    with phase("timing INT8 and FP32 on this CPU"):
        times = time_on_cpu(source.graph, int8, source.crops[:4], threads=plan.threads)
    if not plan.checks.force:
        require_faster(times)
    return str(times)


@contextmanager
def _named(path: Path) -> Iterator[Path]:
    """A temporary file that becomes ``path`` unless a gate refuses it; errors name ``path``."""
    with written_whole(path) as beside:
        try:
            yield beside
        except (GateError, ModelError) as error:
            kind = type(error) if isinstance(error, GateError) else GateError
            raise kind(str(error).replace(str(beside), path.name)) from None


def _agreement(draft: _Draft, beside: Path, source: ExportSource, limits: Mapping[str, Thresholds]) -> Parity:
    """Check a graph without its rounding, and as the file that it will be.

    One with FP16 is also run with every value rounded, which is harder: those figures count.
    """
    graph, precision = draft.graph, draft.graph.precision
    if precision != draft.card.precision:
        raise GateError(f"nothing in this file is {draft.card.precision}: leave fewer layers in float")
    if precision != "fp32":
        with phase("without its rounding"):
            check_structure(graph, draft.card, source.graph.constants, source.reference, source.crops, limits["fp32"])
    parity = _run(graph, draft, beside, source, limits)
    if draft.fp16:
        with phase("with every value rounded to FP16"):
            rounded = _run(simulated_fp16(graph), draft, beside, source, limits, [_BATCH])
        parity = replace(rounded, batch_error=parity.batch_error, batches=parity.batches)
    return parity


def _run(
    form: Graph,
    draft: _Draft,
    beside: Path,
    source: ExportSource,
    limits: Mapping[str, Thresholds],
    batches: Sequence[int] | None = None,
) -> Parity:
    """`check_parity` of a form of the graph as a file; the layer that overflows FP16 is named."""
    precision = draft.graph.precision
    write_onnx(form, draft.card, beside)
    with OnnxEngine(beside, providers=_CPU) as candidate:
        try:
            return check_parity(source.reference, candidate, source.crops, precision, batches, limits[precision])
        except (GateError, ModelError) as error:
            layer = overflowing_layer(draft.fp16, source.crops) if draft.fp16 else None
            remedy = limits["fp16"].remedy if precision == "fp16" else "add --unquantized fp32 (unquantized=)"
            raise (GateError(f"{layer}: {remedy}") if layer else TooLossyError(str(error))) from None


def score_file(path: Path, data: ExportData, threads: int | None) -> Metrics | None:
    """The scores of an FP32, FP16 or INT8 file; None without a data set that has queries and a gallery."""
    if data.scored is None:
        return None
    with OnnxEngine(path, threads=threads, providers=_CPU) as engine:
        return evaluate(engine, data.scored, progress=True).metrics
