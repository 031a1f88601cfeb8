"""Elements, tables and charts: nothing that is written becomes markup, and every figure is where it belongs."""

from __future__ import annotations

import random
import re

import pytest

from reid_edge.benchmarks.html.axes import Axis
from reid_edge.benchmarks.html.charts import Series, line_chart
from reid_edge.benchmarks.html.elements import element, html_of
from reid_edge.benchmarks.html.histograms import histogram_chart
from reid_edge.benchmarks.html.scatter import Dot, pareto_front, scatter_chart
from reid_edge.benchmarks.html.tables import figure_table, number

LINEAR = Axis("y", (0, 50, 100))
HOSTILE = '<script>alert(\'1\')</script>" onload="x" & \x1b[2J\n\udcff\u202e'


def test_a_hostile_text_is_shown_as_it_is() -> None:
    shown = html_of(element("p", HOSTILE, element("b", HOSTILE), HOSTILE))
    assert "<script" not in shown and shown.count("&lt;script&gt;") == 3
    assert r"\x1b[2J\n\udcff\u202e" in shown
    shown.encode("utf-8")


def test_a_hostile_attribute_stays_one_attribute() -> None:
    shown = html_of(element("img", alt=HOSTILE, aria_label="a", class_="b"))
    assert re.sub(r'"[^"]*"', "", shown) == "<img alt= aria-label= class=>"


def test_text_and_elements_keep_their_order() -> None:
    assert html_of(element("p", "a", "b", element("i"), "c", "d", element("br"), "e")) == "<p>ab<i></i>cd<br>e</p>"


def test_a_table_has_headers_for_columns_and_rows() -> None:
    shown = html_of(figure_table(["model", "ms"], [["a", "1"], ["b", "2"]], "times"))
    assert shown.count('<th scope="col">') == 2 and shown.count('<th scope="row">') == 2
    assert "<caption>times</caption>" in shown and "<td>2</td>" in shown


def _points(shown: str) -> list[list[tuple[float, float]]]:
    return [
        [(float(x), float(y)) for x, y in (pair.split(",") for pair in found.split())]
        for found in re.findall(r'<polyline points="([^"]+)"', shown)
    ]


def test_points_are_where_their_values_say() -> None:
    """Half way along a linear axis is half way between its ends; each decade of a logarithmic one is as long."""
    shown = html_of(
        line_chart([Series("a", [(0, 0), (8, 50), (16, 100)])], title="t", across=Axis("x", (0, 8, 16)), up=LINEAR)
    )
    ((left, bottom), middle, (right, top)) = _points(shown)[0]
    assert middle == ((left + right) / 2, (bottom + top) / 2) and left < right and top < bottom
    powers = Axis.powers("y", [0.1, 10])
    points = [Series("a", [(1, 0.1), (2, 1), (3, 10)])]
    shown = html_of(line_chart(points, title="t", across=Axis("x", (1, 2, 3)), up=powers))
    first, second, third = (y for _, y in _points(shown)[0])
    assert first - second == pytest.approx(second - third, abs=0.2) and third < second


def test_one_point_is_drawn() -> None:
    shown = html_of(line_chart([Series("a", [(1, 5.0)])], title="t", across=Axis.counted("epoch", [1]), up=LINEAR))
    assert len(_points(shown)[0]) == 1 and "<circle" in shown


def test_lines_differ_without_colour() -> None:
    lines = [Series(name, [(0, 1), (1, 2)]) for name in "abcd"]
    shown = html_of(line_chart(lines, title="t", across=Axis("x", (0, 1)), up=Axis("y", (0, 2))))
    assert len(set(re.findall(r'stroke-dasharray="([^"]+)"', shown))) == 4
    drawn = shown.split("</figcaption>")[1]
    assert all(mark in drawn for mark in ("<circle", "<rect", "<polygon"))


