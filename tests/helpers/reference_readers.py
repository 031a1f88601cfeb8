"""Galleries, pair heads and manifests read from their definitions, with nothing of the package, to compare with.

Each takes the bytes of a file and raises ValueError where they are invalid. What the package accepts must be valid
here and be read as here; the package may refuse more (a compressed entry, say, which `numpy.load` takes).
"""

from __future__ import annotations

import hashlib
import io
import json
import re
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = [
    "ReferenceGallery",
    "ReferenceHead",
    "reference_gallery",
    "reference_head",
    "reference_manifest",
    "sealed",
]


@dataclass(frozen=True)
class ReferenceGallery:
    model: str
    embeddings: NDArray[np.float32]
    labels: list[str]


@dataclass(frozen=True)
class ReferenceHead:
    model: str
    weight: NDArray[np.float32]
    bias: NDArray[np.float32]
    line: NDArray[np.float64]
    knots: NDArray[np.float32]
    facts: dict[str, Any]

    def probability(self, first: NDArray[np.float32], second: NDArray[np.float32]) -> float:
        """At a prior of one half, of one embedding [D] and another, in float64 and step by step."""
        a, b = (self.weight.astype(float) @ row + self.bias for row in (first.astype(float), second.astype(float)))
        odds = self.line[0] * float(a @ b) / (np.sqrt(a @ a) * np.sqrt(b @ b)) + self.line[1]
        if self.knots.size:
            odds = float(np.interp(odds, self.knots[0], self.knots[1]))
        return float(1 / (1 + np.exp(-odds)))


def sealed(npz: bytes) -> bytes:
    """The bytes with the seal that they should have: to plant faults that a hostile hand could."""
    body = npz[:-64] if npz[-66:-64] == b"\x40\x00" else npz[:-2] + b"\x40\x00"
    return body + hashlib.sha256(body).hexdigest().encode()


def reference_gallery(content: bytes) -> ReferenceGallery:
    names, arrays = _arrays(content)
    if names == {"version", "model", "embeddings", "labels"} and arrays["version"] == 1:
        labels = [str(label) for label in arrays["labels"]]
    elif names == {"version", "model", "embeddings", "labels", "label_ends"} and arrays["version"] == 2:
        labels = _labels(content, arrays["labels"], arrays["label_ends"])
    else:
        raise ValueError("not a gallery")
    embeddings = arrays["embeddings"]
    if embeddings.dtype != np.float32 or embeddings.ndim != 2 or len(embeddings) != len(labels):
        raise ValueError("a row for each label")
    if not np.isfinite(embeddings).all() or any("\0" in label for label in labels):
        raise ValueError("finite rows, and labels without NUL")
    return ReferenceGallery(str(arrays["model"]), embeddings, labels)


def reference_head(content: bytes) -> ReferenceHead:
    names, arrays = _arrays(content)
    if names != {"version", "model", "weight", "bias", "line", "knots", "facts"}:
        raise ValueError("not a pair head")
    if arrays["version"] == 2:
        _check_seal(content)
    elif arrays["version"] != 1:
        raise ValueError("another version")
    weight, bias, line, knots = (arrays[name] for name in ("weight", "bias", "line", "knots"))
    if bias.shape != weight.shape[:1] or line.shape != (2,) or knots.shape[:1] != (2,) or knots.ndim != 2:
        raise ValueError("shapes that do not fit")
    if not all(np.isfinite(each).all() for each in (weight, bias, line, knots)):
        raise ValueError("finite values")
    if list(knots[0]) != sorted(knots[0]):
        raise ValueError("knots that ascend")
    return ReferenceHead(str(arrays["model"]), weight, bias, line, knots, json.loads(str(arrays["facts"])))


