"""What faults are planted in."""

from __future__ import annotations

from pathlib import Path

import pytest
from helpers.right_files import RightFiles, right_files
from helpers.streams_network import STREAMS_CARD, streams_network

from reid_edge.data.synthetic.dataset import synthesize
from reid_edge.export.graph.io import read_graph


@pytest.fixture(scope="session")
def small(tmp_path_factory: pytest.TempPathFactory) -> RightFiles:
    """A small network with the structure of OSNet, on 64 crops of drawn people."""
    folder = tmp_path_factory.mktemp("faults")
    people = synthesize(folder / "people", identities=6, test_identities=8, cameras=2, progress=False)
    return right_files(streams_network, STREAMS_CARD, people, folder)


@pytest.fixture(scope="session")
def real(tmp_path_factory: pytest.TempPathFactory, dev_weights: Path, dev_crops: Path) -> RightFiles:
    """OSNet x0.25 with MSMT17 weights at 128 x 64, on 64 real crops."""
    from reid_edge.api.export_model import export_model
    from reid_edge.training.models.checkpoint import load_model

    folder = tmp_path_factory.mktemp("faults")
    model, card = load_model(dev_weights, "osnet_x0_25")
    (fp32,) = export_model((model, card.with_(input_hw=(128, 64))), folder).files
    graph, card = read_graph(fp32.path)
    return right_files(lambda crops: graph, card, dev_crops, folder)
