"""Which execution providers a session is opened with, and the options of each."""

from __future__ import annotations

import logging
import os
import stat
from collections.abc import Mapping, Sequence
from pathlib import Path

from reid_edge.core.cache import cache_folder
from reid_edge.errors import InputError

from .plugins import PLUGINS

__all__ = [
    "CPU",
    "CUDA",
    "TENSORRT",
    "TENSORRT_RTX",
    "ProviderChoice",
    "available_providers",
    "computes",
    "engine_folder",
    "named_providers",
    "provider_options",
    "require_device_provider",
    "tf32_note",
]

logger = logging.getLogger(__name__)

CPU = "CPUExecutionProvider"
CUDA = "CUDAExecutionProvider"
TENSORRT = "TensorrtExecutionProvider"
TENSORRT_RTX = "NvTensorRTRTXExecutionProvider"

ProviderChoice = str | tuple[str, Mapping[str, object]]
"""A provider's name, alone or with options of its own, as ``onnxruntime.InferenceSession`` takes them."""

_UNASKED = (CUDA, CPU)
_ON_GPUS = (CUDA, TENSORRT, TENSORRT_RTX)

_BY_DEVICE = (CUDA, TENSORRT)
"""Those that take the number of a GPU as the option ``device_id``. The plug-ins list their devices instead."""

_PRECISIONS = {"int8": "trt_int8_enable", "bf16": "trt_bf16_enable", "fp16": "trt_fp16_enable"}
"""Options that let TensorRT compute in less than the graph says, the coarsest first."""

_ON = ("1", "true")


def named_providers(providers: Sequence[ProviderChoice]) -> dict[str, dict[str, str]]:
    """Options by provider, in the order given; values are text, as ONNX Runtime wants them.

    Raises InputError for no list, and for what is neither a name nor a pair of a name and options.

    >>> named_providers([("TensorrtExecutionProvider", {"trt_fp16_enable": True}), "CPUExecutionProvider"])
    {'TensorrtExecutionProvider': {'trt_fp16_enable': 'True'}, 'CPUExecutionProvider': {}}
    """
    if isinstance(providers, str):
        raise InputError(f"providers={providers!r} is no list: give [{providers!r}]")
    found: dict[str, dict[str, str]] = {}
    for one in providers:
        name, options = (one, {}) if isinstance(one, str) else _pair(one)
        found[name] = {str(key): str(value) for key, value in options.items()}
    return found


def provider_options(name: str, own: Mapping[str, str], device: int | None, cache_key: str) -> dict[str, str]:
    """The options of the provider ``name``: the caller's ``own`` over what is set here.

    A GPU's number is passed on as the option ``device_id``. CUDA computes FP32 without TF32, which has 10 bits of
    precision and is on by default. TensorRT builds a network with the types of the graph where neither FP16 nor INT8 is
    allowed (``kSTRONGLY_TYPED`` in ONNX Runtime's provider), and both are forbidden by name, as the environment could
    allow them. Its engines, and the kernels of TensorRT-RTX, are kept in a folder of the cache for ``cache_key``
    (`engine_folder`).
    """
    options: dict[str, str] = {}
    if name in _BY_DEVICE and device is not None:
        options["device_id"] = str(device)
    if name == CUDA:
        options["use_tf32"] = "0"
    if name == TENSORRT:
        options |= {"trt_fp16_enable": "0", "trt_int8_enable": "0"}
        if "trt_engine_cache_path" not in own and (folder := engine_folder(name, cache_key)):
            options |= {"trt_engine_cache_enable": "1", "trt_engine_cache_path": str(folder)}
    if name == TENSORRT_RTX and "nv_runtime_cache_path" not in own and (folder := engine_folder(name, cache_key)):
        options["nv_runtime_cache_path"] = str(folder)
    return {**options, **own}


