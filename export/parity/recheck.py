"""Does this file still give what that model gave? The gate of every export, for any two models: ``verify-export``."""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from numpy.typing import NDArray

from reid_edge.engine import Engine
from reid_edge.engine_card import EngineCard
from reid_edge.engine_onnx import OnnxEngine
from reid_edge.errors import GateError, InputError, ModelError, ReidEdgeError

from .parity import THRESHOLDS, Embeddings, Parity, Thresholds, check_parity

__all__ = ["Verified", "verify", "verify_or_remove"]

_BATCHES = (1, 8, 32)


@dataclass(frozen=True)
class Verified:
    """What was found of one file: its agreement, or why it is refused.

    ``unrounded`` says that a file with FP16 in it was not computed as it stores its values, for want of ``onnx``.
    """

    path: Path
    precision: str
    parity: Parity | None
    refused: GateError | None = None
    unrounded: bool = False


def verify(
    path: Path,
    candidate: Engine,
    reference: Embeddings,
    crops: NDArray[np.uint8],
    limits: Mapping[str, Thresholds] | None = None,
) -> Verified:
    """Compare an engine, not yet open, with ``reference`` float32 [N, D] on ``crops`` uint8 [N, H, W, 3].

    Batches are the profile's of a TensorRT engine, else 1, 8 and 32, each with a ragged one after it. Raises InputError
    when the candidate takes crops of another size, ModelError when it does not open. ONNX files with FP16 in them are
    also computed as they store their values, where there is ``onnx`` to do it with.
    """
    with candidate:
        card = candidate.card
        if card.input_hw != crops.shape[1:3]:
            sizes = f"{card.input_hw} and the reference {crops.shape[1:3]}"
            raise InputError(f"{path} takes crops of {sizes}: name the model that it was exported from")
        if card.embedding_dim != reference.shape[1]:
            dims = f"{card.embedding_dim} numbers and the reference {reference.shape[1]}"
            return Verified(path, card.precision, None, GateError(f"{path} gives {dims}: it is of another model"))
        built = EngineCard.beside(path)
        batches = tuple(sorted({*built.batches})) if built else _BATCHES
        limit = (limits or THRESHOLDS)[card.precision]
        try:
            parity = check_parity(reference, candidate, crops, card.precision, batches, limit)
        except (GateError, ModelError) as error:
            return Verified(path, card.precision, None, GateError(str(error)))
    if path.suffix.lower() == ".onnx" and card.precision != "fp32":
        if importlib.util.find_spec("onnx") is None:
            return Verified(path, card.precision, parity, unrounded=True)
        try:
            parity = _as_a_gpu_rounds(path, reference, crops, limit) or parity
        except GateError as error:
            return Verified(path, card.precision, None, error)
    return Verified(path, card.precision, parity)


def _as_a_gpu_rounds(path: Path, reference: Embeddings, crops: NDArray[np.uint8], limit: Thresholds) -> Parity | None:
    """The agreement of a file with FP16 in it, computed as it stores its values; None for one without.

    A CPU computes FP16 files in FP32, where no value overflows. Raises GateError, naming the layer that does.
    """
    from .fp16 import overflowing_layer, simulated_fp16, stores_fp16
    from .graph import read_ours, write_onnx

    model, card = read_ours(path)
    if not stores_fp16(model):
        return None
    with TemporaryDirectory() as folder:
        rounded = Path(folder) / path.name
        write_onnx(simulated_fp16(model), card, rounded)
        with OnnxEngine(rounded, providers=["CPUExecutionProvider"]) as engine:
            try:
                return check_parity(reference, engine, crops, card.precision, _BATCHES, limit)
            except (GateError, ModelError) as error:
                layer = overflowing_layer(model, crops) if card.layout == "nhwc-uint8" else None
                raise GateError(f"{path.name}: {layer or error}") from None


def verify_or_remove(
    engine_file: Path,
    candidate: Engine,
    reference: Embeddings,
    crops: NDArray[np.uint8],
    limits: Mapping[str, Thresholds] | None = None,
) -> Verified:
    """`verify` an engine that was just built; one that disagrees, or does not open, is removed with its card.

    Raises GateError then.
    """
    try:
        found = verify(engine_file, candidate, reference, crops, limits)
        if found.refused:
            raise found.refused
    except BaseException as error:
        engine_file.unlink(missing_ok=True)
        EngineCard.path_for(engine_file).unlink(missing_ok=True)
        if isinstance(error, ReidEdgeError):
            raise GateError(f"{engine_file} was built, and removed again: {error}") from None
        raise
    return found
