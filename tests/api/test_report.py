"""What every command measures becomes a page, and files of others are refused in one line."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
from helpers.pages.bench_reports import bench_report, bench_row
from helpers.tiny_onnx import write_tiny_model

import reid_edge
from reid_edge.api.report import PageOptions
from reid_edge.cli import main
from reid_edge.data.synthetic.dataset import synthesize
from reid_edge.errors import InputError

HW = (64, 32)
HOSTILE = "</script><img src=x onerror=alert(1)>\x1b[2J"
SCORES = {"rank1": 0.5, "mAP": 0.25, "mINP": 0.1}
LOSSES = {"id": 5.0, "triplet": 0.0}


@pytest.fixture(scope="module")
def people(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("drawn") / "set"
    return synthesize(folder, identities=1, test_identities=4, cameras=2, size_hw=HW, progress=False)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_model(tmp_path_factory.mktemp("model") / "tiny.onnx", input_hw=HW)


def _write(path: Path, content: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content), encoding="utf-8")
    return path


def _epochs(number: int, scored: bool = True, **changes: Any) -> list[dict[str, Any]]:
    rows = [
        {"epoch": n, "learning_rate": 1e-3, "losses": LOSSES, "seconds": 1.0, "images_per_second": 9.0}
        for n in range(1, number + 1)
    ]
    rows[-1] |= {"metrics": SCORES if scored else None, **changes}
    return rows


def _evaluation(**changes: Any) -> dict[str, Any]:
    counts = {"queries": 4, "valid_queries": 4, "gallery": 9}
    names = {"model": "tiny.onnx", "dataset": "drawn", "part": "test", "distance": "cosine"}
    return {**SCORES, "rank5": 0.75, **counts, **names, "settings": {"flip": False, "rerank": None}, **changes}


def _source(path: Path) -> str:
    return path.read_text(encoding="utf-8")


def test_a_benchmark_and_its_file_give_the_same_page(tmp_path: Path) -> None:
    from reid_edge.api.report import bench_page

    found = bench_report([bench_row("a", 5.0, mAP=0.5, rank1=0.6, energy=3.0), bench_row("b", 3.0, batch=8)])
    page = reid_edge.report(_write(tmp_path / "bench.json", found.to_dict()))
    assert page == tmp_path / "bench.html"
    assert _source(page) == _source(bench_page(found, tmp_path / "other.html"))
    assert "Energy by nvml" in _source(page) and "Pareto front" in _source(page)


def test_a_file_of_version_1_has_a_page(tmp_path: Path) -> None:
    content = bench_report([bench_row("a", 5.0)]).to_dict()
    for name in ("version", "rates", "complete"):
        del content[name]
    for name in ("stages", "latencies_ms", "energy", "clocks", "disturbed", "turns"):
        del content["rows"][0][name]
    shown = _source(reid_edge.report(_write(tmp_path / "bench.json", content)))
    assert "<h2>Speed and scores</h2>" in shown and "<h2>Latency</h2>" not in shown


def test_an_evaluation_alone_has_the_ranks_that_it_reports(tmp_path: Path) -> None:
    shown = _source(reid_edge.report(_write(tmp_path / "eval.json", _evaluation())))
    assert '<th scope="row">1</th><td>50</td>' in shown and '<th scope="row">5</th><td>75</td>' in shown
    whole = _source(reid_edge.report(_write(tmp_path / "eval.json", _evaluation(cmc=[0.5, 0.6, 0.7]))))
    assert '<th scope="row">3</th><td>70</td>' in whole and '<th scope="row">5</th>' not in whole


def test_with_model_and_data_it_has_curves_and_lists(tmp_path: Path, model: Path, people: Path) -> None:
    """Names of files without crops; pictures and no names with them."""
    result = reid_edge.evaluate(model, people, distance="cityblock")
    figures = _write(tmp_path / "eval.json", result.to_dict())
    names = _source(reid_edge.report(figures, html=tmp_path / "a.html", models=[model], data=people))
    assert "<b>ROC</b>" in names and "by cityblock distance. ROC" in names
    assert ".jpg" in names and "data:image" not in names
    page = PageOptions(with_crops=True, activation_maps=1, queries=2)
    crops = _source(reid_edge.report(figures, html=tmp_path / "b.html", models=[model], data=people, page=page))
    assert crops.count('<article class="ranking"') == 2 and ".jpg" not in crops
    assert crops.count('alt="activation map of the query') in (1, 2)


def test_a_run_of_one_epoch_is_points_and_losses_start_at_0(tmp_path: Path) -> None:
    _write(tmp_path / "run" / "history.json", _epochs(1))
    page = reid_edge.report(tmp_path / "run")
    shown = _source(page)
    assert page == tmp_path / "run" / "report.html"
    losses = shown.split("<b>Losses</b>")[1].split("<figure>")[0].split("</figcaption>")[1]
    assert shown.count("<figure>") == 3 and losses.count("<circle") == 1 and losses.count("<rect") == 1
    ticks = re.findall(r'text-anchor="end">([^<]+)</text>', shown.split("<b>Losses</b>")[1])
    assert ticks[0] == "0"
    scores = shown.split("<b>Test scores</b>")[1]
    assert re.findall(r'text-anchor="end">([^<]+)</text>', scores) == ["0", "20", "40", "60", "80", "100"]


def test_a_run_without_scores_says_so(tmp_path: Path) -> None:
    _write(tmp_path / "history.json", _epochs(2, scored=False))
    shown = _source(reid_edge.report(tmp_path))
    assert "was not evaluated" in shown and "Test scores" not in shown and "mINP" not in shown


def test_an_ablation_is_compared_over_shared_seeds(tmp_path: Path) -> None:
    """By hand: seed 0 alone is in both, 30 % against 25 %."""
    for name, score in {"all_tricks-0": 0.25, "all_tricks-1": 0.9, "no_center_loss-0": 0.3}.items():
        _write(tmp_path / name / "history.json", _epochs(1, metrics={**SCORES, "mAP": score}))
    shown = _source(reid_edge.report(tmp_path))
    assert re.search(r"no center loss</th><td>1</td>.*?<td[^>]*>30.00</td>.*?\+0.00</td><td[^>]*>\+5.00</td>", shown)
    assert re.search(r"all tricks</th><td>2</td>.*?57.50", shown)


def test_a_reproduction_has_table_one_and_its_curves(tmp_path: Path) -> None:
    head = (
        "model,recipe,trained_on,finetuned_on,scored_on,distance,missing,"
        "rank1_percent,mAP_percent,mINP_percent,paper_rank1_percent,paper_mAP_percent\n"
    )
    lines = "osnet,seed,market,,market,euclidean,,70.00,50.00,9.00,77.3,56.3\nosnet,seed,market,,last,,no LaST,,,,,\n"
    (tmp_path / "table1.csv").write_text(head + lines)
    result = {"settings": {"data": "Market", "part": "test"}, "distances": {"euclidean": {"cmc": [0.7, 0.9]}}}
    _write(tmp_path / "osnet" / "result.json", result)
    _write(tmp_path / "trained" / "result.json", {"weights_sha256": "ab"})
    shown = _source(reid_edge.report(tmp_path))
    assert "1 of 2 lines" in shown and "77.3" in shown and "no LaST" in shown
    assert "<b>Market (test)</b>" in shown and '<th scope="row">2</th><td>90</td>' in shown


def test_hostile_names_are_text(tmp_path: Path) -> None:
    run = tmp_path / "<img src=x onerror=alert(1)>"
    _write(run / "history.json", _epochs(1, losses={HOSTILE: 1.0}))
    texts = {name: HOSTILE for name in ("model", "dataset", "part", "distance", "precision", "sha256")}
    evaluation = _write(tmp_path / "eval.json", _evaluation(**texts, settings={HOSTILE: HOSTILE}))
    bench = bench_report([bench_row(HOSTILE, 5.0, mAP=0.5, precision=HOSTILE, disturbed=(HOSTILE,))], data=HOSTILE)
    for source in (run, evaluation, _write(tmp_path / "bench.json", bench.to_dict())):
        shown = _source(reid_edge.report(source))
        markup = re.sub(r'"[^"]*"', "", shown)  # within quotes "<" is text
        assert "<img" not in markup and shown.count("<script>") == 1 and "&lt;img src=x" in shown
        assert "\x1b" not in shown


BAD: dict[str, Any] = {
    "no JSON": "{",
    "a list": [],
    "other JSON": {"a": 1},
    "not a number": _evaluation(mAP=float("nan")),
    "over 1": _evaluation(rank1=7),
    "no name": _evaluation(model=["x"]),
    "no counts": _evaluation(queries="many"),
    "no curve": _evaluation(cmc={"1": 0.5}),
    "no rows": {**bench_report([bench_row("a", 1.0)]).to_dict(), "rows": []},
    "no time": bench_report([bench_row("a", 0.0001)]).to_dict() | {"rows": [{"model": "a"}]},
    "a later version": bench_report([bench_row("a", 1.0)]).to_dict() | {"version": 99},
}


@pytest.mark.parametrize("content", BAD.values(), ids=list(BAD))
def test_a_damaged_file_is_one_line(content: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "figures.json"
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    with pytest.raises(SystemExit) as ended:
        main(["report", str(path)])
    assert ended.value.code == 2 and not path.with_suffix(".html").exists()
    assert len(capsys.readouterr().err.strip().splitlines()) == 1


ROW_FAULTS: dict[str, Any] = {"batch": "x", "mAP": 2.0, "model": 5, "crops_per_s": -1, "latencies_ms": [float("inf")]}


@pytest.mark.parametrize("name", ROW_FAULTS)
def test_a_row_with_impossible_figures_is_refused(name: str, tmp_path: Path) -> None:
    content = bench_report([bench_row("a", 5.0, mAP=0.5)]).to_dict()
    content["rows"][0][name] = ROW_FAULTS[name]
    with pytest.raises(InputError, match="damaged: row 1|no report"):
        reid_edge.report(_write(tmp_path / "bench.json", content))


@pytest.mark.parametrize("rows", [[], {}, [{"epoch": 2}], [1], _epochs(1, losses={"id": float("nan")})], ids=str)
def test_a_damaged_history_is_refused(rows: Any, tmp_path: Path) -> None:
    _write(tmp_path / "history.json", rows)
    with pytest.raises(InputError, match="damaged|no epoch"):
        reid_edge.report(tmp_path)


def test_what_does_not_fit_together_is_refused(tmp_path: Path, model: Path) -> None:
    figures = _write(tmp_path / "eval.json", _evaluation())
    with pytest.raises(InputError, match="need models and a data set"):
        reid_edge.report(figures, models=[model])
    with pytest.raises(InputError, match="give --with-crops"):
        reid_edge.report(figures, page=PageOptions(activation_maps=1))
    with pytest.raises(InputError, match="holds neither"):
        reid_edge.report(tmp_path)
    _write(tmp_path / "run" / "history.json", _epochs(1))
    with pytest.raises(InputError, match="a folder has no ranked lists"):
        reid_edge.report(tmp_path / "run", models=[model], data=tmp_path)
    with pytest.raises(InputError, match="not there"):
        reid_edge.report(tmp_path / "none.json")


def test_bench_writes_its_page(tmp_path: Path, model: Path, people: Path, capsys: pytest.CaptureFixture[str]) -> None:
    page = tmp_path / "page.html"
    options = ["--data", str(people), "--batch", "1", "--seconds", "0.1", "--threads", "1", "--html", str(page)]
    with pytest.raises(SystemExit) as ended:
        main(["bench", str(model), *options])
    shown = _source(page)
    assert ended.value.code == 0 and "data:image" not in shown
    titles = re.findall(r"<h2>([^<]+)</h2>", shown)
    assert titles == ["Accuracy against latency", "Speed and scores", "Latency", "CMC and ROC", "Ranked lists"]
    assert len(shown) < 1_500_000


def _leaves(content: Any, *path: Any) -> list[tuple[Any, ...]]:
    """Where the values of nested JSON are."""
    if not isinstance(content, dict | list) or not content:
        return [path]
    items = content.items() if isinstance(content, dict) else enumerate(content)
    return [leaf for key, each in items for leaf in _leaves(each, *path, key)]


def test_any_value_may_be_replaced(tmp_path: Path) -> None:
    """Each figure of a file by one of another kind: a page is written, or the file is refused in one line."""
    row = bench_row("a", 5.0, mAP=0.5, rank1=0.6, energy=3.0, disturbed=("x",))
    odd = ["x", None, -1, [], {}, 1e400, True, [[1]]]
    outcomes = set()
    for content in (bench_report([row]).to_dict(), _evaluation(cmc=[0.5])):
        for number, path in enumerate(_leaves(content)):
            changed = json.loads(json.dumps(content))
            place = changed
            for key in path[:-1]:
                place = place[key]
            place[path[-1]] = odd[number % len(odd)]
            try:
                outcomes.add(type(reid_edge.report(_write(tmp_path / "figures.json", changed))).__name__)
            except InputError as error:
                assert "\n" not in str(error)
                outcomes.add("refused")
    assert "refused" in outcomes and len(outcomes) == 2
