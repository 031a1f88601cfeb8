"""Ranked lists: each query with its closest gallery crops, right ones framed green, wrong ones red."""

from __future__ import annotations

from collections.abc import Sequence
from xml.etree.ElementTree import Element

from reid_edge.benchmarks.ranked_lists import RankedList
from reid_edge.data.records import Crop

from .crops import crop_picture
from .elements import element
from .tables import verdict

__all__ = ["rankings_section"]


def rankings_section(lists: Sequence[RankedList], *, title: str, text: str) -> Element:
    """The lists one below the other; every crop says in words too whether it is right."""
    return element("section", element("h2", title), element("p", text), *map(_list, lists))


def _list(found: RankedList) -> Element:
    query = found.query
    right = sum(crop.pid == query.pid for crop, _ in found.ranked)
    asked = element(
        "figure",
        crop_picture(query.path, f"query: person {query.pid}, camera {query.camid}"),
        element("figcaption", element("b", f"person {query.pid}"), element("span", f"cam {query.camid}")),
        class_="query",
    )
    ranked = [_ranked(query, place, *row) for place, row in enumerate(found.ranked, start=1)]
    words = f"{right} of {len(ranked)} are right; the gallery holds {found.matches} of this person"
    return element(
        "div", asked, element("ol", *ranked, role="list"), element("p", words, class_="quiet"), class_="ranking"
    )


def _ranked(query: Crop, place: int, crop: Crop, distance: float) -> Element:
    same = crop.pid == query.pid
    words = f"rank {place}: {'the same person' if same else 'another person'}, camera {crop.camid}"
    figures = [verdict(same, str(place)), element("span", f"{distance:.2f}"), element("span", f"cam {crop.camid}")]
    caption = element("figcaption", *figures)
    return element("li", element("figure", crop_picture(crop.path, words), caption), class_="hit" if same else "miss")
