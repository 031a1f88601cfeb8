"""Manifests: CSV and Parquet tables of crops, and the line that is wrong in a bad one."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import pytest
from helpers.drawn_layouts import paint_crops, touch_crops
from helpers.mutations import mutations
from helpers.reference_readers import reference_manifest
from helpers.tiny_onnx import write_tiny_model

from reid_edge.data.datasets import open_dataset
from reid_edge.data.records import Crop
from reid_edge.errors import DatasetError, MissingExtraError
from reid_edge.scoring.evaluation import evaluate

MANIFEST = (
    "path,pid,camid,split,note\na.jpg,3,0,train,x\nsub/b.jpg,4,1,query,\nsub/c.jpg,4,2,gallery,\nd.jpg,-1,2,gallery,\n"
)


def _manifest(folder: Path, text: str = MANIFEST) -> Path:
    touch_crops(folder, ["a.jpg", "sub/b.jpg", "sub/c.jpg", "d.jpg"])
    path = folder / "crops.csv"
    path.write_text(text)
    return path


def test_a_manifest_starts_its_paths_at_its_own_folder(tmp_path: Path) -> None:
    dataset = open_dataset(_manifest(tmp_path))
    assert dataset.layout == "manifest" and dataset.name == "crops"
    assert dataset.split.train == (Crop(tmp_path / "a.jpg", 3, 0),)
    assert dataset.split.query == (Crop(tmp_path / "sub/b.jpg", 4, 1),)
    assert dataset.split.gallery == (Crop(tmp_path / "sub/c.jpg", 4, 2),)
    assert dataset.listing.junk == 1


def test_persons_may_have_names(tmp_path: Path) -> None:
    """Numbered in order of appearance; spaces around a name are no part of it, and a negative number is still junk."""
    rows = ["a.jpg, bert ,1,train", "sub/b.jpg,Änna 2,1,query", "sub/c.jpg,Änna 2,2,gallery", "d.jpg,-1,1,gallery"]
    dataset = open_dataset(_manifest(tmp_path, "\n".join(["path,pid,camid,split", *rows, ""])))
    split = dataset.split
    assert [crop.pid for crop in (*split.train, *split.query, *split.gallery)] == [0, 1, 1]
    assert [dataset.name_of(pid) for pid in (0, 1)] == ["bert", "Änna 2"] and dataset.listing.junk == 1
    assert dataset.name_of(7) == "7"


def test_named_persons_are_scored_as_numbered_ones(tmp_path: Path) -> None:
    """Bert looks like anna's query, her crop by the same camera is dropped, and her match comes second: AP 1/2."""
    paint_crops(tmp_path, {"1.png": 90, "2.png": 90, "3.png": 60, "4.png": 90})
    rows = ["1.png,anna,1,query", "2.png,anna,1,gallery", "3.png,anna,2,gallery", "4.png,bert,2,gallery"]
    (tmp_path / "m.csv").write_text("\n".join(["path,pid,camid,split", *rows, ""]))
    model = write_tiny_model(tmp_path / "tiny.onnx", input_hw=(32, 16))
    metrics = evaluate(model, tmp_path / "m.csv").metrics
    assert (metrics.rank(1), metrics.rank(2), metrics.mAP) == (0.0, 1.0, 0.5)


