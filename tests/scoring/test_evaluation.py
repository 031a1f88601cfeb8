"""Evaluation from a folder of crops to figures, with a small real model that needs no file."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
import pytest
from helpers.naive import naive_metrics
from numpy.typing import NDArray
from PIL import Image

from reid_edge.card import ModelCard
from reid_edge.data.datasets import Dataset, open_dataset
from reid_edge.data.images import read_crops
from reid_edge.data.records import Listing, Split
from reid_edge.embedder.embedder import Embedder
from reid_edge.engines.base import check_batch
from reid_edge.engines.facts import EngineFacts
from reid_edge.errors import DatasetError, InputError, ModelError
from reid_edge.scoring.distances import DISTANCES
from reid_edge.scoring.evaluation import evaluate
from reid_edge.scoring.report.table import evaluation_table


class StripeEngine:
    """A model of clothes: the mean colour of four horizontal stripes, as a unit vector."""

    def __init__(self) -> None:
        self.card = ModelCard("stripes", embedding_dim=12, input_hw=(64, 32), weights_sha256="none")
        self.max_batch = 8
        self.facts = EngineFacts("stripes", "NumPy", {"numpy": np.__version__}, 1, "")
        self.batches: list[int] = []

    def run(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        check_batch(images, self.card, self.max_batch)
        self.batches.append(len(images))
        stripes = images.reshape(len(images), 4, 16, 32, 3).mean(axis=(2, 3), dtype=np.float32)  # [N, 4, 3]
        rows = stripes.reshape(len(images), 12) + 1  # no crop is all black
        embeddings: NDArray[np.float32] = rows / np.linalg.norm(rows, axis=1, keepdims=True)
        return embeddings

    def __enter__(self) -> StripeEngine:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        pass


def draw(path: Path, person: int, brightness: float, noise: float, seed: int) -> None:
    colours = np.random.default_rng(person).integers(0, 200, (4, 1, 1, 3)) * brightness
    crop = np.broadcast_to(colours, (4, 12, 20, 3)).reshape(48, 20, 3)
    crop = crop + np.random.default_rng(seed).normal(0, noise, (4, 1, 1, 3)).repeat(12, axis=0).reshape(48, 1, 3)
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.clip(crop, 0, 255).astype(np.uint8)).save(path, quality=95)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Ten people in Market-1501's layout, two cameras, noise enough for mistakes; a distractor and a junk crop."""
    root = tmp_path_factory.mktemp("evaluation") / "Tiny-1501"
    for person in range(1, 11):
        for camera in (1, 2):
            name = f"{person:04d}_c{camera}s1_00000{camera}_0{{}}.jpg"
            draw(root / "query" / name.format(0), person, 0.6 * camera, 35, 100 * person + camera)
            for shot in (1, 2):
                place = root / "bounding_box_test" / name.format(shot)
                draw(place, person, 0.6 * camera, 35, 1000 * person + 10 * camera + shot)
    draw(root / "bounding_box_test" / "0000_c1s1_000001_01.jpg", 1, 1.0, 5, 5)
    draw(root / "bounding_box_test" / "-1_c1s1_000001_01.jpg", 1, 1.0, 5, 6)
    draw(root / "bounding_box_train" / "0011_c1s1_000001_01.jpg", 11, 1.0, 5, 7)
    return root


@pytest.mark.parametrize("distance", DISTANCES)
def test_equals_the_same_steps_by_hand(folder: Path, distance: str) -> None:
    result = evaluate(StripeEngine(), folder, distance, batch=5)
    split = open_dataset(folder).split
    embeddings = {
        name: StripeEngine().run(read_crops([crop.path], (64, 32), "opencv"))[0].astype(float)
        for name, crop in ((crop.path, crop) for crop in (*split.query, *split.gallery))
    }
    matrix = [
        [by_definition(distance, embeddings[q.path], embeddings[g.path]) for g in split.gallery] for q in split.query
    ]
    labels = [
        [getattr(crop, key) for crop in part] for part in (split.query, split.gallery) for key in ("pid", "camid")
    ]
    expected = naive_metrics(matrix, *labels, max_rank=20)
    assert expected is not None
    assert 0.2 < expected.mAP < 0.95, "the test set should be neither hopeless nor solved"
    assert result.metrics.cmc == pytest.approx(expected.cmc)
    assert (result.metrics.mAP, result.metrics.mINP) == pytest.approx((expected.mAP, expected.mINP))
    assert (result.metrics.queries, result.metrics.valid_queries, result.metrics.gallery) == (20, 20, 41)


def by_definition(distance: str, a: NDArray[Any], b: NDArray[Any]) -> float:
    if distance == "correlation":
        a, b = a - a.mean(), b - b.mean()
    if distance in {"cosine", "correlation"}:
        return 1 - float(a @ b) / float(np.linalg.norm(a) * np.linalg.norm(b))
    order = {"euclidean": 2, "cityblock": 1, "minkowski": 3}[distance]
    return float((np.abs(a - b) ** order).sum() ** (1 / order))


