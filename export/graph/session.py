"""A graph in memory on ONNX Runtime's CPU: to embed, to watch values, to time. Files run in `engines.onnxruntime`."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from reid_edge.core.progress import track
from reid_edge.engines.ort import CRASHES_ON_CASTS, import_onnxruntime, session_options
from reid_edge.errors import ModelError

from .graph import Graph

if TYPE_CHECKING:
    from onnxruntime import InferenceSession

__all__ = ["embed_graph", "open_session", "require_memory"]

_MOST_BYTES = 8 * 2**30
"""Of watched values: ResNet50 at 256x128 holds 0.2 GB of them for four crops."""


def open_session(graph: Graph, threads: int | None = None) -> InferenceSession:
    """A session of ``graph`` on ``threads`` (None: all usable cores)."""
    rounds_matmuls = graph.precision != "fp32" and any(node.op_type == "MatMul" for node in graph.nodes)
    return import_onnxruntime().InferenceSession(
        graph.model.SerializeToString(),
        session_options(threads),
        providers=["CPUExecutionProvider"],
        disabled_optimizers=list(CRASHES_ON_CASTS) if rounds_matmuls else [],
    )


def require_memory(graph: Graph, values: Iterable[str], batch: int) -> None:
    """Raise ModelError where ``values`` of ``batch`` crops, held at a time, take more than 8 GiB in float32.

    A few nodes of a graph from outside can make maps of any size. Free axes count as 1, and values of unknown shape as
    nothing.
    """
    sizes = {name: 4 * batch * math.prod(axis or 1 for axis in graph.shapes.get(name, (0,))) for name in values}
    if (total := sum(sizes.values())) > _MOST_BYTES:
        largest = max(sizes, key=sizes.__getitem__)
        raise ModelError(
            f"the values to watch take {total / 1e9:.0f} GB for {batch} crops (at most {_MOST_BYTES / 1e9:.0f}), "
            f"{largest[:100]!r} the largest: export this model for smaller crops"
        )


def embed_graph(
    graph: Graph, images: NDArray[np.uint8], threads: int | None = None, batch: int = 32
) -> NDArray[np.float32]:
    """Embed uint8 [N, H, W, 3], N > 0, in batches: float32 [N, D]."""
    session = open_session(graph, threads)
    starts = track(range(0, len(images), batch), "embedding")
    return np.concatenate([session.run(["embeddings"], {"images": images[i : i + batch]})[0] for i in starts])
