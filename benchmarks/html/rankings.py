"""Ranked lists: each query with its closest gallery crops, right ones framed green, wrong ones red."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from xml.etree.ElementTree import Element

from reid_edge.benchmarks.ranked_lists import RankedList
from reid_edge.data.records import Crop

from .crops import crop_picture
from .elements import element
from .tables import figure_table, number, verdict

__all__ = ["Names", "rankings_section"]

Names = Callable[[int], str]
"""What a data set calls a person: `Dataset.name_of`."""

_UNFOLDED = 10
_MOST_SKIPPED = 10


def rankings_section(
    lists: Sequence[RankedList],
    *,
    title: str,
    text: str,
    names: Names = str,
    pictures: bool = True,
    below: Sequence[Element | None] = (),
) -> Element:
    """The lists one below the other, under a form that filters them; every crop says in words whether it is right.

    Without ``pictures`` a list is a table of file names. ``below`` are elements under the first lists.
    """
    extras = dict(enumerate(below))
    drawn = [_list(row, found, names, pictures, extras.get(row)) for row, found in enumerate(lists)]
    form = [_form(lists, names)] if len(lists) > 1 else []
    return element(
        "section",
        element("h2", title),
        element("p", text),
        *form,
        element("div", *drawn, class_="pictured" if pictures else "lists"),
    )


def _form(lists: Sequence[RankedList], names: Names) -> Element:
    """Hidden where no script runs, which alone can filter."""
    people = {str(pid): names(pid) for pid in sorted({found.query.pid for found in lists})}
    cameras = {str(camera): str(camera) for camera in sorted({found.query.camid for found in lists})}
    wrong = element("label", element("input", type="checkbox", name="wrong"), "only wrong at rank 1")
    return element(
        "form",
        _choice("identity", "identity", people),
        _choice("camera", "camera of the query", cameras),
        wrong,
        element("button", "show all", type="reset"),
        element("output", role="status"),
        class_="filter",
        hidden="hidden",
        aria_label="Filter the ranked lists",
    )


def _choice(name: str, label: str, values: dict[str, str]) -> Element:
    options = [element("option", text, value=value) for value, text in values.items()]
    return element("label", label, element("select", element("option", "all", value=""), *options, name=name))


def _list(row: int, found: RankedList, names: Names, pictures: bool, extra: Element | None) -> Element:
    """A list under a line that says how right it is; the first few are unfolded."""
    person = names(found.query.pid)
    shown = _pictures(found, person) if pictures else [_table(found, names)]
    heading = element("b", f"{row + 1}. person {person}, camera {found.query.camid}")
    details = element(
        "details",
        element("summary", heading, f": {_in_words(found)}"),
        element("div", *shown, *([] if extra is None else [extra])),
    )
    if row < _UNFOLDED:
        details.set("open", "open")
    return element(
        "article",
        details,
        class_="ranking" if pictures else "ranking listed",
        data_identity=found.query.pid,
        data_camera=found.query.camid,
        data_first="right" if found.first_is_right else "wrong",
    )


def _in_words(found: RankedList) -> str:
    score = "" if found.average_precision is None else f"AP {100 * found.average_precision:.1f} %, "
    skipped = len(found.skipped)
    dropped = f"; {skipped} of the same camera skipped" if skipped else ""
    beyond = f", the closest {_MOST_SKIPPED} shown" if skipped > _MOST_SKIPPED else ""
    return f"{score}{found.right} of {len(found.ranked)} right, {found.matches} in the gallery{dropped}{beyond}"


def _pictures(found: RankedList, person: str) -> list[Element]:
    query = found.query
    asked = element(
        "figure",
        crop_picture(query.path, f"query: person {person}, camera {query.camid}"),
        element("figcaption", element("b", f"person {person}"), element("span", f"cam {query.camid}")),
        class_="query",
    )
    entries = [_ranked(query, rank, crop, distance) for rank, crop, distance in _in_order(found)]
    return [asked, element("ol", *entries, role="list")]


def _in_order(found: RankedList) -> list[tuple[int | None, Crop, float]]:
    """Ranked and skipped crops by distance; skipped ones have no rank, and stand before a ranked one as close."""
    entries: list[tuple[int | None, Crop, float]] = [
        (None, crop, distance) for crop, distance in found.skipped[:_MOST_SKIPPED]
    ]
    entries += [(rank, crop, distance) for rank, (crop, distance) in enumerate(found.ranked, start=1)]
    return sorted(entries, key=lambda entry: (entry[2], entry[0] or 0))


def _ranked(query: Crop, rank: int | None, crop: Crop, distance: float) -> Element:
    if rank is None:
        words, sign, kind = f"not counted: the same camera, {crop.camid}", element("span", "same cam"), "skipped"
    else:
        same = crop.pid == query.pid
        words = f"rank {rank}: {'the same person' if same else 'another person'}, camera {crop.camid}"
        sign, kind = verdict(same, str(rank)), "hit" if same else "miss"
    caption = element("figcaption", sign, element("span", f"{distance:.2f}"), element("span", f"cam {crop.camid}"))
    return element("li", element("figure", crop_picture(crop.path, words), caption), class_=kind)


def _table(found: RankedList, names: Names) -> Element:
    query = found.query
    rows: list[list[Element | str]] = [
        [
            "-" if rank is None else str(rank),
            _verdict(query, rank, crop),
            crop.path.name,
            names(crop.pid),
            str(crop.camid),
            number(distance, f"{distance:.3f}"),
        ]
        for rank, crop, distance in _in_order(found)
    ]
    caption = f"{query.path.name}: person {names(query.pid)}, camera {query.camid}"
    return figure_table(("rank", "verdict", "file", "person", "cam", "distance"), rows, caption)


def _verdict(query: Crop, rank: int | None, crop: Crop) -> Element:
    if rank is None:
        return element("span", "skipped", class_="quiet")
    return verdict(True, "right") if crop.pid == query.pid else verdict(False, "wrong")