def test_a_parquet_manifest_reads_as_its_csv(tmp_path: Path) -> None:
    pyarrow = pytest.importorskip("pyarrow", reason="needs the parquet extra")
    from pyarrow import parquet

    expected = open_dataset(_manifest(tmp_path)).split
    rows = [line.split(",") for line in MANIFEST.splitlines()]
    columns = {name: [row[i] for row in rows[1:]] for i, name in enumerate(rows[0])}
    table = pyarrow.table(
        {**columns, "pid": [int(v) for v in columns["pid"]], "camid": [int(v) for v in columns["camid"]]}
    )
    parquet.write_table(table, tmp_path / "crops.parquet")
    assert open_dataset(tmp_path / "crops.parquet").split == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("path,pid,camid\na.jpg,1,1\n", "lacks the column split"),
        (
            "path,pid,camid,split\na.jpg,7,1,train\nd.jpg,O7,1,train\n",
            "line 3: pid 'O7': some rows number their persons",
        ),
        (
            "path,pid,camid,split\na.jpg,anna,1,train\nd.jpg,7,1,train\n",
            "line 3: pid '7': some rows number their persons",
        ),
        ("path,pid,camid,split\na.jpg,,1,train\n", "line 2: pid '' is not a whole number or a name"),
        (
            "path,pid,camid,split\na.jpg,anna,1,query\na.jpg,bert,1,gallery\n",
            "line 3: 'a.jpg' had another pid or camid",
        ),
        ("path,pid,camid,split\na.jpg,1,1,train\na.jpg,1,,train\n", "line 3: camid '' is not a whole number"),
        ("path,pid,camid,split\na.jpg,1,1,testing\n", "line 2: split 'testing' is unknown"),
        ("path,pid,camid,split\nno.jpg,1,1,train\n", "line 2: 'no.jpg' is not a file"),
        ("path,pid,camid,split\nsub,1,1,train\n", "line 2: 'sub' is not a file"),
        ("path,pid,camid,split\n,1,1,train\n", "line 2: path '' is empty"),
        (f"path,pid,camid,split\n{'x' * 5000},1,1,train\n", "xxx...' is not a file"),
        ('path,pid,camid,split\n"a\nb\x1b.jpg",1,1,train\n', r"'a\nb\x1b.jpg' is not a file"),
        ("path,pid,camid,split\na.jpg,1.0,1,train\n", "line 2: pid '1.0' is not a whole number"),
        ("path,pid,camid,split\na.jpg,1_0,1,train\n", "line 2: pid '1_0' is not a whole number"),
        (f"path,pid,camid,split\na.jpg,1,{'9' * 19},train\n", "line 2: camid '9999"),
        ("path,pid,camid,split,pid\na.jpg,1,1,train,2\n", "has the column pid twice"),
        ("path;pid;camid;split\na.jpg;1;1;train\n", "which is 'path;pid;camid;split'"),
        ("path,pid,camid,split\na.jpg,1\n", "line 2: the number of fields differs"),
        ("path,pid,camid,split\na.jpg,1,1,train,more\n", "line 2: the number of fields differs"),
        ("path,pid,camid,split\n", "names no crops"),
        ("path,pid,camid,split\na.jpg,٣,1,train\n", "line 2: pid '٣' is not a whole number"),
        ("path,pid,camid,split\na.jpg,18446744073709551615,1,train\n", "line 2: pid '18446744073709551615' is not"),
        ("path,pid,camid,split\na.jpg,1,1,train\na.jpg,1,1,train\n", "line 3: 'a.jpg' is in the train split already"),
        ("path,pid,camid,split\na.jpg,1,1,train\n./a.jpg,1,1,train\n", "line 3: 'a.jpg' is in the train split already"),
        ("path,pid,camid,split\na.jpg,1,1,query\na.jpg,2,1,gallery\n", "line 3: 'a.jpg' had another pid or camid"),
        ("path,pid,camid,split\na.jpg\0,1,1,train\n", "crops.csv"),
        (f"path,pid,camid,split\n{'x' * 10**7},1,1,train\n", "field larger than field limit"),
        (f"{'x' * 10**7}\n", "field larger than field limit"),
        ('path,pid,camid,split\n"a.jpg,1,1,train\n', "not a CSV file that can be read"),
        ("", "lacks the column"),
    ],
)
def test_a_bad_manifest_is_refused_with_its_line(tmp_path: Path, text: str, expected: str) -> None:
    with pytest.raises(DatasetError, match=re.escape(expected)) as caught:
        open_dataset(_manifest(tmp_path, text))
    assert "crops.csv" in str(caught.value) and "\n" not in str(caught.value)


def test_a_manifest_may_have_spaces_after_its_commas(tmp_path: Path) -> None:
    path = _manifest(tmp_path, "path, pid, camid, split\na.jpg, 3, 0, train\n")
    assert open_dataset(path).split.train == (Crop(tmp_path / "a.jpg", 3, 0),)


@pytest.mark.parametrize(
    ("column", "value", "expected"),
    [
        ("pid", 1.5, "pid 1.5"),
        ("pid", float("inf"), "pid inf"),
        ("pid", True, "pid True"),
        ("camid", None, "camid None"),
        ("camid", True, "camid True"),
        ("path", b"a.jpg", "path b'a.jpg'"),
        ("path", None, "path None"),
        ("split", None, "split 'None'"),
    ],
)
def test_a_bad_value_in_parquet_is_refused_with_its_row(
    tmp_path: Path, column: str, value: object, expected: str
) -> None:
    pyarrow = pytest.importorskip("pyarrow", reason="needs the parquet extra")
    from pyarrow import parquet

    touch_crops(tmp_path, ["a.jpg"])
    row = {"path": "a.jpg", "pid": 1, "camid": 1, "split": "train", column: value}
    table = pyarrow.table({name: [kept] for name, kept in row.items()})
    parquet.write_table(table, tmp_path / "m.parquet")
    with pytest.raises(DatasetError, match=re.escape(f"m.parquet, row 1: {expected}")):
        open_dataset(tmp_path / "m.parquet")