def test_sixteen_lines_are_all_different() -> None:
    lines = [Series(str(row), [(0, 1), (1, 2)]) for row in range(16)]
    shown = html_of(line_chart(lines, title="t", across=Axis("x", (0, 1)), up=Axis("y", (0, 2))))
    drawn = shown.split("</figcaption>")[1].split("<details>")[0]
    looks = re.findall(r'class="line (line\d)"><polyline [^>]*stroke-dasharray="([^"]+)"', drawn)
    assert len(looks) == 16 == len(set(looks))


def test_axes_start_where_they_should() -> None:
    """Losses at 0, per cent from 0 to 100; another range is said in the title."""
    assert Axis.from_zero("loss", [4.9, 5.1]).ticks[0] == 0
    assert Axis.from_zero("loss", [0.0]).share(0.0) == 0
    assert Axis.percent("%").ticks[:: len(Axis.percent("%").ticks) - 1] == (0, 100)
    assert Axis.around("mAP", [61, 68]).title == "mAP, from 60 to 68"
    assert Axis.around("mAP", [0.2, 68]).title == "mAP"


def test_a_chart_is_also_words_and_a_table() -> None:
    shown = html_of(
        line_chart(
            [Series("mAP", [(0, 2.5), (4, 31.25)])],
            title="Scores",
            across=Axis.counted("epoch", [0, 4]),
            up=Axis.percent("%"),
        )
    )
    assert 'aria-label="Scores: % by epoch. mAP: 2.5 at 0, 31.2 at 4."' in shown
    assert '<th scope="row">4</th><td>31.2</td>' in shown


def test_a_sortable_table_holds_the_values_that_it_sorts_by() -> None:
    rows = [["a", number(1.25, "1.2")], ["b", number(None, "")]]
    shown = html_of(figure_table(["model", "ms"], rows, "times", sortable=True))
    assert '<table class="sortable">' in shown and '<td data-value="1.25">1.2</td><td>-</td>' in shown.replace(
        '</tr><tr><th scope="row">b</th>', ""
    )


def test_the_front_is_what_no_other_point_beats() -> None:
    """Against the definition, over random points with ties and copies."""
    rng = random.Random(0)
    for _ in range(50):
        dots = [Dot("m", "", rng.randint(1, 6), rng.randint(0, 6)) for _ in range(8)]
        front = pareto_front(dots)
        for dot in dots:
            better = [o for o in dots if (o.x <= dot.x and o.y > dot.y) or (o.x < dot.x and o.y >= dot.y)]
            assert (dot in front) == (not better)
        assert [dot.x for dot in front] == sorted(dot.x for dot in front)


def test_a_scatter_marks_its_front_and_says_it() -> None:
    dots = [Dot("quick", "INT8", 1, 50), Dot("good", "FP32", 4, 70), Dot("beaten", "FP16", 4, 60)]
    shown = html_of(scatter_chart(dots, title="Batch 1", across="ms", up="mAP, %"))
    assert "On the Pareto front: quick INT8, 50 at 1; good FP32, 70 at 4." in shown
    signs = re.findall(r'class="dot dot(\d)( front)?"><title>(\w+)', shown)
    assert signs == [("0", " front", "quick"), ("1", " front", "good"), ("2", "", "beaten")]
    assert len(set(re.findall(r"<(circle|rect|polygon)", shown.split("stairs")[1].split("<details>")[0]))) == 3


def test_a_histogram_counts_every_time() -> None:
    """Of 99 times at 1 ms and one at 100 ms: the last is beyond the axis, and said; the others are one bar of 99 %."""
    shown = html_of(histogram_chart([1.0] * 199 + [100.0], title="t", marks={"p50": 1.0, "p99": 1.0}))
    bars = re.findall(r'<rect x="[^"]+" y="([^"]+)" width="[^"]+" height="([^"]+)" class="bar"', shown)
    assert len(bars) == 1 and "1 beyond the axis, up to 100 ms" in shown
    spread = html_of(histogram_chart([1.0, 2.0, 2.0, 3.0], title="t", marks={}))
    heights = [
        float(height) for _, height in re.findall(r'<rect x="([^"]+)" [^>]*height="([^"]+)" class="bar"', spread)
    ]
    assert len(heights) == 3 and heights[1] == pytest.approx(2 * heights[0], abs=0.2) and heights[0] == heights[2]