def reference_manifest(content: bytes, folder: Path) -> dict[str, list[tuple[Path, int, int]]]:
    """(path, person, camera) of each row of a CSV manifest, in order, by split; rows with a person below 0 left out.

    Where persons have names, a person is the number of names before the first appearance.
    """
    header, *rows = _csv(content.decode("utf-8-sig"))
    columns = {name: header.index(name) for name in ("path", "pid", "camid", "split")}
    splits: dict[str, list[tuple[Path, int, int]]] = {"train": [], "query": [], "gallery": []}
    persons: list[str] = []
    for row in rows:
        if len(row) != len(header):
            raise ValueError("a field for each column")
        path, pid, camid, split = (row[column] for column in columns.values())
        camera = _decimal(camid.strip())
        if "\0" in path or not (folder / path).is_file():
            raise ValueError("a crop that is there")
        own = splits[split] if split in splits else None
        if own is None:
            raise ValueError("a known split")
        person = pid.strip()
        if re.fullmatch("-[0-9]+", person) and _decimal(person) < 0:
            continue
        persons.append(person)
        own.append((folder / path, persons.index(person), camera))
    if all(set(person) <= set("-0123456789") for person in persons):
        return {
            split: [(path, _decimal(persons[i]), camera) for path, i, camera in own] for split, own in splits.items()
        }
    if any(not re.search(r"[^\W\d_]", person) for person in persons):
        raise ValueError("names with a letter, each of them")
    order = list(dict.fromkeys(persons))
    return {
        split: [(path, order.index(persons[i]), camera) for path, i, camera in own] for split, own in splits.items()
    }


def _arrays(content: bytes) -> tuple[set[str], dict[str, NDArray[Any]]]:
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            names = archive.namelist()
            arrays = {name[:-4]: np.load(io.BytesIO(archive.read(name)), allow_pickle=False) for name in names}
    except Exception as error:
        raise ValueError(f"not an archive of arrays: {error}") from None
    if len(set(names)) != len(names) or not all(name.endswith(".npy") for name in names):
        raise ValueError("each entry once")
    return set(arrays), arrays


def _check_seal(content: bytes) -> None:
    if hashlib.sha256(content[:-64]).hexdigest().encode() != content[-64:]:
        raise ValueError("changed since it was written")


def _labels(content: bytes, encoded: NDArray[np.uint8], ends: NDArray[np.int64]) -> list[str]:
    _check_seal(content)
    labels, start = [], 0
    for end in ends.tolist():
        if not start <= end <= len(encoded):
            raise ValueError("ends that ascend")
        labels.append(bytes(encoded[start:end].tolist()).decode("utf-8", "surrogatepass"))
        start = end
    if start != len(encoded):
        raise ValueError("every byte in a label")
    return labels


def _decimal(text: str) -> int:
    """A whole number of up to 18 digits 0 to 9; `int` alone takes other alphabets, spaces and underscores."""
    digits = text.removeprefix("-")
    if not 1 <= len(digits) <= 18 or set(digits) - set("0123456789"):
        raise ValueError(f"{text!r} is not a whole number")
    return int(text)


def _csv(text: str) -> list[list[str]]:
    """The rows of RFC 4180, sign by sign, with spaces after a comma left out; empty lines are no rows."""
    rows: list[list[str]] = []
    row: list[str] = []
    field, quoted, closed, started = "", False, False, False
    at = 0
    while at <= len(text):
        sign = text[at] if at < len(text) else "\n"
        at += 1
        if quoted:
            if at > len(text):
                raise ValueError("a quote that does not close")
            if sign != '"':
                field += sign
            elif text[at : at + 1] == '"':
                field, at = field + '"', at + 1
            else:
                quoted, closed = False, True
        elif sign == '"' and not field and not closed:
            quoted = started = True
        elif sign in ",\r\n":
            if sign == "," or row or started or field:
                row.append(field)
            field, closed, started = "", False, sign == ","
            if sign != ",":
                at += sign == "\r" and text[at : at + 1] == "\n"
                rows += [row] if row else []
                row, started = [], False
        elif closed:
            raise ValueError("text after a quote")
        elif sign != " " or field:
            field += sign
            started = True
    return rows
