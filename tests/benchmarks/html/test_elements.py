"""Elements, tables and charts: nothing that is written becomes markup, and every figure is where it belongs."""

from __future__ import annotations

import re

import pytest

from reid_edge.benchmarks.html.charts import Series, line_chart
from reid_edge.benchmarks.html.elements import element, html_of
from reid_edge.benchmarks.html.tables import figure_table

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
        line_chart([Series("a", [(0, 0), (8, 50), (16, 100)])], title="t", across="x", up="y", upright=(0, 100))
    )
    ((left, bottom), middle, (right, top)) = _points(shown)[0]
    assert middle == ((left + right) / 2, (bottom + top) / 2) and left < right and top < bottom
    shown = html_of(line_chart([Series("a", [(1, 0.1), (2, 1), (3, 10)])], title="t", across="x", up="y"))
    first, second, third = (y for _, y in _points(shown)[0])
    assert first - second == pytest.approx(second - third, abs=0.2) and third < second


def test_one_point_is_drawn() -> None:
    shown = html_of(line_chart([Series("a", [(1, 5.0)])], title="t", across="epoch", up="y"))
    assert len(_points(shown)[0]) == 1 and "<circle" in shown


def test_lines_differ_without_colour() -> None:
    lines = [Series(name, [(0, 1), (1, 2)]) for name in "abcd"]
    shown = html_of(line_chart(lines, title="t", across="x", up="y", upright=(0, 2)))
    assert len(set(re.findall(r'stroke-dasharray="([^"]+)"', shown))) == 4
    drawn = shown.split("</figcaption>")[1]
    assert all(mark in drawn for mark in ("<circle", "<rect", "<polygon"))


def test_a_chart_is_also_words_and_a_table() -> None:
    shown = html_of(
        line_chart([Series("mAP", [(0, 2.5), (4, 31.25)])], title="Scores", across="epoch", up="%", upright=(0, 100))
    )
    assert 'aria-label="Scores: % by epoch. mAP: 2.5 at 0, 31.2 at 4."' in shown
    assert '<th scope="row">4</th><td>31.2</td>' in shown
