"""Which layers lose what in INT8: each alone, everything else in float; then how many to keep.

Two measurements. Each layer (or block) is the only one in INT8: its cosine with FP32 says what it loses by itself.
Then all are in INT8 but the worst 0, 1, 2, 4, ...: the fewest that reach the target are the ones to keep. The second is
needed because errors of several layers add up, cancel, and pass through one another's clipping.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from onnx import ModelProto

from reid_edge.errors import InputError, MissingExtraError
from reid_edge.files import require_file, written_whole
from reid_edge.progress import track

from .calibrate import calibrated_ranges, calibration_crops, embed_graph
from .int8_layers import depthwise_layers, gate_layers, layers, named
from .parity import compare
from .quantize import quantized

if TYPE_CHECKING:
    from .int8 import Int8Options
    from .write import Source

__all__ = ["BY", "Loss", "Sensitivity", "draw_sensitivity", "keep_from_json", "sensitivity", "write_sensitivity"]

BY = ("layer", "block")
"""What is put into INT8 alone: a layer, or all layers of a block, as ``trunk.conv2.0``."""

Embeddings = NDArray[np.float32]


@dataclass(frozen=True)
class Loss:
    """Cosines with the FP32 embeddings, least, first percentile and mean, when only ``name`` is in INT8.

    In the steps of `Sensitivity.ladder` everything is in INT8 but the ``kept`` worst. ``kind`` is "gate", "depthwise",
    "layer" or "block".
    """

    name: str
    kind: str
    cosine_min: float
    cosine_p1: float
    cosine_mean: float
    kept: int = 0


@dataclass(frozen=True)
class Sensitivity:
    """Every part's `Loss`, the worst first; what each number of kept parts gives; and which ``keep`` reach ``target``.

    ``always`` were in float throughout. ``reached`` is False when even the longest ``keep`` tried misses the target.
    """

    by: str
    crops: int
    target: float
    alone: tuple[Loss, ...]
    ladder: tuple[Loss, ...]
    keep: tuple[str, ...]
    always: tuple[str, ...]
    reached: bool

    def to_json(self) -> str:
        """JSON whose ``keep`` holds all that stays in float; `keep_from_json` reads it."""
        content = {**asdict(self), "keep": [*self.always, *self.keep], "why": self.why()}
        return json.dumps(content, indent=1) + "\n"

    def why(self) -> str:
        """The choice in one sentence."""
        last = self.ladder[-1]
        found = f"cosine p1 is {last.cosine_p1:.5f} on {self.crops} crops (target {self.target})"
        if not self.keep:
            return f"with every {self.by} in INT8 {found}: none needs to be kept"
        verdict = "the fewest tried that reach it" if self.reached else "which still misses it: try --qat"
        return f"with the {last.kept} {self.by}s that lose most alone in float {found}, {verdict}"


def sensitivity(
    model: ModelProto,
    ranges: Mapping[str, float],
    images: NDArray[np.uint8],
    by: str = "layer",
    always: Collection[str] = (),
    target: float = 0.99,
    threads: int | None = None,
) -> Sensitivity:
    """Measure every layer or block of an FP32 ``model`` on ``images``, uint8 [N, H, W, 3].

    ``always`` stay in float (see `int8_layers.named`), ``target`` is the first percentile of the cosines to reach. A
    layer costs one pass over the images. Raises InputError for an unknown ``by`` and for a model without layers.
    """
    kept = named(model, always)
    parts = _parts([name for name in layers(model) if name not in kept], by)
    reference = embed_graph(model, images, threads)
    every = {name for names in parts.values() for name in names}

    def loss(name: str, in_float: set[str], count: int = 0) -> Loss:
        answer = embed_graph(quantized(model, ranges, kept | in_float), images, threads)
        found = compare(reference, answer)
        return Loss(name, kinds.get(name, by), found.cosine_min, found.cosine_p1, found.cosine_mean, count)

    kinds = dict.fromkeys(depthwise_layers(model), "depthwise") | dict.fromkeys(gate_layers(model), "gate")
    alone = [loss(name, every - set(names)) for name, names in track(parts.items(), f"each {by} alone", len(parts))]
    alone.sort(key=lambda one: one.cosine_mean)
    ladder: list[Loss] = []
    for count in track(_steps(len(alone)), f"keeping the worst {by}s"):
        in_float = {name for one in alone[:count] for name in parts[one.name]}
        ladder.append(loss("all but the worst" if count else "all", in_float, count))
        if ladder[-1].cosine_p1 >= target:
            break
    keep = tuple(one.name for one in alone[: ladder[-1].kept])
    reached = ladder[-1].cosine_p1 >= target
    return Sensitivity(by, len(images), target, tuple(alone), tuple(ladder), keep, tuple(sorted(kept)), reached)


def keep_from_json(path: Path | str) -> list[str]:
    """The names to keep in float from a file of `Sensitivity.to_json`, or one edited by hand.

    Raises InputError for a file without a list of names.
    """
    try:
        content: Any = json.loads(require_file(path, "a sensitivity report").read_text(encoding="utf-8"))
        keep = content["keep"]
    except (ValueError, KeyError, TypeError, RecursionError):
        keep = None
    if not isinstance(keep, list) or not all(isinstance(name, str) for name in keep):
        raise InputError(f'{path} has no "keep": [names]: give a file that  reid-edge export --sensitivity  wrote')
    return keep


def draw_sensitivity(result: Sensitivity, path: Path | str, most: int = 40) -> None:
    """Draw what the ``most`` worst parts lose alone as bars, log scale, to a PNG, SVG or PDF file."""
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError:
        raise MissingExtraError("matplotlib", "report", "drawing the sensitivity plot") from None
    shown = result.alone[:most]
    colours = {"depthwise": "#d55e00", "gate": "#009e73"}
    figure = Figure(figsize=(9, 1.5 + 0.2 * len(shown)), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots()
    lost = [max(1 - one.cosine_mean, 1e-8) for one in shown]
    labels = [f"{one.name} *" if one.name in result.keep else one.name for one in shown]
    axes.barh(labels, lost, color=[colours.get(one.kind, "#0072b2") for one in shown])
    axes.invert_yaxis()
    axes.set_xscale("log")
    axes.set_xlabel("1 - mean cosine with FP32 when only this is in INT8 (log)")
    axes.set_title(f"{result.why()}\n* kept in float; orange: depthwise, green: gate", fontsize=8)
    axes.tick_params(axis="y", labelsize=7)
    with written_whole(path) as beside:
        figure.savefig(beside, dpi=120)


def write_sensitivity(source: Source, options: Int8Options, by: str, out: Path, name: str | None) -> list[str]:
    """Measure on the source's crops, calibrated as ``options`` say, and write JSON and, with matplotlib, a plot.

    Depthwise convolutions and gates are measured too, so that the plot shows why they stay in float by default; layers
    that ``options.keep`` names are not. Returns lines to show.
    """
    crops = calibration_crops(options.dataset(), options.count, options.seed)
    ranges = calibrated_ranges(source.graph, source.card, crops, options.method, threads=options.threads)
    result = sensitivity(source.graph, ranges, source.crops, by, options.keep or (), threads=options.threads)
    stem = f"{name or source.card.architecture}_sensitivity"
    with written_whole(out / f"{stem}.json") as beside:
        beside.write_text(result.to_json(), encoding="utf-8")
    lines = [result.why(), f"wrote {out / stem}.json: give it as --keep to keep {len(result.keep)} in float"]
    try:
        draw_sensitivity(result, out / f"{stem}.png")
        lines.append(f"wrote {out / stem}.png")
    except MissingExtraError as error:
        lines.append(str(error))
    return lines


def _parts(names: Sequence[str], by: str) -> dict[str, list[str]]:
    """What goes into INT8 together, by name, in the graph's order."""
    if by not in BY:
        raise InputError(f"sensitivity by {by!r} is unknown: give one of {', '.join(BY)}")
    if not names:
        raise InputError("this model has no layer left to put into INT8: keep fewer")
    parts: dict[str, list[str]] = {}
    for name in names:
        parts.setdefault(name if by == "layer" else _block(name), []).append(name)
    return parts


def _block(layer: str) -> str:
    """Up to the first number in a module's name; where there is none, its first two words.

    >>> _block("trunk.conv2.0.gate.fc1"), _block("trunk.conv1.conv"), _block("trunk.layer1.2.conv3")
    ('trunk.conv2.0', 'trunk.conv1', 'trunk.layer1.2')
    """
    words = layer.split(".")
    numbers = [i for i, word in enumerate(words) if word.isdigit()]
    return ".".join(words[: numbers[0] + 1] if numbers else words[:2])


def _steps(most: int) -> list[int]:
    """0, 1, 2, 4, 8 ... and half of all, at which there is little INT8 left to save."""
    steps = [0, 1]
    while steps[-1] * 2 < most // 2:
        steps.append(steps[-1] * 2)
    return sorted({*(step for step in steps if step < most), most // 2})
