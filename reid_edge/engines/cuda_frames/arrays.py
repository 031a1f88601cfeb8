"""Arrays of other libraries that lie on the GPU, through DLPack or ``__cuda_array_interface__``, without a copy."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from reid_edge.errors import ImageError

from .dlpack import KINDS_ON_GPU, DlTensor, borrow

__all__ = ["DeviceArray", "is_on_gpu", "open_array"]

_COPY = "give a uint8 array in GPU memory, or a copy of it in host memory"


@dataclass(frozen=True)
class DeviceArray:
    """A uint8 array on the GPU: ``address`` of its first value, ``shape``, ``strides`` in bytes.

    ``producer_stream`` is the CUDA stream whose queued work must end before the array is read; None: nothing to wait
    for. ``owner`` keeps the memory.
    """

    address: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]
    producer_stream: int | None
    owner: Any


def is_on_gpu(image: Any) -> bool:
    """Whether an object is an array in GPU memory; what is in host memory, pinned or not, is for NumPy.

    >>> is_on_gpu(np.zeros((4, 4, 3), np.uint8)), is_on_gpu("frame.png")
    (False, False)
    """
    if isinstance(image, np.ndarray):
        return False
    if hasattr(image, "__dlpack_device__"):
        return int(image.__dlpack_device__()[0]) in KINDS_ON_GPU
    return hasattr(image, "__cuda_array_interface__")


def open_array(image: Any, stream: int, name: str = "frame") -> DeviceArray:
    """An array on the GPU, to be read on the CUDA stream ``stream``, which waits for what its producer has queued.

    DLPack is asked first: there the producer makes ``stream`` wait. The interface of PyTorch has no stream.
    Raises ImageError for another type than uint8, memory that is not the GPU's, or a producer that refuses.
    """
    try:
        if hasattr(image, "__dlpack__"):
            return _of_dlpack(borrow(image, stream))
        return _of_interface(image.__cuda_array_interface__, image)
    except (BufferError, RuntimeError, TypeError, ValueError, KeyError, AttributeError) as error:
        reason = " ".join(str(error).split())[:200] or type(error).__name__
        raise ImageError(f"{name}, a {type(image).__name__}, cannot be read ({reason}): {_COPY}") from None


def _of_dlpack(tensor: DlTensor) -> DeviceArray:
    if tensor.kind not in KINDS_ON_GPU:
        raise ValueError("its memory is not on a GPU of CUDA")
    if tensor.dtype != (1, 8, 1):
        raise ValueError(f"DLPack's type {tensor.dtype} is not uint8")
    return DeviceArray(tensor.address, tensor.shape, tensor.strides, None, tensor.capsule)


def _of_interface(interface: dict[str, Any], owner: Any) -> DeviceArray:
    """Version 3 says in ``stream`` what to wait for; without that key or with None there is nothing to wait for."""
    if interface["typestr"][1:] != "u1":
        raise ValueError(f"type {interface['typestr']} is not uint8")
    if interface.get("mask") is not None:
        raise ValueError("it has a mask")
    stream = interface.get("stream")
    if stream == 0:
        raise ValueError("its stream is 0, which the interface forbids")
    shape = tuple(int(size) for size in interface["shape"])
    strides = interface.get("strides")
    compact = tuple(int(np.prod(shape[axis + 1 :], dtype=np.int64)) for axis in range(len(shape)))
    return DeviceArray(
        int(interface["data"][0]),
        shape,
        compact if strides is None else tuple(int(stride) for stride in strides),
        None if stream is None else int(stream),
        owner,
    )
