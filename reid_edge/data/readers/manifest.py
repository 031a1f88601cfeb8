"""Any data set through one table: a CSV or Parquet file with the columns path, pid, camid and split."""

from __future__ import annotations

import csv
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from .errors import DatasetError, MissingExtraError
from .files import require_file
from .layouts import Listing, whole_number
from .records import Crop, Split

__all__ = ["MANIFEST_SUFFIXES", "read_manifest"]

MANIFEST_SUFFIXES = frozenset({".csv", ".parquet"})

_COLUMNS = ("path", "pid", "camid", "split")
_SPLITS = ("train", "query", "gallery")


def read_manifest(path: Path | str) -> Listing:
    """Read a manifest: a row a crop, ``split`` being train, query or gallery.

    Relative paths start at the manifest's folder; a negative ``pid`` is junk, and dropped; other columns are ignored.
    Raises DatasetError naming the line that is wrong, or a crop that is not there.
    """
    path = require_file(path, "a manifest")
    rows = _parquet_rows(path) if path.suffix.lower() == ".parquet" else _csv_rows(path)
    crops: dict[str, list[Crop]] = {name: [] for name in _SPLITS}
    junk = 0
    for where, row in rows:
        crop, split = _crop(row, path.parent, f"{path}, {where}")
        if crop.pid < 0:
            junk += 1
        else:
            crops[split].append(crop)
    if not any(crops.values()):
        raise DatasetError(f"{path} names no crops: give a row for each, with {', '.join(_COLUMNS)}")
    return Listing(Split(*(tuple(crops[name]) for name in _SPLITS)), junk)


def _crop(row: dict[str, Any], base: Path, where: str) -> tuple[Crop, str]:
    split = str(row["split"])
    if split not in _SPLITS:
        raise DatasetError(f"{where}: split {_shown(split)} is unknown: give {', '.join(_SPLITS)}")
    path = base / _file_name(row["path"], base, where)
    return Crop(path, _whole(row["pid"], "pid", where), _whole(row["camid"], "camid", where)), split


def _file_name(value: Any, base: Path, where: str) -> str:
    if not isinstance(value, str) or not value:
        raise DatasetError(f"{where}: path {_shown(value)} is empty or no text: name an image file")
    if not os.path.isfile(base / value):  # Path.is_file raises for a name that is too long
        raise DatasetError(f"{where}: {_shown(value)} is no file, seen from the manifest's folder: mend the path")
    return value


def _whole(value: Any, column: str, where: str) -> int:
    number = whole_number(str(value).strip())
    if number is None:
        raise DatasetError(f"{where}: {column} {_shown(value)} is no whole number: write 18 digits at most, no point")
    return number


def _shown(value: Any) -> str:
    """On one line, and cut short: a manifest may hold anything."""
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:76]}...{text[-1]}"


def _csv_rows(path: Path) -> Iterable[tuple[str, dict[str, Any]]]:
    try:
        with open(path, newline="", encoding="utf-8-sig") as file:
            reader = csv.DictReader(file, strict=True, skipinitialspace=True)
            _check_columns(reader.fieldnames or (), path)
            for row in reader:
                if None in row or None in row.values():
                    raise DatasetError(f"{path}, line {reader.line_num}: not as many fields as the header has")
                yield f"line {reader.line_num}", row
    except (csv.Error, UnicodeDecodeError) as error:
        raise DatasetError(f"{path} is no CSV file ({error}): save it as UTF-8 CSV with a header") from None


def _parquet_rows(path: Path) -> Iterable[tuple[str, dict[str, Any]]]:
    try:
        import pyarrow
        import pyarrow.parquet
    except ModuleNotFoundError:
        raise MissingExtraError("pyarrow", "parquet", "reading Parquet manifests") from None
    try:
        table = pyarrow.parquet.ParquetFile(path)
        _check_columns(table.schema_arrow.names, path)
        rows = table.read(columns=list(_COLUMNS)).to_pylist()
    except (pyarrow.ArrowException, OSError, ValueError, OverflowError) as error:  # damage shows in many ways
        raise DatasetError(f"{path} is no Parquet file ({_shown(str(error))}): write it again, or use CSV") from None
    for number, row in enumerate(rows, start=1):
        yield f"row {number}", row


def _check_columns(names: Iterable[str], path: Path) -> None:
    names = list(names)
    missing = [column for column in _COLUMNS if column not in names]
    if missing:
        found = _shown(", ".join(names))
        raise DatasetError(f"{path} lacks the column {', '.join(missing)}: name it in the header, now {found}")
    twice = [column for column in _COLUMNS if names.count(column) > 1]
    if twice:
        raise DatasetError(f"{path} has the column {', '.join(twice)} twice: keep one")
