"""The gate of every export for a file and a reference: does it still give what that model gave? ``verify-export``."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from reid_edge.card import ModelCard
from reid_edge.core.files import scratch_folder, sha256_of
from reid_edge.core.progress import phase
from reid_edge.engines.base import Engine
from reid_edge.engines.engine_card import EngineCard
from reid_edge.engines.onnxruntime import OnnxEngine
from reid_edge.errors import GateError, ModelError
from reid_edge.scoring.evaluation import evaluate
from reid_edge.scoring.metrics import Metrics
from reid_edge.scoring.test_set import TestSet

from .compare import Embeddings
from .gate import Parity, check_parity, embed_in_batches
from .limits import THRESHOLDS, Thresholds
from .scores import ScoreLoss, check_scores, score_loss

if TYPE_CHECKING:
    from reid_edge.export.graph.graph import Graph

__all__ = ["Reference", "Verified", "check_engine", "verify_file"]

_BATCH = 32
_CPU = ["CPUExecutionProvider"]


@dataclass(frozen=True, kw_only=True)
class Reference:
    """What files must agree with: ``embeddings`` float32 [N, D] of ``crops`` uint8 [N, H, W, 3].

    ``facts`` are what their cards must say too, by the field of `ModelCard`; ``weights`` gives the constants of the
    FP32 graph by name in a form (`ModelCard.optimized_for`), and is called where a file rounds them. Where ``scores``
    are given, those of the model on the data set ``test`` with its crops resized by ``resize``, files are scored there
    too.
    """

    embeddings: Embeddings = field(repr=False)
    crops: NDArray[np.uint8] = field(repr=False)
    weights: Callable[[str], Mapping[str, NDArray[Any]]]
    facts: Mapping[str, Any] = field(default_factory=dict)
    test: TestSet | None = field(default=None, repr=False)
    resize: str | None = None
    scores: Metrics | None = None


@dataclass(frozen=True)
class Verified:
    """A file's agreement with its reference, or why it is refused; ``note`` says what was not looked at, and why.

    ``precision`` is empty for a file that does not open. ``metrics`` are its scores and ``lost`` is what it loses
    against the reference; None where nothing was scored.
    """

    path: Path
    precision: str
    parity: Parity | None
    refused: GateError | None = None
    note: str = ""
    metrics: Metrics | None = None
    lost: ScoreLoss | None = None

    def to_dict(self) -> dict[str, Any]:
        """JSON-able: the figures of its agreement, what it scores and loses, and why it is refused, as far as known."""
        found = self.parity.to_dict() if self.parity else {}
        found |= {"metrics": self.metrics.to_dict()} if self.metrics else {}
        found |= {"lost": self.lost.to_dict()} if self.lost else {}
        return found | ({"refused": str(self.refused)} if self.refused else {})


def verify_file(
    path: Path, candidate: Engine, reference: Reference, limits: Mapping[str, Thresholds] | None = None
) -> Verified:
    """Compare an engine, not yet open, with the ``reference``.

    Batches are those of a TensorRT engine's profile, else those of `check_parity`. The precision, and so the limits,
    is what the graph of an ONNX file computes in, and that of the ONNX file which a TensorRT engine was built from; a
    card that says another is refused. ONNX files in FP16 or INT8 are also held to FP32's limits without their rounding
    (`structure.check_structure`), and those with FP16 in them are computed with every value rounded as it is stored. A
    TensorRT engine is also compared with its own ONNX file, if that lies beside it. Both need ``onnx``; without, the
    card is believed. With scores in the ``reference`` the file must be shown to keep them (`scores.check_scores`).

    A file that does not open is refused as well: its row says why.
    """
    limits = limits or THRESHOLDS
    row = Verified(path, "", None)
    try:
        with phase(f"checking {path.name}"), candidate:
            card = candidate.card
            row = replace(row, precision=card.precision)
            judged = _judged_as(candidate)
            row = _agreed(row, candidate, reference, limits)
            if reference.test and reference.scores:
                metrics = evaluate(candidate, reference.test, resize=reference.resize, progress=True).metrics
                lost = score_loss(reference.scores, metrics, limits[judged])
                row = replace(row, metrics=metrics, lost=lost)
                check_scores(lost, limits[judged], judged)
    except (GateError, ModelError) as error:
        return replace(row, refused=GateError(str(error)))
    return row


def _agreed(row: Verified, candidate: Engine, reference: Reference, limits: Mapping[str, Thresholds]) -> Verified:
    """The row of an open file with its agreement. Raises GateError and ModelError for one that does not agree."""
    path, card, crops = row.path, candidate.card, reference.crops
    built = EngineCard.beside(path)
    file = _own_file(path, built) if built else path
    batches = tuple(sorted({*built.batches})) if built else None
    graph = _graph_of(file)
    _check_card(path, card, graph, reference)
    judged = _judged_as(candidate)
    parity = check_parity(reference.embeddings, candidate, crops, judged, batches, limits[judged])
    if built and file:
        check_engine(candidate, file, crops, limits, batches)
    elif not built and graph and card.precision != "fp32":
        parity = _beneath_rounding(graph, card, reference, parity, limits)
    return replace(row, parity=parity, note=_note(path, card, built, file, graph))


def check_engine(
    candidate: Engine,
    file: Path,
    crops: NDArray[np.uint8],
    limits: Mapping[str, Thresholds] | None = None,
    batches: tuple[int, ...] | None = None,
) -> Parity:
    """Compare an open engine with ONNX Runtime on the ONNX ``file`` that it was built from, to limits of their own.

    Both round at the same places, in INT8 too. ``crops`` are uint8 [N, H, W, 3]. Raises GateError.
    """
    with OnnxEngine(file, providers=_CPU) as exact:
        reference = embed_in_batches(exact, crops, _BATCH, f"embedding with {file.name}")
    try:
        return check_parity(reference, candidate, crops, "engine", batches, (limits or THRESHOLDS)["engine"])
    except GateError as error:
        raise GateError(f"beside ONNX Runtime on {file.name}, {error}") from None


def _judged_as(engine: Engine) -> str:
    """The row of limits for an open engine: what it computes in, if that is coarser than what its file stores."""
    computes = engine.facts.computes
    return computes if computes and engine.card.precision != "int8" else engine.card.precision


def _own_file(engine: Path, built: EngineCard) -> Path | None:
    """The ONNX file that an engine was built from, if it lies beside it."""
    file = engine.with_suffix(".onnx")
    return file if file.is_file() and sha256_of(file) == built.onnx_sha256 else None


def _graph_of(file: Path | None) -> Graph | None:
    """The graph of an ONNX file; None for other files, and where ``onnx`` is not installed."""
    if file is None or file.suffix.lower() != ".onnx" or importlib.util.find_spec("onnx") is None:
        return None
    from reid_edge.export.graph.io import read_graph

    return read_graph(file)[0]


def _check_card(path: Path, card: ModelCard, graph: Graph | None, reference: Reference) -> None:
    """Raise GateError for a card that is not the reference's or not the graph's."""
    dims, size = reference.embeddings.shape[1], reference.crops.shape[1:3]
    if card.input_hw != size:
        sizes = f"{card.input_hw} and the reference {size}"
        raise GateError(f"{path} takes crops of {sizes}: name the model that it was exported from")
    if card.embedding_dim != dims:
        raise GateError(f"{path} gives {card.embedding_dim} numbers and the reference {dims}: it is of another model")
    if graph and graph.precision != card.precision:
        wrong = f"says {card.precision} on its card and computes in {graph.precision}"
        raise GateError(f"{path} {wrong}: export it again")
    for name, expected in reference.facts.items():
        if (found := getattr(card, name)) != expected:
            wrong = f"{path} has {name} {found} on its card and the reference {expected}"
            raise GateError(f"{wrong}: export it again, or name the model that it was exported from")


def _beneath_rounding(
    graph: Graph, card: ModelCard, reference: Reference, parity: Parity, limits: Mapping[str, Thresholds]
) -> Parity:
    """Check a file in FP16 or INT8 without its rounding, and with FP16 in it as a GPU computes it.

    The agreement as a GPU computes it: a CPU computes FP16 files in FP32, where no value overflows. Raises GateError,
    naming the layer that does.
    """
    from reid_edge.export.graph.fp16 import overflowing_layer, simulated_fp16, stores_fp16
    from reid_edge.export.graph.io import write_onnx

    from .structure import check_structure

    embeddings, crops = reference.embeddings, reference.crops
    with phase("without its rounding"):
        check_structure(graph, card, reference.weights(card.optimized_for), embeddings, crops, limits["fp32"])
    if not stores_fp16(graph):
        return parity
    with scratch_folder() as folder, phase("with every value rounded to FP16"):
        rounded = folder / "rounded.onnx"
        write_onnx(simulated_fp16(graph), card, rounded)
        with OnnxEngine(rounded, providers=_CPU) as engine:
            try:
                found = check_parity(embeddings, engine, crops, card.precision, (_BATCH,), limits[card.precision])
                return replace(found, batch_error=parity.batch_error, batches=parity.batches)
            except (GateError, ModelError) as error:
                layer = overflowing_layer(graph, crops) if card.input_format == "nhwc-uint8" else None
                raise GateError(layer or str(error)) from None


def _note(path: Path, card: ModelCard, built: EngineCard | None, file: Path | None, graph: Graph | None) -> str:
    """What `verify_file` could not look at."""
    if built and file is None:
        own = path.with_suffix(".onnx").name
        return f"{path.name} was not compared with its own ONNX file, for tighter limits: put {own} beside it"
    if not built and graph is None and card.precision != "fp32":
        what = "was not looked at without its rounding, nor for values beyond FP16"
        return f"{path.name} {what}: pip install onnx onnxscript"
    return ""
