"""Readers, to the letter of each data set's protocol."""

from __future__ import annotations

from pathlib import Path

import pytest
from helpers.drawn_layouts import touch_crops

from reid_edge.data.datasets import LAYOUT_NAMES, crops_in, mixed, open_dataset, require
from reid_edge.data.records import Crop
from reid_edge.errors import DatasetError, InputError

MARKET = (
    "bounding_box_train/0002_c1s1_000451_03.jpg",
    "bounding_box_train/0002_c2s1_000301_01.jpg",
    "bounding_box_train/0000_c2s1_000301_01.jpg",
    "bounding_box_train/-1_c2s1_000301_01.jpg",
    "query/0001_c1s1_001051_00.jpg",
    "bounding_box_test/0001_c3s1_001051_02.jpg",
    "bounding_box_test/0000_c6s1_001051_02.jpg",
    "bounding_box_test/-1_c6s4_001051_02.jpg",
)


def _ids(crops: tuple[Crop, ...]) -> list[tuple[int, int]]:
    return [(crop.pid, crop.camid) for crop in crops]


@pytest.mark.parametrize("below", ["", "Market-1501-v15.09.15"])
def test_market1501_drops_junk_keeps_distractors_and_trains_on_neither(tmp_path: Path, below: str) -> None:
    touch_crops(tmp_path / below, MARKET)
    (tmp_path / below / "query" / "Thumbs.db").write_bytes(b"\0")
    dataset = open_dataset(tmp_path)
    assert dataset.layout == "market1501" and dataset.same_camera_filter
    assert _ids(dataset.split.train) == [(2, 1), (2, 2)]
    assert _ids(dataset.split.query) == [(1, 1)]
    assert _ids(dataset.split.gallery) == [(0, 6), (1, 3)]
    # -1 twice, and person 0 in the training folder
    assert dataset.listing.junk == 3
    assert not dataset.listing.unparsed


def test_a_name_that_does_not_parse_is_reported_and_left_out(tmp_path: Path) -> None:
    touch_crops(tmp_path, (*MARKET, "query/holiday.jpg", "query/--3_c1s1.jpg"))
    dataset = open_dataset(tmp_path)
    assert sorted(path.name for path in dataset.listing.unparsed) == ["--3_c1s1.jpg", "holiday.jpg"]
    assert len(dataset.split.query) == 1


def test_dukemtmc_is_told_from_market_by_its_names_and_comes_with_its_notice(tmp_path: Path) -> None:
    touch_crops(
        tmp_path / "any",
        (
            "bounding_box_train/0001_c2_f0046182.jpg",
            "query/0005_c8_f0051341.jpg",
            "bounding_box_test/0005_c2_f0051341.jpg",
            "bounding_box_test/0000_c2_f0051341.jpg",
        ),
    )
    dataset = open_dataset(tmp_path / "any")
    assert dataset.layout == "dukemtmc"
    assert _ids(dataset.split.query) == [(5, 8)]
    assert len(dataset.split.gallery) == 2
    assert "withdrawn" in dataset.notices[0]
    assert open_dataset(tmp_path / "any", layout="market1501").layout == "market1501"


def test_a_stray_file_does_not_hide_dukes_notice(tmp_path: Path) -> None:
    touch_crops(tmp_path, ["query/0000holiday.jpg", "query/0005_c8_f0051341.jpg", "bounding_box_test/0005_c2_f1.jpg"])
    (tmp_path / "bounding_box_train").mkdir()
    assert open_dataset(tmp_path).layout == "dukemtmc"


def test_what_lies_beside_the_crops_is_no_crop(tmp_path: Path) -> None:
    touch_crops(tmp_path, (*MARKET, "query/._0001_c1s1_001051_00.jpg", "query/0001_c2s1_1_0.jpg/inside.jpg"))
    dataset = open_dataset(tmp_path)
    assert [crop.path.name for crop in dataset.split.query] == ["0001_c1s1_001051_00.jpg"]
    assert not dataset.listing.unparsed


def test_a_number_too_large_for_the_metric_is_a_name_that_does_not_parse(tmp_path: Path) -> None:
    touch_crops(tmp_path, (*MARKET, f"query/{'9' * 19}_c1s1.jpg", f"query/0001_c{'9' * 19}s1.jpg"))
    dataset = open_dataset(tmp_path)
    assert len(dataset.listing.unparsed) == 2 and len(dataset.split.query) == 1


