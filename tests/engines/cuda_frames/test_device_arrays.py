"""DLPack and ``__cuda_array_interface__`` as NumPy and PyTorch give them, and as no library should."""

from __future__ import annotations

import ctypes
import gc
import sys
from typing import Any

import numpy as np
import pytest

from reid_edge.engines.cuda_frames.arrays import is_on_gpu, open_array
from reid_edge.engines.cuda_frames.dlpack import borrow, read_capsule
from reid_edge.errors import ImageError


class Interface:
    """An array's memory under the interface of CUDA."""

    def __init__(self, array: Any, **changes: Any) -> None:
        self.__cuda_array_interface__ = {
            "shape": array.shape,
            "typestr": array.dtype.str,
            "data": (array.ctypes.data, False),
            "strides": None if array.flags.c_contiguous else array.strides,
            "version": 3,
            **changes,
        }


class OnGpu:
    """A tensor whose producer says that it is on the GPU, and writes down the stream it is asked for."""

    def __init__(self, array: Any, *, versioned: bool = True) -> None:
        self.array, self.versioned, self.streams = array, versioned, list[Any]()

    def __dlpack_device__(self) -> tuple[int, int]:
        return 2, 0

    def __dlpack__(self, stream: Any = None, **options: Any) -> Any:
        if options and not self.versioned:
            raise TypeError("unexpected keyword argument 'max_version'")
        self.streams.append(stream)
        capsule = self.array.__dlpack__(**options)
        kind = ctypes.c_int32.from_address(_pointer(capsule) + (32 + 8 if options else 8))
        kind.value = 2
        return capsule


def _pointer(capsule: Any) -> int:
    get = ctypes.pythonapi.PyCapsule_GetPointer
    get.restype, get.argtypes = ctypes.c_void_p, [ctypes.py_object, ctypes.c_char_p]
    return int(get(capsule, b"dltensor_versioned" if "dltensor_versioned" in repr(capsule) else b"dltensor"))


ARRAY = np.arange(4 * 6 * 3, dtype=np.uint8).reshape(4, 6, 3)


@pytest.mark.parametrize("options", [{}, {"max_version": (1, 0)}], ids=["before 1.0", "1.0"])
@pytest.mark.parametrize(
    "view", [ARRAY, ARRAY[1:, ::2], ARRAY[::-1, :, ::-1], ARRAY[:, :, 1]], ids=lambda view: str(view.shape)
)
def test_numpys_capsules_are_read(view: Any, options: Any) -> None:
    if np.lib.NumpyVersion(np.__version__) < "2.1.0" and options:
        pytest.skip("NumPy 2.1 is the first to give versions")
    tensor = read_capsule(view.__dlpack__(**options))
    assert (tensor.kind, tensor.device, tensor.dtype) == (1, 0, (1, 8, 1))
    assert (tensor.shape, tensor.strides, tensor.address) == (view.shape, view.strides, view.ctypes.data)


def test_strides_of_wider_types_are_in_bytes() -> None:
    tensor = read_capsule(np.zeros((3, 5), np.float32).__dlpack__())
    assert (tensor.dtype, tensor.strides) == ((2, 32, 1), (20, 4))


def test_pytorchs_capsules_are_read() -> None:
    torch = pytest.importorskip("torch", reason="needs torch")
    tensor = torch.arange(60, dtype=torch.uint8).reshape(3, 4, 5).permute(1, 2, 0)[1:]
    found = borrow(tensor, None)
    assert (found.dtype, found.shape, found.strides) == ((1, 8, 1), (3, 5, 3), (5, 1, 20))
    assert found.address == tensor.data_ptr()


@pytest.mark.parametrize("options", [{}, {"max_version": (1, 0)}], ids=["before 1.0", "1.0"])
def test_numpys_memory_is_held_and_given_back_once(options: Any) -> None:
    array = np.zeros((4, 4, 3), np.uint8)
    before = sys.getrefcount(array)
    try:
        tensor = read_capsule(array.__dlpack__(**options))
    except TypeError:
        pytest.skip("NumPy 2.1 is the first to give versions")
    assert sys.getrefcount(array) == before + 1, "held while it is read"
    del tensor
    assert sys.getrefcount(array) == before, "given back, once"


def test_pytorchs_memory_is_held_and_given_back_once() -> None:
    torch = pytest.importorskip("torch", reason="needs torch")
    storage = bytearray(48)
    before = sys.getrefcount(storage)
    tensor = borrow(torch.frombuffer(storage, dtype=torch.uint8), None)
    assert sys.getrefcount(storage) > before, "the tensor is gone, its memory is not"
    assert tensor.shape == (48,)
    del tensor
    gc.collect()
    assert sys.getrefcount(storage) == before


