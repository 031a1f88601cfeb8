"""A foreign ONNX file, untrusted, to a model in memory: whole, self-contained, one input of images, floats."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import ModelProto, NodeProto, TensorProto, helper, numpy_helper

from reid_edge.card import CARD_KEY
from reid_edge.core.files import require_file
from reid_edge.engines.onnx_file import read_content
from reid_edge.errors import ModelError

__all__ = ["Foreign", "described", "failure", "read_foreign"]

_MAX_BYTES = 2 << 30
"""What protobuf holds at most, and so what an ONNX file with its weights inside may have."""

_MAX_BATCH = 256
"""Of a fixed batch: the original is run in it, on images in float64."""

_OWN_DOMAINS = {"", "ai.onnx"}
_OTHER_PRECISIONS = {"QuantizeLinear": "INT8", "DequantizeLinear": "INT8", "QLinearConv": "INT8"}
_HALF = {TensorProto.FLOAT16, TensorProto.BFLOAT16}


@dataclass(frozen=True)
class Foreign:
    """A foreign file that was found usable; ``model`` holds its weights, also those of files beside it.

    ``sha256`` is of the file, then of the files beside it that it names. ``shape`` is that of its one input, None for a
    free axis.
    """

    path: Path
    sha256: str
    model: ModelProto = field(repr=False)
    input: str
    shape: tuple[int | None, ...]

    @property
    def opset(self) -> int:
        """The version of ONNX's operators that the file uses."""
        return max(int(one.version) for one in self.model.opset_import if one.domain in _OWN_DOMAINS)

    @property
    def producer(self) -> str:
        """The program that wrote the file, as the file says; at most 100 printable characters."""
        said = f"{self.model.producer_name} {self.model.producer_version}"
        return "".join(one for one in said if one.isprintable()).strip()[:100]


def read_foreign(path: Path | str) -> Foreign:
    """Read a foreign ONNX file and the weights beside it.

    Raises InputError where there is no file, and ModelError for one that is damaged, over 2 GiB, written by reid-edge,
    not in FP32, without one input of float32 images, or with operators, control flow or weights that cannot be used.
    """
    path = require_file(path, "an ONNX model")
    content = read_content(path)
    digest = hashlib.sha256(content)
    try:
        model = onnx.load_from_string(content)
        names = [node.op_type for node in model.graph.node]
    except Exception as error:  # protobuf's errors share no base with each other
        raise ModelError(f"{path} is not an ONNX file ({failure(error)}): copy or export it again") from None
    if not names or not model.graph.output:
        raise ModelError(f"{path} is not an ONNX file, or an empty one: copy or export it again")
    if any(entry.key == CARD_KEY for entry in model.metadata_props):
        raise ModelError(f"{path} was written by reid-edge: give it to  reid-edge export  as it is")
    if not all(isinstance(name, str) for name in _names(model)):
        raise ModelError(f"{path} has names that are not UTF-8 text: copy or export it again")
    for beside in _load_external(model, path):
        digest.update(beside)
    model = _inlined(model, path)
    _check_operators(model, path)
    _check_constants(model, path)
    name, shape = _images(model, path)
    return Foreign(path, digest.hexdigest(), model, name, shape)


def failure(error: Exception) -> str:
    """The text of an exception of onnx or ONNX Runtime on one line, at most 200 characters."""
    return " ".join(str(error).split())[:200]


def described(value: onnx.ValueInfoProto) -> str:
    """An input or output with its type and shape, as "output float32 [N, 512]"."""
    tensor = value.type.tensor_type
    sizes = [str(axis.dim_value) if axis.HasField("dim_value") else axis.dim_param or "?" for axis in tensor.shape.dim]
    try:
        kind = str(helper.tensor_dtype_to_np_dtype(tensor.elem_type))
    except KeyError:
        kind = "of an unknown type"
    return f"{value.name} {kind} [{', '.join(sizes)}]"


def _names(model: ModelProto) -> Iterator[str | bytes]:
    """All names that are read here; protobuf gives bytes for one that is not UTF-8."""
    yield from (model.producer_name, model.producer_version)
    yield from (value.name for value in (*model.graph.input, *model.graph.output, *_tensors(model)))
    for node in model.graph.node:
        yield from (node.name, node.op_type, node.domain, *node.input, *node.output)
        yield from (own.name for own in node.attribute)
        yield from (text for one in node.metadata_props for text in (one.key, one.value))
    yield from (entry.value for tensor in _tensors(model) for entry in tensor.external_data)


def _load_external(model: ModelProto, path: Path) -> Iterator[bytes]:
    """Put weights that lie in files beside ``path`` into the ``model``; the bytes of each such file."""
    outside = [tensor for tensor in _tensors(model) if tensor.data_location == TensorProto.EXTERNAL]
    total, files = 0, {}
    for tensor in outside:
        location = next((entry.value for entry in tensor.external_data if entry.key == "location"), "")
        if not location or os.path.isabs(location) or Path(location).name != location or "\0" in location:
            raise ModelError(
                f"{path} keeps weights in {location!r:.100}, not in a file beside it: export it in one file"
            )
        beside = path.parent / location
        if location not in files:
            if beside.is_symlink() or not beside.is_file():
                raise ModelError(f"{path} keeps its weights in {beside}, which is not there: copy both files")
            total += beside.stat().st_size
            if total > _MAX_BYTES:
                raise ModelError(f"{path} has over 2 GiB of weights, more than any supported model: give a smaller one")
            files[location] = beside.read_bytes()
        _fill(tensor, files[location], path)
    yield from (files[name] for name in sorted(files))


