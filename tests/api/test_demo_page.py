"""The page of the demonstration, made of small reports: every part is there, and nothing comes from outside."""

from __future__ import annotations

import base64
import hashlib
import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import pytest
from helpers.tiny_onnx import write_tiny_model

from reid_edge.api.demo.page import DemoReport, next_command, write_demo_page
from reid_edge.benchmarks.latency import Measurement, Percentiles
from reid_edge.benchmarks.machine import describe_machine
from reid_edge.benchmarks.ranked_lists import rank_by_protocol
from reid_edge.benchmarks.results import BenchReport, BenchRow
from reid_edge.data.datasets import open_dataset
from reid_edge.data.synthetic.dataset import synthesize
from reid_edge.engines.facts import EngineFacts
from reid_edge.errors import GateError
from reid_edge.export.parity.gate import Parity
from reid_edge.export.parity.scores import ScoreLoss
from reid_edge.export.report import Exported, ExportReport
from reid_edge.scoring.bootstrap import PairedLoss
from reid_edge.scoring.evaluation import evaluate
from reid_edge.training.history import EpochReport

HW = (64, 32)
HOSTILE = "<script>alert(\"1\")</script>' onerror='x"
MOST_BYTES = 1_500_000
SECTIONS = ["The people", "Ranked lists", "Training and scores", "Speed and scores", "What the gate said"]