def test_a_refused_tensor_is_given_back_too() -> None:
    array = np.zeros((4, 4), np.float32)
    before = sys.getrefcount(array)
    with pytest.raises(ImageError, match="is not uint8"):
        open_array(OnGpu(array), 7)
    gc.collect()
    assert sys.getrefcount(array) == before


def test_a_capsule_is_read_once() -> None:
    capsule = ARRAY.__dlpack__()
    np.from_dlpack(type("Once", (), {"__dlpack__": lambda *_, **__: capsule, "__dlpack_device__": lambda _: (1, 0)})())
    with pytest.raises(ValueError, match="used already"):
        read_capsule(capsule)


@pytest.mark.parametrize("capsule", [None, 3, b"dltensor"])
def test_what_is_no_capsule_is_refused(capsule: Any) -> None:
    with pytest.raises(ValueError, match="no capsule"):
        read_capsule(capsule)


def test_the_newer_layout_of_another_major_version_is_not_read() -> None:
    try:
        capsule = ARRAY.__dlpack__(max_version=(1, 0))
    except TypeError:
        pytest.skip("NumPy 2.1 is the first to give versions")
    ctypes.c_uint32.from_address(_pointer(capsule)).value = 2
    with pytest.raises(ValueError, match=r"DLPack 2\.\d is newer"):
        read_capsule(capsule)
    ctypes.c_uint32.from_address(_pointer(capsule)).value = 1


@pytest.mark.parametrize("versioned", [False, True])
def test_a_producer_is_asked_for_the_stream_that_reads(versioned: bool) -> None:
    if versioned and np.lib.NumpyVersion(np.__version__) < "2.1.0":
        pytest.skip("NumPy 2.1 is the first to give versions")
    source = OnGpu(ARRAY, versioned=versioned)
    found = open_array(source, 4711)
    assert source.streams == [4711], "DLPack's producer makes that stream wait"
    assert (found.address, found.shape, found.strides) == (ARRAY.ctypes.data, (4, 6, 3), (18, 3, 1))
    assert found.producer_stream is None


def test_what_a_producer_refuses_is_one_line() -> None:
    class Refuses(OnGpu):
        def __dlpack__(self, **_: Any) -> Any:
            raise BufferError("Can't export tensors that\nrequire gradient")

    with pytest.raises(ImageError, match=r"frame, a Refuses, cannot be read \(Can't export tensors that require"):
        open_array(Refuses(ARRAY), 1)


def test_host_memory_that_claims_the_gpu_is_refused() -> None:
    """`read_capsule` sees what the capsule says, not `__dlpack_device__`."""

    class Claims(OnGpu):
        def __dlpack__(self, **_: Any) -> Any:
            return self.array.__dlpack__()

    with pytest.raises(ImageError, match="not on a GPU"):
        open_array(Claims(ARRAY), 1)


@pytest.mark.parametrize(
    ("given", "stream"), [({}, None), ({"stream": None}, None), ({"stream": 1}, 1), ({"stream": 77}, 77)]
)
def test_the_interface_of_cuda_says_what_to_wait_for(given: Any, stream: Any) -> None:
    found = open_array(Interface(ARRAY, **given), 5)
    assert (found.address, found.shape, found.strides) == (ARRAY.ctypes.data, (4, 6, 3), (18, 3, 1))
    assert found.producer_stream == stream


def test_the_interface_of_cuda_may_have_strides() -> None:
    view = ARRAY[:, 1::2]
    assert open_array(Interface(view), 5).strides == view.strides


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"typestr": "<f4"}, "type <f4 is not uint8"),
        ({"typestr": "|i1"}, "type .i1 is not uint8"),
        ({"stream": 0}, "stream is 0"),
        ({"mask": Interface(ARRAY)}, "mask"),
        ({"data": None}, "cannot be read"),
        ({"shape": 7}, "cannot be read"),
    ],
)
def test_an_interface_that_cannot_be_read_says_why(changes: Any, said: str) -> None:
    with pytest.raises(ImageError, match=said):
        open_array(Interface(ARRAY, **changes), 5)


def test_who_is_on_the_gpu() -> None:
    assert is_on_gpu(Interface(ARRAY)) and is_on_gpu(OnGpu(ARRAY))
    assert not any(map(is_on_gpu, (ARRAY, "frame.png", [ARRAY], None)))


def test_a_tensor_in_host_memory_is_not_on_the_gpu() -> None:
    torch = pytest.importorskip("torch", reason="needs torch")
    assert not is_on_gpu(torch.zeros(4, 4, 3, dtype=torch.uint8))
