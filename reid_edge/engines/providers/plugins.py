"""Execution providers that are packages of their own, registered with ONNX Runtime when they are asked for.

https://onnxruntime.ai/docs/execution-providers/plugin-ep-libraries/usage.html
"""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from reid_edge.errors import DeviceError, InputError, MissingExtraError

__all__ = ["PLUGINS", "ProviderPlugin", "add_plugin", "plugin_devices"]


@dataclass(frozen=True)
class ProviderPlugin:
    """A package whose ``module`` has ``get_library_path()``, and what ``pip install`` takes for it.

    ``needs`` says where its provider finds a device.
    """

    module: str
    package: str
    needs: str


PLUGINS: Mapping[str, ProviderPlugin] = {
    "NvTensorRTRTXExecutionProvider": ProviderPlugin(
        "onnxruntime_ep_nv_tensorrt_rtx",
        "onnxruntime-ep-nv-tensorrt-rtx",
        "an NVIDIA GPU from Ampere on (RTX 30), with a driver for the CUDA of the package",
    ),
}
"""By the provider's name."""

_OLDEST = (1, 24)
"""NVIDIA's package needs it: https://nvidia.github.io/TensorRT-RTX-EP-ABI/installation.html"""

_registered: set[str] = set()
"""Libraries stay registered with the process: unregistering one while a session uses it is an error."""


def plugin_devices(runtime: Any, name: str) -> list[Any]:
    """The devices that the plug-in ``name`` of `PLUGINS` can use, after its library was registered.

    Raises InputError for an ONNX Runtime that takes no plug-ins, MissingExtraError without the package, and DeviceError
    when its library does not load or finds no device.
    """
    plugin = PLUGINS[name]
    if not hasattr(runtime, "register_execution_provider_library") or _version(runtime) < _OLDEST:
        wanted = ".".join(map(str, _OLDEST))
        raise InputError(f"ONNX Runtime {runtime.__version__} cannot use {name}: pip install 'onnxruntime>={wanted}'")
    try:
        module = importlib.import_module(plugin.module)
    except ImportError:
        raise MissingExtraError(plugin.module, name, install=f"pip install {plugin.package}") from None
    if name not in _registered:
        _register(runtime, name, plugin, module)
    devices = [device for device in runtime.get_ep_devices() if device.ep_name == name]
    if not devices:
        raise DeviceError(f"{name} finds no device here: it needs {plugin.needs}")
    return devices


def add_plugin(runtime: Any, options: Any, name: str, device: int, own: Mapping[str, str]) -> None:
    """Let the sessions of ``options`` run on the plug-in's ``device``, with ``own`` options.

    Raises what `plugin_devices` raises, and InputError for a device that is not there.
    """
    devices = plugin_devices(runtime, name)
    if device >= len(devices):
        raise InputError(f"{name} has no device {device}: give one of 0 to {len(devices) - 1}")
    options.add_provider_for_devices([devices[device]], dict(own))


def _register(runtime: Any, name: str, plugin: ProviderPlugin, module: Any) -> None:
    try:
        runtime.register_execution_provider_library(name, module.get_library_path())
    except Exception as error:  # ONNX Runtime's exceptions share no base of their own
        said = " ".join(str(error).split())[:300]
        raise DeviceError(f"{name} does not load ({said}): it needs {plugin.needs}") from None
    _registered.add(name)


def _version(runtime: Any) -> tuple[int, ...]:
    """The first two numbers, e.g. (1, 24)."""
    return tuple(int(part) for part in str(runtime.__version__).split(".")[:2] if part.isdigit())
