"""A data set opened once and decoded once gives the same pixels and figures as its folder does."""

from __future__ import annotations

import errno
import os
import shutil
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers.tiny_onnx import write_tiny_model

from reid_edge.data import datasets, decoding
from reid_edge.data.images import read_crops
from reid_edge.data.synthetic.dataset import synthesize
from reid_edge.errors import DatasetError, ImageError, InputError
from reid_edge.scoring import extraction, test_set
from reid_edge.scoring.evaluation import evaluate
from reid_edge.scoring.test_set import TestSet


@pytest.fixture(scope="module")
def people(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("test_set") / "people"
    return synthesize(folder, identities=2, test_identities=4, cameras=3, progress=False)


@pytest.fixture
def counts(monkeypatch: pytest.MonkeyPatch) -> Counter[str]:
    """How often a data set was opened and an image decoded, by the real functions."""
    found: Counter[str] = Counter()

    def counted(name: str, function: Any) -> Any:
        def call(*arguments: Any, **options: Any) -> Any:
            found[name] += 1
            return function(*arguments, **options)

        return call

    opening = counted("open", datasets.open_dataset)
    for module in (test_set, extraction):
        monkeypatch.setattr(module, "open_dataset", opening)
    monkeypatch.setattr(decoding, "decode", counted("decode", decoding.decode))
    return found


def paths_of(data: TestSet) -> list[Path]:
    return [crop.path for crop in (*data.dataset.split.query, *data.dataset.split.gallery)]


def test_two_models_are_scored_with_one_opening_and_one_decoding(
    people: Path, tmp_path: Path, counts: Counter[str]
) -> None:
    models = [write_tiny_model(tmp_path / f"{n}.onnx", input_hw=(64, 32), stripes=n) for n in (2, 8)]
    expected = [evaluate(model, people).metrics.to_dict() for model in models]
    assert counts["open"] == 2 and counts["decode"] == 2 * (expected[0]["queries"] + expected[0]["gallery"])
    counts.clear()
    with TestSet.open(people) as data:
        assert [evaluate(model, data).metrics.to_dict() for model in models] == expected
        assert expected[0] != expected[1]
        assert counts == {"open": 1, "decode": len(set(paths_of(data)))}


def test_another_size_and_another_resize_are_decoded_apart(people: Path, counts: Counter[str]) -> None:
    with TestSet.open(people) as data:
        paths = paths_of(data)[:5]
        for size, method in (((32, 16), "opencv"), ((64, 32), "opencv"), ((32, 16), "pillow-bilinear")):
            expected = read_crops(paths, size, method)
            counts.clear()
            for _ in range(2):
                assert np.array_equal(data.batch(paths, size, method), expected)
            assert counts["decode"] == 5


def test_the_order_asked_for_is_the_order_given(people: Path, counts: Counter[str]) -> None:
    with TestSet.open(people) as data:
        first, second, third = paths_of(data)[:3]
        data.decoded([second], (32, 16))
        crops = data.batch([third, second, first, third], (32, 16))
        assert counts["decode"] == 3
        assert np.array_equal(crops, read_crops([third, second, first, third], (32, 16)))
        assert data.batch([], (32, 16)).shape == (0, 32, 16, 3)


def test_what_memory_does_not_hold_lies_in_files_that_close_frees(
    people: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(test_set, "_BLOCK", 4)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    size = 32 * 16 * 3
    with TestSet.open(people, memory_bytes=2 * 4 * size) as data:
        paths = paths_of(data)
        assert len(paths) > 12
        crops = data.decoded(paths, (32, 16))
        assert np.array_equal(np.stack(crops), read_crops(paths, (32, 16)))
        mapped = [isinstance(base_of(crop), np.memmap) for crop in crops]
        assert mapped == [False] * 8 + [True] * (len(paths) - 8)
        assert open_files_in(tmp_path) == -(-(len(paths) - 8) // 4)
        del crops
    assert open_files_in(tmp_path) == 0 and not list(tmp_path.iterdir())
    again = data.decoded(paths[:1], (32, 16))[0]
    assert not isinstance(base_of(again), np.memmap), "a closed set starts afresh"


def test_a_full_temporary_folder_is_one_line(people: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("os.posix_fallocate", full, raising=False)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    with TestSet.open(people, memory_bytes=0) as data:
        with pytest.raises(InputError, match="has no space for 0 MB more of decoded crops: free some, or set TMPDIR"):
            data.decoded(paths_of(data), (32, 16))


def base_of(array: Any) -> Any:
    """The array that owns the pixels."""
    while isinstance(array.base, np.ndarray):
        array = array.base
    return array


def open_files_in(folder: Path) -> int:
    """How many files of this process lie in a folder, also those without a name."""
    if not Path("/proc/self/fd").is_dir():
        pytest.skip("needs /proc")
    links = [os.readlink(f"/proc/self/fd/{number}") for number in os.listdir("/proc/self/fd") if _is_link(number)]
    return sum(link.startswith(str(folder)) for link in links)


def _is_link(number: str) -> bool:
    return os.path.islink(f"/proc/self/fd/{number}")


def test_decoded_crops_cannot_be_written_to(people: Path) -> None:
    with TestSet.open(people) as data:
        (crop,) = data.decoded(paths_of(data)[:1], (32, 16))
        with pytest.raises(ValueError, match="read-only"):
            crop[0] = 0
        data.batch(paths_of(data)[:1], (32, 16))[0] = 0
        assert np.array_equal(data.decoded(paths_of(data)[:1], (32, 16))[0], crop) and crop.any()


def test_bad_input_is_refused_as_from_a_folder(people: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="does not exist"):
        TestSet.open(tmp_path / "nowhere")
    (tmp_path / "empty").mkdir()
    with pytest.raises(DatasetError, match="is in no known layout"):
        TestSet.open(tmp_path / "empty")
    copy = shutil.copytree(people, tmp_path / "people")
    with TestSet.open(copy) as data:
        broken = paths_of(data)[3]
        broken.write_bytes(b"")
        with pytest.raises(ImageError, match=rf"{broken.name} is empty"):
            data.decoded(paths_of(data), (32, 16))
        with pytest.raises(InputError, match="resize 'nearest' is unknown"):
            data.decoded(paths_of(data), (32, 16), "nearest")
