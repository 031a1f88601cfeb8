"""What each layer loses in INT8 alone, and how many to leave unquantised.

Two measurements. First each layer (or block) is the only one in INT8: its cosine with FP32 says what it loses by
itself. Then all are in INT8 except the worst 0, 1, 2, 4, ...: the fewest that reach the target are the ones to keep in
float. The second is needed because errors of several layers add up, cancel, and pass through one another's clipping.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass

import numpy as np
from numpy.typing import NDArray

from reid_edge.core.names import require_name
from reid_edge.core.progress import track
from reid_edge.errors import InputError
from reid_edge.export.graph.graph import Array, Graph
from reid_edge.export.graph.session import embed_graph
from reid_edge.export.parity.compare import compare

from .bias import bias_corrected
from .layers import depthwise_layers, gate_layers, match_layers
from .qdq import quantized

__all__ = ["BY", "Loss", "Sensitivity", "check_by", "losses_alone", "sensitivity"]

BY = ("layer", "block")
"""What is quantised alone: a layer, or all layers of a block, as ``backbone.conv2.0``."""

Embeddings = NDArray[np.float32]


@dataclass(frozen=True)
class Loss:
    """Cosines with the FP32 embeddings, minimum, first percentile and mean, when only ``name`` is in INT8.

    In the steps of `Sensitivity.ladder` everything is in INT8 except the ``kept`` worst. ``kind`` is "gate",
    "depthwise", "layer" or "block".
    """

    name: str
    kind: str
    cosine_min: float
    cosine_p1: float
    cosine_mean: float
    kept: int = 0


@dataclass(frozen=True)
class Sensitivity:
    """The `Loss` of every layer or block, the worst first; of each number of kept ones; and the ``keep`` to choose.

    ``always`` were in float throughout. ``target`` is the first percentile of the cosines to reach; ``reached`` is
    False when even the longest ``keep`` tried misses it.
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
        """JSON whose ``keep`` holds all layers that stay in float; `sensitivity_report.keep_from_json` reads it."""
        content = {**asdict(self), "keep": [*self.always, *self.keep], "why": self.why()}
        return json.dumps(content, indent=1) + "\n"

    def why(self) -> str:
        """The choice and its reason in one sentence."""
        last = self.ladder[-1]
        found = f"cosine p1 is {last.cosine_p1:.5f} on {self.crops} crops (target {self.target})"
        if not self.keep:
            return f"with every {self.by} in INT8 {found}: none needs to be kept"
        verdict = "the fewest tried that reach it" if self.reached else "which still misses it: try --qat"
        return f"with the {last.kept} {self.by}s that lose most alone in float {found}, {verdict}"


def sensitivity(
    graph: Graph,
    ranges: Mapping[str, float],
    images: NDArray[np.uint8],
    by: str = "layer",
    always: Collection[str] = (),
    target: float = 0.99,
    threads: int | None = None,
    errors: Mapping[str, Array] | None = None,
) -> Sensitivity:
    """Measure every layer or block of an FP32 ``graph`` on ``images``, uint8 [N, H, W, 3].

    ``ranges`` are the activation ranges by value. ``always`` stay in float (see `layers.match_layers`), ``target`` is
    the first percentile of the cosines to reach, ``errors`` what biases are corrected by (`bias.mean_errors`). A layer
    costs one pass over the images. Raises InputError for an unknown ``by`` and for a model without layers.
    """
    check_by(by)
    kept = match_layers(graph, always)
    parts = _parts([name for name in graph.layers if name not in kept], by)
    reference = embed_graph(graph, images, threads)
    alone = losses_alone(graph, ranges, images, parts, reference, threads, errors)
    ladder: list[Loss] = []
    for count in track(_steps(len(alone)), f"keeping the worst {by}s"):
        in_float = {name for one in alone[:count] for name in parts[one.name]}
        int8 = bias_corrected(quantized(graph, ranges, kept | in_float), errors or {})
        found = compare(reference, embed_graph(int8, images, threads))
        name = "all but the worst" if count else "all"
        ladder.append(Loss(name, by, found.cosine_min, found.cosine_p1, found.cosine_mean, count))
        if ladder[-1].cosine_p1 >= target:
            break
    keep = tuple(one.name for one in alone[: ladder[-1].kept])
    reached = ladder[-1].cosine_p1 >= target
    return Sensitivity(by, len(images), target, tuple(alone), tuple(ladder), keep, tuple(sorted(kept)), reached)


def losses_alone(
    graph: Graph,
    ranges: Mapping[str, float],
    images: NDArray[np.uint8],
    parts: Mapping[str, Sequence[str]],
    reference: Embeddings,
    threads: int | None = None,
    errors: Mapping[str, Array] | None = None,
) -> list[Loss]:
    """What each of ``parts``, names of layers by a name of their own, loses as the only one in INT8; the worst first.

    ``reference`` float32 [N, D] are the embeddings of ``images``. Of equals, the first in ``parts`` is the first.
    """
    kinds = dict.fromkeys(depthwise_layers(graph), "depthwise") | dict.fromkeys(gate_layers(graph), "gate")
    losses = []
    for name, layers in track(parts.items(), "each layer or block alone in INT8", len(parts)):
        others = set(graph.layers) - set(layers)
        int8 = bias_corrected(quantized(graph, ranges, others), errors or {})
        found = compare(reference, embed_graph(int8, images, threads))
        kind = kinds.get(name, "layer" if [name] == list(layers) else "block")
        losses.append(Loss(name, kind, found.cosine_min, found.cosine_p1, found.cosine_mean))
    return sorted(losses, key=lambda one: one.cosine_mean)


def check_by(by: str) -> None:
    """Raise InputError unless ``by`` is one of `BY`."""
    require_name(by, BY, "sensitivity by")


def _parts(names: Sequence[str], by: str) -> dict[str, list[str]]:
    """The layers that are quantised together, by the name of their layer or block, in the graph's order."""
    if not names:
        raise InputError("this model has no layer left to quantise: keep fewer in float")
    parts: dict[str, list[str]] = {}
    for name in names:
        parts.setdefault(name if by == "layer" else _block(name), []).append(name)
    return parts


def _block(layer: str) -> str:
    """Up to the first number in a module's name; where there is none, its first two words.

    >>> _block("backbone.conv2.0.gate.fc1"), _block("backbone.conv1.conv"), _block("backbone.layer1.2.conv3")
    ('backbone.conv2.0', 'backbone.conv1', 'backbone.layer1.2')
    """
    words = layer.split(".")
    numbers = [i for i, word in enumerate(words) if word.isdigit()]
    return ".".join(words[: numbers[0] + 1] if numbers else words[:2])


def _steps(count: int) -> list[int]:
    """0, 1, 2, 4, 8 ... and half of ``count``: with more in float, INT8 saves little.

    >>> _steps(20)
    [0, 1, 2, 4, 8, 10]
    """
    steps = [0, 1]
    while steps[-1] * 2 < count // 2:
        steps.append(steps[-1] * 2)
    return sorted({*(step for step in steps if step < count), count // 2})
