"""Count what a builder makes of each rewrite, in FP16, and check that it computes the same::

python -m rewrites.count --json rewrites.json
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from helpers.networks import settled_model

from reid_edge.core.files import write_text
from reid_edge.export.engines.count import KernelCount, count_kernels
from reid_edge.export.graph.fp16 import fp16_from_fp32
from reid_edge.export.graph.from_torch import onnx_from_model
from reid_edge.export.graph.graph import Graph
from reid_edge.export.graph.session import embed_graph
from reid_edge.export.graph.traffic import LayerCost, layer_costs
from reid_edge.export.roofline.devices import DEVICE_LIMITS
from reid_edge.export.roofline.estimate import roofline
from reid_edge.training.models.checkpoint import card_of

from .tried import TRIED

__all__ = ["rows_of"]

_DEVICE = DEVICE_LIMITS["orin-nano"]
_BATCHES = (1, 8, 64)


def rows_of(name: str, input_hw: tuple[int, int] = (256, 128)) -> Iterator[dict[str, Any]]:
    """Figures of an architecture as exported, then of each rewrite; weights are random, which changes none of them."""
    model = settled_model(name)
    card = card_of(model, input_hw=input_hw)
    graph = onnx_from_model(model, card)
    crops = np.random.default_rng(0).integers(0, 256, (8, *input_hw, 3), dtype=np.uint8)
    expected = embed_graph(graph, crops, threads=1)
    for rewrite in (None, *TRIED[name]):
        form = rewrite(graph) if rewrite else graph
        fp16 = fp16_from_fp32(form)
        count: KernelCount = count_kernels(fp16, card.with_(precision="fp16"))
        layers = layer_costs(fp16)
        yield {
            "model": name,
            "rewrite": rewrite.__name__.replace("_", " ") if rewrite else "as exported",
            "kernels": count.total,
            "kinds": dict(count.layers),
            "macs": sum(layer.macs for layer in layers),
            "bytes": sum(layer.bytes for layer in layers),
            "estimated_us": roofline(layers, _DEVICE).time_us,
            "without_copies_us": roofline([each for each in layers if not _copies(each)], _DEVICE).time_us,
            "max_error": float(np.abs(embed_graph(form, crops, threads=1) - expected).max()),
            "estimates": {} if rewrite else _estimates(fp16),
        }


def _copies(layer: LayerCost) -> bool:
    """A concatenation: a builder that lets the layers before it write into one buffer makes no kernel of it."""
    return layer.operators == ("Concat",)


def _estimates(fp16: Graph) -> dict[str, dict[str, Any]]:
    """The estimated least time on each device, and what bounds it, by batch."""
    found: dict[str, dict[str, Any]] = {}
    for batch in _BATCHES:
        layers = layer_costs(fp16, batch)
        for name, device in DEVICE_LIMITS.items():
            each = roofline(layers, device)
            found.setdefault(name, {})[str(batch)] = {"us": each.time_us, "shares": each.shares}
    return found


def main() -> int:
    """Count for every architecture, print and write."""
    parser = argparse.ArgumentParser(description="Count the kernels of rewritten graphs.")
    parser.add_argument("--json", type=Path, required=True)
    given = parser.parse_args()
    rows = []
    for name in TRIED:
        for row in rows_of(name):
            print(f"{name:<18} {row['rewrite']:<40} {row['kernels']:>4} {row['max_error']:.1e}", flush=True)
            rows.append(row)
    write_text(given.json, json.dumps(rows, indent=1) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
