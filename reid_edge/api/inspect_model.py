"""What a model file costs: kernels, multiply-accumulates, bytes, and what bounds its layers on a named device."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from reid_edge.core.files import require_file
from reid_edge.core.names import require_name
from reid_edge.core.progress import phase
from reid_edge.engines.tensorrt_api import require_backend
from reid_edge.errors import InputError, MissingExtraError, ModelError

if TYPE_CHECKING:
    from reid_edge.card import ModelCard
    from reid_edge.export.engines.count import KernelCount
    from reid_edge.export.graph.graph import Graph
    from reid_edge.export.roofline.inspection import ModelInspection

__all__ = ["inspect_model"]

_MAX_BATCH = 65_535
_MAX_REASON = 300


def inspect_model(
    model: Path | str,
    *,
    devices: Sequence[str] = ("orin-nano",),
    batch: int = 1,
    kernels: bool = True,
    backend: str | None = None,
    launch_us: float | None = None,
) -> ModelInspection:
    """Count the kernels, multiply-accumulates and bytes of an ONNX file, and estimate its layers' times on ``devices``.

    Multiply-accumulates and bytes follow from the graph, for ``batch`` crops: weights are read once, activations are
    read and written between layers, and nothing stays in a cache. Kernels are those of a real builder, TensorRT or
    TensorRT-RTX (``backend``: None for the first installed), which builds for batches 1 to 64 and takes seconds, on a
    device minutes; where there is none, `ModelInspection.no_kernels` says why. Times are estimates: the longest of
    arithmetic and memory at the peaks of a data sheet (`export.roofline.devices`) and of a kernel launch,
    ``launch_us`` (None: `export.roofline.estimate.LAUNCH_US`).

    Raises InputError for an unknown device or backend, a batch outside 1..65535 and a launch that is no time;
    ModelError for a file that is not an ONNX file of reid-edge or whose shapes are not known.

    >>> found = inspect_model(model_file, devices=["orin-nano", "agx-orin"], kernels=False)
    >>> found.bytes["uint8"], found.no_kernels, [each.device.name for each in found.rooflines]
    (98304, 'not asked for', ['orin-nano', 'agx-orin'])
    """
    path = require_file(model, "an ONNX model")
    require_backend(backend)
    if not 1 <= batch <= _MAX_BATCH:
        raise InputError(f"a batch of {batch} crops cannot be estimated: give --batch (batch=) 1 to {_MAX_BATCH}")

    from reid_edge.export.roofline.devices import DEVICE_LIMITS
    from reid_edge.export.roofline.estimate import LAUNCH_US

    for device in devices:
        require_name(device, DEVICE_LIMITS, "device")
    launch_us = LAUNCH_US if launch_us is None else launch_us
    if not 0 <= launch_us < math.inf:
        raise InputError(f"a launch of {launch_us} us is no time: give --launch-us (launch_us=) a finite number from 0")

    from reid_edge.export.graph.io import read_graph
    from reid_edge.export.graph.traffic import layer_costs
    from reid_edge.export.roofline.estimate import roofline
    from reid_edge.export.roofline.inspection import ModelInspection

    with phase(f"inspecting {path.name}"):
        graph, card = read_graph(path)
        layers = tuple(layer_costs(graph, batch))
        counted, reason = _counted(graph, card, backend) if kernels else (None, "not asked for")
    return ModelInspection(
        path=path,
        card=card,
        batch=batch,
        layers=layers,
        kernels=counted,
        no_kernels=reason,
        rooflines=tuple(roofline(layers, DEVICE_LIMITS[device], launch_us) for device in devices),
    )


def _counted(graph: Graph, card: ModelCard, backend: str | None) -> tuple[KernelCount | None, str]:
    """What a builder makes of a graph, or None and why it makes nothing."""
    from reid_edge.export.engines.count import count_kernels
    from reid_edge.export.engines.options import EngineOptions

    try:
        return count_kernels(graph, card, EngineOptions(backend=backend)), ""
    except (MissingExtraError, InputError, ModelError) as error:
        return None, " ".join(str(error).split())[:_MAX_REASON]
