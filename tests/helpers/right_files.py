"""A network that is right, in each precision, and what its files must agree with: for tests that plant faults."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from reid_edge.card import ModelCard
from reid_edge.engines.onnxruntime import OnnxEngine
from reid_edge.export.graph.fp16 import fp16_from_fp32
from reid_edge.export.graph.graph import Graph
from reid_edge.export.graph.io import write_onnx
from reid_edge.export.int8.convert import int8_from_fp32
from reid_edge.export.int8.plan import Int8Options, plan_int8
from reid_edge.export.parity.crops import ParityCrops
from reid_edge.export.parity.recheck import Reference, verify_file
from reid_edge.scoring.test_set import TestSet

from .faults import Fault

__all__ = ["RightFiles", "right_files"]

FACTS = ("architecture", "mean", "std", "weights_sha256", "resize")
"""What `verify_export` holds the cards of files to."""


@dataclass(frozen=True)
class RightFiles:
    """The right graphs by precision with their cards, and their reference."""

    graphs: Mapping[str, tuple[Graph, ModelCard]]
    reference: Reference

    def refusal(self, path: Path) -> str:
        """Why verify-export refuses a file, empty if it does not."""
        row = verify_file(path, OnnxEngine(path, threads=1), self.reference)
        return f"{'' if row.precision else 'does not open: '}{row.refused or ''}"

    def planted(self, fault: Fault, precision: str, path: Path) -> Path:
        """A sealed file of a precision with the fault in it."""
        graph, card = self.graphs[precision]
        write_onnx(fault(graph), card, path)
        return path


def right_files(made: Callable[[NDArray[np.uint8]], Graph], card: ModelCard, data: Path, folder: Path) -> RightFiles:
    """A graph in each precision; INT8 with FP32 around it, so that a fault is the same operator in both."""
    with pytest.MonkeyPatch.context() as patch, TestSet.open(data) as opened:
        patch.setenv("REID_EDGE_CACHE", str(folder / "cache"))
        crops = ParityCrops(opened, 64).of(card)
        graph = made(crops)
        plan = plan_int8(
            graph, card, Int8Options(calibrate=data, unquantized="fp32", count=64), opened.dataset, opened.batch
        )
        int8 = int8_from_fp32(graph, card, plan)
    write_onnx(graph, card, folder / "right.onnx")
    with OnnxEngine(folder / "right.onnx", threads=1) as engine:
        embeddings = engine.run(crops)
    facts = {name: getattr(card, name) for name in FACTS}
    reference = Reference(embeddings=embeddings, crops=crops, weights=lambda form: graph.constants, facts=facts)
    fp16 = fp16_from_fp32(graph), card.with_(precision="fp16")
    return RightFiles({"fp32": (graph, card), "fp16": fp16, "int8": int8}, reference)
