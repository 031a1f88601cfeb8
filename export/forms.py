"""The form of a file's graph: as trained, or with its streams merged for tensor cores (`graph.merge_streams`).

Which is faster depends on the device, so that ``auto`` chooses there, by time, where engines are built on a GPU.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass, replace

from reid_edge.card import ModelCard
from reid_edge.core.files import scratch_folder
from reid_edge.core.progress import phase
from reid_edge.engines.cuda import find_gpu
from reid_edge.errors import GateError, InputError

from .engines.race import fastest, time_files
from .graph.graph import Graph
from .graph.io import write_onnx
from .graph.macs import node_macs
from .graph.merge_streams import FORMS, merge_streams
from .graph.streams import stream_blocks
from .plan import ExportPlan
from .source import ExportSource

__all__ = ["Formed", "formed", "in_form"]

logger = logging.getLogger(__name__)

Draft = Callable[[ExportSource], tuple[Graph, ModelCard]]
"""Makes the graph of a file's precision, with its card, of the FP32 graph of a source."""


@dataclass(frozen=True)
class Formed:
    """A source whose graph has the form of a file, and what a user should know of it."""

    source: ExportSource
    note: str = ""


def in_form(source: ExportSource, form: str) -> ExportSource:
    """The source with its graph in one of `FORMS`, which its card says, or as trained (""); itself without streams."""
    graph = merge_streams(source.graph, form) if form else None
    if graph is None:
        return source
    card = source.card.with_(optimized_for=form, macs=sum(node_macs(graph).values()))
    return replace(source, graph=graph, card=card)


def formed(source: ExportSource, plan: ExportPlan, precision: str, draft: Draft) -> Formed:
    """The source in the form that ``plan.optimize_for`` means for the file of a ``precision``.

    Files that a CPU runs, FP32 and INT8 for ONNX Runtime, are as trained; so is what has no streams to merge. "auto" is
    the form that a model was trained for INT8 in; else, where engines are built on a GPU, the fastest there, in the
    batches of the profile; else as trained.
    """
    for_cpu = precision == "fp32" or (precision == "int8" and plan.int8.for_runtime == "cpu")
    if for_cpu or plan.optimize_for in ("cpu", "none"):
        return Formed(source)
    if not stream_blocks(source.graph):
        asked = plan.optimize_for in FORMS
        return Formed(source, "as trained: it has no parallel streams to merge" if asked else "")
    if plan.optimize_for in FORMS:
        return _noted(in_form(source, plan.optimize_for))
    if precision == "int8" and plan.int8.uses_ranges_of(source.card):
        return _noted(_as_trained_for_int8(source))
    if plan.engine and find_gpu():
        return _fastest(source, plan, precision, draft)
    return Formed(source, "as trained: for tensor cores, try --optimize-for gpu-latency (optimize_for=)")


def _noted(source: ExportSource, why: str = "") -> Formed:
    card = source.card
    if not card.optimized_for:
        return Formed(source, why)
    note = f"streams merged for {card.optimized_for}, {card.macs / 1e6:.0f} M multiply-accumulates"
    return Formed(source, "; ".join(filter(None, (note, why))))


def _as_trained_for_int8(source: ExportSource) -> ExportSource:
    """The form with all the layers that the card has activation ranges for; of several, the one with fewest kernels."""
    ranges = source.card.quantization.get("layers", {})
    forms = (in_form(source, form) for form in ("", *reversed(FORMS)))
    return next((each for each in forms if set(ranges) <= set(each.graph.layers)), source)


def _fastest(source: ExportSource, plan: ExportPlan, precision: str, draft: Draft) -> Formed:
    """The form whose engine is the fastest on this GPU; one that cannot be made takes no part."""
    assert plan.engine is not None
    forms = {form: in_form(source, form) for form in ("", *FORMS)}
    with scratch_folder() as folder, phase(f"timing {precision} as trained and with merged streams"):
        files = {}
        for form, each in forms.items():
            try:
                write_onnx(*draft(each), path := folder / f"{form or 'trained'}.onnx")
                files[form] = path
            except (GateError, InputError) as error:  # a layer to keep may be in one form alone
                logger.warning("%s is not timed: %s", form or "the graph as trained", error)
        times = time_files(files, folder, plan.engine.for_precision(precision), source.crops)
    best = fastest(times)
    shown = ", ".join(f"{form or 'as trained'} {'/'.join(f'{ms:.2f}' for ms in own)}" for form, own in times.items())
    return _noted(forms[best], f"ms in batches of {'/'.join(map(str, plan.engine.distinct_batches))} here: {shown}")
