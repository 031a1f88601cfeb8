"""The double of the CUDA driver: built once for a session, and driven from a process that loaded it."""

from __future__ import annotations

import ctypes
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

__all__ = ["KINDS", "Driver", "built_driver", "environment_on"]

SOURCE = Path(__file__).with_name("libcuda.c")
ROOT = Path(__file__).parents[3]
KINDS = ("contexts", "device memory", "host memory", "streams", "graphs", "executable graphs", "events")


def built_driver(folder: Path) -> Path:
    """Build the double as libcuda.so.1 in ``folder``; skips the test without a C compiler or cuda-bindings."""
    pytest.importorskip("cuda.bindings.driver", reason="needs cuda-bindings")
    compiler = shutil.which("cc") or shutil.which("gcc")
    if compiler is None or sys.platform != "linux":
        pytest.skip("the double of the CUDA driver needs Linux and a C compiler")
    library = folder / "libcuda.so.1"
    options = ["-shared", "-fPIC", "-O1", "-Wall", "-Werror", "-Wl,-soname,libcuda.so.1"]
    subprocess.run([compiler, *options, "-o", str(library), str(SOURCE), "-ldl", "-lpthread"], check=True)
    return library


def environment_on(library: Path) -> dict[str, str]:
    """The environment of a process whose CUDA driver is the double."""
    paths = os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])
    return {**os.environ, "LD_LIBRARY_PATH": str(library.parent), "PYTHONPATH": paths}


class Driver:
    """The control functions of the double that this process loaded."""

    def __init__(self) -> None:
        self.library = ctypes.CDLL("libcuda.so.1")
        self.library.test_log.restype = ctypes.c_char_p

    def fail(self, name: str, nth: int = 1, error: int = 2, *, sticky: bool = False, lasting: bool = False) -> None:
        """Let the ``nth`` call of a function from now fail; ``sticky``: then all calls; ``lasting``: then this one."""
        self.library.test_fail(name.encode(), nth, error, 1 if sticky else 2 if lasting else 0)

    def log(self) -> list[str]:
        """The calls since the last `reset`."""
        return list(self.library.test_log().decode().split())

    def reset(self) -> None:
        """Forget the log, the failure asked for, and a sticky error."""
        self.library.test_reset()

    def live(self) -> dict[str, int]:
        """The live objects by kind, without those kinds of which there are none."""
        counts = {kind: self.library.test_live(number) for number, kind in enumerate(KINDS)}
        return {kind: count for kind, count in counts.items() if count}
