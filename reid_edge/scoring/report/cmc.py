"""CMC curves as a picture: models as lines, published rank-1 figures as markers. Needs the report extra."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from reid_edge.core.files import written_whole
from reid_edge.errors import InputError, MissingExtraError

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["Curve", "draw_cmc"]

_MARKERS = "os^Dv*P"
_GREYS = ("0.0", "0.4", "0.6")
# Text as text, and the same ids in every run: the same curves give the same files.
_STYLE: Any = {
    "svg.hashsalt": "reid-edge",
    "svg.fonttype": "none",
    "text.parse_math": False,
    "font.family": "DejaVu Sans",
}
_WITHOUT_DATE: Any = {"png": {"Software": None}, "svg": {"Date": None, "Creator": None}}


@dataclass(frozen=True)
class Curve:
    """One line: CMC at ranks 1, 2, ... and, where one is known, a published rank-1; all fractions, 0..1.

    Curves of one ``group`` (a model, say) share a marker; ``dashed`` sets a second one of the group apart.
    """

    label: str
    cmc: Sequence[float]
    published_rank1: float | None = None
    group: str = ""
    dashed: bool = False


def draw_cmc(
    curves: Sequence[Curve], out: Path, title: str, *, published: str = "published", ranks: int = 20
) -> list[Path]:
    """Draw ``curves`` in per cent at ranks 1..``ranks`` as ``out``.png and ``out``.svg, and return both paths.

    Markers, greys and dashes distinguish the lines without colour. A ``published_rank1`` is an open, larger marker of
    its curve's form at rank 1, named ``published`` in the legend. The same input gives the same bytes with the same
    matplotlib version. Raises InputError without curves or for a curve of fewer ranks, MissingExtraError without
    matplotlib.
    """
    if not curves:
        raise InputError("there is no CMC curve to draw: evaluate a model first")
    if short := [curve.label for curve in curves if len(curve.cmc) < ranks]:
        raise InputError(f"the CMC of {short[0]} ends before rank {ranks}: score with max_rank={ranks}")
    try:
        from matplotlib import rc_context
    except ImportError:
        raise MissingExtraError("matplotlib", "drawing CMC curves") from None
    drawn = []
    with rc_context(_STYLE):
        figure = _figure(curves, title, published, ranks)
        for suffix, metadata in _WITHOUT_DATE.items():
            with written_whole(out.with_name(f"{out.name}.{suffix}")) as beside:
                figure.savefig(beside, format=suffix, dpi=120, metadata=metadata)
            drawn.append(out.with_name(f"{out.name}.{suffix}"))
    return drawn


def _figure(curves: Sequence[Curve], title: str, published: str, ranks: int) -> Figure:
    from matplotlib.figure import Figure

    groups = list(dict.fromkeys(curve.group or curve.label for curve in curves))
    figure = Figure(figsize=(6.4, 4.4), layout="constrained")
    axes = figure.subplots()
    for curve in curves:
        at = groups.index(curve.group or curve.label)
        marker, grey = _MARKERS[at % len(_MARKERS)], _GREYS[at % len(_GREYS)]
        percent = [100 * share for share in curve.cmc[:ranks]]
        dashes = "--" if curve.dashed else "-"
        axes.plot(range(1, ranks + 1), percent, dashes, color=grey, marker=marker, markersize=4, label=curve.label)
        if curve.published_rank1 is not None:
            look: dict[str, Any] = {
                "s": 110,
                "marker": marker,
                "facecolors": "none",
                "edgecolors": grey,
                "linewidths": 1.6,
            }
            label = f"{curve.label}, {published}"
            axes.scatter([1], [100 * curve.published_rank1], label=label, clip_on=False, zorder=3, **look)
    axes.set(title=title, xlabel="rank", ylabel="queries with a match up to this rank, %", xlim=(0.5, ranks + 0.5))
    axes.set_xticks([1, *range(5, ranks + 1, 5)])
    axes.grid(color="0.9")
    axes.set_axisbelow(True)
    axes.legend(fontsize="small", loc="lower right")
    return figure
