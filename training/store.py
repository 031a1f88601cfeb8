"""Decoded crops, once: a memory-mapped uint8 array that every epoch, and every later run, reads.

Decoding and resizing cost more than augmenting, and never change from epoch to epoch. The cache lies in
``$REID_EDGE_CACHE``, or ``~/.cache/reid-edge``; its files can be deleted at any time.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from reid_edge.files import written_whole
from reid_edge.images import read_crops
from reid_edge.progress import track
from reid_edge.records import Crop

__all__ = ["cache_folder", "decoded"]

_BLOCK = 256


def cache_folder() -> Path:
    """Where decoded crops are kept."""
    if given := os.environ.get("REID_EDGE_CACHE"):
        return Path(given)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "reid-edge"


def decoded(crops: Sequence[Crop], input_hw: tuple[int, int], resize: str) -> NDArray[np.uint8]:
    """All ``crops`` as uint8 [N, H, W, 3] RGB, memory-mapped and private: writes never reach the file.

    Decoded on the first call and whenever a file has changed (path, size or time of change). Raises ImageError for a
    crop that cannot be read.
    """
    path = cache_folder() / f"{_key(crops, input_hw, resize)}.npy"
    if not path.exists():
        with written_whole(path) as beside:
            _decode_into(beside, crops, input_hw, resize)
    images: NDArray[np.uint8] = np.load(path, mmap_mode="c", allow_pickle=False)
    return images


def _decode_into(path: Path, crops: Sequence[Crop], input_hw: tuple[int, int], resize: str) -> None:
    # Plain writes, not a writable map: on a full disk a write raises OSError, a map kills the process (SIGBUS).
    header = {"descr": "|u1", "fortran_order": False, "shape": (len(crops), *input_hw, 3)}
    with open(path, "wb") as file:
        np.lib.format.write_array_header_1_0(file, header)
        for start in track(range(0, len(crops), _BLOCK), f"decoding {len(crops)} crops"):
            paths = [crop.path for crop in crops[start : start + _BLOCK]]
            file.write(read_crops(paths, input_hw, resize).tobytes())


def _key(crops: Sequence[Crop], input_hw: tuple[int, int], resize: str) -> str:
    digest = hashlib.sha256(repr((1, input_hw, resize)).encode())
    for crop in crops:
        facts = crop.path.stat()
        digest.update(f"{crop.path.resolve()}\0{facts.st_size}\0{facts.st_mtime_ns}\n".encode())
    return digest.hexdigest()[:32]
