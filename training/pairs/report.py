"""What `reid-edge pairs` makes of a model and a data set: the head, its figures, a table and a reliability diagram."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from reid_edge.datasets import Dataset, require
from reid_edge.embedder import Embedder
from reid_edge.errors import InputError
from reid_edge.files import written_whole
from reid_edge.records import Crop
from reid_edge.verification import PairHead

from .pair_measures import FALSE_ACCEPTS
from .pairs import Embedded, PairReport, Scorer, train_pair_head

if TYPE_CHECKING:
    from rich.table import Table

__all__ = ["HEAD_NAME", "draw_reliability", "make_pair_head", "pair_table"]

HEAD_NAME = "pair_head.npz"
_FIT_SHARES = (0.8, 0.2)  # of the training people; measured on the test people
_TEST_SHARES = (0.5, 0.25, 0.25)  # of the test people, where training people are no use


def make_pair_head(
    embedder: Embedder,
    dataset: Dataset,
    out: Path,
    *,
    people: str = "train",
    calibration: str = "temperature",
    seed: int = 0,
    say: Callable[[str], None] = print,
) -> PairReport:
    """Train, calibrate and measure a head; write ``pair_head.npz``, ``pairs.json`` and ``reliability.png``/``.svg``.

    With ``people`` "train" 4 of 5 training people are trained on, the others calibrated on, and the query and gallery
    people measured on. A network that was trained on the training people knows them too well for that: give "test", and
    the query and gallery people are dealt 2 : 1 : 1. Junk and distractors are left out. The diagram needs matplotlib,
    and without it is left out.

    Raises InputError for another ``people``, and what `train_pair_head` and embedding raise.
    """
    if people not in ("train", "test"):
        raise InputError(f"people {people!r} is unknown: give train or test")
    require(dataset, *(("train",) if people == "train" else ()), "query", "gallery")
    split, rng = dataset.split, np.random.default_rng([seed, 0])
    test = _embedded(embedder, [crop for crop in (*split.query, *split.gallery) if crop.pid > 0])
    if people == "train":
        train = _embedded(embedder, split.train)
        # Training and test may number their people from the same start (MSMT17): other numbers for one of them.
        train = Embedded(train.embeddings, -1 - train.people, train.cameras)
        fit, calibrate = train.parts(_FIT_SHARES, rng)
        report = test
    else:
        fit, calibrate, report = test.parts(_TEST_SHARES, rng)
    made = train_pair_head(fit, calibrate, report, calibration=calibration, seed=seed, say=say)
    facts = {"dataset": dataset.name, "people": people, "seed": seed, "model_card": embedder.card.trained_on}
    head = made.head.head
    PairHead(
        head.weight, head.bias, head.scale, head.offset, head.knots, embedder.card.weights_sha256, facts | _short(made)
    ).save(out / HEAD_NAME)
    with written_whole(out / "pairs.json") as beside:
        beside.write_text(json.dumps(facts | made.to_dict(), indent=1) + "\n", encoding="utf-8")
    if not draw_reliability(made, out):
        say("no reliability diagram: pip install 'reid-edge[report]' for it")
    return made


def pair_table(report: PairReport) -> Table:
    """Cosine and head, a row each, as a rich table; rates in per cent."""
    from rich.box import SIMPLE_HEAD
    from rich.table import Table

    counts = report.counts
    table = Table(
        box=SIMPLE_HEAD,
        title=f"{counts['measured_people']} new people: {counts['same_pairs']:,} pairs of one person and "
        f"{counts['different_pairs']:,} of two, from different cameras; probabilities at even odds, "
        f"{report.calibration} calibration",
        title_justify="left",
        caption=f"head minus cosine, 95 % over people drawn anew: AUC {_interval(report.auc_gain)}, accepted at 0.1 % "
        f"{_interval(report.true_accept_gain)} points",
        caption_justify="left",
    )
    table.add_column("score")
    accepts = [f"% accepted at\n{100 * rate:g} % false" for rate in FALSE_ACCEPTS]
    for title in (
        "AUC %",
        "EER %",
        *accepts,
        "NLL\nnats",
        "Brier",
        "ECE\nraw",
        "ECE",
        "threshold for 0.1 %\n% false, true",
    ):
        table.add_column(title, justify="right")
    for scorer in (report.cosine, report.head):
        table.add_row(scorer.name, *_figures(scorer))
    return table


def draw_reliability(report: PairReport, out: Path) -> list[Path]:
    """Draw ``reliability.png`` and ``.svg`` in ``out``: how often pairs told a probability are of one person.

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
        axes.set(title=scorer.name, xlabel="probability told", xlim=(0, 1), ylim=(0, 1), aspect="equal")
        axes.legend(loc="upper left", fontsize="small")
    figure.axes[0].set_ylabel("share that is one person")
    drawn = []
    for suffix in ("png", "svg"):
        with written_whole(out / f"reliability.{suffix}") as beside:
            figure.savefig(beside, format=suffix, dpi=120)
        drawn.append(out / f"reliability.{suffix}")
    return drawn


def _embedded(embedder: Embedder, crops: tuple[Crop, ...] | list[Crop]) -> Embedded:
    embeddings = embedder.embed([crop.path for crop in crops], progress=True)
    people, cameras = ([getattr(crop, name) for crop in crops] for name in ("pid", "camid"))
    return Embedded(embeddings, np.array(people, np.int64), np.array(cameras, np.int64))


def _short(report: PairReport) -> dict[str, float | str | int]:
    """What is worth carrying inside the head's own file."""
    measures = report.head.measures
    return {**report.counts, "calibration": report.calibration, "auc": measures.auc, "ece": measures.ece}


def _figures(scorer: Scorer) -> list[str]:
    measures = scorer.measures
    rates = measures.auc, measures.eer, *measures.true_accepts
    return [
        *(f"{100 * rate:.1f}" for rate in rates),
        *(f"{value:.4f}" for value in (measures.nll, measures.brier, scorer.raw.ece, measures.ece)),
        f"{100 * scorer.false_accepts:.2f} {100 * scorer.true_accepts:.1f}",
    ]


def _interval(ends: tuple[float, float]) -> str:
    return f"{100 * ends[0]:+.1f} to {100 * ends[1]:+.1f}"
