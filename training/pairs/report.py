"""From a model and a data set to a pair head: its file, its figures, a table and a reliability diagram."""

from __future__ import annotations

import json
import logging
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from reid_edge.core.files import write_text, written_whole
from reid_edge.core.names import require_name
from reid_edge.core.progress import phase
from reid_edge.data.datasets import Dataset, require
from reid_edge.data.records import Crop
from reid_edge.embedder.embedder import Embedder
from reid_edge.scoring.roc import FALSE_ACCEPT_RATES

from .draw import Embedded
from .fit import PairReport, Scorer, train_pair_head

if TYPE_CHECKING:
    from rich.table import Table

__all__ = ["FIT_ON", "HEAD_NAME", "draw_reliability", "make_pair_head", "pair_table"]

logger = logging.getLogger(__name__)

HEAD_NAME = "pair_head.npz"
FIT_ON = ("train", "test")
"""The splits that a head can be fitted on."""

_TRAIN_SHARES = (0.8, 0.2)  # of the training identities: to fit, to calibrate; the test identities are measured on
_TEST_SHARES = (0.5, 0.25, 0.25)  # of the test identities: to fit, to calibrate, to measure


def make_pair_head(
    embedder: Embedder,
    dataset: Dataset,
    out: Path,
    *,
    fit_on: str = "train",
    calibration: str = "temperature",
    seed: int = 0,
) -> PairReport:
    """Train, calibrate and measure a head; write ``pair_head.npz``, ``pairs.json`` and ``reliability.png``/``.svg``.

    The file holds the head or, in the same form, the calibrated cosine where the head is no better
    (`PairReport.choice`).

    With ``fit_on`` "train" the head is fitted on 4 of 5 training identities, calibrated on the others, and measured on
    the query and gallery identities. A network that was trained on the training identities separates them too well for
    that: give "test", and the query and gallery identities are split 2 : 1 : 1. Junk and distractors are left out. The
    diagram needs matplotlib, and is left out without it.

    Raises InputError for an unknown ``fit_on``, and what `train_pair_head` and embedding raise.
    """
    require_name(fit_on, FIT_ON, "fit_on")
    require(dataset, *(("train",) if fit_on == "train" else ()), "query", "gallery")
    split, rng = dataset.split, np.random.default_rng([seed, 0])
    known = [crop for crop in (*split.query, *split.gallery) if crop.pid >= 0 and crop.pid != dataset.distractor]
    test = _embedded(embedder, known)
    if fit_on == "train":
        train = _embedded(embedder, split.train)
        # Training and test may number their identities from the same start (MSMT17): other numbers for one of them.
        train = Embedded(train.embeddings, -1 - train.identities, train.cameras)
        fit, calibrate = train.split(_TRAIN_SHARES, rng)
    else:
        fit, calibrate, test = test.split(_TEST_SHARES, rng)
    with phase("fitting and measuring the pair head"):
        report = train_pair_head(fit, calibrate, test, calibration=calibration, seed=seed)
    facts = {"dataset": dataset.name, "fit_on": fit_on, "seed": seed, "model_card": embedder.card.trained_on}
    model = embedder.card.weights_sha256
    replace(report.chosen.head, model=model, facts=facts | _short(report)).save(out / HEAD_NAME)
    write_text(out / "pairs.json", json.dumps(facts | report.to_dict(), indent=1) + "\n")
    if not draw_reliability(report, out):
        logger.warning("no reliability diagram: pip install matplotlib  for it")
    return report


