"""The kernel compiled for the host: what a GPU would run, a thread after the other."""

from __future__ import annotations

import ctypes
import shutil
import subprocess
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from reid_edge.engines.cuda_frames.arrays import DeviceArray
from reid_edge.engines.cuda_frames.kernel import SOURCE
from reid_edge.engines.cuda_frames.work import BLOCK, MOST_CROPS, CropWork, DeviceFrame, device_frame, grid_of, works


@cache
def host_kernel() -> Any:
    """The library of host_build.cpp; the test is skipped without a C++ compiler."""
    compiler = next(filter(None, map(shutil.which, ("g++", "clang++", "c++"))), None)
    if compiler is None:
        pytest.skip("needs a C++ compiler: g++ or clang++")
    with TemporaryDirectory() as folder:
        library = Path(folder, "crops.so")
        options = "-std=c++17 -O2 -ffp-contract=off -Wall -Wextra -Werror -shared -fPIC".split()
        host = Path(__file__).with_name("host_build.cpp")
        subprocess.run([compiler, *options, f"-I{SOURCE.parent}", host, "-o", library], check=True)
        return ctypes.CDLL(str(library))


def plane(array: NDArray[np.uint8]) -> DeviceArray:
    return DeviceArray(array.ctypes.data, array.shape, array.strides, None, array)


def frame_of(*arrays: NDArray[np.uint8], color: str = "rgb") -> DeviceFrame:
    return device_frame([plane(array) for array in arrays], color)


def host_crops(frame: DeviceFrame, edges: Any, input_hw: tuple[int, int] = (256, 128)) -> NDArray[np.uint8]:
    edges = np.asarray(edges, np.int64)
    out = np.full((len(edges), *input_hw, 3), 99, np.uint8)
    for number, work in enumerate(works(frame, edges, input_hw, out.ctypes.data)):
        grid = grid_of(min(len(edges) - number * MOST_CROPS, MOST_CROPS), input_hw)
        triple = ctypes.c_int * 3
        host_kernel().launch(ctypes.byref(work), triple(*grid), triple(*BLOCK))
    return out


def size_of_work() -> tuple[int, int]:
    return int(host_kernel().size_of_work()), ctypes.sizeof(CropWork)
