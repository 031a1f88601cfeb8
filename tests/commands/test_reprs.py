"""The repr of what a session shows most is one line that tells, however large the data behind it is."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from helpers.small_network import CARD, network, random_weights
from helpers.tiny_onnx import tiny_card, write_tiny_model

from reid_edge.benchmarks.options import BenchOptions
from reid_edge.benchmarks.run import bench
from reid_edge.card import ModelCard
from reid_edge.data.records import Ranking
from reid_edge.data.synthetic.dataset import synthesize
from reid_edge.engines.registry import open_engine
from reid_edge.errors import GateError
from reid_edge.export.report import Exported, ExportReport
from reid_edge.gallery.memory import Gallery
from reid_edge.pair_head import PairHead
from reid_edge.scoring.evaluation import evaluate
from reid_edge.scoring.test_set import TestSet


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    home = tmp_path_factory.mktemp("reprs")
    synthesize(home / "people", identities=2, test_identities=3, cameras=2, size_hw=(64, 32), progress=False)
    write_tiny_model(home / "m.onnx", input_hw=(64, 32))
    return home


def test_a_gallery_and_a_ranking() -> None:
    gallery = Gallery(model="ab" * 32)
    assert repr(gallery) == "<Gallery: 0 embeddings, model abababababab>"
    gallery.enrol([[1.0, 0.0], [0.0, 1.0]], ["ann", "bob"])
    assert repr(gallery) == "<Gallery: 2 embeddings of 2 dimensions, model abababababab>"
    found = gallery.search([[0.0, 1.0]], k=1)
    assert repr(found) == "<Ranking: the 1 closest of 2 to each of 1 queries; nearest to the first: 'bob' at 0.0000>"
    none = Ranking(np.empty((0, 1), np.int64), np.empty((0, 1), np.float32), ("ann",))
    assert repr(none) == "<Ranking: the 1 closest of 1 to each of 0 queries>"


def test_cards_graphs_and_heads() -> None:
    card = tiny_card().with_(trained_on="LaST: 5000 identities", weights_sha256="cd" * 32, recipe={"epochs": 120})
    trained = "nhwc-uint8, trained on LaST: 5000 identities, weights cdcdcdcdcdcd"
    assert repr(card) == f"<ModelCard: tiny fp32, 256x128 to 24 dimensions, {trained}>"
    assert repr(ModelCard("vit", 8)) == "<ModelCard: vit fp32, 256x128 to 8 dimensions, nhwc-uint8>"
    assert CARD.architecture == "tiny"
    assert repr(network(random_weights())) == "<Graph: 16 nodes, 5 layers, fp32, nhwc-uint8>"
    assert repr(PairHead.of_cosine(512)) == "<PairHead: 512 dimensions to 512>"


def test_an_engine_says_what_it_runs_on_while_it_is_open(home: Path) -> None:
    engine = open_engine(home / "m.onnx", threads=1)
    assert repr(engine) == f"<OnnxEngine {str(home / 'm.onnx')!r}: closed>"
    with engine:
        assert repr(engine) == f"<OnnxEngine {str(home / 'm.onnx')!r}: {engine.facts}>"
    assert repr(engine).endswith(": closed>")


def test_data_and_scores(home: Path) -> None:
    with TestSet.open(home / "people") as data:
        counts = "16 train, 6 query and 24 gallery crops"
        dataset = f"<Dataset people (market1501, test) at {str(home / 'people')!r}: {counts}>"
        assert repr(data.dataset) == dataset
        assert repr(data) == f"<TestSet: {dataset}, 0 crops decoded>"
        result = evaluate(home / "m.onnx", data)
        assert repr(data) == f"<TestSet: {dataset}, 30 crops decoded>"
    metrics = result.metrics
    scores = f"rank-1 {100 * metrics.rank(1):.1f} %, mAP {100 * metrics.mAP:.1f} %"
    assert repr(result) == f"<Evaluation of m.onnx on people (test): {scores}, cosine distance>"
    shown = f"{scores}, mINP {100 * metrics.mINP:.1f} %; 6 of 6 queries, 24 gallery crops"
    assert repr(metrics) == f"<Metrics: {shown}>"


def test_reports(home: Path) -> None:
    options = BenchOptions(batches=(1,), repeats=1, min_seconds=0.0, threads=1)
    report = bench(home / "m.onnx", options=options)
    machine = report.machine
    assert repr(report) == f"<BenchReport: m in 1 rows, on {machine.board or machine.cpu}>"
    files = (
        Exported(Path("out/a_fp32.onnx"), "fp32"),
        Exported(Path("out/a_int8.onnx"), "int8", refused=GateError("it differs")),
    )
    assert repr(ExportReport(files=files)) == "<ExportReport: wrote a_fp32.onnx; refused a_int8.onnx>"
    assert repr(ExportReport()) == "<ExportReport: wrote nothing; refused nothing>"
