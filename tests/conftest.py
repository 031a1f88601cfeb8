"""Fixtures that several test files share."""

from __future__ import annotations

import os

# One thread a process: the tensors here are small, and two busy test processes with two spinning threads each are
# ten times slower than two with one. Child processes inherit it.
os.environ.setdefault("OMP_NUM_THREADS", "1")

import zipfile
from pathlib import Path

import pytest


def _dev_data(name: str) -> Path:
    """A file of the development data: real crops and weights whose terms forbid shipping them with the project."""
    folder = os.environ.get("REID_EDGE_DEV_DATA")
    if not folder:
        pytest.skip("needs real crops: set REID_EDGE_DEV_DATA to the folder with market1501-dev.zip")
    path = Path(folder) / name
    if not path.exists():
        pytest.skip(f"needs {name} in REID_EDGE_DEV_DATA")
    return path


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