def test_several_data_sets_side_by_side_are_told_apart_by_the_user(tmp_path: Path) -> None:
    market = touch_crops(tmp_path / "Market-1501-v15.09.15", MARKET)
    touch_crops(tmp_path / "DukeMTMC-reID", MARKET)
    touch_crops(tmp_path / "LaST", LAST)
    with pytest.raises(DatasetError, match=r"several data sets: .*DukeMTMC-reID.*Market-1501-v15.09.15.*LaST"):
        open_dataset(tmp_path)
    assert open_dataset(market).layout == "market1501"
    assert open_dataset(tmp_path, layout="last").layout == "last"


def test_data_sets_unpacked_into_one_folder_are_told_apart_by_the_user(tmp_path: Path) -> None:
    touch_crops(tmp_path / "market", (*MARKET, *LAST))
    with pytest.raises(DatasetError, match=r"several data sets: .*market \(market1501\), .*market \(last\)"):
        open_dataset(tmp_path / "market")
    assert open_dataset(tmp_path / "market", layout="last").layout == "last"


def test_dukemtmc_is_known_by_its_folder(tmp_path: Path) -> None:
    home = touch_crops(tmp_path / "DukeMTMC-reID", MARKET[:2] + MARKET[4:6])
    assert open_dataset(tmp_path).layout == open_dataset(home).layout == "dukemtmc"


LAST = (
    "train/000000/000000_1_20_0_2.jpg",
    "train/000000/000000_1_21_0_3.jpg",
    "val/query/000007_v.jpg",
    "val/gallery/000007/000007_w.jpg",
    "test/query/000009_x.jpg",
    "test/gallery/000009/000009_y.jpg",
    "test/gallery/000010/000010_z.jpg",
)


def test_last_counts_every_image_as_its_own_camera(tmp_path: Path) -> None:
    touch_crops(tmp_path, LAST)
    test = open_dataset(tmp_path)
    assert test.layout == "last" and test.part == "test" and not test.same_camera_filter
    assert [crop.pid for crop in test.split.train] == [0, 0]
    assert [crop.pid for crop in test.split.query] == [9]
    assert [crop.pid for crop in test.split.gallery] == [9, 10]
    cameras = [crop.camid for part in (test.split.train, test.split.query, test.split.gallery) for crop in part]
    assert len(cameras) == 5 and len(set(cameras)) == 5
    val = open_dataset(tmp_path, part="val")
    assert [crop.pid for crop in val.split.query] == [7] and [crop.pid for crop in val.split.gallery] == [7]


@pytest.mark.parametrize(
    ("version", "train", "test"), [("V1", "train", "test"), ("V2", "mask_train_v2", "mask_test_v2")]
)
def test_msmt17_reads_its_lists_and_trains_on_val_too(tmp_path: Path, version: str, train: str, test: str) -> None:
    home = tmp_path / f"MSMT17_{version}"
    lists = {
        "train": [(train, "0000/0000_000_01_0303morning_0008_0.jpg", 0)],
        "val": [(train, "0001/0001_000_15_0303morning_0008_0.jpg", 1)],
        "query": [(test, "0000/0000_000_03_0303noon_0008_0.jpg", 0)],
        "gallery": [(test, "0000/0000_001_04_0303noon_0008_0.jpg", 0)],
    }
    for name, rows in lists.items():
        touch_crops(home, [f"{folder}/{path}" for folder, path, _ in rows])
        (home / f"list_{name}.txt").write_text("".join(f"{path} {pid}\n" for _, path, pid in rows))
    dataset = open_dataset(tmp_path)
    assert dataset.layout == "msmt17" and not dataset.one_numbering
    assert _ids(dataset.split.train) == [(0, 1), (1, 15)]
    assert _ids(dataset.split.query) == [(0, 3)] and _ids(dataset.split.gallery) == [(0, 4)]
    assert all(crop.path.is_file() for crop in dataset.split.train + dataset.split.query + dataset.split.gallery)


