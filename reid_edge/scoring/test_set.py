"""A data set opened once, its crops decoded once: for the FP32 reference, every precision and every engine of a model.

Scoring four files on Market-1501 from its folder would decode 23,000 JPEGs four times, and decoding is most of the
work where a model is small.
"""

from __future__ import annotations

import errno
import logging
import os
import tempfile
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from reid_edge.core.progress import track
from reid_edge.data.datasets import Dataset, open_dataset
from reid_edge.data.images import check_method, read_crop
from reid_edge.errors import InputError

__all__ = ["MEMORY_BYTES", "TestSet"]

logger = logging.getLogger(__name__)

MEMORY_BYTES = 256 << 20
"""How many bytes of decoded crops stay in memory: 2,700 crops of 256 x 128. More of them go into temporary files."""

_BLOCK = 256
"""Crops whose memory or file is reserved at once: 25 MB at 256 x 128."""

Pixels: TypeAlias = "NDArray[np.uint8]"


class TestSet:
    """An open `Dataset` with its decoded crops; `evaluate` takes it wherever it takes a path.

    ::

        with TestSet.open("Market-1501") as data:
            exact = evaluate("osnet_x0_25_fp32.onnx", data)
            rounded = evaluate("osnet_x0_25_int8.onnx", data)  # decodes nothing

    A file is decoded when it is first asked for, once for each input size and resize. Up to ``memory_bytes`` of pixels
    are kept in memory, the others in unnamed files in the temporary folder (``$TMPDIR``), which `close` frees.
    One thread at a time may use it.
    """

    __test__ = False  # pytest takes every class called Test... for tests

    def __init__(self, dataset: Dataset, memory_bytes: int = MEMORY_BYTES) -> None:
        self.dataset = dataset
        self._memory_bytes = self._memory_left = memory_bytes
        self._crops: dict[tuple[tuple[int, int], str], dict[Path, Pixels]] = {}
        self._free: dict[tuple[int, int], list[Pixels]] = {}

    @classmethod
    def open(
        cls,
        data: Path | str | Dataset,
        layout: str | None = None,
        part: str = "test",
        memory_bytes: int = MEMORY_BYTES,
    ) -> TestSet:
        """Open the data set at a path as `open_dataset` does, and raise what it raises; or take an open one."""
        return cls(data if isinstance(data, Dataset) else open_dataset(data, layout, part), memory_bytes)

    def decoded(
        self, paths: Sequence[Path | str], input_hw: tuple[int, int], method: str = "opencv", progress: bool = False
    ) -> list[Pixels]:
        """The crops in these files at an input size: uint8 [H, W, 3] RGB each, read-only, in the order given.

        ``input_hw`` is (height, width), ``method`` one of `reid_edge.data.images.RESIZES`. Raises ImageError for a file
        that cannot be read, InputError when the temporary folder has no space left.
        """
        known = self._crops.setdefault((input_hw, check_method(method)), {})
        files = [Path(path) for path in paths]
        missing = [path for path in dict.fromkeys(files) if path not in known]
        for path in track(missing, "decoding crops") if progress and missing else missing:
            pixels = self._slot(input_hw)
            pixels[:] = read_crop(path, input_hw, method)
            pixels.flags.writeable = False
            known[path] = pixels
        return [known[path] for path in files]

    def batch(
        self, paths: Sequence[Path | str], input_hw: tuple[int, int], method: str = "opencv", progress: bool = False
    ) -> Pixels:
        """Like `decoded`, as one array uint8 [N, H, W, 3], the caller's own."""
        crops = self.decoded(paths, input_hw, method, progress)
        return np.stack(crops) if crops else np.empty((0, *input_hw, 3), np.uint8)

    def __repr__(self) -> str:
        return f"<TestSet: {self.dataset!r}, {sum(map(len, self._crops.values()))} crops decoded>"

    def close(self) -> None:
        """Forget the pixels, which frees them when nobody else holds a crop; later calls decode again."""
        self._crops.clear()
        self._free.clear()
        self._memory_left = self._memory_bytes

    def __enter__(self) -> TestSet:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _slot(self, input_hw: tuple[int, int]) -> Pixels:
        """Room for one crop uint8 [H, W, 3]."""
        free = self._free.setdefault(input_hw, [])
        if not free:
            free.extend(reversed(self._block((_BLOCK, *input_hw, 3))))
        return free.pop()

    def _block(self, shape: tuple[int, ...]) -> Pixels:
        """An array uint8 of this shape, in memory as far as that is allowed."""
        size = int(np.prod(shape))
        if size <= self._memory_left:
            self._memory_left -= size
            return np.empty(shape, np.uint8)
        with tempfile.TemporaryFile(prefix="reid-edge-") as file:  # it has no name; the mapping keeps it open
            _reserve(file.fileno(), size)
            logger.debug("%d MB of decoded crops in %s", size // 1_000_000, tempfile.gettempdir())
            return np.asarray(np.memmap(file, np.uint8, "r+", shape=shape))


def _reserve(file: int, size: int) -> None:
    """Take the space now: on a full disk, writing to a hole of a mapped file would kill the process.

    Raises InputError where there is no space.
    """
    if not hasattr(os, "posix_fallocate"):
        return
    try:
        os.posix_fallocate(file, 0, size)
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
            return  # a file system that cannot reserve
        folder = tempfile.gettempdir()
        raise InputError(
            f"{folder} has no space for {size // 1_000_000} MB more of decoded crops: free some, or set TMPDIR"
        ) from None
