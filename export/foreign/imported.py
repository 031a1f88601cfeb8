"""One import: a foreign file read and run, wrapped, held to the original by the gate, and written."""

from __future__ import annotations

import hashlib
import logging
import re
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from reid_edge.card import ModelCard
from reid_edge.core.files import written_whole
from reid_edge.core.locks import locked
from reid_edge.core.progress import phase
from reid_edge.engines.onnxruntime import OnnxEngine
from reid_edge.errors import GateError, InputError, ModelError
from reid_edge.export.graph.graph import OPSET, Graph
from reid_edge.export.graph.io import write_onnx
from reid_edge.export.graph.macs import node_macs
from reid_edge.export.graph.session import embed_graph
from reid_edge.export.parity.crops import ParityCrops
from reid_edge.export.parity.gate import Parity, check_parity
from reid_edge.export.parity.limits import Thresholds

from .original import Original, embedding_of
from .plain import plain_graph
from .preprocessing import Preprocessing
from .read import Foreign, failure, read_foreign
from .wrap import ends_in_norm, wrapped

__all__ = ["ImportReport", "import_file"]

logger = logging.getLogger(__name__)

_TRIED = 3
"""A batch that no exporter chooses, to see whether a graph with a fixed one holds in others."""


@dataclass(frozen=True, kw_only=True)
class ImportReport:
    """The file that `import_model` wrote, and how far it is from the original.

    ``card`` is the file's; its ``recipe`` says where the model came from: the source's name, SHA-256, producer, opset
    and embedding. ``parity`` is what the gate measured. ``notes`` are for users: what was changed beside the wrapping.
    """

    path: Path
    card: ModelCard
    parity: Parity
    bytes: int
    seconds: float
    notes: tuple[str, ...] = ()

    def __repr__(self) -> str:
        return f"<ImportReport: wrote {self.path.name}, from {self.card.recipe['imported_from']}>"

    def to_dict(self) -> dict[str, Any]:
        """JSON-able: all of the above."""
        return {
            "path": str(self.path),
            "card": asdict(self.card),
            "parity": self.parity.to_dict(),
            "bytes": self.bytes,
            "seconds": self.seconds,
            "notes": list(self.notes),
        }


def import_file(
    path: Path,
    out: Path,
    preprocessing: Preprocessing,
    crops: ParityCrops,
    limits: Thresholds,
    *,
    size: tuple[int, int] | None = None,
    embedding: str | None = None,
    name: str | None = None,
    threads: int | None = None,
) -> ImportReport:
    """Wrap the foreign file ``path`` as ``out/NAME_fp32.onnx``, once the two agree to ``limits`` on ``crops``.

    ``size`` is what the caller asks for, and the graph must take it; a size of the ``preprocessing`` is for graphs that
    take any. Raises InputError and ModelError for a file or values that cannot be used, GateError where the two differ.
    """
    started = time.perf_counter()
    name = _plain_name(path, name)
    written = out / f"{name}_fp32.onnx"
    with phase(f"reading {path.name}"):
        foreign = read_foreign(path)
    if written.resolve() == path.resolve():
        raise InputError(f"{written} is the file given: give another --out (out=) or --name (name=)")
    embedding = embedding_of(foreign, embedding)
    size = _size(foreign, preprocessing, size)
    card = _card(foreign, embedding, name, preprocessing, size)
    images = crops.of(card)
    original = Original(foreign, embedding, preprocessing, threads)
    features = original.features(images)
    norms = np.linalg.norm(features.astype(np.float64), axis=1, keepdims=True)  # [N, 1]
    reference = (features / norms).astype(np.float32)
    plain = plain_graph(foreign, embedding, size)
    normalised = ends_in_norm(plain) and bool(np.allclose(norms, 1, atol=1e-5))
    try:
        graph = wrapped(plain, preprocessing, size, features.shape[1], flat=original.rank == 2, normalised=normalised)
        card = card.with_(embedding_dim=features.shape[1], macs=_macs(graph), **_weights(graph))
        _try_batches(graph, foreign, images, reference, limits)
        with locked(written, f"import to {written}"):
            parity = _written(graph, card, written, images, reference, limits)
    except ModelError as error:
        raise ModelError(f"{path}: {error}") from None
    notes = _notes(foreign, plain.opset, normalised)
    return ImportReport(
        path=written,
        card=card.with_(parity=parity.to_dict(), sealed=True),
        parity=parity,
        bytes=written.stat().st_size,
        seconds=time.perf_counter() - started,
        notes=tuple(notes),
    )


def _plain_name(path: Path, name: str | None) -> str:
    """The stem of the file and the architecture on its card. Raises InputError for a ``name`` that cannot be both."""
    if name is None:
        return re.sub(r"\W+", "_", path.stem, flags=re.ASCII).strip("_")[:80] or "imported"
    if not re.fullmatch(r"\w[\w.-]{0,99}", name, re.ASCII):
        raise InputError(f"name {name!r} is not a plain file name: give letters, digits, . _ and - as --name (name=)")
    return name


