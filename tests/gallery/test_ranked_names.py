"""Ranked crops are named relative to the gallery, whose folder is said once."""

from __future__ import annotations

import io
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console

from reid_edge.data.identities import KnownIdentity
from reid_edge.data.records import Ranking
from reid_edge.gallery.search import RankedFiles, ranking_table

FOLDER = "/data/Market-1501-v15.09.15/bounding_box_test"


def _found(*labels: str) -> RankedFiles:
    """One query, to which every label is ranked in its order."""
    count = len(labels)
    distances = np.linspace(0.1, 0.5, count, dtype=np.float32)[None]
    return RankedFiles((Path("q/query.jpg"),), Ranking(np.arange(count)[None], distances, labels), "cosine")


def _shown(found: RankedFiles, width: int = 80) -> str:
    out = io.StringIO()
    Console(file=out, width=width).print(ranking_table(found))
    return out.getvalue()


def test_the_folder_is_said_once_and_names_are_whole_at_eighty_columns() -> None:
    names = [f"{person:04d}_c1s1_000151_01.jpg" for person in range(10)]
    shown = _shown(_found(*(f"{FOLDER}/{name}" for name in names)))
    assert shown.count(FOLDER) == 1 and f"gallery: {FOLDER}" in shown
    assert all(name in shown.split() for name in names)
    assert max(map(len, shown.splitlines())) <= 80


@pytest.mark.parametrize(
    ("labels", "root", "names"),
    [
        (("g/a/1.jpg", "g/b/2.jpg"), "g", ["a/1.jpg", "b/2.jpg"]),
        (("g/a/1.jpg",), "g/a", ["1.jpg"]),
        (("g/1.jpg", "g2/2.jpg"), ".", ["g/1.jpg", "g2/2.jpg"]),
        (("/g/1.jpg", "h/2.jpg"), ".", ["/g/1.jpg", "h/2.jpg"]),
        (("ann", "bob/left"), ".", ["ann", "bob/left"]),
        (("./g/1.jpg", "g//2.jpg"), "g", ["1.jpg", "2.jpg"]),
    ],
)
def test_what_all_of_the_gallery_share_is_its_root(labels: tuple[str, ...], root: str, names: list[str]) -> None:
    found = _found(*labels)
    assert str(found.root) == root
    shown = _shown(found)
    assert ("gallery:" in shown) == (root != ".")
    assert [name for name in names if name in shown.split()] == names


def test_long_names_break_at_their_separators() -> None:
    name = "shop_entrance_camera_04_2024-05-17_morning_person_0017_frame_000151_detection_01.jpg"
    shown = _shown(_found(f"{FOLDER}/{name}"))
    lines = [line.split()[-1] for line in shown.splitlines() if line.strip().endswith(("_", "-", ".jpg"))]
    assert "".join(lines) == name, shown
    assert len(lines) > 1 and max(map(len, shown.splitlines())) <= 80


def test_who_is_known_has_a_column_only_where_it_is() -> None:
    found = _found("g/1.jpg", "g/2.jpg")
    assert "person" not in _shown(found)
    known = {path: KnownIdentity("market", 1) for path in (Path("q/query.jpg"), Path("g/1.jpg"))}
    verdicts = [line.split()[-1] for line in _shown(replace(found, identities=known)).splitlines() if ".jpg" in line]
    assert verdicts == ["yes", "-"]


def test_json_keeps_whole_paths() -> None:
    (query,) = _found(f"{FOLDER}/1.jpg").to_dict()["queries"]
    assert query["ranked"][0]["crop"] == f"{FOLDER}/1.jpg"
