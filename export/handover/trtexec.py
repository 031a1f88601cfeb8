"""A script that builds an engine by trtexec, of the same types and batches as ``export --engine``.

Written after NVIDIA's TensorRT documentation: "The trtexec Command-Line Tool" (10.x: ``--noTF32``, ``--stronglyTyped``,
``--minShapes``) and "Migrating trtexec Usage from TensorRT 10.x to 11.x" (11.4.1: ``--stronglyTyped`` is always on).
"""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError
from importlib.metadata import version as installed_version
from pathlib import Path

from reid_edge.card import ModelCard

__all__ = ["trtexec_command", "trtexec_script"]

_JETSONS = "/usr/src/tensorrt/bin"
"""Where JetPack and the Debian packages put trtexec, which is on nobody's PATH."""


def trtexec_script(card: ModelCard, onnx: Path, batches: Sequence[int], version: str | None = None) -> str:
    """A shell script that can be started from any folder; ``onnx`` is relative to the folder that it lies in.

    The engine is written beside the script. It has no card: the script ends with the command that checks it and writes
    one.
    """
    adopt = shlex.join(["reid-edge", "adopt", _engine_of(onnx), "--onnx", str(onnx)])
    return f"""#!/bin/sh
set -eu
CDPATH= cd -- "$(dirname -- "$0")"
PATH="$PATH:{_JETSONS}"
{trtexec_command(card, onnx, batches, version)}
printf 'now, in %s:  %s\\n' "$PWD" {shlex.quote(adopt)}
"""


def trtexec_command(card: ModelCard, onnx: Path, batches: Sequence[int], version: str | None = None) -> str:
    """The trtexec call. ``version`` is the TensorRT that it is for (None: the installed one, else JetPack 6's 10.3).

    FP32 is computed without TF32, which has 10 bits of precision and is on by default. TensorRT 10 keeps the graph's
    types only with ``--stronglyTyped``.
    """
    height, width = card.input_hw
    sizes = f"3x{height}x{width}" if card.input_format == "nchw-float" else f"{height}x{width}x3"
    shapes = [f"--{which}Shapes=images:{n}x{sizes}" for which, n in zip(("min", "opt", "max"), batches, strict=True)]
    major = int((version or _installed()).split(".")[0])
    typed = ["--stronglyTyped"] if major == 10 else []
    return shlex.join(["trtexec", f"--onnx={onnx}", f"--saveEngine={_engine_of(onnx)}", *typed, "--noTF32", *shapes])


def _engine_of(onnx: Path) -> str:
    return f"{onnx.stem}_trtexec.engine"


def _installed() -> str:
    try:
        return installed_version("tensorrt")
    except PackageNotFoundError:
        return "10.3"
