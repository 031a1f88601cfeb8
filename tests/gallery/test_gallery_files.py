"""Gallery files by their suffix: a store that is registered is written by ``embed`` and read by ``rank``."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from helpers.list_gallery import ListGallery
from helpers.tiny_onnx import write_tiny_model

from reid_edge.commands.search import embed, rank
from reid_edge.data.synthetic.dataset import synthesize
from reid_edge.errors import InputError
from reid_edge.gallery.base import GalleryStore
from reid_edge.gallery.search import GALLERY_FILES, GalleryFile, new_gallery


def test_a_registered_store_is_written_and_ranked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    kept: dict[Path, GalleryStore] = {}

    @contextmanager
    def new(path: Path) -> Iterator[GalleryStore]:
        gallery = ListGallery()
        yield gallery
        kept[path] = gallery
        path.touch()

    monkeypatch.setitem(GALLERY_FILES, ".list", GalleryFile(lambda path: kept[path], new))
    crops = synthesize(tmp_path / "set", identities=2, test_identities=2, cameras=2, progress=False)
    model, out = write_tiny_model(tmp_path / "tiny.onnx"), tmp_path / "g.LIST"
    embed([crops / "query"], model, out)
    assert isinstance(kept[out], ListGallery) and len(kept[out]) == len(list((crops / "query").iterdir()))
    first = min((crops / "query").iterdir())
    rank([first], out, model, top=1, json_file=tmp_path / "ranked.json")
    (query,) = json.loads((tmp_path / "ranked.json").read_text())["queries"]
    assert query["ranked"][0]["distance"] == pytest.approx(0, abs=1e-6), "a crop is closest to itself"


def test_a_new_gallery_is_written_at_the_end_and_not_after_an_error(tmp_path: Path) -> None:
    with new_gallery(tmp_path / "a.npz") as gallery:
        gallery.enrol([[1.0, 0.0]], ["ann"])
        assert not (tmp_path / "a.npz").exists()
    assert GALLERY_FILES[".npz"].load(tmp_path / "a.npz").labels == ("ann",)
    with pytest.raises(InputError, match="dimensions"), new_gallery(tmp_path / "b.npz") as gallery:
        gallery.enrol([[1.0, 0.0]], ["ann"])
        gallery.enrol([[1.0]], ["bob"])
    assert [path.name for path in tmp_path.iterdir()] == ["a.npz"]
    with pytest.raises(InputError, match=r"suffix \.npz"):
        new_gallery(tmp_path / "gallery")
