"""Files of every precision from one FP32 graph, and the INT8 file with as many layers in float as the gates need."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path

from reid_edge.card import ModelCard
from reid_edge.core.progress import phase
from reid_edge.errors import GateError, InputError

from .forms import Formed, formed
from .graph.graph import Graph
from .int8.in_float import layers_of
from .int8.plan import Int8Plan, plan_int8
from .int8.search import Judgement, search_layers
from .one_file import TooLossyError, graph_of, score_file, write_file
from .plan import PRECISIONS, ExportPlan
from .report import Exported
from .source import ExportData, ExportSource

__all__ = ["formed_sources", "paths_of", "resolved_int8", "write_files"]

logger = logging.getLogger(__name__)


def write_files(
    source: ExportSource,
    out: Path | str,
    plan: ExportPlan,
    data: ExportData,
    forms: Mapping[str, Formed] | None = None,
    int8: Int8Plan | None = None,
) -> list[Exported]:
    """Write ``NAME_PRECISION.onnx`` into the folder ``out`` for each precision of the ``plan``.

    A file appears under its name only after `check_parity` and, where there are queries and a gallery, `check_scores`;
    one that was there before stays until then. A refused file does not stop the others: its row holds the GateError.
    ``forms`` are those of `formed_sources` where they are chosen already, and ``int8`` is ``plan.int8`` where it is
    resolved, for the form of INT8. Raises InputError for a bad plan and DatasetError for crops
    that cannot be read, before anything is written.
    """
    plan.check()
    paths = paths_of(source, Path(out), plan)
    forms = forms or formed_sources(source, plan, data)
    int8 = int8 or resolved_int8(forms, plan, data)
    with phase("scoring the FP32 model", shown=bool(data.test)):
        base = score_file(source.file, data, plan.threads) if source.file and paths else None
    rows: list[Exported] = []
    for precision, path in paths.items():
        form = forms[precision]
        write = partial(write_file, form, path, plan, precision=precision, data=data, base=base)
        if precision == "int8" and int8 and plan.int8.for_runtime == "tensorrt":
            rows.append(_int8_written(form.source, path, plan, int8, write))
        else:
            rows.append(write(int8))
        if not rows[-1].refused:
            logger.info("wrote %s", path)
        if precision == "fp32" and rows[-1].metrics:
            base = rows[-1].metrics
        if precision == "fp32" and rows[-1].refused:
            break  # the others would be made of the same graph
    return rows


def formed_sources(source: ExportSource, plan: ExportPlan, data: ExportData) -> dict[str, Formed]:
    """The source in the form of the file of each precision that is asked for."""

    def draft(precision: str, each: ExportSource) -> tuple[Graph, ModelCard]:
        return graph_of(each, plan, _int8_plan(each, plan, data), precision)

    wanted = {*plan.precisions, *(["int8"] if plan.sensitivity else [])}
    return {each: formed(source, plan, each, partial(draft, each)) for each in PRECISIONS if each in wanted}


def resolved_int8(forms: Mapping[str, Formed], plan: ExportPlan, data: ExportData) -> Int8Plan | None:
    """The layers and calibration crops of INT8, chosen from the data set that is open; None where INT8 is not made."""
    return _int8_plan(forms["int8"].source, plan, data) if "int8" in forms else None


def _int8_plan(source: ExportSource, plan: ExportPlan, data: ExportData) -> Int8Plan:
    if data.calibration is None:
        return plan_int8(source.graph, source.card, plan.int8)
    return plan_int8(source.graph, source.card, plan.int8, data.calibration.dataset, data.calibration.batch)


def paths_of(source: ExportSource, out: Path, plan: ExportPlan) -> dict[str, Path]:
    """Where each precision is written. Raises InputError when the model itself lies there."""
    return {each: _path(source, out, plan, each) for each in PRECISIONS if each in plan.precisions}


def _path(source: ExportSource, out: Path, plan: ExportPlan, precision: str) -> Path:
    """Where a precision is written. Raises InputError when the model itself lies there."""
    suffix = "_cpu" if precision == "int8" and plan.int8.for_runtime == "cpu" else ""
    suffix += "_nchw" if plan.input_format == "nchw-float" else ""
    path = out / f"{plan.name or source.card.architecture}_{precision}{suffix}.onnx"
    if source.file and path.resolve() == source.file.resolve():
        raise InputError(f"{path} is the model given: give another --out (out=) or --name (name=)")
    return path


def _int8_written(
    source: ExportSource, path: Path, plan: ExportPlan, int8: Int8Plan, write: Callable[[Int8Plan], Exported]
) -> Exported:
    """What ``write`` gives with as many more layers in float as the gates need, unless ``--keep`` chose them."""
    if int8.options.keep is not None:
        return replace(write(int8), int8=layers_of(source.graph, int8))
    rows: dict[frozenset[str], Exported] = {}

    def judge(one: Int8Plan) -> Judgement:
        row = rows[one.kept] = write(one)
        is_lossy = isinstance(row.refused, TooLossyError) or bool(row.lost and not row.lost.holds)
        return Judgement(str(row.refused or ""), is_lossy, row.parity, row.lost.mAP if row.lost else None)

    limits = plan.checks.limits()["int8"]
    layers = search_layers(source.graph, int8, source.crops, source.reference, limits, judge)
    row = replace(rows.get(frozenset(layers.why), Exported(path, "int8")), int8=layers, seconds=layers.seconds)
    return replace(row, refused=GateError(layers.refused)) if layers.refused else row
