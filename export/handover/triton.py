"""A model repository for Triton Inference Server: the ONNX file, and the TensorRT engine where one was built.

Written after the Triton user guide: "Model Repository" (release 23.10: REPOSITORY/NAME/config.pbtxt and
REPOSITORY/NAME/VERSION/model.onnx or model.plan, other files in the repository's folder are not models) and "Model
Configuration" (backend, platform, instance_group, dynamic_batching, model_warmup). The message is ``ModelConfig`` of
model_config.proto, as tritonclient 2.73 carries it.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from pathlib import Path

from reid_edge.card import ModelCard
from reid_edge.core.files import write_text, written_whole

__all__ = ["triton_config", "write_triton"]


def write_triton(
    card: ModelCard, path: Path, repository: Path, batches: Sequence[int], engine: Path | None = None
) -> list[Path]:
    """Put an ONNX file into a model repository, as NAME, and the ``engine`` built of it as NAME_tensorrt.

    Gives the paths written. ``batches`` are the minimum, optimum and maximum.
    """
    written = _model(repository / path.stem, path, "model.onnx", triton_config(card, path.stem, batches))
    if engine:
        folder = repository / f"{path.stem}_tensorrt"
        written += _model(folder, engine, "model.plan", triton_config(card, folder.name, batches, plan=True))
    return written


def triton_config(card: ModelCard, name: str, batches: Sequence[int], *, plan: bool = False) -> str:
    """Triton's ``config.pbtxt`` for an ONNX file, or for a TensorRT ``plan``: uint8 crops in, embeddings out.

    Single crops are batched with a delay of at most 2 ms. Warm-up runs the smallest, the optimum and the largest batch
    before the model is ready, since the first run of a size is slow. An ONNX file runs on the GPU where there is one.
    """
    height, width = card.input_hw
    preferred = ", ".join(str(batch) for batch in sorted({*batches[1:]}))
    runner = 'platform: "tensorrt_plan"' if plan else 'backend: "onnxruntime"'
    kind = "KIND_GPU" if plan else "KIND_AUTO"
    image = f"data_type: TYPE_UINT8 dims: [ {height}, {width}, 3 ]"
    warmup = "\n".join(_warmup(batch, image) for batch in sorted({*batches}))
    return f"""name: {json.dumps(name, ensure_ascii=False)}
{runner}
max_batch_size: {batches[2]}
input [ {{ name: "images" {image} }} ]
output [ {{ name: "embeddings" data_type: TYPE_FP32 dims: [ {card.embedding_dim} ] }} ]
instance_group [ {{ count: 1 kind: {kind} }} ]
dynamic_batching {{ preferred_batch_size: [ {preferred} ] max_queue_delay_microseconds: 2000 }}
{warmup}
"""


def _warmup(batch: int, image: str) -> str:
    value = f'inputs {{ key: "images" value {{ {image} zero_data: true }} }}'
    return f'model_warmup [ {{ name: "batch of {batch}" batch_size: {batch} {value} }} ]'


def _model(folder: Path, source: Path, file: str, config: str) -> list[Path]:
    """The folder of one model: its file as version 1, and its configuration."""
    with written_whole(folder / "1" / file) as beside:
        shutil.copyfile(source, beside)
    write_text(folder / "config.pbtxt", config)
    return [folder / "1" / file, folder / "config.pbtxt"]
