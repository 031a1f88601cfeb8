"""Which layers INT8 must leave in float, found by trying: the fewest of those that lose most until every gate holds.

1. The start (`layers.default_keep`, or what the model was trained for) is written and judged like any file. Where it
   passes, nothing is searched.
2. Each layer left in INT8 is measured alone on a few crops, with the activation ranges of the calibration method and
   with ones that clip nothing: it takes those that lose less. Early layers clip what rare crops are told apart by.
3. What they lose then ranks them. Those that lose most go to float first, as long as half of the multiply-accumulates
   stay in INT8: a file with less is not called INT8.
4. Bisection finds the fewest that agree with the FP32 model on all crops, and the file of these is written and judged.
   Where it is refused, by its scores say, files with 1, 3, 7, ... more layers in float are judged until one passes,
   and bisection goes on below that one.

Ranking blocks instead of layers, and bisection within the last block, takes 40 passes over crops instead of 69, and
leaves a worse file: the demonstration's model has 77 % of its multiply-accumulates in INT8 instead of 81 %, and loses
more mAP. Layers that lose little go to float with the block that they are in.

Bisection takes it that more layers in float lose less. Where errors cancel that is not so, and a set with one layer
fewer might pass too; what is found has passed every gate in any case.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field, fields, replace

import numpy as np
from numpy.typing import NDArray

from reid_edge.core.progress import phase
from reid_edge.export.graph.graph import Graph
from reid_edge.export.graph.session import embed_graph
from reid_edge.export.parity.compare import Comparison, compare
from reid_edge.export.parity.gate import outside
from reid_edge.export.parity.limits import Thresholds
from reid_edge.scoring.bootstrap import PairedLoss

from .convert import rounded
from .in_float import HALF, LOSES_ALONE, Int8Layers, Shares, Trial, reasons
from .plan import Int8Plan
from .sensitivity import Loss, losses_alone

__all__ = ["Judge", "Judgement", "search_layers"]

_QAT = "fine-tune with train --qat, or leave --int8 out (precisions=)"

_NO_CHOICE = "INT8 passes with no choice of layers in float that leaves it half of the multiply-accumulates"

_FIGURES = tuple(one.name for one in fields(Thresholds) if one.name != "remedy")

_RANKING_CROPS = 64
"""Each layer alone: 60 layers on 64 crops cost what 8 sets of layers cost on the 512 that files are compared on."""


@dataclass(frozen=True)
class Judgement:
    """What writing a file with some layers in float came to.

    ``agreement`` and ``map_lost`` (fractions) are None where they were not reached. ``is_lossy`` says that rounding
    cost too much, so that more layers in float may pass; other refusals would stay.
    """

    refused: str
    is_lossy: bool
    agreement: Comparison | None = None
    map_lost: PairedLoss | None = None


Judge = Callable[[Int8Plan], Judgement]
"""Writes and judges the file of a plan."""


def search_layers(
    graph: Graph,
    plan: Int8Plan,
    images: NDArray[np.uint8],
    reference: NDArray[np.float32],
    limits: Thresholds,
    judge: Judge,
) -> Int8Layers:
    """The layers that a ``plan`` leaves in float, and the fewest more with which ``judge`` lets its file pass.

    ``images`` uint8 [N, H, W, 3] have the embeddings ``reference`` float32 [N, D] in FP32, and ``limits`` are INT8's.
    ``judge`` is first asked about the ``plan`` itself. Calibrates once. Raises ModelError where multiply-accumulates
    cannot be counted, and as `Int8Plan.activation_ranges`.
    """
    started = time.perf_counter()
    shares = Shares(graph)
    if plan.crops is not None and shares.without(plan.kept) < HALF:
        plan = plan.with_all_in_int8(graph)  # a network of depthwise convolutions
    plan = plan.calibrated(graph)
    search = _Search(graph, plan, images, reference, limits, judge, shares)
    chosen = search.run()
    alone = {one.name: f"{LOSES_ALONE} {one.cosine_mean:.5f}" for one in search.ranked}
    return Int8Layers(
        why=reasons(graph, plan) | {name: alone[name] for name in chosen.searched},
        share=shares.without(chosen.kept),
        unclipped=chosen.unclipped,
        trials=tuple(search.trials),
        runs=search.runs,
        seconds=time.perf_counter() - started,
        refused=search.refused,
    )


@dataclass
class _Search:
    """The state of one search: what was tried, by how many ranked layers are in float."""

    graph: Graph
    plan: Int8Plan
    images: NDArray[np.uint8]
    reference: NDArray[np.float32]
    limits: Thresholds
    judge: Judge
    shares: Shares
    ranked: list[Loss] = field(default_factory=list)
    trials: list[Trial] = field(default_factory=list)
    tried: dict[int, Trial] = field(default_factory=dict)
    runs: int = 0
    refused: str = ""
    unfit: str = ""  # why a file was refused that would not pass with more layers in float either

    def run(self) -> Int8Plan:
        """The plan of the file that passed; the first one, and ``refused``, where none did."""
        share = self.shares.without(self.plan.kept)
        if share < HALF:
            self.refused = f"{share:.0%} of the multiply-accumulates are in INT8 (at least {HALF:.0%}): {_QAT}"
            return self.plan
        first = self.judge(self.plan)
        self.refused = first.refused
        if first.refused and not first.is_lossy:
            return self.plan
        self._note(0, first.agreement or self._compared(0), first)
        self.tried.clear()
        if not first.refused:
            return self.plan
        with phase("searching the layers that INT8 must leave in float"):
            count = self._search()
        if count is None:
            reason = self.unfit or first.refused.replace(self.limits.remedy, _QAT)
            self.refused = f"{_NO_CHOICE}: {reason}"
            return self.plan
        self.refused = ""
        return self._plan(count)

    def _search(self) -> int | None:
        """How many of the ranked layers are in float in the file that passed; None where none did."""
        losses = self._losses()
        kept = set(self.plan.kept)
        for one in losses:
            if self.shares.without(kept | {one.name}) >= HALF:
                kept.add(one.name)
                self.ranked.append(one)
        fewest = _fewest(0 if self.plan.unclipped else 1, len(self.ranked), self._agrees)
        if fewest is None or self._passes(fewest):
            return fewest
        return _fewest_above(fewest, len(self.ranked), self._passes)

    def _losses(self) -> list[Loss]:
        """What each layer loses alone, the worst first, after the plan has taken the better activation ranges."""
        losses = self._alone(self.plan)
        if self.plan.crops is not None and self.plan.method != "minmax":
            wide = self.plan.with_method("minmax").calibrated(self.graph)
            others = self._alone(wide)
            self.plan = self.plan.with_ranges_of(
                wide, self.graph, [n for n in losses if _loss(others[n]) < _loss(losses[n])]
            )
            losses |= {name: others[name] for name in self.plan.unclipped}
        return sorted(losses.values(), key=_loss, reverse=True)

    def _alone(self, plan: Int8Plan) -> dict[str, Loss]:
        """What each layer that is not kept loses as the only one in INT8, by name."""
        chosen = np.unique(np.linspace(0, len(self.images) - 1, _RANKING_CROPS).astype(int))
        images, reference = self.images[chosen], self.reference[chosen]
        parts = {name: [name] for name in self.graph.layers if name not in plan.kept}
        self.runs += len(parts)
        ranges, threads = plan.activation_ranges(self.graph), plan.options.threads
        losses = losses_alone(self.graph, ranges, images, parts, reference, threads, plan.errors)
        return {one.name: one for one in losses}

    def _plan(self, count: int) -> Int8Plan:
        """The plan with the first ``count`` of the ranked layers in float too."""
        added = tuple(one.name for one in self.ranked[:count])
        return replace(self.plan, kept=self.plan.kept | set(added), searched=added)

    def _compared(self, count: int) -> Comparison:
        self.runs += 1
        embeddings = embed_graph(rounded(self.graph, self._plan(count)), self.images, self.plan.options.threads)
        return compare(self.reference, embeddings, tie=self.limits.tie)

    def _agrees(self, count: int) -> bool:
        """Whether a set agrees with FP32 before it is written; each is tried once."""
        if count not in self.tried:
            self._note(count, self._compared(count))
        return self.tried[count].verdict in {"agrees", "passed"}

    def _passes(self, count: int) -> bool:
        """Whether a set that agrees passes every gate as a file."""
        if not self._agrees(count):
            return False
        judged = self.judge(self._plan(count))
        if judged.refused and not judged.is_lossy:
            self.unfit = judged.refused
        self.trials.remove(self.tried[count])
        self._note(count, judged.agreement or self.tried[count], judged)
        return not judged.refused

    def _note(self, count: int, figures: Comparison | Trial, judged: Judgement | None = None) -> None:
        if judged is None:
            assert isinstance(figures, Comparison)
            verdict = ", ".join(outside(figures, self.limits)) or "agrees"
        elif not judged.refused:
            verdict = "passed"
        elif judged.map_lost is not None:
            verdict = "mAP"
        else:
            failed = outside(figures, self.limits) if isinstance(figures, Comparison) else ()
            verdict = ", ".join(failed or [name for name in _FIGURES if name in judged.refused]) or "refused"
        plan = self._plan(count)
        self.tried[count] = Trial(
            len(plan.kept),
            self.shares.without(plan.kept),
            figures.cosine_min,
            figures.cosine_p1,
            figures.cosine_mean,
            judged.map_lost if judged else None,
            verdict,
        )
        self.trials.append(self.tried[count])


def _loss(one: Loss) -> float:
    """What a layer loses on average and in the tail."""
    return 2 - one.cosine_mean - one.cosine_p1


def _fewest(low: int, high: int, holds: Callable[[int], bool]) -> int | None:
    """The least of ``low`` to ``high`` for which ``holds``, which holds for all above it; None where ``high`` fails.

    >>> _fewest(1, 100, lambda n: n >= 17), _fewest(1, 3, lambda n: n > 5), _fewest(2, 1, bool)
    (17, None, None)
    """
    if low > high or not holds(high):
        return None
    while low < high:
        middle = (low + high) // 2
        low, high = (low, middle) if holds(middle) else (middle + 1, high)
    return low


def _fewest_above(low: int, high: int, holds: Callable[[int], bool]) -> int | None:
    """Like `_fewest` of ``low + 1`` to ``high``, asked from below: for answers near ``low`` where asking is dear.

    >>> asked = []
    >>> _fewest_above(10, 45, lambda n: asked.append(n) or n >= 13), asked
    (13, [11, 13, 12])
    >>> _fewest_above(1, 4, lambda n: n >= 4), _fewest_above(1, 4, lambda n: False), _fewest_above(4, 4, bool)
    (4, None, None)
    """
    step = 1
    while low < high:
        tried = min(low + step, high)
        if holds(tried):
            below = _fewest(low + 1, tried - 1, holds)
            return tried if below is None else below
        low, step = tried, 2 * step
    return None
