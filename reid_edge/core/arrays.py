"""Arrays from an .npz file that anybody may have written: no pickles, and nothing larger than the file."""

from __future__ import annotations

import io
import sys
import tokenize
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["read_arrays"]

_UNREADABLE = (
    *(zipfile.BadZipFile, OSError, EOFError),
    *(LookupError, ValueError, OverflowError, RuntimeError, MemoryError),
    *(SyntaxError, tokenize.TokenError),  # numpy reads an array's header as a Python literal
)


def read_arrays(path: Path, names: Sequence[str]) -> list[NDArray[Any]]:
    """The arrays of those names, as `numpy.savez` stores them. Raises ValueError for anything else in the file."""
    try:
        with zipfile.ZipFile(path) as archive:
            return [_array(archive, name) for name in names]
    except _UNREADABLE as error:
        raise ValueError((str(error) or type(error).__name__).strip("'\"").partition("\n")[0]) from None


def _array(archive: zipfile.ZipFile, name: str) -> NDArray[Any]:
    """Read one array, never larger than the file: `numpy.load` would trust the shape its header claims."""
    info = archive.getinfo(f"{name}.npy")
    if info.compress_type != zipfile.ZIP_STORED:
        raise ValueError("it is compressed")
    stream = io.BytesIO(archive.read(info))
    if np.lib.format.read_magic(stream) != (1, 0):
        raise ValueError("an array is of another format")
    shape, fortran_order, dtype = np.lib.format.read_array_header_1_0(stream)
    if fortran_order or not dtype.isnative:
        raise ValueError("an array is of another order")
    content = stream.getbuffer()[stream.tell() :]
    values = np.frombuffer(content, dtype) if len(content) else np.empty(0, dtype)
    if dtype.kind == "U" and len(values) and values.view(np.uint32).max() > sys.maxunicode:
        raise ValueError("a text is no Unicode")
    return values.reshape(shape)