def test_msmt17_names_a_bad_line_of_its_list(tmp_path: Path) -> None:
    touch_crops(tmp_path, ["test/0000/0000_000_03_0303noon_0008_0.jpg"])
    (tmp_path / "list_gallery.txt").write_text("")
    for pid in ("one", "-1", "9" * 5000, ""):
        (tmp_path / "list_query.txt").write_text(f"0000/0000_000_03_0303noon_0008_0.jpg 0\n0000/x.jpg {pid}\n")
        with pytest.raises(DatasetError, match=r"list_query.txt, line 2: "):
            open_dataset(tmp_path)


def test_an_unknown_layout_says_what_was_looked_for_and_found(tmp_path: Path) -> None:
    touch_crops(tmp_path, ["photos/a.jpg"])
    with pytest.raises(DatasetError, match=r"looked for query \+ bounding_box_test .*LaST.*; found photos"):
        open_dataset(tmp_path)


def test_an_empty_data_set_and_an_empty_part_are_refused(tmp_path: Path) -> None:
    for name in ("bounding_box_train", "bounding_box_test", "query"):
        (tmp_path / name).mkdir()
    with pytest.raises(DatasetError, match="holds no crops"):
        open_dataset(tmp_path)
    touch_crops(tmp_path, MARKET[:1])
    dataset = open_dataset(tmp_path)
    require(dataset, "train")
    with pytest.raises(DatasetError, match="has no query crops"):
        require(dataset, "query", "gallery")


def test_misspelt_layouts_and_parts_are_refused(tmp_path: Path) -> None:
    touch_crops(tmp_path, MARKET)
    with pytest.raises(InputError, match="layout 'markt' is unknown"):
        open_dataset(tmp_path, layout="markt")
    with pytest.raises(InputError, match="has no part 'val'"):
        open_dataset(tmp_path, part="val")
    with pytest.raises(InputError, match="does not exist"):
        open_dataset(tmp_path / "gone")
    with pytest.raises(InputError, match=r"is a file, not a folder: .*ends in \.csv or \.parquet"):
        open_dataset(tmp_path / MARKET[0])
    public = ("occluded-duke", "dukemtmc", "cuhk03-labeled", "cuhk03-detected", "market1501", "msmt17", "last")
    small = ("cuhk03-classic-labeled", "cuhk03-classic-detected", "cuhk01", "viper", "grid")
    assert LAYOUT_NAMES == (*public, *small, "manifest", "person-folders", "person-folders-unsplit", "crops")


def test_crops_in_a_folder_are_all_images_below_it(tmp_path: Path) -> None:
    touch_crops(tmp_path, ["b.jpg", "deep/er/a.PNG"])
    (tmp_path / "note.txt").write_text("no crop")
    assert [path.name for path in crops_in(tmp_path)] == ["b.jpg", "a.PNG"]
    (tmp_path / "none").mkdir()
    with pytest.raises(DatasetError, match="holds no images"):
        crops_in(tmp_path / "none")


def test_the_development_crops_count_as_published(dev_crops: Path) -> None:
    dataset = open_dataset(dev_crops)
    split = dataset.split
    assert (len(split.train), len({crop.pid for crop in split.train})) == (10_193, 601)
    assert len(split.query) == 663 and dataset.listing.junk == 100
    assert len(split.gallery) == 2_380 and sum(crop.pid == 0 for crop in split.gallery) == 300
    assert len({crop.pid for crop in split.gallery}) == 151
    assert {crop.camid for crop in split.train} == set(range(1, 7))


def test_mixed_sets_train_on_disjoint_people_and_are_scored_on_the_first(tmp_path: Path) -> None:
    touch_crops(tmp_path / "a", MARKET)
    touch_crops(tmp_path / "b", (*MARKET, "bounding_box_train/0007_c4s1_000451_03.jpg"))
    one, two = open_dataset(tmp_path / "a"), open_dataset(tmp_path / "b")
    both = mixed([one, two])
    # a has person 2 in cameras 1 and 2; b's persons 2, 2, 7 move by 3, and its cameras 1, 2, 4 too
    assert _ids(both.split.train) == [(2, 1), (2, 2), (5, 4), (5, 5), (10, 7)]
    assert both.split.query == one.split.query and both.split.gallery == one.split.gallery
    assert both.name == f"{one.name} + {two.name}" and both.root == one.root
    assert mixed([one]) is one and one.mixed_from == ()
    assert both.mixed_from == (len(one.split.train), len(two.split.train))
    with pytest.raises(InputError, match="is given twice"):
        mixed([one, one])