def _fill(tensor: TensorProto, content: bytes, path: Path) -> None:
    entries = {entry.key: entry.value for entry in tensor.external_data}
    try:
        start = int(entries.get("offset", "0"))
        end = start + int(entries["length"]) if "length" in entries else len(content)
        wanted = int(np.prod(tensor.dims, dtype=np.int64)) * helper.tensor_dtype_to_np_dtype(tensor.data_type).itemsize
    except (ValueError, KeyError):
        start, end, wanted = 0, -1, 0
    if not 0 <= start <= end <= len(content) or end - start != wanted:
        raise ModelError(
            f"{path}: its weights {tensor.name!r:.100} are not whole in the file beside it: copy both again"
        )
    tensor.raw_data = content[start:end]
    tensor.ClearField("external_data")
    tensor.data_location = TensorProto.DEFAULT


def _tensors(model: ModelProto) -> Iterator[TensorProto]:
    """The constants of a model, those in attributes of nodes too."""
    yield from model.graph.initializer
    for node in (*model.graph.node, *(node for function in model.functions for node in function.node)):
        for own in node.attribute:
            if own.HasField("t"):
                yield own.t
            yield from own.tensors


def _inlined(model: ModelProto, path: Path) -> ModelProto:
    """The model without functions of its own, of which older exporters make modules."""
    try:
        if model.functions:
            from onnx.inliner import inline_local_functions

            model = inline_local_functions(model)
        onnx.checker.check_model(model)
    except Exception as error:  # what onnx raises shares no base with protobuf's
        raise ModelError(f"{path} breaks ONNX's rules ({failure(error)}): export it again") from None
    return model


def _check_operators(model: ModelProto, path: Path) -> None:
    sparse = (
        own.HasField("sparse_tensor") or own.sparse_tensors for node in model.graph.node for own in node.attribute
    )
    if model.graph.sparse_initializer or any(sparse):
        raise ModelError(f"{path} has sparse weights, which are not supported: export it with dense ones")
    for node in model.graph.node:
        what = f"{path}: operator {node.op_type!r:.60}"
        if node.domain not in _OWN_DOMAINS:
            raise ModelError(f"{what} is of {node.domain!r:.60}, not of ONNX: export it without optimisations")
        if any(own.HasField("g") or own.graphs for own in node.attribute):
            raise ModelError(f"{what} is control flow: export it with torch.onnx.export(dynamo=True), or simplify it")
        if node.op_type in _OTHER_PRECISIONS or _casts_to_half(node):
            precision = _OTHER_PRECISIONS.get(node.op_type, "FP16")
            raise ModelError(f"{what} makes it an {precision} file: give the FP32 one, export makes the others of it")


def _casts_to_half(node: NodeProto) -> bool:
    return node.op_type == "Cast" and any(own.name == "to" and own.i in _HALF for own in node.attribute)


def _check_constants(model: ModelProto, path: Path) -> None:
    for tensor in _tensors(model):
        name = f"{path}: its weights {tensor.name!r:.100}"
        if tensor.data_type in _HALF:
            raise ModelError(f"{name} are FP16: give the FP32 file, export makes the others of it")
        try:
            array = numpy_helper.to_array(tensor)
        except Exception as error:  # sizes that do not fit, unknown types
            raise ModelError(f"{name} cannot be read ({failure(error)}): copy or export it again") from None
        if np.issubdtype(array.dtype, np.floating) and not np.isfinite(array).all():
            raise ModelError(f"{name} are not finite: export an earlier checkpoint")


def _images(model: ModelProto, path: Path) -> tuple[str, tuple[int | None, ...]]:
    """The one input: name and shape. Older files list weights among the inputs."""
    weights = {tensor.name for tensor in model.graph.initializer}
    inputs = [value for value in model.graph.input if value.name not in weights]
    shown = _listed(map(described, inputs))
    if len(inputs) != 1:
        raise ModelError(f"{path} has {len(inputs)} inputs ({shown}): an embedder takes images alone, export only that")
    tensor = inputs[0].type.tensor_type
    for axis in tensor.shape.dim:
        if axis.HasField("dim_value") and axis.dim_value < 1:  # as some exporters write a free one
            axis.ClearField("dim_value")
    shape = tuple(axis.dim_value if axis.HasField("dim_value") else None for axis in tensor.shape.dim)
    if tensor.elem_type != TensorProto.FLOAT or len(shape) != 4 or shape[1] not in (3, None):
        raise ModelError(
            f"{path} takes {shown}: only float32 [N, 3, H, W] can be wrapped, --input-format nchw-float (input_format=)"
        )
    if (shape[0] or 0) > _MAX_BATCH:
        raise ModelError(f"{path} takes {shape[0]} images at once, above {_MAX_BATCH}: export it with a free batch")
    return inputs[0].name, shape


def _listed(values: Iterable[Any]) -> str:
    """Some values in one line."""
    some = [str(value)[:100] for value in values]
    return ", ".join(some[:8]) + (f" and {len(some) - 8} more" if len(some) > 8 else "")
