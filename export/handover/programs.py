"""The programs that files are written for, the input format that each feeds, and the files of one exported model."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from reid_edge.core.files import write_text
from reid_edge.core.names import require_name
from reid_edge.errors import InputError
from reid_edge.export.graph.io import read_graph
from reid_edge.scoring.test_set import TestSet

from .deepstream import deepstream_yaml
from .threshold import similarity_threshold
from .triton import write_triton
from .trtexec import trtexec_script

__all__ = ["PROGRAMS", "HandOver", "chosen_input_format", "input_format_for", "write_handover"]

PROGRAMS = ("deepstream", "triton", "trtexec")
"""The programs that files can be written for (``--for``)."""


@dataclass(frozen=True, kw_only=True)
class HandOver:
    """Another program to write files for, one of `PROGRAMS`, and the minimum, optimum and maximum of its batches."""

    program: str
    batches: tuple[int, int, int] = (1, 16, 64)

    def write(self, path: Path, out: Path, engine: Path | None = None, test: TestSet | None = None) -> list[Path]:
        """The files for one exported ONNX file, see `write_handover`."""
        return write_handover(path, out, self.program, self.batches, engine=engine, test=test)


def input_format_for(program: str | None) -> str:
    """The input format that a program feeds. Raises InputError for an unknown program."""
    if program is not None:
        require_name(program, PROGRAMS, "program")
    return "nchw-float" if program == "deepstream" else "nhwc-uint8"


def chosen_input_format(given: str | None, program: str | None) -> str:
    """The input format to write: the one ``given``, else the program's. Raises InputError when the two differ."""
    wanted = input_format_for(program)
    if given and program not in {None, "trtexec"} and given != wanted:
        raise InputError(f"{program} feeds {wanted}: leave --input-format {given} (input_format=) out")
    return given or wanted


def write_handover(
    path: Path,
    out: Path,
    program: str,
    batches: tuple[int, int, int],
    version: str | None = None,
    *,
    engine: Path | None = None,
    test: TestSet | None = None,
) -> list[Path]:
    """Write the files that ``program`` needs for an exported ONNX file into ``out``; gives their paths.

    ``batches`` are the minimum, optimum and maximum; ``version`` is TensorRT's, for trtexec (None: the installed one,
    if any). Triton also gets the ``engine`` that was built of the file; a labelled data set, ``test``, gives DeepStream
    its threshold. Raises InputError for an unknown program or an ONNX file whose input format it does not feed,
    ModelError for a file that reid-edge did not export.
    """
    wanted = input_format_for(program)
    _, card = read_graph(path)
    if program != "trtexec" and card.input_format != wanted:
        raise InputError(
            f"{path} takes {card.input_format}, and {program} feeds {wanted}: export it with --input-format {wanted} "
            "(input_format=)"
        )
    if program == "triton":
        return write_triton(card, path, out, batches, engine)
    if program == "deepstream":
        threshold = similarity_threshold(path, test) if test else None
        return [_text(out / f"{path.stem}_tracker.yml", deepstream_yaml(card, _from(out, path), batches[2], threshold))]
    script = trtexec_script(card, _from(out, path), batches, version)
    return [_text(out / f"{path.stem}_trtexec.sh", script, mode=0o755)]


def _from(folder: Path, path: Path) -> Path:
    """``path`` as seen from the folder that a written file lies in, so that both can move together."""
    return Path(os.path.relpath(path.resolve(), folder.resolve()))


def _text(path: Path, content: str, mode: int | None = None) -> Path:
    write_text(path, content)
    if mode is not None:
        path.chmod(mode)
    return path
