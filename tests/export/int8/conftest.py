"""Fixtures that the INT8 tests share."""

from __future__ import annotations

from pathlib import Path

import pytest
from helpers.small_network import Array, random_weights

from reid_edge.data.synthetic.dataset import synthesize


@pytest.fixture
def weights() -> dict[str, Array]:
    """Weights of `helpers.small_network.network`, to be changed."""
    return random_weights()


@pytest.fixture(scope="session")
def people(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data set with 56 training crops: 6 identities, 3 cameras."""
    out = tmp_path_factory.mktemp("int8") / "people"
    return synthesize(out, identities=6, test_identities=2, cameras=3, progress=False)
