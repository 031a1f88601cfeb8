"""Drawn people as the three data sets, and one uninterrupted run over them."""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from helpers.drawn_matrix import SMALL, Sets
from helpers.log import logged

from reid_edge.data.datasets import Dataset, open_dataset
from reid_edge.data.synthetic.dataset import synthesize


@pytest.fixture(scope="session")
def sets(tmp_path_factory: pytest.TempPathFactory) -> Sets:
    """Drawn people in the layouts of the three data sets; LaST shows the people of Duke."""
    root = tmp_path_factory.mktemp("sets")
    drawn = [
        synthesize(
            root / str(seed),
            identities=6,
            test_identities=4,
            cameras=3,
            images_per_camera=2,
            size_hw=(64, 32),
            seed=seed,
        )
        for seed in (1, 2)
    ]
    for folder, number, pid, camera, path in _named(drawn[1]):
        _copy(path, root / "duke" / folder / f"{pid}_c{camera}_f{number:07d}{path.suffix}")
        if folder == "query":
            _copy(path, root / "last/val/query" / f"{pid}_{number}_0{path.suffix}")
        if folder == "bounding_box_test":
            _copy(path, root / "last/val/gallery" / pid / f"{pid}_{number}_0{path.suffix}")
    return {"market": drawn[0], "duke": root / "duke", "last": root / "last"}


def _named(root: Path) -> Iterator[tuple[str, int, str, str, Path]]:
    for folder in ("bounding_box_train", "bounding_box_test", "query"):
        for number, path in enumerate(sorted((root / folder).iterdir())):
            if found := re.match(r"(\d+)_c(\d)", path.name):
                yield folder, number, found[1], found[2], path


def _copy(source: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.copy(source, target)


@pytest.fixture(scope="session")
def opened(sets: Sets) -> dict[str, Dataset]:
    return {name: open_dataset(path, part="val" if name == "last" else "test") for name, path in sets.items()}


@pytest.fixture(scope="session")
def own_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("REID_EDGE_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture(scope="session")
def whole(sets: Sets, own_cache: None, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[str]]:
    """An uninterrupted run over the three data sets, and what it said."""
    out = tmp_path_factory.mktemp("whole")
    from reid_edge.training.experiments.reproduce import reproduce

    with logged() as said:
        reproduce(out, **sets, **SMALL)
    return out, said