def computes(own: Mapping[str, str], precision: str) -> str:
    """What a provider may compute in by the caller's ``own`` options, where that is not the file's ``precision``.

    >>> computes({"trt_fp16_enable": "True"}, "fp32"), computes({"trt_fp16_enable": "1"}, "fp16"), computes({}, "fp32")
    ('fp16', '', '')
    """
    allowed = [name for name, option in _PRECISIONS.items() if own.get(option, "").lower() in _ON]
    return "" if not allowed or allowed[0] == precision else allowed[0]


def tf32_note(running: str, precision: str, environment: Mapping[str, str] = os.environ) -> str:
    """What to say of a file that the provider ``running`` may round to TF32, for which TensorRT's has no option; or "".

    >>> tf32_note("CPUExecutionProvider", "fp32")
    ''
    """
    if running != TENSORRT or precision != "fp32" or environment.get("NVIDIA_TF32_OVERRIDE") == "0":
        return ""
    return f"{running} may compute FP32 in TF32, with 10 bits of precision: set NVIDIA_TF32_OVERRIDE=0 to forbid it"


def require_device_provider(wanted: Mapping[str, object] | None, device: int | None) -> None:
    """Raise InputError for a ``device`` that is no number of a GPU, or that none of the ``wanted`` providers takes."""
    if device is None:
        return
    if device < 0:
        raise InputError(f"device {device} is no GPU: give 0 or more, as CUDA counts them")
    if not any(name in _ON_GPUS for name in wanted or ()):
        raise InputError(f"{', '.join(wanted or ())} has no device {device}: leave it out, or name {CUDA}")


def available_providers(
    wanted: Mapping[str, dict[str, str]] | None, wheel: Sequence[str], allow_fallback: bool
) -> dict[str, dict[str, str]]:
    """The ``wanted`` providers that may be tried, best first, and their options; None is CUDA and the CPU.

    Those of the ``wheel`` and the plug-ins may be. Raises InputError for others, unless ``allow_fallback`` leaves them
    out, and for a plug-in beside any other than the CPU.
    """
    if wanted is None:
        return {name: {} for name in _UNASKED if name in wheel}
    known = [*wheel, *(name for name in PLUGINS if name not in wheel)]  # once registered, a plug-in is in both
    missing = [name for name in wanted if name not in known]
    found = {name: own for name, own in wanted.items() if name in known}
    if not found or (missing and not allow_fallback):
        names = ", ".join(missing) or "''"
        raise InputError(f"ONNX Runtime here has no provider {names}: choose from {', '.join(known)}")
    if PLUGINS.keys() & found and (next(iter(found)) not in PLUGINS or len(found.keys() - {CPU}) > 1):
        raise InputError(f"{', '.join(found)} cannot share a model: name one, and {CPU} behind it")
    return found


def engine_folder(name: str, key: str) -> Path | None:
    """The folder of the cache that keeps what the provider ``name`` compiled for ``key``; None, with a note, without.

    A provider finds engines by the names of nodes: files of another model or of another ONNX Runtime must not lie in
    the same folder. Engines are code, so that a folder which others may write to is not used.
    """
    folder = cache_folder() / "providers" / name.removesuffix("ExecutionProvider").lower() / key
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        status = folder.stat()
    except OSError as error:
        logger.warning("%s cannot be used (%s): %s compiles at every start", folder, error.strerror, name)
        return None
    others = status.st_mode & (stat.S_IWGRP | stat.S_IWOTH)
    if others or (hasattr(os, "getuid") and status.st_uid != os.getuid()):
        logger.warning("%s is not this user's alone, and engines are code: %s compiles at every start", folder, name)
        return None
    return folder


def _pair(one: object) -> tuple[str, Mapping[str, object]]:
    if isinstance(one, tuple) and len(one) == 2 and isinstance(one[0], str) and isinstance(one[1], Mapping):
        return one
    raise InputError(f"{one!r} is no provider: give a name, or a pair of a name and a dict of its options")
