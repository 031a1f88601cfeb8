"""The queries that a model ranks worst: their lists, and what of a query led to its closest crop."""

from __future__ import annotations

from collections.abc import Sequence
from xml.etree.ElementTree import Element

from reid_edge.benchmarks.html.crops import map_picture
from reid_edge.benchmarks.html.elements import element
from reid_edge.benchmarks.html.rankings import rankings_section
from reid_edge.benchmarks.scored import NamedMap, ScoredModel
from reid_edge.core.progress import phase
from reid_edge.data.datasets import Dataset
from reid_edge.data.records import Crop

__all__ = ["failures_section"]


def failures_section(scored: ScoredModel, dataset: Dataset, *, with_crops: bool) -> Element:
    """The ranked lists of a model, worst first; crops and activation maps only ``with_crops``."""
    listed, valid = len(scored.lists), scored.metrics.valid_queries
    which = f"All {valid} queries" if listed == valid else f"The {listed} of {valid} queries with the lowest AP"
    text = f"{which} of {scored.name}, worst first, with the closest gallery crops. {_protocol(dataset)}" + (
        "" if with_crops else " Crops show people and are not in this page: --with-crops embeds them."
    )
    pairs = zip(scored.lists, scored.maps, strict=False)
    with phase("drawing ranked lists"):
        return rankings_section(
            scored.lists,
            title="Ranked lists",
            text=text,
            names=dataset.name_of,
            pictures=with_crops,
            below=[_maps(found.query, maps) for found, maps in pairs] if with_crops else (),
        )


def _protocol(dataset: Dataset) -> str:
    """What of the gallery does not count, by the data set's protocol."""
    same = "The protocol drops no crops by their camera."
    if dataset.same_camera_filter:
        same = (
            "Crops of the query's person by the query's camera are skipped: they do not count, "
            "and stand in their place without a rank."
        )
    junk = dataset.listing.junk
    return f"{same} {junk} junk crops of the set are left out." if junk else same


def _maps(query: Crop, maps: Sequence[NamedMap]) -> Element:
    """The query once for each map."""
    title = (
        "Parts of the query were covered, one at a time: in red what speaks for the match, in blue what speaks against."
    )
    figures = [_figure(query, each) for each in maps]
    return element("div", element("p", title, class_="quiet"), *figures, class_="maps")


def _figure(query: Crop, found: NamedMap) -> Element:
    seen, same = found.occlusion, found.crop.pid == query.pid
    whose = f"to rank {found.rank}, {'the same person' if same else 'another person'}"
    words = (
        f"cosine {seen.similarity:.2f} {whose}; {max(seen.drop.max(), 0):.2f} of it is lost where the {seen.place}, "
        "is covered"
    )
    picture = map_picture(query.path, seen, f"activation map of the query {whose}: most at the {seen.place}")
    return element("figure", picture, element("figcaption", words))