class _Page(HTMLParser):
    """Tags with their attributes, and the text of each element by tag."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.texts: dict[str, list[str]] = {}
        self._open: list[str] = []
        self.source = path.read_text(encoding="utf-8")
        self.feed(self.source)
        assert not self._open, "every element is closed"

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in ("meta", "img", "br", "input"):
            self._open.append(tag)
            self.texts.setdefault(tag, []).append("")

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag

    def handle_data(self, data: str) -> None:
        for tag in set(self._open):
            self.texts[tag][-1] += data

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.tags if name == tag]


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> DemoReport:
    folder = tmp_path_factory.mktemp("demo")
    model = write_tiny_model(folder / "tiny_fp32.onnx", input_hw=HW)
    people = synthesize(folder / "set", identities=1, test_identities=4, cameras=2, size_hw=HW, progress=False)
    dataset, scores = open_dataset(people), evaluate(model, people)
    epochs = [
        EpochReport(epoch=n, learning_rate=1e-3, losses={"id": 5.0 / n, "center": 0.0}, seconds=1, images_per_second=9)
        for n in (1, 2)
    ]
    return DemoReport(
        arch="tiny",
        seed=0,
        dataset=dataset,
        untrained=scores,
        trained=scores,
        history=[epochs[0], epochs[1].with_metrics(scores.to_dict())],
        export=ExportReport(files=(_exported("fp32"), _exported("fp16", lost=0.0))),
        bench=_bench("fp32"),
        rankings=rank_by_protocol(model, dataset, dataset.split.query[:2], top=5),
        seconds=120.0,
    )


def _exported(precision: str, lost: float | None = None, refused: GateError | None = None) -> Exported:
    parity = Parity(0.98765, 0.99, 0.999, 0.01, 0.02, 0.5, 0.875, 0, 1e-6, 512, (1, 8))
    points = None if lost is None else PairedLoss(lost, lost - 0.01, lost + 0.01, 4)
    loss = ScoreLoss(points, points, limit=0.02) if points else None
    return Exported(Path(f"m/tiny_{precision}.onnx"), precision, 9, 1.0, parity, None, loss, refused=refused)


def _bench(*precisions: str, model: str = "tiny") -> BenchReport:
    facts = EngineFacts("onnxruntime", "CPUExecutionProvider", {"onnxruntime": "1"}, 1, "ab" * 32)
    times = Percentiles(1.25, 2.0, 3.5)
    measured = Measurement(9, times, times, times, 800.0, 900.0, 1.0, 1.0, None, facts)
    rows = [
        BenchRow(f"{model}_{one}", f"m/{model}_{one}.onnx", 2_340_000, "tiny", one, 24, 10, batch, measured, 0.5, 0.25)
        for one in precisions
        for batch in (1, 8)
    ]
    settings = {"files": 4, "data": "drawn"}
    return BenchReport("reid-edge 0", "2026-01-01", describe_machine(), settings, (), None, tuple(rows))


def _written(report: DemoReport, folder: Path) -> _Page:
    return _Page(write_demo_page(report, folder / "index.html"))


def _cells(page: _Page) -> str:
    return "|".join(page.texts["td"])


def test_every_part_is_there(report: DemoReport, tmp_path: Path) -> None:
    page = _written(report, tmp_path)
    assert page.texts["h2"] == [*SECTIONS, "Next: your own folder"]
    assert [chart["role"] for chart in page.all("svg") if "aria-hidden" not in chart] == ["img"] * 3
    alts = [str(picture["alt"]) for picture in page.all("img")]
    split = report.dataset.split
    assert sum(alt.startswith("person") for alt in alts) == len({(crop.pid, crop.camid) for crop in split.query})
    assert sum(alt.startswith("query") for alt in alts) == 2
    places = [alt for alt in alts if alt.startswith("rank")]
    right = sum(crop.pid == found.query.pid for found in report.rankings for crop, _ in found.ranked)
    assert len(places) == 10 and sum("the same person" in alt for alt in places) == right
    assert page.source.count('class="hit"') == right and page.source.count('class="miss"') == 10 - right
    assert "FP32|1|1.25|3.50|800|2.34|50.0|25.0" in _cells(page)
    assert "✓ passed|0.98765|87.5%|0.00 [-1.00, 1.00]|2.00" in _cells(page)


def test_the_next_command_stands_as_it_is_typed(report: DemoReport, tmp_path: Path) -> None:
    page = _Page(write_demo_page(report, tmp_path / "index.html", "bin/reid-edge"))
    assert page.texts["code"][1] == next_command("tiny", "bin/reid-edge")
    assert page.texts["code"][1] == "bin/reid-edge train --arch tiny --data FOLDER --out runs/mine"


def test_nothing_comes_from_outside(report: DemoReport, tmp_path: Path) -> None:
    page = _written(report, tmp_path)
    assert {tag for tag, _ in page.tags}.isdisjoint({"link", "iframe", "object", "embed", "base"})
    (script,) = page.all("script")
    assert not script, "the page's own, within it"
    sources = [value for _, attributes in page.tags for name, value in attributes.items() if name == "src"]
    assert sources and all(str(value).startswith("data:image/jpeg;base64,") for value in sources)
    places = {f"#{attributes['id']}" for _, attributes in page.tags if "id" in attributes}
    assert {str(link["href"]) for link in page.all("a")} <= places
    assert not re.search(r"https?:|[\"'(]//|url\(|@import|@font-face", re.sub(r"base64,[^\"]+", "", page.source))
    assert not any(name.startswith("on") for _, attributes in page.tags for name in attributes)
    policy = next(meta["content"] for meta in page.all("meta") if meta.get("http-equiv"))
    assert str(policy).startswith("default-src 'none'")
    digest = base64.b64encode(hashlib.sha256(page.texts["script"][0].encode()).digest()).decode()
    assert f"script-src 'sha256-{digest}'" in str(policy), "a browser runs the page's script and no other"
    assert len(page.source.encode()) < MOST_BYTES / 10, "a tenth of the crops of the real one"


def test_it_can_be_read_without_seeing(report: DemoReport, tmp_path: Path) -> None:
    page = _written(report, tmp_path)
    assert page.all("html")[0]["lang"] == "en" and page.texts["title"] == ["reid-edge: the demonstration"]
    assert all(picture.get("alt") for picture in page.all("img"))
    assert all(cell.get("scope") in ("col", "row") for cell in page.all("th"))
    assert len(page.all("caption")) == len(page.all("table")) and len(page.texts["h1"]) == 1


def test_hostile_names_are_text(report: DemoReport, tmp_path: Path) -> None:
    files = (replace(_exported("fp32"), path=Path(HOSTILE)), _exported("int8", refused=GateError(HOSTILE)))
    bench = replace(_bench("fp32", model=HOSTILE), machine=replace(describe_machine(), cpu=HOSTILE))
    hostile = replace(report, arch=HOSTILE, export=ExportReport(files=files), bench=bench)
    page = _written(hostile, tmp_path)
    assert len(page.all("script")) == 1 and not any("onerror" in attributes for _, attributes in page.tags)
    assert page.source.count("&lt;script&gt;") >= 6
    assert [tag for tag, _ in page.tags] == [
        tag for tag, _ in _written(replace(report, export=ExportReport(files=(files[0], files[1]))), tmp_path).tags
    ]


def test_a_refusal_of_int8_is_told_with_its_reason(report: DemoReport, tmp_path: Path) -> None:
    without = _written(report, tmp_path)
    assert "refused none" in without.texts["header"][0] and "not written" not in without.texts["main"][0]
    refused = _exported("int8", lost=0.03, refused=GateError("int8 loses 3.00 points of mAP: train --qat"))
    page = _written(replace(report, export=ExportReport(files=(*report.export.files, refused))), tmp_path)
    assert "✗ refused" in _cells(page) and "2 passed" in page.texts["header"][0]
    assert any("tiny_int8.onnx was refused and not written" in text for text in page.texts["p"])
    assert any(text.endswith(" int8 loses 3.00 points of mAP: train --qat.") for text in page.texts["p"])


def test_several_models_have_a_row_each(report: DemoReport, tmp_path: Path) -> None:
    one, two = _bench("fp32", "int8"), _bench("fp16", model="other")
    page = _written(replace(report, bench=replace(one, rows=one.rows + two.rows)), tmp_path)
    names = [text for text in page.texts["th"] if text in ("tiny", "other")]
    assert names == ["tiny"] * 4 + ["other"] * 2
    assert [text for text in page.texts["td"] if text.startswith(("FP", "INT"))] == ["FP32"] * 2 + ["INT8"] * 2 + [
        "FP16"
    ] * 2