def test_a_damaged_parquet_file_is_refused_whatever_byte_is_wrong(tmp_path: Path) -> None:
    pyarrow = pytest.importorskip("pyarrow", reason="needs the parquet extra")
    from pyarrow import parquet

    touch_crops(tmp_path, ["a.jpg"])
    path = tmp_path / "m.parquet"
    parquet.write_table(pyarrow.table({"path": ["a.jpg"], "pid": [1], "camid": [1], "split": ["train"]}), path)
    whole = path.read_bytes()
    refused = 0
    for place in range(0, len(whole), 7):
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 0xC3]) + whole[place + 1 :])
        try:
            open_dataset(path)
        except DatasetError as error:
            refused += 1
            assert str(error).isprintable()
    assert refused > 20


def test_without_pyarrow_parquet_names_its_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    (tmp_path / "m.parquet").write_bytes(b"")
    with pytest.raises(MissingExtraError, match="needs pyarrow: run  pip install pyarrow$"):
        open_dataset(tmp_path / "m.parquet")


def test_a_manifest_with_a_mark_of_byte_order_and_quotes_is_read(tmp_path: Path) -> None:
    touch_crops(tmp_path, ["a,[1] b.jpg"])
    (tmp_path / "m.csv").write_bytes(b'\xef\xbb\xbfpath,pid,camid,split\r\n"a,[1] b.jpg","7",2,train\r\n')
    assert open_dataset(tmp_path / "m.csv").split.train == (Crop(tmp_path / "a,[1] b.jpg", 7, 2),)


@pytest.mark.parametrize("encoding", ["utf-16", "latin-1"])
def test_another_encoding_is_refused(tmp_path: Path, encoding: str) -> None:
    (tmp_path / "m.csv").write_bytes("path,pid,camid,split\né.jpg,1,1,train\n".encode(encoding))
    with pytest.raises(DatasetError, match="save it as UTF-8"):
        open_dataset(tmp_path / "m.csv")


@pytest.mark.parametrize(
    ("name", "value"), [("uint64", 2**64 - 1), ("uint64", 2**63), ("float64", 1.0), ("bool_", True)]
)
def test_a_parquet_column_of_another_type_is_refused(tmp_path: Path, name: str, value: object) -> None:
    pyarrow = pytest.importorskip("pyarrow", reason="needs the parquet extra")
    from pyarrow import parquet

    touch_crops(tmp_path, ["a.jpg"])
    pid = pyarrow.array([value], getattr(pyarrow, name)())
    parquet.write_table(
        pyarrow.table({"path": ["a.jpg"], "pid": pid, "camid": [1], "split": ["train"]}), tmp_path / "m.parquet"
    )
    with pytest.raises(DatasetError, match=f"row 1: pid {value} is not a whole number"):
        open_dataset(tmp_path / "m.parquet")


def test_what_is_accepted_is_read_as_it_says(tmp_path: Path) -> None:
    path = _manifest(tmp_path)
    accepted = 0
    numbered = MANIFEST.replace(",x", ',"x, ""y"""')
    named = numbered.replace(",3,", ",anna,").replace(",4,", ",bert,")
    texts = [*mutations(numbered.encode(), 0, count=400), *mutations(named.encode(), 1, count=400)]
    for kind, damaged in texts:
        path.write_bytes(damaged)
        try:
            split = open_dataset(path).split
        except DatasetError as error:
            assert "\n" not in str(error), kind
            continue
        accepted += 1
        expected = reference_manifest(damaged, tmp_path)
        for name, rows in expected.items():
            assert [(c.path, c.pid, c.camid) for c in getattr(split, name)] == rows, (kind, damaged)
    assert accepted > 50


def test_bytes_that_are_no_table_are_refused(tmp_path: Path) -> None:
    for name in ("m.csv", "m.parquet"):
        (tmp_path / name).write_bytes(b"\xff\xfe\x00PAR1nonsense")
        with pytest.raises(DatasetError, match=name):
            open_dataset(tmp_path / name)
