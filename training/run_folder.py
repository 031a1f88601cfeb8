"""Decoded crops, once: a memory-mapped uint8 array that every epoch, and every later run, reads.

Decoding and resizing cost more than augmenting, and never change from epoch to epoch. The cache lies in
``$REID_EDGE_CACHE``, or ``~/.cache/reid-edge``; its files can be deleted at any time.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from reid_edge.errors import ImageError
from reid_edge.files import written_whole
from reid_edge.images import read_crops
from reid_edge.progress import track
from reid_edge.records import Crop

__all__ = ["Decoded", "cache_folder", "decoded"]


def cache_folder() -> Path:
    """Where decoded crops are kept."""
    if given := os.environ.get("REID_EDGE_CACHE"):
        return Path(given)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "reid-edge"


@dataclass(frozen=True)
class Decoded:
    """Crops in memory: ``images`` uint8 [N, H, W, 3] RGB, and the rows that could not be read, with the reason."""

    images: NDArray[np.uint8]
    unreadable: Mapping[int, str]


def decoded(crops: Sequence[Crop], input_hw: tuple[int, int], resize: str) -> Decoded:
    """All ``crops``, memory-mapped and private: writes never reach the file. An unreadable one leaves a black row.

    Decoded on the first call and whenever a file has changed (path, size or time of change).
    """
    path = cache_folder() / f"{_key(crops, input_hw, resize)}.npy"
    notes = path.with_suffix(".json")
    if not (path.exists() and notes.exists()):
        with written_whole(path) as beside:
            unreadable = _decode_into(beside, crops, input_hw, resize)
        with written_whole(notes) as beside:
            beside.write_text(json.dumps(unreadable) + "\n", encoding="utf-8")
    images: NDArray[np.uint8] = np.load(path, mmap_mode="c", allow_pickle=False)
    return Decoded(images, {int(row): why for row, why in json.loads(notes.read_text(encoding="utf-8")).items()})


def _decode_into(path: Path, crops: Sequence[Crop], input_hw: tuple[int, int], resize: str) -> dict[int, str]:
    # Plain writes, not a writable map: on a full disk a write raises OSError, a map kills the process (SIGBUS).
    header = {"descr": "|u1", "fortran_order": False, "shape": (len(crops), *input_hw, 3)}
    unreadable: dict[int, str] = {}
    with open(path, "wb") as file:
        np.lib.format.write_array_header_1_0(file, header)
        for row, crop in enumerate(track(crops, f"decoding {len(crops)} crops")):
            try:
                image = read_crops([crop.path], input_hw, resize)
            except ImageError as error:
                unreadable[row] = str(error)
                image = np.zeros((1, *input_hw, 3), np.uint8)
            file.write(image.tobytes())
    return unreadable


def _key(crops: Sequence[Crop], input_hw: tuple[int, int], resize: str) -> str:
    digest = hashlib.sha256(repr((2, input_hw, resize)).encode())
    for crop in crops:
        facts = crop.path.stat()
        digest.update(f"{crop.path.resolve()}\0{facts.st_size}\0{facts.st_mtime_ns}\n".encode())
    return digest.hexdigest()[:32]
