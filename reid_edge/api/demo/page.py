"""The page at the end of the demonstration: what was drawn, learned, ranked, measured and refused, and what is next."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from reid_edge.benchmarks.html.crops import people_section
from reid_edge.benchmarks.html.curves import cmc_chart, cmc_of, curves_section, loss_chart, score_chart
from reid_edge.benchmarks.html.models import bench_section, gate_section
from reid_edge.benchmarks.html.page import commands_section, write_page
from reid_edge.benchmarks.html.rankings import rankings_section
from reid_edge.benchmarks.ranked_lists import RankedList
from reid_edge.benchmarks.results import BenchReport
from reid_edge.data.datasets import Dataset
from reid_edge.scoring.evaluation import Evaluation
from reid_edge.training.history import EpochReport

if TYPE_CHECKING:
    from xml.etree.ElementTree import Element

    from reid_edge.export.report import ExportReport

__all__ = ["DemoReport", "demo_sections", "next_command", "write_demo_page"]

VARIES = (
    "The same seed on the same kind of processor with as many threads gives the same scores; elsewhere sums are "
    "rounded in another order, training takes another path, and rank-1 moves by a few points."
)


@dataclass(frozen=True, kw_only=True)
class DemoReport:
    """What the demonstration measured, for its page and ``demo.json``; ``seconds`` is what all of it took."""

    arch: str
    seed: int
    dataset: Dataset
    untrained: Evaluation
    trained: Evaluation
    history: Sequence[EpochReport]
    export: ExportReport
    bench: BenchReport
    rankings: Sequence[RankedList]
    seconds: float

    @property
    def gain_points(self) -> float:
        """What training gained, in points of rank-1."""
        return 100 * (self.trained.metrics.rank(1) - self.untrained.metrics.rank(1))

    @property
    def conditions(self) -> str:
        """What the scores depend on: the same conditions give the same scores."""
        threads = self.untrained.engine.threads
        return f"seed {self.seed}, {threads} thread{'s' * (threads != 1)}, {self.bench.machine.cpu}"

    def to_dict(self) -> dict[str, Any]:
        """JSON-able; scores are fractions."""
        return {
            "arch": self.arch,
            "seed": self.seed,
            "conditions": self.conditions,
            "untrained": self.untrained.to_dict(),
            "trained": self.trained.to_dict(),
            "rank1_gain_points": self.gain_points,
            "history": [epoch.to_dict() for epoch in self.history],
            "export": self.export.to_dict(),
            "bench": self.bench.to_dict(),
            "seconds": self.seconds,
        }


def write_demo_page(report: DemoReport, path: Path, program: str = "reid-edge") -> Path:
    """Write the page of a demonstration, and return its path; ``program`` is how the reader starts reid-edge."""
    before, after, rows = report.untrained.metrics, report.trained.metrics, report.bench.rows
    fastest = min(rows, key=lambda row: row.measured.end_to_end_ms.p50 / row.batch)
    first, refused = rows[0], sum(file.refused is not None for file in report.export.files)
    figures = [
        ("rank-1", f"{100 * after.rank(1):.1f} %", f"untrained {100 * before.rank(1):.1f} %"),
        ("mAP", f"{100 * after.mAP:.1f} %", f"untrained {100 * before.mAP:.1f} %"),
        (
            "one crop",
            f"{first.measured.end_to_end_ms.p50:.1f} ms",
            f"median, {first.precision.upper()}, file to embedding",
        ),
        ("crops/s", f"{fastest.measured.crops_per_s:.0f}", f"{fastest.precision.upper()}, batches of {fastest.batch}"),
        ("files", f"{len(report.export.files) - refused} passed", f"the export's gate refused {refused or 'none'}"),
        ("in all", f"{report.seconds / 60:.1f} min", "this run, to this page"),
    ]
    return write_page(
        path,
        [*demo_sections(report), _next_section(report.arch, program)],
        title="reid-edge: the demonstration",
        lead=f"People were drawn, {report.arch} was trained on them from random weights, exported, checked and timed.",
        figures=figures,
        footer=f"{report.bench.made_with}, {report.bench.started}; {report.conditions}; {report.seconds:.0f} s in all.",
    )


def demo_sections(report: DemoReport) -> list[Element]:
    """The sections on what was measured, in their order."""
    split, metrics = report.dataset.split, report.trained.metrics
    return [
        _people(report.dataset),
        _ranked_lists(report.rankings),
        curves_section(
            [
                loss_chart(report.history),
                score_chart(report.history, before=report.untrained.to_dict()),
                cmc_chart([cmc_of("untrained", report.untrained.metrics), cmc_of("trained, exported", metrics)]),
            ],
            title="Training and scores",
            text=f"{len(report.history)} epochs on {len(split.train)} crops of "
            f"{len({crop.pid for crop in split.train})} identities; tested on {metrics.queries} queries of other "
            f"identities against {metrics.gallery} gallery crops. {VARIES}",
        ),
        bench_section(
            report.bench,
            title="Speed and scores",
            text="Each row is timed in a process of its own, from files to embeddings; times are for a whole batch. "
            "FP16 and INT8 files are for TensorRT: a CPU computes them in FP32, and is slower with them.",
        ),
        gate_section(
            report.export,
            title="What the gate said",
            text="No file is written before its embeddings agree with PyTorch's on the same crops, and its mAP lost "
            "is shown to stay within the limit, the whole 95 % interval.",
        ),
    ]


def _people(dataset: Dataset) -> Element:
    """A few of the drawn people, as each camera sees them."""
    return people_section(
        dataset.split.query,
        title="The people",
        text="Drawn, so that no real person is shown: a strip for each of a few test identities, with a crop by "
        "each camera, which has its own light, colours and angle.",
    )


def _ranked_lists(rankings: Sequence[RankedList]) -> Element:
    """Some queries with their closest gallery crops."""
    return rankings_section(
        rankings,
        title="Ranked lists",
        text="Queries at even steps through the test set, not chosen, each with its ten closest gallery crops. "
        "Crops of the query's person by the query's camera do not count: they stand in grey, without a rank. "
        "The number on the right is the cosine distance.",
    )


def next_command(arch: str, program: str = "reid-edge") -> str:
    """How to train on one's own folder."""
    return f"{program} train --arch {arch} --data FOLDER --out runs/mine"


def _next_section(arch: str, program: str) -> Element:
    return commands_section(
        [
            ("See what is in your folder, and whether its layout is known.", f"{program} data inspect FOLDER"),
            ("Train on it.", next_command(arch, program)),
            (
                "Export the model, checked on your test crops.",
                f"{program} export runs/mine/model.pth --out models --data FOLDER --fp16",
            ),
            (
                "Rank: who is the person in this crop?",
                f"{program} rank QUERY.jpg --gallery CROPS --model models/{arch}_fp32.onnx --picture ranked.png",
            ),
        ],
        title="Next: your own folder",
        text="FOLDER is your data set. Put in your paths, and start at the first command.",
    )
