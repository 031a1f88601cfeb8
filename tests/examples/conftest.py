"""Drawn people and a small model, made once for every example and every page of docs/extend."""

from __future__ import annotations

from pathlib import Path

import pytest
from helpers.small_network import CARD, network, random_weights
from helpers.tiny_onnx import write_tiny_model

from reid_edge.data.synthetic.dataset import synthesize
from reid_edge.export.graph.io import write_onnx

HW = (64, 32)


@pytest.fixture(scope="session")
def workshop(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with ``people``, a drawn data set, and two models, of colours and of convolutions."""
    folder = tmp_path_factory.mktemp("workshop")
    synthesize(folder / "people", identities=4, test_identities=4, cameras=2, size_hw=HW, progress=False)
    write_tiny_model(folder / "tiny.onnx", input_hw=HW)
    write_onnx(network(random_weights()), CARD, folder / "small_fp32.onnx")
    return folder
