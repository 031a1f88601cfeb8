"""DLPack without a library: the C structs of dlpack.h (versions before 1.0, and 1.x), read from a capsule.

The capsule is kept and not consumed. So its own destructor gives the tensor back, exactly once, when the last
reference to it goes: that is what DLPack's Python protocol asks of a capsule whose name is still "dltensor".
"""

from __future__ import annotations

import ctypes
from dataclasses import dataclass
from typing import Any

__all__ = ["KINDS_ON_GPU", "DlTensor", "borrow", "read_capsule"]

KINDS_ON_GPU = (2, 13)
"""kDLCUDA and kDLCUDAManaged of ``DLDeviceType``."""

_VERSION = (1, 0)
_MOST_AXES = 8


@dataclass(frozen=True)
class DlTensor:
    """A borrowed tensor, valid as long as ``capsule`` lives.

    ``kind`` and ``device`` are DLPack's device type and id; ``dtype`` its (code, bits, lanes), (1, 8, 1) for uint8;
    ``address`` is that of the first value, and ``strides`` are in bytes.
    """

    kind: int
    device: int
    dtype: tuple[int, int, int]
    address: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]
    capsule: Any


def borrow(source: Any, stream: int | None) -> DlTensor:
    """The tensor of an object with ``__dlpack__``, safe to be read on ``stream`` (None for host memory).

    Raises whatever the producer raises, and ValueError for a capsule that is none of DLPack 0.x or 1.x.
    """
    try:
        capsule = source.__dlpack__(stream=stream, max_version=_VERSION)
    except TypeError:  # a producer from before DLPack 1.0 does not know max_version
        capsule = source.__dlpack__(stream=stream)
    return read_capsule(capsule)


def read_capsule(capsule: Any) -> DlTensor:
    """Read a capsule that nobody has consumed. Raises ValueError for any other.

    >>> import numpy as np
    >>> tensor = read_capsule(np.zeros((4, 6), np.uint8)[:, ::2].__dlpack__())
    >>> tensor.kind, tensor.dtype, tensor.shape, tensor.strides
    (1, (1, 8, 1), (4, 3), (6, 2))
    """
    if type(capsule).__name__ != "PyCapsule":
        raise ValueError(f"__dlpack__ gave a {type(capsule).__name__}, no capsule")
    for name, struct in ((b"dltensor", _Managed), (b"dltensor_versioned", _Versioned)):
        if _IS_VALID(capsule, name):
            managed = struct.from_address(_POINTER(capsule, name))
            return _tensor(managed, capsule)
    raise ValueError("its capsule is no DLPack tensor, or is used already")


def _tensor(managed: Any, capsule: Any) -> DlTensor:
    if isinstance(managed, _Versioned) and managed.major != 1:
        raise ValueError(f"DLPack {managed.major}.{managed.minor} is newer than 1.x")
    found = managed.tensor
    if not 0 <= found.ndim <= _MOST_AXES:
        raise ValueError(f"it has {found.ndim} axes")
    shape = tuple(found.shape[axis] for axis in range(found.ndim))
    item = found.bits * found.lanes // 8
    strides = _compact(shape) if not found.strides else tuple(found.strides[axis] for axis in range(found.ndim))
    return DlTensor(
        found.kind,
        found.device,
        (found.code, found.bits, found.lanes),
        (found.data or 0) + found.byte_offset,
        shape,
        tuple(stride * item for stride in strides),
        capsule,
    )


def _compact(shape: tuple[int, ...]) -> tuple[int, ...]:
    """Strides in values of a row-major array, for which DLPack may leave them out."""
    strides = [1]
    for size in shape[:0:-1]:
        strides.append(strides[-1] * size)
    return tuple(reversed(strides))[-len(shape) :] if shape else ()


class _Tensor(ctypes.Structure):
    """``DLTensor``, with ``DLDevice`` and ``DLDataType`` written out."""

    _fields_ = (
        ("data", ctypes.c_void_p),
        ("kind", ctypes.c_int32),
        ("device", ctypes.c_int32),
        ("ndim", ctypes.c_int32),
        ("code", ctypes.c_uint8),
        ("bits", ctypes.c_uint8),
        ("lanes", ctypes.c_uint16),
        ("shape", ctypes.POINTER(ctypes.c_int64)),
        ("strides", ctypes.POINTER(ctypes.c_int64)),
        ("byte_offset", ctypes.c_uint64),
    )


class _Managed(ctypes.Structure):
    """``DLManagedTensor``."""

    _fields_ = (("tensor", _Tensor), ("manager", ctypes.c_void_p), ("deleter", ctypes.c_void_p))


class _Versioned(ctypes.Structure):
    """``DLManagedTensorVersioned`` of DLPack 1.x."""

    _fields_ = (
        ("major", ctypes.c_uint32),
        ("minor", ctypes.c_uint32),
        ("manager", ctypes.c_void_p),
        ("deleter", ctypes.c_void_p),
        ("flags", ctypes.c_uint64),
        ("tensor", _Tensor),
    )


_IS_VALID = ctypes.PYFUNCTYPE(ctypes.c_int, ctypes.py_object, ctypes.c_char_p)(("PyCapsule_IsValid", ctypes.pythonapi))
_POINTER = ctypes.PYFUNCTYPE(ctypes.c_void_p, ctypes.py_object, ctypes.c_char_p)(
    ("PyCapsule_GetPointer", ctypes.pythonapi)
)
