"""Pages in a real browser, its network off: they sort, filter, take keys, ask for nothing, complain of nothing."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from helpers.pages.bench_reports import bench_report, bench_row
from helpers.pages.chromium import NAMES, Tab, chromium_tab, find_chromium
from helpers.tiny_onnx import write_tiny_model

from reid_edge.benchmarks.html.pages.bench import write_bench_page
from reid_edge.benchmarks.scored import ScoredModel, score_model
from reid_edge.data.datasets import open_dataset
from reid_edge.data.synthetic.dataset import synthesize
from reid_edge.scoring.test_set import TestSet

HW = (64, 32)
HOSTILE = "</script><script>document.title='owned'</script><img src=x onerror=alert(1)>"
ROWS = [
    bench_row("slow", 30.0, mAP=0.7, rank1=0.8, energy=40.0),
    bench_row("quick", 9.0, precision="int8", mAP=0.6, rank1=0.7, energy=10.0, disturbed=("another process ran",)),
    bench_row(HOSTILE, 100.0, mAP=0.5, rank1=0.6),
    bench_row("unscored", 20.0),
]

pytestmark = pytest.mark.skipif(
    find_chromium() is None, reason=f"needs a browser on PATH ({', '.join(NAMES)}), or REID_EDGE_CHROMIUM"
)


@pytest.fixture(scope="module")
def scored(tmp_path_factory: pytest.TempPathFactory) -> tuple[ScoredModel, TestSet]:
    folder = tmp_path_factory.mktemp("scored")
    people = synthesize(folder / "set", identities=1, test_identities=6, cameras=3, size_hw=HW, seed=1, progress=False)
    crops = sorted((people / "query").glob("*.jpg"))
    crops[0].rename(crops[0].with_name(f"{crops[0].stem}_&quot;<b>bold<b>.jpg"))
    data = TestSet(open_dataset(people))
    model = write_tiny_model(folder / "tiny.onnx", input_hw=HW)
    return score_model(model, data, activation_maps=1), data


@pytest.fixture(scope="module")
def tab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Tab]:
    program = find_chromium()
    assert program is not None
    with chromium_tab(program, tmp_path_factory.mktemp("profile")) as tab:
        yield tab


@pytest.fixture(params=[False, True], ids=["names", "crops"])
def page(request: pytest.FixtureRequest, scored: tuple[ScoredModel, TestSet], tmp_path: Path) -> Path:
    model, data = scored
    return write_bench_page(
        bench_report(ROWS), tmp_path / "page.html", [model], data.dataset, with_crops=bool(request.param)
    )


@pytest.fixture
def quiet(tab: Tab) -> Iterator[Tab]:
    """The tab, which asks for no more than the page and says nothing while it is used."""
    tab.requests.clear()
    tab.problems.clear()
    yield tab
    tab.run("document.title")  # until what was asked before is answered
    assert not tab.problems
    assert [url for url in tab.requests if not url.startswith("data:image/jpeg")] == tab.requests[:1]
    assert tab.requests[0].startswith("file:")


def _column(tab: Tab, number: int) -> Any:
    return tab.run(
        f"[...document.querySelectorAll('table.sortable')].at(-2).tBodies[0].rows.length && "
        f"[...[...document.querySelectorAll('table.sortable')].find(t => t.caption.textContent === "
        f"'Latency beside accuracy').tBodies[0].rows].map(row => row.cells[{number}].textContent)"
    )


def _press_title(tab: Tab, title: str) -> None:
    tab.run(
        "[...document.querySelectorAll('th button')].find(b => b.textContent === "
        f"'{title}' && b.closest('table').caption.textContent === 'Latency beside accuracy').focus()"
    )
    tab.press("Enter")


def test_columns_sort_by_value_both_ways(quiet: Tab, page: Path) -> None:
    """As numbers: 9.00 before 100; what was not scored stays at the end."""
    quiet.open(page)
    assert _column(quiet, 3) == ["30.0", "9.00", "100", "20.0"]
    _press_title(quiet, "p50 ms")
    assert _column(quiet, 3) == ["9.00", "20.0", "30.0", "100"]
    _press_title(quiet, "p50 ms")
    assert _column(quiet, 3) == ["100", "30.0", "20.0", "9.00"]
    _press_title(quiet, "mAP %")
    assert _column(quiet, 8) == ["50.0", "60.0", "70.0", "-"]
    said = "[...document.querySelectorAll('[role=status]')].at(-1).textContent"
    assert quiet.run(said) == "sorted by mAP %, ascending"
    sorts = quiet.run(
        "[...[...document.querySelectorAll('table.sortable')].find(t => t.caption.textContent === "
        "'Latency beside accuracy').tHead.rows[0].cells].map(cell => cell.ariaSort)"
    )
    assert sorts == ["none"] * 8 + ["ascending", "none"]
    quiet.press("ArrowLeft")
    assert quiet.run("document.activeElement.textContent") == "R1 %"


def test_lists_filter_by_identity_camera_and_error(quiet: Tab, page: Path, scored: tuple[ScoredModel, TestSet]) -> None:
    quiet.open(page)
    lists = scored[0].lists
    shown = "[...document.querySelectorAll('.ranking')].filter(list => !list.hidden).map(list => "
    shown += "list.querySelector('b').textContent)"
    all_of_them = quiet.run(shown)
    assert len(all_of_them) == len(lists) > 6
    person, camera = lists[0].query.pid, lists[0].query.camid

    def choose(name: str, value: object) -> Any:
        quiet.run(
            f"(() => {{ const field = document.forms[0].elements.{name}; "
            f"field.type === 'checkbox' ? field.checked = {value} : field.value = '{value}'; "
            "field.dispatchEvent(new Event('input', {bubbles: true})); })()"
        )
        return quiet.run(shown)

    of_person = choose("identity", person)
    assert len(of_person) == sum(found.query.pid == person for found in lists) < len(lists)
    one = choose("camera", camera)
    assert len(one) == sum((found.query.pid, found.query.camid) == (person, camera) for found in lists)
    assert quiet.run("document.querySelector('output').textContent") == f"{len(one)} of {len(lists)} queries shown"
    quiet.run("document.forms[0].querySelector('button').click()")
    quiet.run("new Promise(done => setTimeout(done))")
    assert quiet.run(shown) == all_of_them
    wrong = choose("wrong", "true")
    assert len(wrong) == sum(not found.first_is_right for found in lists)


def test_it_is_used_with_keys_alone(quiet: Tab, page: Path) -> None:
    """The first stop skips to the figures, every stop shows its focus, and arrows walk from query to query."""
    quiet.open(page)
    quiet.press("Tab")
    assert quiet.run("document.activeElement.textContent") == "skip to the figures"
    assert quiet.run("document.activeElement.getBoundingClientRect().width") > 20
    stops = set()
    for _ in range(40):
        quiet.press("Tab")
        stops.add(quiet.run("document.activeElement.tagName"))
        style = "getComputedStyle(document.activeElement).outlineStyle"
        assert quiet.run("document.activeElement === document.body") or quiet.run(style) != "none"
    assert {"A", "BUTTON", "SUMMARY"} <= stops
    quiet.run("document.querySelector('.ranking summary').focus()")
    seen = "document.activeElement.textContent"
    first = quiet.run(seen)
    quiet.press("ArrowDown")
    assert first.startswith("1. person") and quiet.run(seen).startswith("2. person")
    quiet.press("ArrowUp")
    assert quiet.run(seen) == first
    is_open = "document.activeElement.parentElement.open"
    quiet.press("Enter")
    assert quiet.run(is_open) is False
    quiet.press("Enter")
    assert quiet.run(is_open) is True


def test_a_screen_reader_is_told_everything(quiet: Tab, page: Path) -> None:
    quiet.open(page)
    names = quiet.names()
    assert all(names[role] and all(names[role]) for role in ("image", "heading", "link", "button", "combobox", "form"))
    assert all(names["table"]), "each table is named by its caption"
    assert any("On the Pareto front: quick INT8" in name for name in names["image"])
    assert quiet.run("[...document.querySelectorAll('table')].every(t => t.caption && t.tHead.rows[0].cells.length)")


@pytest.mark.parametrize("width", [360, 1100])
@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
def test_it_fits_the_window_in_both_schemes(quiet: Tab, page: Path, width: int, dark: bool) -> None:
    quiet.open(page, width, dark=dark)
    assert quiet.run("document.documentElement.scrollWidth") <= width
    paper = quiet.run("getComputedStyle(document.body).backgroundColor")
    assert paper == ("rgb(18, 22, 27)" if dark else "rgb(255, 255, 255)")


def test_hostile_names_do_nothing(quiet: Tab, page: Path) -> None:
    """A model and a crop whose names are markup are shown as they are, and no script but the page's own runs."""
    quiet.open(page)
    assert quiet.run("document.title") == "reid-edge: benchmark"
    assert quiet.run("document.scripts.length") == 1 and not quiet.run(
        "document.querySelectorAll('img[onerror], b b').length"
    )
    assert HOSTILE in quiet.run("document.body.textContent")


def test_its_policy_stops_what_is_not_its_own(tab: Tab, page: Path) -> None:
    """Were a name to become markup after all, the browser would neither run nor load it."""
    broken = page.with_name("broken.html")
    text = page.read_text(encoding="utf-8")
    broken.write_text(text.replace("</body>", "<script>document.title='owned'</script><img src='x.png'></body>"))
    tab.open(broken)
    assert tab.run("document.title") == "reid-edge: benchmark"
    assert sum("Content Security Policy" in problem for problem in tab.problems) >= 2
    tab.problems.clear()


def test_without_a_script_all_is_there(page: Path, tab: Tab, tmp_path: Path) -> None:
    tab.call("Emulation.setScriptExecutionDisabled", value=True)
    try:
        tab.open(page)
        nodes = tab.call("DOM.getDocument", depth=-1)["root"]["nodeId"]
        assert len(tab.call("DOM.querySelectorAll", nodeId=nodes, selector=".ranking")["nodeIds"]) > 6
        assert not tab.call("DOM.querySelectorAll", nodeId=nodes, selector="th button")["nodeIds"]
        assert "Filter the ranked lists" not in tab.names().get("form", [])
    finally:
        tab.call("Emulation.setScriptExecutionDisabled", value=False)
