"""A further data set is one small class, also outside the package: it is detected, inspected and evaluated."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from helpers.drawn_layouts import paint_crops, touch_crops
from helpers.tiny_onnx import write_tiny_model

from reid_edge.cli import main
from reid_edge.data.datasets import open_dataset
from reid_edge.data.inspection import inspect_dataset
from reid_edge.data.readers import registry
from reid_edge.data.readers.base import DatasetReader
from reid_edge.data.readers.dukemtmc import DukeMtmc
from reid_edge.data.readers.files import images_below
from reid_edge.data.readers.listing import Crop, Listing, Split
from reid_edge.data.readers.market_folders import MarketFolders
from reid_edge.errors import DatasetError, InputError
from reid_edge.scoring.evaluation import evaluate


class Harbour(MarketFolders):
    """Person and camera written out; person 999 is a distractor and person 0 is somebody."""

    name = "harbour"
    title = "Harbour"
    nested = ("Harbour-v1",)
    folders = ("train", "query", "gallery")
    pattern = re.compile(r"person(-?\d+)_camera(\d+)")
    own_name = re.compile(r"person-?\d+_camera\d+_pier\d")
    distractor = 999
    notices = ("taken at a harbour",)
    published = {"test": (2, 1, 4)}


class Piers(Harbour):
    """The same crops but for some: only the name of its folder tells it from the whole."""

    name = "piers"
    title = "Piers"
    nested = ()
    folder_word = "piers"
    must_be_named = True
    published = {}


CROPS = {
    "train/person0_camera1_pier1.jpg": 200,
    "train/person0_camera2_pier1.jpg": 200,
    "train/person999_camera2_pier1.jpg": 0,
    "query/person5_camera1_pier2.jpg": 90,
    "gallery/person5_camera2_pier2.jpg": 90,
    "gallery/person5_camera1_pier3.jpg": 90,
    "gallery/person7_camera2_pier2.jpg": 250,
    "gallery/person999_camera2_pier2.jpg": 20,
    "gallery/person-1_camera2_pier2.jpg": 90,
}


@pytest.fixture
def harbour(tmp_path: Path, empty_registry: None) -> Path:
    registry.register_reader(Harbour())
    registry.register_reader(Piers())
    return paint_crops(tmp_path / "data" / "Harbour-v1", CROPS).parent


def test_a_fifth_data_set_is_opened_by_its_own_facts(harbour: Path) -> None:
    dataset = open_dataset(harbour)
    assert (dataset.name, dataset.layout, dataset.root) == ("Harbour", "harbour", harbour / "Harbour-v1")
    assert [(crop.pid, crop.camid) for crop in dataset.split.train] == [(0, 1), (0, 2)], "0 is a person here"
    assert [crop.pid for crop in dataset.split.query] == [5]
    assert [crop.pid for crop in dataset.split.gallery] == [5, 5, 7, 999]
    assert dataset.listing.junk == 2, "-1, and 999 outside the gallery"
    assert dataset.notices == ("taken at a harbour",) and dataset.is_public


def test_a_fifth_data_set_is_inspected(harbour: Path) -> None:
    inspection = inspect_dataset(harbour)
    gallery = inspection.splits["gallery"]
    assert (gallery.crops, gallery.identities, gallery.cameras, gallery.distractors) == (4, 2, 2, 1)
    assert inspection.distractor == 999 and inspection.kinds == {}
    (harbour / "Harbour-v1/gallery/person7_camera2_pier2.jpg").unlink()
    assert inspect_dataset(harbour).kinds == {"not the published counts": 1}


def test_a_fifth_data_set_is_evaluated(harbour: Path, tmp_path: Path) -> None:
    """Of person 5, the crop by the query's own camera is dropped and the other one is the same picture."""
    model = write_tiny_model(tmp_path / "tiny.onnx", input_hw=(32, 16))
    result = evaluate(model, harbour)
    assert (result.dataset, result.metrics.valid_queries, result.metrics.gallery) == ("Harbour", 1, 4)
    assert result.metrics.rank(1) == 1.0 and result.metrics.mAP == 1.0
    assert result.notices == ("taken at a harbour",)


def test_a_subset_is_known_by_its_folder_alone(harbour: Path, tmp_path: Path) -> None:
    named = (harbour / "Harbour-v1").rename(tmp_path / "Piers-of-2020")
    assert open_dataset(named).layout == "piers"
    other = named.rename(tmp_path / "anything")
    assert open_dataset(other).layout == "harbour"
    assert open_dataset(other, layout="piers").layout == "piers"


