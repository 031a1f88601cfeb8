"""All steps of an export: from an FP32 model to files, engines and files for other programs, each checked.

::

    sensitivity -> a file per precision (agreement, then scores) -> engines (agreement) -> files for another program
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

from reid_edge.core.locks import locked
from reid_edge.core.progress import phase
from reid_edge.errors import InputError

from .engines.checked import build_engines
from .files import formed_sources, paths_of, resolved_int8, write_files
from .graph.io import read_graph
from .graph.merge_streams import FORMS, merge_streams
from .int8.layers import match_layers
from .int8.sensitivity_report import write_sensitivity
from .plan import ExportPlan
from .report import ExportReport
from .source import ExportData, ExportSource, onnx_source

__all__ = ["export_file", "export_source"]


def export_file(path: Path, out: Path | str, plan: ExportPlan, data: ExportData) -> ExportReport:
    """Export an ONNX file of reid-edge: the FP32 file counts as written, unless another input format is asked for.

    Raises InputError when there is nothing to make of it, and what `export_source` raises.
    """
    graph, card = read_graph(path)
    anew = plan.input_format == "nchw-float" and card.input_format != plan.input_format
    if plan.writes_fp32_alone and not anew:
        raise InputError(f"{path} is an ONNX file already: add --fp16 or --int8 (precisions=), or --engine (engine=)")
    precisions = plan.precisions if anew else [one for one in plan.precisions if one != "fp32"]
    ready = [path] if "fp32" in plan.precisions and not anew else []
    plan.check_for(card)
    merged = merge_streams(graph, plan.optimize_for) if plan.optimize_for in FORMS else None
    match_layers(merged or graph, plan.int8.named_layers)  # before crops are decoded
    source = onnx_source(path, data.crops) if precisions or plan.sensitivity else None
    return _exported(source, Path(out), replace(plan, precisions=precisions), data, ready)


def export_source(source: ExportSource, out: Path | str, plan: ExportPlan, data: ExportData) -> ExportReport:
    """Make everything that the ``plan`` asks for of a model, in the folder ``out``.

    A refused file or engine is a row of the report and does not stop the others. Raises InputError for a bad plan,
    DatasetError and ImageError for data that cannot be read, ModelError when an engine cannot be built.
    """
    plan.check_for(source.card)
    return _exported(source, Path(out), plan, data, [])


def _exported(
    source: ExportSource | None, out: Path, plan: ExportPlan, data: ExportData, ready: Sequence[Path]
) -> ExportReport:
    """Make everything while no other export writes the same names; ``ready`` are files written earlier."""
    plan.check()
    written = paths_of(source, out, plan).values() if source else ()
    names = {path.name for path in (*written, *(ready if plan.engine or plan.hand_over else ()))}
    if source and plan.sensitivity:
        names.add(f"{plan.name or source.card.architecture}_sensitivity.json")
    with ExitStack() as locks:
        for name in sorted(names):
            locks.enter_context(locked(out / name, f"export to {out / name}"))
        return _made(source, out, plan, data, ready)


def _made(
    source: ExportSource | None, out: Path, plan: ExportPlan, data: ExportData, ready: Sequence[Path]
) -> ExportReport:
    """The steps in their order; engines and hand-over files are made of the ``ready`` files too."""
    report = ExportReport()
    if source:
        forms = formed_sources(source, plan, data)
        int8 = resolved_int8(forms, plan, data)
        if plan.sensitivity and int8:
            name = plan.name or source.card.architecture
            with phase(f"measuring what each {plan.sensitivity} loses"):
                lost = write_sensitivity(
                    forms["int8"].source.graph, int8, source.crops, by=plan.sensitivity, out=out, name=name
                )
            report = replace(report, sensitivity=lost)
        report = replace(report, files=tuple(write_files(source, out, plan, data, forms, int8)))
    passed = [*ready, *(file.path for file in report.files if not file.refused)]
    if plan.engine and passed:
        built, verified = build_engines(
            passed, out, plan.engine, data.crops, plan.checks.limits(), keep_slower=plan.checks.force
        )
        report = replace(report, engines=tuple(built), verified=tuple(verified))
    if plan.hand_over:
        engines = {engine.path.stem: engine.path for engine in report.engines}
        with phase(f"writing the files for {plan.hand_over.program}"):
            written = [plan.hand_over.write(path, out, engines.get(path.stem), data.test) for path in passed]
        report = replace(report, handover=tuple(one for files in written for one in files))
    return report