def test_a_dataset_an_engine_and_an_embedder_give_the_same(folder: Path) -> None:
    expected = evaluate(StripeEngine(), folder).to_dict()
    with Embedder(StripeEngine(), batch=3) as embedder:
        for model, data in ((StripeEngine(), open_dataset(folder)), (embedder, str(folder))):
            result = evaluate(model, data).to_dict()
            assert {**result, "images_per_second": 0} == {**expected, "images_per_second": 0}
        assert embedder.embed([np.zeros((9, 9, 3), np.uint8)]).shape == (1, 12), "the Embedder is still open"


def test_the_report_names_all_that_the_figures_depend_on(folder: Path) -> None:
    report = json.loads(json.dumps(evaluate(StripeEngine(), folder, "euclidean", resize="pillow-bilinear").to_dict()))
    figures = {name: report.pop(name) for name in ("rank1", "rank5", "rank10", "rank20", "mAP", "mINP")}
    assert all(0 < value <= 1 for value in figures.values())
    assert report.pop("images_per_second") > 0
    intervals = report.pop("intervals_95")
    assert all(intervals[name][0] < figures[name] < intervals[name][1] for name in ("mAP", "rank1"))
    assert report == {
        "queries": 20,
        "valid_queries": 20,
        "gallery": 41,
        "distance": "euclidean",
        "dataset": open_dataset(folder).name,
        "part": "test",
        "model": "stripes",
        "architecture": "stripes",
        "precision": "fp32",
        "weights_sha256": "none",
        "resize": "pillow-bilinear",
        "settings": {"flip": False, "query_expansion": None, "rerank": None, "same_camera_filter": True},
        "backend": "stripes",
        "provider": "NumPy",
        "versions": {"numpy": np.__version__},
        "threads": 1,
        "sha256": "",
        "nodes": {},
        "computes": "",
    }


def test_resize_reaches_the_crops(folder: Path) -> None:
    assert evaluate(StripeEngine(), folder).resize == ModelCard("", 1).resize
    with Embedder(StripeEngine(), resize="pillow-bilinear") as embedder:
        assert evaluate(embedder, folder).resize == "pillow-bilinear"
        with pytest.raises(InputError, match="resizes by pillow-bilinear, not opencv"):
            evaluate(embedder, folder, resize="opencv")


def test_batch_reaches_the_engine(folder: Path) -> None:
    engine = StripeEngine()
    evaluate(engine, folder, batch=4)
    assert sum(engine.batches) == 61 and max(engine.batches) == 4


def of(split: Split, folder: Path, same_camera_filter: bool = True) -> Dataset:
    return Dataset("tiny", "market1501", folder, Listing(split), same_camera_filter=same_camera_filter)


def test_without_same_camera_filtering_every_crop_is_its_own_camera(folder: Path) -> None:
    """LaST's protocol: camera 1 alone, where filtering would leave no match at all.

    Query i and gallery crop i show the same person, so that numbers given twice would drop every match.
    """
    split = open_dataset(folder).split
    query = tuple(crop for crop in split.query if crop.camid == split.query[0].camid)
    gallery = tuple(crop for crop in split.gallery if crop.camid == query[0].camid and crop.pid > 0)[::2]
    assert [crop.pid for crop in query] == [crop.pid for crop in gallery]
    one_camera = Split(query=query, gallery=gallery)
    result = evaluate(StripeEngine(), of(one_camera, folder, same_camera_filter=False))
    assert result.metrics.valid_queries == 10
    assert result.to_dict()["settings"]["same_camera_filter"] is False
    with pytest.raises(InputError, match="none of 10 queries has a match in another camera"):
        evaluate(StripeEngine(), of(one_camera, folder))


@pytest.mark.parametrize("missing", ["query", "gallery"])
def test_an_empty_split(folder: Path, missing: str) -> None:
    split = replace(open_dataset(folder).split, **{missing: ()})
    with pytest.raises(DatasetError, match=f"has no {missing} crops"):
        evaluate(StripeEngine(), of(split, folder))


def test_a_misspelt_distance_is_told_before_embedding(folder: Path) -> None:
    engine = StripeEngine()
    with pytest.raises(InputError, match="no distance is called 'cosin'"):
        evaluate(engine, folder, "cosin")
    assert engine.batches == []


def test_a_missing_model_and_a_missing_folder(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="does not exist"):
        evaluate(tmp_path / "none.onnx", folder)
    with pytest.raises(InputError, match="does not exist"):
        evaluate(StripeEngine(), tmp_path / "none")


def test_a_model_that_gives_nan_is_refused(folder: Path) -> None:
    class Broken(StripeEngine):
        def run(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
            return np.where(super().run(images) > 0.5, np.nan, super().run(images)).astype(np.float32)

    with pytest.raises((InputError, ModelError), match="NaN"):
        evaluate(Broken(), folder)


def test_the_table_shows_the_figures(folder: Path) -> None:
    from rich.console import Console

    result = evaluate(StripeEngine(), folder)
    console = Console(width=80)
    with console.capture() as captured:
        console.print(evaluation_table(result))
    assert "…" not in captured.get()
    for text in (
        f"{100 * result.metrics.mAP:.1f}",
        "20 of 20",
        "41",
        "cosine distance",
        "no test-time tricks",
        "NumPy",
    ):
        assert text in captured.get()
