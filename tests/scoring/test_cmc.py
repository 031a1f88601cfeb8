"""The CMC figure: what is drawn where, and the same bytes each time."""

from __future__ import annotations

from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest

pytest.importorskip("matplotlib", reason="figures need the report extra")

from reid_edge.errors import InputError  # noqa: E402
from reid_edge.scoring.report.cmc import Curve, _figure, draw_cmc  # noqa: E402

CURVES = [
    Curve("one", (0.5, 0.75, 1.0), published_rank1=0.9, group="one"),
    Curve("two", (0.25, 0.25, 0.5), group="two"),
    Curve("one, fine-tuned", (0.0, 0.5, 0.5), group="one", dashed=True),
]


def test_lines_are_in_per_cent_from_rank_1_and_the_published_figure_stands_at_rank_1() -> None:
    (axes,) = _figure(CURVES, "a set", "the paper", ranks=3).axes
    drawn = [line.get_xydata().tolist() for line in axes.lines]
    assert drawn[0] == [[1, 50], [2, 75], [3, 100]] and drawn[2] == [[1, 0], [2, 50], [3, 50]]
    (marker,) = axes.collections
    assert np.allclose(marker.get_offsets(), [[1, 90]])
    _, labels = axes.get_legend_handles_labels()
    assert set(labels) == {"one", "one, the paper", "two", "one, fine-tuned"}


def test_without_colour_no_two_lines_look_alike() -> None:
    (axes,) = _figure(CURVES, "a set", "the paper", ranks=3).axes
    looks = [(line.get_marker(), line.get_linestyle()) for line in axes.lines]
    assert len(set(looks)) == 3 and looks[0][0] == looks[2][0]
    assert all(line.get_color() == str(float(line.get_color())) for line in axes.lines), "a grey is one number"


def test_only_the_asked_ranks_are_drawn() -> None:
    (axes,) = _figure(CURVES, "a set", "the paper", ranks=2).axes
    assert axes.lines[0].get_xydata().tolist() == [[1, 50], [2, 75]]


def test_png_and_svg_are_the_same_bytes_each_time(tmp_path: Path) -> None:
    first = [path.read_bytes() for path in draw_cmc(CURVES, tmp_path / "a.b", "a set", ranks=3)]
    again = draw_cmc(CURVES, tmp_path / "again" / "a.b", "a set", ranks=3)
    assert [path.name for path in again] == ["a.b.png", "a.b.svg"]
    assert first == [path.read_bytes() for path in again]
    assert first[0].startswith(b"\x89PNG")
    texts = [element.text for element in ElementTree.fromstring(first[1]).iter() if element.tag.endswith("}text")]
    assert {"a set", "one, published", "rank"} <= set(texts)


def test_nothing_to_draw_or_too_few_ranks(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="evaluate a model first"):
        draw_cmc([], tmp_path / "none", "a set")
    with pytest.raises(InputError, match="two ends before rank 4|one ends before rank 4"):
        draw_cmc(CURVES, tmp_path / "short", "a set", ranks=4)
    assert not list(tmp_path.iterdir())
