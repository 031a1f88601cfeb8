"""Fixtures that several test files share."""

from __future__ import annotations

import os

# One thread a process: the tensors here are small, and two busy test processes with two spinning threads each are
# ten times slower than two with one. Child processes inherit it.
os.environ.setdefault("OMP_NUM_THREADS", "1")

import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from reid_edge.data.datasets import open_dataset
from reid_edge.data.synthetic.dataset import synthesize


def _dev_data(name: str) -> Path:
    """A file of the development data: real crops and weights whose terms forbid shipping them with the project."""
    folder = os.environ.get("REID_EDGE_DEV_DATA")
    if not folder:
        pytest.skip("needs real crops: set REID_EDGE_DEV_DATA to the folder with market1501-dev.zip")
    path = Path(folder) / name
    if not path.exists():
        pytest.skip(f"needs {name} in REID_EDGE_DEV_DATA")
    return path


@pytest.fixture(scope="module")
def own_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """A cache folder for the tests of one file."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("REID_EDGE_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture
def empty_registry(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a test registers is gone after it."""
    monkeypatch.setattr("reid_edge.core.registry._registered", {})


@pytest.fixture(scope="session")
def dev_crops(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The development crops, unpacked: a folder in Market-1501's layout."""
    out = tmp_path_factory.mktemp("dev")
    with zipfile.ZipFile(_dev_data("market1501-dev.zip")) as archive:
        archive.extractall(out)
    return out / "market1501-dev"


@pytest.fixture(scope="session")
def dev_weights() -> Path:
    """OSNet x0.25 trained on MSMT17, a torchreid state dict."""
    return _dev_data("osnet_x0_25_msmt17.pth")


@pytest.fixture(scope="session")
def dev_onnx() -> Path:
    """The same network from another exporter: float32 NCHW in, un-normalised features out."""
    return _dev_data("osnet_x0_25_msmt17.onnx")


@pytest.fixture(scope="session")
def people(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Drawn people to calibrate, to compare and to score the small network on; nothing may be written there."""
    folder = tmp_path_factory.mktemp("drawn") / "people"
    drawn = {"identities": 6, "test_identities": 4, "cameras": 3, "size_hw": (128, 64)}
    return synthesize(folder, **drawn, progress=False)  # type: ignore[arg-type]


@pytest.fixture(scope="session")
def unscored(people: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The training crops alone, as a manifest: files are compared on them, quickly, and not scored."""
    path = tmp_path_factory.mktemp("unscored") / "people.csv"
    rows = [f"{crop.path},{crop.pid},{crop.camid},train" for crop in open_dataset(people).split.train]
    path.write_text("\n".join(["path,pid,camid,split", *rows]))
    return path


@pytest.fixture
def fp32(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The file of a small network, 16 x 16, and a cache folder for this test alone."""
    from helpers.small_network import CARD, network, random_weights

    from reid_edge.export.graph.io import write_onnx

    monkeypatch.setenv("REID_EDGE_CACHE", str(tmp_path / "cache"))
    path = tmp_path / "small_fp32.onnx"
    write_onnx(network(random_weights()), CARD, path)
    return path
