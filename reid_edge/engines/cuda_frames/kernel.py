"""The kernel of ``crops.cu`` for the GPU at hand: compiled by NVRTC at its first use, then kept in the cache folder.

The source is a file of the package and not a string: editors know its language, compilers name its lines, and the tests
compile the very same file for the host.
"""

from __future__ import annotations

import contextlib
import hashlib
import logging
from functools import cache
from pathlib import Path
from typing import Any

from reid_edge.core.cache import cache_folder
from reid_edge.core.files import written_whole
from reid_edge.errors import DeviceError, MissingExtraError

__all__ = ["SOURCE", "compile_kernel", "compiled_kernel"]

logger = logging.getLogger(__name__)

SOURCE = Path(__file__).with_name("crops.cu")

_DIGEST_BYTES = 32
_INSTALL = "pip install nvidia-cuda-nvrtc  (CUDA 12: nvidia-cuda-nvrtc-cu12)"


def compiled_kernel(capability: tuple[int, int]) -> bytes:
    """Code for a GPU of this compute capability, for ``cuModuleLoadData``, from the cache or compiled now.

    The cache's file is named by the hash of the source, the capability and NVRTC's version, and begins with the SHA-256
    of its code: what is damaged is compiled again. Raises what `compile_kernel` raises.
    """
    source = SOURCE.read_bytes()
    major, minor = _nvrtc_version()
    name = f"crops-{hashlib.sha256(source).hexdigest()[:16]}-sm{capability[0]}{capability[1]}-nvrtc{major}.{minor}.bin"
    path = cache_folder() / "kernels" / name
    with contextlib.suppress(OSError):
        kept = path.read_bytes()
        if hashlib.sha256(kept[_DIGEST_BYTES:]).digest() == kept[:_DIGEST_BYTES]:
            return kept[_DIGEST_BYTES:]
    code = compile_kernel(source, capability)
    try:
        with written_whole(path) as beside:
            beside.write_bytes(hashlib.sha256(code).digest() + code)
    except OSError as error:
        logger.debug("the compiled kernel is not kept: %s", error)
    return code


def compile_kernel(source: bytes, capability: tuple[int, int]) -> bytes:
    """Machine code for the compute capability; for one newer than NVRTC, PTX of the newest, which the driver compiles.

    Needs no GPU. Multiplications and additions are not fused, as OpenCV's are not. Raises MissingExtraError without
    NVRTC, DeviceError for a GPU older than it knows, or when it refuses the source.
    """
    nvrtc = _nvrtc()
    wanted = capability[0] * 10 + capability[1]
    known = sorted(int(arch) for arch in _do(nvrtc, nvrtc.nvrtcGetSupportedArchs()))
    if wanted < known[0]:
        version = ".".join(map(str, _nvrtc_version()))
        raise DeviceError(
            f"NVRTC {version} does not compile for this GPU (sm_{wanted}): run  pip install nvidia-cuda-nvrtc-cu12"
        )
    exact = wanted in known
    target = f"sm_{wanted}" if exact else f"compute_{max(one for one in known if one < wanted)}"
    options = [b"--std=c++17", b"--fmad=false", f"--gpu-architecture={target}".encode()]
    program = _do(nvrtc, nvrtc.nvrtcCreateProgram(source, SOURCE.name.encode(), 0, [], []))
    try:
        if int(nvrtc.nvrtcCompileProgram(program, len(options), options)[0]):
            raise DeviceError(f"NVRTC refuses {SOURCE.name} ({_log(nvrtc, program)}): please report this")
        size_of, get = ("nvrtcGetCUBINSize", "nvrtcGetCUBIN") if exact else ("nvrtcGetPTXSize", "nvrtcGetPTX")
        code = bytes(_do(nvrtc, getattr(nvrtc, size_of)(program)))  # NVRTC writes into it
        _do(nvrtc, getattr(nvrtc, get)(program, code))
        return code
    finally:
        _do(nvrtc, nvrtc.nvrtcDestroyProgram(program))


def _nvrtc() -> Any:
    try:
        from cuda.bindings import nvrtc
    except ImportError:
        raise MissingExtraError("cuda-bindings", "cropping frames on a GPU") from None
    return nvrtc


@cache
def _nvrtc_version() -> tuple[int, int]:
    nvrtc = _nvrtc()
    try:
        status, major, minor = nvrtc.nvrtcVersion()
    except RuntimeError:  # the binding loads libnvrtc at its first call
        raise MissingExtraError("NVRTC", "cropping frames on a GPU", install=_INSTALL) from None
    _do(nvrtc, (status,))
    return int(major), int(minor)


def _log(nvrtc: Any, program: Any) -> str:
    log = bytes(_do(nvrtc, nvrtc.nvrtcGetProgramLogSize(program)))
    _do(nvrtc, nvrtc.nvrtcGetProgramLog(program, log))
    return " ".join(log.rstrip(b"\0").decode(errors="replace").split())[:500]


def _do(nvrtc: Any, result: Any) -> Any:
    """The value of a call of NVRTC, whose result is (status, value...)."""
    status, *values = result
    if int(status):
        text = nvrtc.nvrtcGetErrorString(status)[1].decode(errors="replace")
        raise DeviceError(f"NVRTC reports {text}: install it again, {_INSTALL}")
    return values[0] if values else None