def test_a_fifth_data_set_does_not_disturb_the_others(harbour: Path, tmp_path: Path) -> None:
    crops = ("query/0001_c1s1_001051_00.jpg", "bounding_box_test/0001_c3s1_001051_02.jpg")
    market = touch_crops(tmp_path / "market", (*crops, "bounding_box_train/0002_c1s1_000451_03.jpg"))
    assert open_dataset(market).layout == "market1501"
    with pytest.raises(DatasetError, match=r"looked for query \+ gallery \(Piers, Harbour\);"):
        open_dataset(touch_crops(tmp_path / "photos", ["a.jpg"]))
    with pytest.raises(InputError, match="crops, harbour, piers; did you mean harbour"):
        open_dataset(market, layout="harbor")
    with pytest.raises(DatasetError, match=r"is in no known layout: looked for .*\(Harbour\)"):
        open_dataset(market, layout="harbour")


def test_a_name_of_the_package_itself_cannot_be_registered(harbour: Path) -> None:
    with pytest.raises(InputError, match="'market1501' is one of reid-edge's own layouts: choose another name"):
        registry.register_reader(type("Mine", (Harbour,), {"name": "market1501"})())


class Doors(DatasetReader):
    """``entrance/12-003.jpg``: no folder of Market-1501's, so it implements `read`."""

    name, title, markers = "doors", "Doors", ("entrance", "exit")

    def read(self, home: Path, part: str) -> Listing:
        return Listing(Split(query=self.seen(home / "entrance", 0), gallery=self.seen(home / "exit", 1)))

    def seen(self, folder: Path, camera: int) -> tuple[Crop, ...]:
        return tuple(Crop(path, int(path.stem.split("-")[0]), camera) for path in images_below(folder))


def test_a_data_set_of_another_package_is_evaluated_from_the_command_line(tmp_path: Path, empty_registry: None) -> None:
    registry.register_reader(Doors())
    home = paint_crops(tmp_path / "doors", {"entrance/1-1.png": 90, "exit/1-2.png": 60, "exit/2-1.png": 90})
    model = write_tiny_model(tmp_path / "tiny.onnx", input_hw=(32, 16))
    with pytest.raises(SystemExit) as ended:
        main(["eval", str(model), "--data", str(home), "--json", str(tmp_path / "eval.json")])
    assert ended.value.code == 0
    figures = json.loads((tmp_path / "eval.json").read_text())
    assert (figures["rank1"], figures["mAP"]) == (0.0, 0.5), "person 2 looks like the query, and its match comes next"


@pytest.mark.parametrize(
    ("folder", "query", "layout"),
    [
        ("any", "0005_c8_f0051341.jpg", "dukemtmc"),
        ("market", "0005_c8_f0051341.jpg", "dukemtmc"),
        ("duke", "0001_c1s1_001051_00.jpg", "dukemtmc"),
        ("market", "0001_c1s1_001051_00.jpg", "market1501"),
        ("any", "0001_c1s1_001051_00.jpg", "market1501"),
        ("any", "holiday.jpg", "market1501"),
    ],
)
def test_file_names_say_more_than_the_folders_name(tmp_path: Path, folder: str, query: str, layout: str) -> None:
    home = touch_crops(tmp_path / folder, [f"query/{query}", "bounding_box_train/0002_c1s1_000451_03.jpg"])
    (home / "bounding_box_test").mkdir()
    assert open_dataset(home).layout == layout


def test_only_a_folder_named_market_claims_to_be_the_public_set(tmp_path: Path) -> None:
    for name, public in (("drawn", False), ("Market-1501-v15.09.15", True)):
        home = touch_crops(tmp_path / name, ["query/0001_c1s1_001051_00.jpg", "bounding_box_train/0002_c1s1_0.jpg"])
        (home / "bounding_box_test").mkdir()
        dataset = open_dataset(home)
        assert dataset.is_public == public and dataset.published == (12_936, 3_368, 15_913)
    assert DukeMtmc().is_public(tmp_path)


def test_unlabelled_crops_say_so(tmp_path: Path) -> None:
    touch_crops(tmp_path, ["a.jpg", "b/c.jpg"])
    dataset = open_dataset(tmp_path, layout="crops")
    assert not dataset.labelled and [crop.pid for crop in dataset.split.train] == [0, 1]
    assert dataset.published is None and not dataset.is_public
