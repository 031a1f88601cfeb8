"""Decoded crops: written once, read by every run, and decoded again when a file changes."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("torch", reason="training tests need the train extra")

from helpers.log import logged  # noqa: E402

from reid_edge.data.datasets import Dataset, open_dataset  # noqa: E402
from reid_edge.data.synthetic.dataset import synthesize  # noqa: E402
from reid_edge.training.batches.cache import cache_decoded  # noqa: E402


@pytest.fixture(scope="module")
def people(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    return open_dataset(synthesize(tmp_path_factory.mktemp("drawn") / "set", identities=3, test_identities=2, seed=3))


def test_decoded_crops_are_cached_and_follow_changed_files(
    people: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("REID_EDGE_CACHE", str(tmp_path / "cache"))
    crops = people.split.train[:5]
    first = cache_decoded(crops, (64, 32), "opencv").images
    assert first.shape == (5, 64, 32, 3) and first.dtype == np.uint8
    assert len(list((tmp_path / "cache").glob("*.npy"))) == 1
    first[:] = 0
    assert cache_decoded(crops, (64, 32), "opencv").images.any(), "a write reached the cache"
    assert cache_decoded(crops, (32, 32), "opencv").images.shape == (5, 32, 32, 3)
    assert len(list((tmp_path / "cache").glob("*.npy"))) == 2


@pytest.mark.parametrize(
    "damage",
    [
        pytest.param(lambda content: content[: len(content) // 2], id="truncated"),
        pytest.param(lambda content: b"", id="empty"),
        pytest.param(lambda content: content[:5000] + bytes([content[5000] ^ 1]) + content[5001:], id="a flipped bit"),
        pytest.param(lambda content: content.replace(b"64, 32", b"32, 64", 1), id="another shape"),
        pytest.param(lambda content: content[:-5], id="no checksum"),
        pytest.param(lambda content: b"\0" * len(content), id="zeros"),
    ],
)
def test_a_damaged_cache_is_made_again_with_a_note(
    damage: Callable[[bytes], bytes], people: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("REID_EDGE_CACHE", str(tmp_path))
    crops = people.split.train[:2]
    first = cache_decoded(crops, (64, 32), "opencv").images.copy()
    (file,) = tmp_path.glob("*.npy")
    content = file.read_bytes()
    file.write_bytes(damage(content))
    assert file.read_bytes() != content
    with logged() as said:
        again = cache_decoded(crops, (64, 32), "opencv").images
    assert (again == first).all() and again.shape == first.shape
    assert len(said) == 1 and "is damaged" in said[0] and "\n" not in said[0]
    with logged() as said:
        assert (cache_decoded(crops, (64, 32), "opencv").images == first).all() and not said
