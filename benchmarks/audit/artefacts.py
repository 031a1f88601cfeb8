"""The hashes of what a run was measured with, written into its report and checked again by whoever reads it."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from reid_edge.benchmarks.results import BenchReport
from reid_edge.core.files import require_file, sha256_of, write_text
from reid_edge.core.progress import track
from reid_edge.data.datasets import Dataset, open_dataset
from reid_edge.errors import InputError, ReidEdgeError

from .rules import broken_rules

__all__ = ["Audit", "audited", "recheck", "write_audited"]


@dataclass(frozen=True)
class Audit:
    """What `audited` adds to a report: the rules it breaks, and hashes of all it was measured with.

    ``models`` are SHA-256 by path; ``data`` is the data set's path, layout, part, number of crops and SHA-256 (of names
    and contents of queries and gallery, in order); ``report_sha256`` is of the report itself.
    """

    broken: tuple[str, ...]
    models: Mapping[str, str]
    data: Mapping[str, Any]
    report_sha256: str


def audited(report: BenchReport, dataset: Dataset | None) -> Audit:
    """Judge a report, and hash the models and the ``dataset`` (None: none was scored) that it was measured with.

    A model that is another file by now than when it was measured is a broken rule.
    """
    models = {row.path: row.sha256 for row in report.rows}
    changed = [f"{path} changed while it was measured" for path, known in models.items() if _hash(Path(path)) != known]
    data = {} if dataset is None else _data(dataset)
    return Audit((*broken_rules(report), *changed), models, data, _report_sha256(report.to_dict()))


def write_audited(path: Path, report: BenchReport, found: Audit) -> None:
    """Write the report and its audit as one JSON file, whole or not at all."""
    write_text(path, json.dumps({**report.to_dict(), "audit": asdict(found)}, indent=1) + "\n")


def recheck(path: Path | str, *, models: Path | None = None, data: Path | None = None) -> tuple[str, ...]:
    """What is wrong with an audited file, in words; empty where every rule is kept and every hash is right.

    Models are looked for where the file says, or by name in the folder ``models``; the data set where the file says, or
    at ``data``. Raises InputError for a file that was not audited.
    """
    path = require_file(path, "a report of  reid-edge bench --audit")
    report = BenchReport.read(path)
    raw: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    known = raw.pop("audit", None)
    if not isinstance(known, dict) or not {"models", "data", "report_sha256"} <= known.keys():
        raise InputError(f"{path} was not audited: measure with  reid-edge bench --audit")
    found = list(broken_rules(report))
    if _report_sha256(raw) != known["report_sha256"]:
        found.append("the report was changed after it was written")
    if {row.path: row.sha256 for row in report.rows} != known["models"]:
        found.append("the audit lists other models than the rows")
    return (*found, *_wrong_models(known["models"], models), *_wrong_data(known["data"], data))


def _wrong_models(known: Mapping[str, str], folder: Path | None) -> Iterator[str]:
    for name, sha256 in known.items():
        file = Path(name) if folder is None else folder / Path(name).name
        if (actual := _hash(file)) != sha256:
            yield f"{file} {'is not there' if actual is None else 'is another file'}: {sha256[:12]} was measured"


def _wrong_data(known: Mapping[str, Any], folder: Path | None) -> Iterator[str]:
    if not known:
        return
    place = folder or Path(str(known.get("path")))
    try:
        actual = _data(open_dataset(place, known.get("layout"), str(known.get("part"))))
    except ReidEdgeError as error:
        yield f"the data set cannot be checked: {error}"
        return
    if actual["sha256"] != known.get("sha256"):
        yield f"{place} holds other crops than were measured ({actual['crops']}, and {known.get('crops')} then)"


def _data(dataset: Dataset) -> dict[str, Any]:
    crops = dataset.split.query + dataset.split.gallery
    digest = hashlib.sha256()
    for crop in track(crops, "hashing crops"):
        digest.update(f"{crop.path.name} {sha256_of(crop.path)}\n".encode(errors="surrogateescape"))
    return {
        "path": str(dataset.root),
        "layout": dataset.layout,
        "part": dataset.part,
        "crops": len(crops),
        "sha256": digest.hexdigest(),
    }


def _hash(path: Path) -> str | None:
    return sha256_of(path) if path.is_file() else None


def _report_sha256(raw: Mapping[str, Any]) -> str:
    """Of the report as JSON with sorted names, however the file is indented."""
    return hashlib.sha256(json.dumps(raw, sort_keys=True, separators=(",", ":")).encode()).hexdigest()
