"""Any data set through one table: a CSV or Parquet file with the columns path, pid, camid and split."""

from __future__ import annotations

import csv
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from reid_edge.core.files import require_file
from reid_edge.errors import DatasetError, MissingExtraError

from .base import DatasetReader
from .files import whole_number
from .listing import Crop, Listing, Split

__all__ = ["MANIFEST_SUFFIXES", "Manifest", "read_manifest"]

MANIFEST_SUFFIXES = frozenset({".csv", ".parquet"})

_COLUMNS = ("path", "pid", "camid", "split")
_SPLITS = ("train", "query", "gallery")


class Manifest(DatasetReader):
    """A CSV or Parquet file, auto-detected by its suffix."""

    name = "manifest"
    title = "a manifest"

    def home(self, path: Path) -> Path | None:
        """The file itself."""
        return path if path.is_file() and path.suffix.lower() in MANIFEST_SUFFIXES else None

    def required_home(self, path: Path) -> Path:
        """Any file: one without the usual suffix is read as CSV."""
        return require_file(path, "a manifest")

    def display_name(self, home: Path) -> str:
        """The file name without its suffix."""
        return home.stem

    def read(self, home: Path, part: str) -> Listing:
        """Read the table."""
        return read_manifest(home)


def read_manifest(path: Path | str) -> Listing:
    """Read a manifest: one row per crop, whose ``split`` is train, query or gallery.

    Relative paths start at the manifest's folder. ``pid`` numbers the person in every row or names it in every row; a
    row with a negative one is junk and dropped. Other columns are ignored. A crop may be in two splits, as where
    queries are also in the gallery, with the same ids. Raises DatasetError that names the wrong line or the missing
    crop.
    """
    path = require_file(path, "a manifest")
    rows = _parquet_rows(path) if path.suffix.lower() == ".parquet" else _csv_rows(path)
    crops: dict[str, list[Crop]] = {name: [] for name in _SPLITS}
    listed: dict[str, dict[str, Crop]] = {}
    junk = 0
    persons = _Persons()
    for where, row in rows:
        crop, split = _crop(row, path.parent, persons, f"{path}, {where}")
        _check_once(crop, split, listed.setdefault(os.path.normpath(crop.path), {}), f"{path}, {where}")
        if crop.pid < 0:
            junk += 1
        else:
            crops[split].append(crop)
    if not any(crops.values()):
        raise DatasetError(f"{path} names no crops: give a row for each, with {', '.join(_COLUMNS)}")
    names = {pid: name for name, pid in persons.ids.items()}
    return Listing(Split(*(tuple(crops[name]) for name in _SPLITS)), junk, names=names)


class _Persons:
    """The ids of a column that numbers or names its persons; named ones are numbered in order of appearance."""

    def __init__(self) -> None:
        self.ids: dict[str, int] = {}
        self._numbered = False

    def id_of(self, value: Any, where: str) -> int:
        """The id of the person in a row. Raises DatasetError for no number or name, and for both in one column."""
        text = str(value).strip()
        number = whole_number(text)
        if number is None and not (isinstance(value, str) and any(map(str.isalpha, text))):
            raise DatasetError(
                f"{where}: pid {_quoted(value)} is not a whole number or a name: "
                f"write up to 18 digits, no point, or a name with a letter"
            )
        if number is not None and number < 0:
            return number
        self._numbered |= number is not None
        if self._numbered and (number is None or self.ids):
            raise DatasetError(
                f"{where}: pid {_quoted(value)}: some rows number their persons, others name them: write one kind"
            )
        return self.ids.setdefault(text, len(self.ids)) if number is None else number


def _crop(row: dict[str, Any], base: Path, persons: _Persons, where: str) -> tuple[Crop, str]:
    split = str(row["split"])
    if split not in _SPLITS:
        raise DatasetError(f"{where}: split {_quoted(split)} is unknown: give {', '.join(_SPLITS)}")
    path = base / _file_name(row["path"], base, where)
    return Crop(path, persons.id_of(row["pid"], where), _camera(row["camid"], where)), split


def _check_once(crop: Crop, split: str, known: dict[str, Crop], where: str) -> None:
    """Add the crop to its ``known`` rows by split; raises DatasetError where they contradict it or repeat it."""
    if split in known:
        raise DatasetError(f"{where}: {_quoted(crop.path.name)} is in the {split} split already: keep one row")
    if any((other.pid, other.camid) != (crop.pid, crop.camid) for other in known.values()):
        raise DatasetError(f"{where}: {_quoted(crop.path.name)} had another pid or camid in a row before: correct one")
    known[split] = crop


def _file_name(value: Any, base: Path, where: str) -> str:
    if not isinstance(value, str) or not value:
        raise DatasetError(f"{where}: path {_quoted(value)} is empty or not text: name an image file")
    if not os.path.isfile(base / value):  # Path.is_file raises for a name that is too long
        raise DatasetError(f"{where}: {_quoted(value)} is not a file in the manifest's folder: correct the path")
    return value


def _camera(value: Any, where: str) -> int:
    number = whole_number(str(value).strip())
    if number is None:
        raise DatasetError(f"{where}: camid {_quoted(value)} is not a whole number: write up to 18 digits, no point")
    return number


def _quoted(value: Any) -> str:
    """``repr`` on one line, at most 80 characters: a manifest may hold anything."""
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:76]}...{text[-1]}"


def _csv_rows(path: Path) -> Iterable[tuple[str, dict[str, Any]]]:
    try:
        with open(path, newline="", encoding="utf-8-sig") as file:
            reader = csv.DictReader(file, strict=True, skipinitialspace=True)
            _check_columns(reader.fieldnames or (), path)
            for row in reader:
                if None in row or None in row.values():
                    raise DatasetError(
                        f"{path}, line {reader.line_num}: the number of fields differs from the header's"
                    )
                yield f"line {reader.line_num}", row
    except (csv.Error, UnicodeDecodeError, OSError) as error:
        raise DatasetError(
            f"{path} is not a CSV file that can be read ({error}): save it as UTF-8 CSV with a header"
        ) from None


def _parquet_rows(path: Path) -> Iterable[tuple[str, dict[str, Any]]]:
    try:
        import pyarrow
        import pyarrow.parquet
    except ModuleNotFoundError:
        raise MissingExtraError("pyarrow", "reading Parquet manifests") from None
    try:
        table = pyarrow.parquet.ParquetFile(path)
        _check_columns(table.schema_arrow.names, path)
        rows = table.read(columns=list(_COLUMNS)).to_pylist()
    except (pyarrow.ArrowException, OSError, ValueError, OverflowError) as error:  # damaged files raise many kinds
        raise DatasetError(
            f"{path} is not a Parquet file ({_quoted(str(error))}): write it again, or use CSV"
        ) from None
    for number, row in enumerate(rows, start=1):
        yield f"row {number}", row


def _check_columns(names: Iterable[str], path: Path) -> None:
    names = list(names)
    missing = [column for column in _COLUMNS if column not in names]
    if missing:
        found = _quoted(", ".join(names))
        raise DatasetError(f"{path} lacks the column {', '.join(missing)}: add it to the header, which is {found}")
    twice = [column for column in _COLUMNS if names.count(column) > 1]
    if twice:
        raise DatasetError(f"{path} has the column {', '.join(twice)} twice: keep one")
