"""Decoded crops: a memory-mapped uint8 array, written once, that every epoch and every later run reads.

Decoding and resizing cost more than augmentation, and give the same in every epoch. The cache is in
`reid_edge.core.cache.cache_folder`; its files can be deleted at any time. Behind the array a file has a checksum of all
before it (a second for a gigabyte): a damaged one is made again.
"""

from __future__ import annotations

import hashlib
import json
import logging
import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from reid_edge.core.cache import cache_folder
from reid_edge.core.files import written_whole
from reid_edge.core.progress import phase, track
from reid_edge.data.images import read_crops
from reid_edge.data.records import Crop
from reid_edge.errors import ImageError, InputError

__all__ = ["DecodedCrops", "cache_decoded", "crops_key", "read_checked", "write_checked"]

logger = logging.getLogger(__name__)


@dataclass(frozen=True, repr=False)
class DecodedCrops:
    """Crops in memory: ``images`` uint8 [N, H, W, 3] RGB, and the rows that could not be read, with the reason."""

    images: NDArray[np.uint8]
    unreadable: Mapping[int, str]

    def __repr__(self) -> str:
        count, height, width, _ = self.images.shape
        return f"<DecodedCrops: {count} of {height} x {width}, {len(self.unreadable)} unreadable>"


def cache_decoded(crops: Sequence[Crop], input_hw: tuple[int, int], resize: str) -> DecodedCrops:
    """All ``crops``, memory-mapped: writes to the array never reach the file. An unreadable crop is a black row.

    Crops are decoded by the first call, and again when a file has changed (path, size or time of change) or the cache
    is damaged, which is logged. Raises InputError when what was written cannot be read back.
    """
    shape = (len(crops), *input_hw, 3)
    key = hashlib.sha256(f"{(3, input_hw, resize)}\n{crops_key(crops)}".encode()).hexdigest()[:32]
    path = cache_folder() / f"{key}.npy"
    with phase("reading the decoded crops"):
        kept = read_checked(path)
    if kept is None or kept[0].shape != shape:
        unreadable: dict[str, str] = {}
        write_checked(path, _decoded(crops, input_hw, resize, unreadable), shape, np.dtype(np.uint8), unreadable)
        kept = read_checked(path)
    if kept is None:
        raise InputError(f"{path} cannot be read back: set REID_EDGE_CACHE to a folder on another disk")
    images, notes = kept
    return DecodedCrops(images, {int(row): why for row, why in notes.items()})


def crops_key(crops: Sequence[Crop]) -> str:
    """A hash of the crops' files, by path, size and time of change."""
    digest = hashlib.sha256()
    for crop in crops:
        facts = crop.path.stat()
        digest.update(f"{crop.path.resolve()}\0{facts.st_size}\0{facts.st_mtime_ns}\n".encode())
    return digest.hexdigest()


def write_checked(
    path: Path,
    rows: Iterable[NDArray[Any]],
    shape: tuple[int, ...],
    dtype: np.dtype[Any],
    notes: Mapping[str, str] | None = None,
) -> None:
    """Write ``rows`` as a ``.npy`` array of ``shape``; behind it ``notes`` as the last row leaves them, and a checksum.

    `read_checked` reads it; so does `numpy.load`, without notes.
    """
    header = {"descr": np.lib.format.dtype_to_descr(dtype), "fortran_order": False, "shape": shape}
    # Plain writes, not a writable map: on a full disk a write raises OSError, a map kills the process (SIGBUS).
    with written_whole(path) as beside, open(beside, "wb+") as file:
        np.lib.format.write_array_header_1_0(file, header)
        file.seek(0)
        checksum = zlib.crc32(file.read())
        for row in rows:
            content = row.astype(dtype, copy=False).tobytes()
            checksum = zlib.crc32(content, checksum)
            file.write(content)
        file.write(json.dumps({"crc32": checksum, "notes": dict(notes or {})}).encode())


def read_checked(path: Path) -> tuple[NDArray[Any], dict[str, str]] | None:
    """The array, memory-mapped, and the notes that `write_checked` wrote; None when there is no such file.

    None, with a note in the log, for a damaged one.
    """
    if not path.exists():
        return None
    try:
        array = np.load(path, mmap_mode="c", allow_pickle=False)
        whole = np.memmap(path, np.uint8, mode="r")
        end = array.offset + array.nbytes
        tail = json.loads(whole[end:].tobytes())
        if tail["crc32"] != zlib.crc32(whole[:end].data):
            raise ValueError("its checksum does not match")
    except Exception as error:  # a parser on damaged bytes may raise anything
        logger.warning("%s is damaged (%s): it is made again", path, " ".join(str(error).split())[:100])
        return None
    return array, tail["notes"]


def _decoded(
    crops: Sequence[Crop], input_hw: tuple[int, int], resize: str, unreadable: dict[str, str]
) -> Iterator[NDArray[np.uint8]]:
    """Each crop, [1, H, W, 3]; a black one and an entry in ``unreadable`` for one that cannot be read."""
    for row, crop in enumerate(track(crops, f"decoding {len(crops)} crops")):
        try:
            yield read_crops([crop.path], input_hw, resize)
        except ImageError as error:
            unreadable[str(row)] = str(error)
            yield np.zeros((1, *input_hw, 3), np.uint8)
