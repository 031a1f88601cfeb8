"""ONNX files: a `Graph` and its `ModelCard` read from one, and written to one.

`write_onnx` is the only way in which a graph becomes a file.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import onnx
from onnx import ModelProto, helper, numpy_helper

from reid_edge.card import CARD_KEY, ModelCard
from reid_edge.core.files import require_file, written_whole
from reid_edge.engines.onnx_file import check_content, read_content, seal_of
from reid_edge.errors import ModelError

from .graph import Graph

__all__ = ["read_fp32", "read_graph", "write_onnx"]


def write_onnx(graph: Graph, card: ModelCard, path: Path | str) -> None:
    """Write a ``graph`` with its ``card`` in the metadata to ``path``, whole or not at all.

    The file is self-contained, and sealed: it ends in its own hash (`reid_edge.engines.onnx_file`). A graph that a pass
    made is written as it is, any other as a tidy copy. Raises ModelError for weights that are not finite, and
    onnx.checker.ValidationError for a graph that breaks ONNX's rules: a defect of a pass, not the caller's mistake.
    """
    if broken := _not_finite(graph.model):
        raise ModelError(f"the weights {broken!r} are not finite: take an earlier checkpoint")
    with _with_header(graph.tidied().model, card.with_(sealed=True)) as file:
        onnx.checker.check_model(file, full_check=True)
        content = file.SerializeToString(deterministic=True)
    with written_whole(path) as beside, open(beside, "wb") as out:
        out.write(content)
        out.write(seal_of(content))


def read_graph(path: Path | str) -> tuple[Graph, ModelCard]:
    """The graph and the card of a file that `write_onnx` wrote.

    Raises ModelError for any other file, for one that is damaged or was changed since, for weights that are not finite,
    and for a card that is not its graph's.
    """
    content = read_content(require_file(path, "an ONNX model"))
    card = check_content(content, path).card
    try:
        model = onnx.load_from_string(content)
        broken, ends = _not_finite(model), _ends(model)
    except Exception as error:  # protobuf's errors share no base with each other
        reason = " ".join(str(error).split())[:200]
        raise ModelError(f"{path} is not an ONNX file ({reason}): copy or export the model again") from None
    if broken:
        raise ModelError(f"{path}: its weights {broken!r} are not finite: export an earlier checkpoint")
    if ends != (wanted := [f"images: {_images(card)}", f"embeddings: float32 [N, {card.embedding_dim}]"]):
        difference = f"its graph has {'; '.join(ends)} and its card says {'; '.join(wanted)}"
        raise ModelError(f"{path}: {difference}: run  reid-edge export CHECKPOINT  again")
    return Graph(model), card


def read_fp32(path: Path | str) -> tuple[Graph, ModelCard]:
    """Like `read_graph`, for an FP32 file to make other precisions from; raises ModelError for any other file."""
    graph, card = read_graph(path)
    if card.input_format != "nhwc-uint8":
        raise ModelError(f"{path} takes {card.input_format}, and others are made from nhwc-uint8: give that fp32 file")
    if card.precision != "fp32":
        raise ModelError(f"{path} is {card.precision}, and other precisions are made from FP32: give the fp32 file")
    return graph, card


def _not_finite(model: ModelProto) -> str | None:
    """The first constant that holds NaN or Inf."""
    for tensor in model.graph.initializer:
        array = numpy_helper.to_array(tensor)
        if np.issubdtype(array.dtype, np.floating) and not np.isfinite(array).all():
            return str(tensor.name)
    return None


def _ends(model: ModelProto) -> list[str]:
    """Name, type and shape of a graph's inputs and outputs; N stands for a free axis."""
    described = []
    for value in (*model.graph.input, *model.graph.output):
        tensor = value.type.tensor_type
        sizes = [str(axis.dim_value) if axis.HasField("dim_value") else "N" for axis in tensor.shape.dim]
        kind = helper.tensor_dtype_to_np_dtype(tensor.elem_type)
        described.append(f"{value.name}: {kind} [{', '.join(sizes)}]")
    return described


@contextmanager
def _with_header(model: ModelProto, card: ModelCard) -> Iterator[ModelProto]:
    """A tidy ``model`` with producer and card, taken off again at the end: copying it would double its memory."""
    described = {
        CARD_KEY: card.to_json(),
        "architecture": card.architecture,
        "precision": card.precision,
        "input": f"images: {_images(card)}, RGB, 0..255; normalised inside",
        "output": f"embeddings: float32 [N, {card.embedding_dim}], rows of L2 norm 1",
    }
    try:
        model.producer_name = "reid-edge"
        model.producer_version = card.made_with
        helper.set_model_props(model, described)
        yield model
    finally:
        for name in ("producer_name", "producer_version", "metadata_props"):
            model.ClearField(name)


def _images(card: ModelCard) -> str:
    height, width = card.input_hw
    return (
        f"uint8 [N, {height}, {width}, 3]"
        if card.input_format == "nhwc-uint8"
        else f"float32 [N, 3, {height}, {width}]"
    )
