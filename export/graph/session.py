"""A graph in memory on ONNX Runtime's CPU: to embed, to watch values, to time. Files run in `engines.onnxruntime`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from reid_edge.core.progress import track
from reid_edge.engines.ort import CRASHES_ON_CASTS, import_onnxruntime, session_options

from .graph import Graph

if TYPE_CHECKING:
    from onnxruntime import InferenceSession

__all__ = ["embed_graph", "open_session"]


def open_session(graph: Graph, threads: int | None = None) -> InferenceSession:
    """A session of ``graph`` on ``threads`` (None: all usable cores)."""
    rounds_matmuls = graph.precision != "fp32" and any(node.op_type == "MatMul" for node in graph.nodes)
    return import_onnxruntime().InferenceSession(
        graph.model.SerializeToString(),
        session_options(threads),
        providers=["CPUExecutionProvider"],
        disabled_optimizers=list(CRASHES_ON_CASTS) if rounds_matmuls else [],
    )


def embed_graph(
    graph: Graph, images: NDArray[np.uint8], threads: int | None = None, batch: int = 32
) -> NDArray[np.float32]:
    """Embed uint8 [N, H, W, 3], N > 0, in batches: float32 [N, D]."""
    session = open_session(graph, threads)
    starts = track(range(0, len(images), batch), "embedding")
    return np.concatenate([session.run(["embeddings"], {"images": images[i : i + batch]})[0] for i in starts])
