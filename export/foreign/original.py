"""The foreign graph as its file has it, run by ONNX Runtime: what the wrapped file is held to."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray
from onnx import ModelProto, TensorProto, helper

from reid_edge.core.names import did_you_mean
from reid_edge.core.progress import track
from reid_edge.engines.ort import import_onnxruntime, session_options
from reid_edge.errors import ModelError

from .preprocessing import Preprocessing
from .read import Foreign, described, failure

__all__ = ["Original", "embedding_of"]

_BATCH = 32
_MAX_DIM = 65536
"""As on a model card."""


def embedding_of(foreign: Foreign, name: str | None) -> str:
    """The value that holds the embeddings: the only output, or ``name``, which may also be a value inside the graph.

    Raises ModelError, with the outputs and their shapes, where it is not clear which.
    """
    outputs = list(foreign.model.graph.output)
    shown = ", ".join(described(value)[:100] for value in outputs[:16])
    inside = [value for node in foreign.model.graph.node for value in node.output if value]
    if name is None and len(outputs) == 1:
        name = outputs[0].name
    if name is None:
        raise ModelError(f"{foreign.path} has {len(outputs)} outputs: name one as --embedding (embedding=): {shown}")
    if name not in inside:
        near = did_you_mean(name, inside)
        raise ModelError(f"{foreign.path} has no value {name!r}: --embedding (embedding=) may be {shown}{near}")
    kinds = {value.name: value.type.tensor_type.elem_type for value in outputs}
    if kinds.get(name, TensorProto.FLOAT) != TensorProto.FLOAT:
        raise ModelError(
            f"{foreign.path}: an embedding is float32, and it gives {shown}: name another --embedding (embedding=)"
        )
    return name


class Original:
    """A foreign model on ONNX Runtime's CPU: crops to what it gives for them, in its own batches.

    ``batch`` is the only size that it takes, if any; ``rank`` the number of axes of what it gave last. Raises
    ModelError where ONNX Runtime cannot open it.
    """

    def __init__(
        self, foreign: Foreign, embedding: str, preprocessing: Preprocessing, threads: int | None = None
    ) -> None:
        self._path = foreign.path
        self._input = foreign.input
        self._embedding = embedding
        self._preprocessing = preprocessing
        self.batch = foreign.shape[0]
        self.rank = 2
        model = _with_output(foreign.model, embedding)
        options = session_options(threads)
        try:
            self._session = import_onnxruntime().InferenceSession(
                model.SerializeToString(), options, providers=["CPUExecutionProvider"]
            )
        except Exception as error:  # ONNX Runtime's exceptions share no base of their own
            raise ModelError(
                f"{foreign.path}: ONNX Runtime cannot open it ({failure(error)}): export it again"
            ) from None

    def features(self, crops: NDArray[np.uint8]) -> NDArray[np.float32]:
        """What the model gives for uint8 [N, H, W, 3] RGB: float32 [N, D], as it is.

        Raises ModelError for what is not one vector of finite numbers a crop.
        """
        parts = [self._run(part) for part in self._batches(crops)]
        features = np.concatenate(parts)[: len(crops)]
        if not np.isfinite(features).all() or not (np.abs(features).max(axis=1) > 0).all():
            raise ModelError(f"{self._path} gives embeddings that are not finite, or all zero: export it again")
        return features

    def _batches(self, crops: NDArray[np.uint8]) -> Iterator[NDArray[np.uint8]]:
        """Crops in the model's own batches; the last is filled up where it takes no other size."""
        size = self.batch or _BATCH
        for start in track(range(0, len(crops), size), "embedding with the original"):
            part = crops[start : start + size]
            short = size - len(part) if self.batch else 0
            yield np.concatenate([part, np.repeat(part[-1:], short, axis=0)]) if short else part

    def _run(self, crops: NDArray[np.uint8]) -> NDArray[np.float32]:
        try:
            (found,) = self._session.run([self._embedding], {self._input: self._preprocessing.prepared(crops)})
        except Exception as error:  # as above
            raise ModelError(
                f"{self._path} does not run on {len(crops)} crops of {crops.shape[1]} x {crops.shape[2]} pixels "
                f"({failure(error)}): check --size (size=), or export it again"
            ) from None
        array = np.asarray(found)
        shown = f"{self._embedding!r} is {array.dtype} {list(array.shape)} for {len(crops)} crops"
        if array.dtype != np.float32 or array.ndim < 2 or len(array) != len(crops) or not array.size:
            raise ModelError(f"{self._path}: {shown}, not float32 [N, D]: name another --embedding (embedding=)")
        if max(array.shape[1:]) != array[0].size or array[0].size > _MAX_DIM:
            raise ModelError(f"{self._path}: {shown}, not one vector a crop: name another --embedding (embedding=)")
        self.rank = array.ndim
        return array.reshape(len(array), -1)


def _with_output(model: ModelProto, value: str) -> ModelProto:
    """The model itself where ``value`` is an output of it, else a copy that gives it."""
    if value in [output.name for output in model.graph.output]:
        return model
    copied: ModelProto = ModelProto.FromString(model.SerializeToString())
    copied.graph.output.append(helper.make_tensor_value_info(value, TensorProto.FLOAT, None))
    return copied
