"""The metric written from its definition, for tests to compare with: plain loops and a full stable sort."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from hypothesis import strategies as st


@dataclass(frozen=True)
class Naive:
    cmc: list[float]
    mAP: float
    mINP: float
    valid_queries: int


def ranked_matches(
    distances: Sequence[float],
    pid: int,
    camid: int,
    gallery_pids: Sequence[int],
    gallery_camids: Sequence[int],
) -> list[bool]:
    """The ranked gallery of one query, junk dropped: True where the entry shows the query's person."""
    order = sorted(range(len(distances)), key=lambda j: distances[j])  # Python's sort is stable
    kept = [j for j in order if not (gallery_pids[j] == pid and gallery_camids[j] == camid)]
    return [gallery_pids[j] == pid and pid >= 0 for j in kept]


def average_precision(matches: Sequence[bool]) -> float:
    precisions = []
    for position, match in enumerate(matches):
        if match:
            precisions.append(sum(matches[: position + 1]) / (position + 1))
    return sum(precisions) / len(precisions)


def inverse_negative_penalty(matches: Sequence[bool]) -> float:
    last = max(position for position, match in enumerate(matches) if match)
    return sum(matches) / (last + 1)


def naive_metrics(
    distances: Sequence[Sequence[float]],
    query_pids: Sequence[int],
    query_camids: Sequence[int],
    gallery_pids: Sequence[int],
    gallery_camids: Sequence[int],
    *,
    max_rank: int,
) -> Naive | None:
    """The figures of a whole matrix [Q][G], or None when no query has a match."""
    found = []
    for row, pid, camid in zip(distances, query_pids, query_camids, strict=True):
        matches = ranked_matches(row, pid, camid, gallery_pids, gallery_camids)
        if any(matches):
            found.append(matches)
    if not found:
        return None
    valid = len(found)
    return Naive(
        cmc=[sum(any(matches[:k]) for matches in found) / valid for k in range(1, max_rank + 1)],
        mAP=sum(average_precision(matches) for matches in found) / valid,
        mINP=sum(inverse_negative_penalty(matches) for matches in found) / valid,
        valid_queries=valid,
    )


@st.composite
def ranking_cases(draw: st.DrawFn) -> tuple[Any, ...]:
    """Few people, cameras and distances, so that ties, junk, distractors and hopeless queries are common."""
    queries, gallery = draw(st.integers(1, 6)), draw(st.integers(1, 14))
    levels = draw(st.sampled_from([0, 1, 3, 1000]))  # 0: everything ties

    def numbers(count: int, low: int, high: int) -> list[int]:
        return draw(st.lists(st.integers(low, high), min_size=count, max_size=count))

    matrix = [numbers(gallery, 0, levels) for _ in range(queries)]
    labels = (
        numbers(queries, -1, 4),
        numbers(queries, 0, 2),
        numbers(gallery, -1, 4),
        numbers(gallery, 0, 2),
    )
    return matrix, labels, draw(st.integers(1, 20)), draw(st.sampled_from([1, 2, 100]))
