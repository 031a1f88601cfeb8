"""Whose crop it is, in data sets of every layout and outside of any."""

from __future__ import annotations

from pathlib import Path

import pytest
from helpers.drawn_layouts import touch_crops

from reid_edge.data.identities import KnownIdentity, known_identities, same_identity

MARKET = (
    "bounding_box_train/0003_c1s1_000451_03.jpg",
    "query/0001_c1s1_001051_00.jpg",
    "bounding_box_test/0001_c3s1_001051_02.jpg",
    "bounding_box_test/0002_c3s1_001051_02.jpg",
    "bounding_box_test/0000_c3s1_001051_02.jpg",
    "bounding_box_test/0000_c4s1_001051_02.jpg",
    "bounding_box_test/-1_c3s1_001051_02.jpg",
    "bounding_box_test/-1_c4s1_001051_02.jpg",
    "bounding_box_test/me.jpg",
)


def _same(first: Path, second: Path) -> bool | None:
    known = known_identities([first, second])
    return same_identity(known.get(first), known.get(second))


def test_in_a_data_set_the_layout_says_who(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    home = touch_crops(tmp_path / "market", MARKET)
    train, query, match, other, distractor, distracted, junk, trash, me = (home / name for name in MARKET)
    assert _same(query, match) is True
    assert [_same(query, wrong) for wrong in (other, train, distractor)] == [False] * 3
    assert [_same(query, unknown) for unknown in (junk, me)] == [None] * 2
    assert _same(junk, trash) is None and _same(distractor, distracted) is None, "one id, and not one person"
    assert known_identities([match]) == {match: KnownIdentity(str(home), 1)}
    monkeypatch.chdir(home)
    assert _same(Path(MARKET[1]), match) is True


def test_a_folder_with_numbers_in_its_names_says_nothing(tmp_path: Path) -> None:
    touch_crops(tmp_path, ["0001_c1.jpg", "0002_c2.jpg"])
    first, second = tmp_path / "0001_c1.jpg", tmp_path / "0002_c2.jpg"
    assert known_identities([first, second]) == {} and _same(first, second) is None


def test_ids_of_two_data_sets_are_not_compared(tmp_path: Path) -> None:
    one, other = (touch_crops(tmp_path / name, MARKET) for name in ("a", "b"))
    assert _same(one / MARKET[1], other / MARKET[2]) is None


def test_where_train_and_test_are_numbered_apart_they_are_not_compared(tmp_path: Path) -> None:
    lists = {"train": ("train", 1), "query": ("test", 2), "gallery": ("test", 3)}
    paths = {}
    for name, (folder, camera) in lists.items():
        paths[name] = tmp_path / folder / "0000" / f"0000_000_{camera:02}_0303noon_{camera}.jpg"
        touch_crops(tmp_path, [str(paths[name].relative_to(tmp_path))])
        (tmp_path / f"list_{name}.txt").write_text(f"0000/{paths[name].name} 0\n")
    assert _same(paths["query"], paths["gallery"]) is True
    assert _same(paths["query"], paths["train"]) is None


def test_a_crop_that_is_gone_is_unknown(tmp_path: Path) -> None:
    assert known_identities([tmp_path / "query" / "0001_c1s1_001051_00.jpg"]) == {}