def pair_table(report: PairReport) -> Table:
    """The cosine and the head, a row each, the chosen one marked, as a rich table; rates in per cent."""
    from rich.box import SIMPLE_HEAD
    from rich.table import Table

    counts = report.counts
    table = Table(
        box=SIMPLE_HEAD,
        title=f"{counts['test_identities']} test identities: {counts['same_pairs']:,} pairs of one identity and "
        f"{counts['different_pairs']:,} of two, from different cameras; probabilities at a prior of one half, "
        f"{report.calibration} calibration",
        title_justify="left",
        caption=f"head minus cosine, 95 % bootstrap over identities: AUC {_interval(report.auc_gain)}, "
        f"TAR at FAR 0.1 % {_interval(report.tar_gain)} points",
        caption_justify="left",
        padding=0,
        show_edge=False,
    )
    table.add_column("score", no_wrap=True)
    tar = [f"TAR %\nat FAR\n{100 * far:g} %" for far in FALSE_ACCEPT_RATES]
    for title in ("AUC\n%", "EER\n%", *tar, "NLL\nnats", "Brier", "ECE\nraw", "ECE", "threshold\nat 0.1 %:\nFAR, TAR"):
        table.add_column(title, justify="right", no_wrap=True)
    for scorer in (report.cosine, report.head):
        chosen = "\n(chosen)" if scorer is report.chosen else ""
        table.add_row(scorer.name + chosen, *_figures(scorer))
    return table


def draw_reliability(report: PairReport, out: Path) -> list[Path]:
    """Draw ``reliability.png`` and ``.svg`` in ``out``: the share of positive pairs over the predicted probability.

    The area of a point is its share of the weight. Without matplotlib nothing is drawn and the list is empty.
    """
    try:
        from matplotlib.figure import Figure
    except ImportError:
        return []
    figure = Figure(figsize=(9, 4.4), layout="constrained")
    for axes, scorer in zip(figure.subplots(1, 2, sharey=True), (report.cosine, report.head), strict=True):
        axes.plot([0, 1], [0, 1], color="0.7", linewidth=1)
        series = (("as trained" if scorer is report.head else "the cosine as log-odds", scorer.raw, "--", "0.6", "s"),)
        for label, measures, line, grey, marker in (*series, (report.calibration, scorer.measures, "-", "0", "o")):
            x, y, share = (
                np.array([getattr(b, name) for b in measures.bins]) for name in ("predicted", "observed", "share")
            )
            axes.plot(x, y, line, color=grey, linewidth=1, label=f"{label}, ECE {measures.ece:.3f}")
            axes.scatter(x, y, s=8 + 400 * share, color=grey, marker=marker)
        axes.set(title=scorer.name, xlabel="predicted probability", xlim=(0, 1), ylim=(0, 1), aspect="equal")
        axes.legend(loc="upper left", fontsize="small")
    figure.axes[0].set_ylabel("share of pairs of one identity")
    drawn = []
    for suffix in ("png", "svg"):
        with written_whole(out / f"reliability.{suffix}") as beside:
            figure.savefig(beside, format=suffix, dpi=120)
        drawn.append(out / f"reliability.{suffix}")
    return drawn


def _embedded(embedder: Embedder, crops: tuple[Crop, ...] | list[Crop]) -> Embedded:
    embeddings = embedder.embed([crop.path for crop in crops], progress=True)
    identities, cameras = ([getattr(crop, name) for crop in crops] for name in ("pid", "camid"))
    return Embedded(embeddings, np.array(identities, np.int64), np.array(cameras, np.int64))


def _short(report: PairReport) -> dict[str, Any]:
    """The figures that the head's own file carries."""
    measures = report.chosen.measures
    return {
        **report.choice.to_dict(),
        **report.counts,
        "calibration": report.calibration,
        "auc": measures.auc,
        "ece": measures.ece,
    }


def _figures(scorer: Scorer) -> list[str]:
    measures = scorer.measures
    rates = measures.auc, measures.eer, *measures.tar_at_far
    return [
        *(f"{100 * rate:.1f}" for rate in rates),
        *(f"{value:.4f}" for value in (measures.nll, measures.brier, scorer.raw.ece, measures.ece)),
        f"{100 * scorer.far:.2f} {100 * scorer.tar:.1f}",
    ]


def _interval(ends: tuple[float, float]) -> str:
    return f"{100 * ends[0]:+.1f} to {100 * ends[1]:+.1f}"