def _size(foreign: Foreign, preprocessing: Preprocessing, asked: tuple[int, int] | None) -> tuple[int, int]:
    """The graph's own height and width where they are fixed, else those given. Raises ModelError for others."""
    own = foreign.shape[2:]
    given = preprocessing.size
    height, width = (length or (given[place] if given else 0) for place, length in enumerate(own))
    if not (height and width):
        raise ModelError(f"{foreign.path} takes images of any size: give --size HEIGHT WIDTH (size=), e.g. 256 128")
    if asked and asked != (height, width):
        raise ModelError(f"{foreign.path} takes images of {height} x {width} pixels alone: leave --size (size=) out")
    if not all(16 <= side <= 4096 for side in (height, width)):
        raise ModelError(f"{foreign.path} takes images of {height} x {width} pixels: 16 to 4096 are supported")
    return height, width


def _card(
    foreign: Foreign, embedding: str, name: str, preprocessing: Preprocessing, size: tuple[int, int]
) -> ModelCard:
    """The card, as far as it is known before the graph is made."""
    from reid_edge import __version__

    recipe = {
        "imported_from": _printable(foreign.path.name),
        "sha256": foreign.sha256,
        "producer": foreign.producer,
        "opset": foreign.opset,
        "embedding": _printable(embedding),
        "channels": preprocessing.channels,
        "scale": preprocessing.scale,
    }
    return ModelCard(
        name,
        1,
        input_hw=size,
        resize=preprocessing.resize,
        recipe=recipe,
        made_with=f"reid-edge {__version__}",
        **preprocessing.on_the_card(),  # type: ignore[arg-type]
    )


def _printable(text: str) -> str:
    return "".join(one for one in text if one.isprintable())[:200]


def _weights(graph: Graph) -> Mapping[str, Any]:
    """How many parameters a graph has, and a hash of them by name."""
    digest = hashlib.sha256()
    floats = {name: array for name, array in graph.constants.items() if np.issubdtype(array.dtype, np.floating)}
    for name, array in sorted(floats.items()):
        digest.update(f"{name} {array.dtype} {array.shape}".encode() + np.ascontiguousarray(array).tobytes())
    return {"parameters": sum(array.size for array in floats.values()), "weights_sha256": digest.hexdigest()}


def _macs(graph: Graph) -> int:
    """The multiply-accumulates of one crop; 0, as on a card that does not say, where shapes are not known."""
    try:
        return sum(node_macs(graph).values())
    except ModelError:
        return 0


def _try_batches(
    graph: Graph, foreign: Foreign, images: NDArray[np.uint8], reference: NDArray[np.float32], limits: Thresholds
) -> None:
    """Raise ModelError for a graph that holds in its own batch alone."""
    tried = np.concatenate([images] * _TRIED)[:_TRIED]
    expected = np.concatenate([reference] * _TRIED)[:_TRIED]
    try:
        found = embed_graph(graph, tried)
        reason = f"embeddings are off by {np.abs(found - expected).max():.2g}" if foreign.shape[0] else ""
        holds = found.shape == expected.shape and bool(np.abs(found - expected).max() <= limits.max_error)
    except Exception as error:  # ONNX Runtime's exceptions share no base of their own
        holds, reason = False, failure(error)
    if not holds and foreign.shape[0]:
        fixed = f"its batch is fixed at {foreign.shape[0]}, and the graph does not hold in others"
        raise ModelError(f"{fixed} ({reason}): export it with a dynamic batch axis")
    if not holds and reason:
        raise ModelError(f"it does not run on a batch of {_TRIED} ({reason}): export it with a dynamic batch axis")


def _written(
    graph: Graph,
    card: ModelCard,
    path: Path,
    images: NDArray[np.uint8],
    reference: NDArray[np.float32],
    limits: Thresholds,
) -> Parity:
    """Write the file after the gate, with what it measured on the card."""
    with written_whole(path) as beside:
        try:
            write_onnx(graph, card, beside)
            with phase("comparing with the original"), OnnxEngine(beside, providers=["CPUExecutionProvider"]) as engine:
                parity = check_parity(reference, engine, images, "fp32", limits=limits)
        except (GateError, ModelError) as error:
            remedy = str(error).replace(str(beside), path.name).replace(limits.remedy, _REMEDY)
            raise GateError(remedy) from None
        write_onnx(graph, card.with_(parity=parity.to_dict()), beside)
    logger.info("wrote %s", path)
    return parity


_REMEDY = "export the model in eval mode, with a dynamic batch axis"


def _notes(foreign: Foreign, opset: int, normalised: bool) -> list[str]:
    """What is worth knowing of an import, one line each."""
    notes = []
    if foreign.shape[0]:
        notes.append(f"the batch was fixed at {foreign.shape[0]}, and is free now")
    if opset > OPSET:
        notes.append(f"opset {opset}: TensorRT 10.3 reads {OPSET} in full, newer operators perhaps not")
    elif foreign.opset < OPSET:
        notes.append(f"opset {foreign.opset} was brought to {OPSET}")
    if normalised:
        notes.append("the graph ends in an L2 norm of its own, which was not repeated")
    return notes
