"""What other programs need beside a model file: DeepStream's tracker, Triton, and the command line of trtexec."""

from __future__ import annotations

import shlex
import shutil
from collections.abc import Sequence
from pathlib import Path

from reid_edge.card import ModelCard
from reid_edge.errors import InputError
from reid_edge.files import written_whole

from .graph import read_ours

__all__ = ["TARGETS", "chosen_layout", "deepstream_yaml", "deployed", "layout_for", "triton_config", "trtexec_command"]

TARGETS = ("deepstream", "triton", "trtexec")
"""What ``--for`` takes."""

_NETWORK_MODES = {"fp32": 0, "fp16": 1, "int8": 2}


def layout_for(target: str | None) -> str:
    """The layout that a program feeds. Raises InputError for one that is not known."""
    if target is not None and target not in TARGETS:
        raise InputError(f"target {target!r} is unknown: give one of {', '.join(TARGETS)}")
    return "nchw-float" if target == "deepstream" else "nhwc-uint8"


def chosen_layout(given: str | None, target: str | None) -> str:
    """The layout to write: the one ``given``, else the target program's. Raises InputError when the two differ."""
    wanted = layout_for(target)
    if given and target not in {None, "trtexec"} and given != wanted:
        raise InputError(f"{target} gives {wanted}: leave --layout {given} out")
    return given or wanted


def deployed(
    path: Path, out: Path, target: str, batches: tuple[int, int, int], version: str | None = None
) -> list[Path]:
    """Write what ``target`` needs for one of our ONNX files into ``out``; gives the files written.

    ``batches`` are the least, usual and largest; ``version`` is TensorRT's, for trtexec. Raises InputError for an
    unknown target, ModelError for a file that is not ours.
    """
    wanted = layout_for(target)
    _, card = read_ours(path)
    if target != "trtexec" and card.layout != wanted:
        raise InputError(f"{path} takes {card.layout}, and {target} gives {wanted}: export it with --layout {wanted}")
    if target == "triton":
        folder = out / "triton" / path.stem
        with written_whole(folder / "1" / "model.onnx") as beside:
            shutil.copyfile(path, beside)
        return [folder / "1" / "model.onnx", _text(folder / "config.pbtxt", triton_config(card, path.stem, batches))]
    if target == "deepstream":
        return [_text(out / f"{path.stem}_tracker.yml", deepstream_yaml(card, path, batches[2]))]
    command = trtexec_command(card, path, batches, version)
    return [_text(out / f"{path.stem}_trtexec.sh", f"#!/bin/sh\n{command}\n")]


def deepstream_yaml(card: ModelCard, path: Path, batch: int) -> str:
    """The ``ReID`` section of a low-level tracker's configuration (NvDeepSORT, NvDCF), to be merged into one.

    Normalisation is in the graph, so offsets are 0 and the scale is 1; crops are stretched as in training, so the
    aspect ratio is not kept. Mode 0 is FP32, 1 FP16 and 2 INT8; a strongly typed graph decides for itself.
    """
    height, width = card.input_hw
    rows = {
        "reidType": "2    # re-identification for association and re-association",
        "batchSize": batch,
        "workspaceSize": "1000    # MB",
        "reidFeatureSize": card.embedding_dim,
        "reidHistorySize": 100,
        "inferDims": f"[3, {height}, {width}]",
        "networkMode": _NETWORK_MODES[card.precision],
        "inputOrder": "0    # NCHW",
        "colorFormat": "0    # RGB",
        "offsets": "[0.0, 0.0, 0.0]",
        "netScaleFactor": 1.0,
        "keepAspc": 0,
        "addFeatureNormalization": "0    # the graph ends in an L2 norm",
        "outputReidTensor": 0,
        "onnxFile": f'"{path.resolve()}"',
        "modelEngineFile": f'"{path.resolve().with_name(f"{path.stem}_deepstream.engine")}"',
    }
    body = "\n".join(f"  {name}: {value}" for name, value in rows.items())
    title = f"# {card.architecture} {card.precision}, written by reid-edge export --for deepstream"
    return f"%YAML:1.0\n{title}\nReID:\n{body}\n"


def triton_config(card: ModelCard, name: str, batches: Sequence[int]) -> str:
    """Triton's ``config.pbtxt``: ONNX Runtime, batches gathered for at most 2 ms, uint8 crops in."""
    height, width = card.input_hw
    preferred = ", ".join(str(batch) for batch in sorted({*batches[1:]}))
    return f"""name: "{name}"
backend: "onnxruntime"
max_batch_size: {batches[2]}
input [ {{ name: "images" data_type: TYPE_UINT8 dims: [ {height}, {width}, 3 ] }} ]
output [ {{ name: "embeddings" data_type: TYPE_FP32 dims: [ {card.embedding_dim} ] }} ]
dynamic_batching {{ preferred_batch_size: [ {preferred} ] max_queue_delay_microseconds: 2000 }}
"""


def trtexec_command(card: ModelCard, path: Path, batches: Sequence[int], version: str | None = None) -> str:
    """The trtexec call that builds an engine of the same types and batches as ``--engine``, with no other option of it.

    Its file is another, for `reid-edge` opens no engine without a card; 10.x must be told to keep the graph's types.
    ``version`` is the TensorRT that it is for; None says 10.3, what JetPack 6 has.
    """
    height, width = card.input_hw
    sizes = f"3x{height}x{width}" if card.layout == "nchw-float" else f"{height}x{width}x3"
    shapes = [f"--{which}Shapes=images:{n}x{sizes}" for which, n in zip(("min", "opt", "max"), batches, strict=True)]
    typed = ["--stronglyTyped"] if int((version or "10.3").split(".")[0]) == 10 else []
    whole = path.resolve()
    engine = whole.with_name(f"{path.stem}_trtexec.engine")
    return shlex.join(["trtexec", f"--onnx={whole}", f"--saveEngine={engine}", *typed, *shapes])


def _text(path: Path, content: str) -> Path:
    with written_whole(path) as beside:
        beside.write_text(content, encoding="utf-8")
    return path
