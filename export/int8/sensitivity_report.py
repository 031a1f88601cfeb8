"""What `sensitivity` measured, as JSON that ``--keep`` reads back and as a plot."""

from __future__ import annotations

import json
import logging
import re
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from reid_edge.core.files import require_file, write_text, written_whole
from reid_edge.errors import InputError, MissingExtraError
from reid_edge.export.graph.graph import Graph

from .plan import Int8Plan
from .sensitivity import Sensitivity, check_by, sensitivity

__all__ = ["draw_sensitivity", "keep_from_json", "write_sensitivity"]

logger = logging.getLogger(__name__)


def write_sensitivity(
    graph: Graph, plan: Int8Plan, images: NDArray[np.uint8], *, by: str, out: Path, name: str
) -> Sensitivity:
    """Measure an FP32 ``graph`` on ``images``, uint8 [N, H, W, 3]; write NAME_sensitivity.json and .png into ``out``.

    Layers that ``plan.options.keep`` names stay in float throughout. Those kept by default (depthwise convolutions and
    gates) are measured too, so that the plot shows why. Without matplotlib there is no plot. Raises InputError for an
    unknown ``by`` and for a plan without calibration crops.
    """
    check_by(by)
    plan.calibration()
    always = plan.kept if plan.options.keep else ()
    plan = plan.calibrated(graph)
    ranges = plan.activation_ranges(graph)
    result = sensitivity(graph, ranges, images, by, always, threads=plan.options.threads, errors=plan.errors)
    report, plot = (out / f"{name}_sensitivity{suffix}" for suffix in (".json", ".png"))
    write_text(report, result.to_json())
    logger.info("%s", result.why())
    logger.info("wrote %s: give it as --keep to keep %d in float", report, len(result.keep))
    try:
        draw_sensitivity(result, plot)
        logger.info("wrote %s", plot)
    except MissingExtraError as error:
        logger.warning("%s", error)
    return result


def keep_from_json(path: Path | str) -> list[str]:
    """The names of layers to keep in float, from a file of `Sensitivity.to_json` or one edited by hand.

    Raises InputError for a file without a list of names.
    """
    try:
        content: Any = json.loads(require_file(path, "a sensitivity report").read_text(encoding="utf-8"))
        keep = content["keep"]
    except (ValueError, KeyError, TypeError, RecursionError):
        keep = None
    if not isinstance(keep, list) or not all(isinstance(name, str) for name in keep):
        raise InputError(f'{path} has no "keep": [names]: give a file that  reid-edge export --sensitivity  wrote')
    # Reports of earlier versions say trunk.
    return [re.sub(r"^trunk\.", "backbone.", name) for name in keep]


def draw_sensitivity(result: Sensitivity, path: Path | str, max_rows: int = 40) -> None:
    """Draw what the ``max_rows`` worst layers lose alone as bars, log scale, to a PNG, SVG or PDF file.

    Raises MissingExtraError without matplotlib.
    """
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError:
        raise MissingExtraError("matplotlib", "drawing the sensitivity plot") from None
    worst = result.alone[:max_rows]
    colours = {"depthwise": "#d55e00", "gate": "#009e73"}
    figure = Figure(figsize=(9, 1.5 + 0.2 * len(worst)), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots()
    lost = [max(1 - one.cosine_mean, 1e-8) for one in worst]
    labels = [f"{one.name} *" if one.name in result.keep else one.name for one in worst]
    axes.barh(labels, lost, color=[colours.get(one.kind, "#0072b2") for one in worst])
    axes.invert_yaxis()
    axes.set_xscale("log")
    axes.set_xlabel("1 - mean cosine with FP32 when only this is in INT8 (log)")
    axes.set_title(f"{result.why()}\n* kept in float; orange: depthwise, green: gate", fontsize=8)
    axes.tick_params(axis="y", labelsize=7)
    with written_whole(path) as beside:
        figure.savefig(beside, dpi=120)
