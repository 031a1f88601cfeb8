"""Another project's ONNX embedder to a file of reid-edge, held to the original."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from reid_edge.core.files import require_file
from reid_edge.core.names import require_name
from reid_edge.core.progress import phase
from reid_edge.errors import InputError

from .models import is_checkpoint

if TYPE_CHECKING:
    from reid_edge.data.datasets import Dataset
    from reid_edge.export.foreign.imported import ImportReport
    from reid_edge.export.parity.limits import Checks
    from reid_edge.scoring.test_set import TestSet

__all__ = ["import_model"]


def import_model(
    model: Path | str,
    out: Path | str,
    *,
    preset: str | None = None,
    input_format: str = "nchw-float",
    size: tuple[int, int] | None = None,
    mean: tuple[float, float, float] | None = None,
    std: tuple[float, float, float] | None = None,
    scale: int | None = None,
    channels: str | None = None,
    resize: str | None = None,
    embedding: str | None = None,
    name: str | None = None,
    data: Path | str | Dataset | TestSet | None = None,
    layout: str | None = None,
    checks: Checks | None = None,
    threads: int | None = None,
) -> ImportReport:
    """Wrap a foreign FP32 ONNX embedder as ``out/NAME_fp32.onnx``, which everything here opens.

    The file takes uint8 [N, H, W, 3] RGB and gives float32 [N, D] of L2 norm 1, for any N; preprocessing and norm are
    inside. ``model`` takes float32 [N, 3, H, W] (``input_format`` "nchw-float") of ``(pixel * scale / 255 - mean) /
    std``: ``scale`` is 1 or 255, ``channels`` "rgb" or "bgr", ``mean`` and ``std`` are in the units of ``scale`` and
    the order of ``channels``. ``preset`` (`export.foreign.preprocessing.PRESETS`: "torchreid", "boxmot", "fast-reid",
    "ultralytics") stands for those, and for ``size`` (height, width) and ``resize``; what is given beside it goes
    before it. Without a preset ``resize`` is "opencv", and ``size`` is the graph's. ``embedding`` names the output, or
    a value inside the graph, that holds the embeddings; ``name`` is the stem of the file and the architecture on its
    card (None: that of ``model``'s file).

    The original is run by ONNX Runtime on crops that NumPy prepares, and the new file must give the same embeddings to
    FP32's limits (`Checks`), on the crops of ``data``, with its ``layout``, or on drawn ones. Nothing of ``model`` is
    trusted: it is data, of checked sizes, and never code.

    Raises InputError for values that are missing or that no graph can mean, ModelError for a file that cannot be
    wrapped, with the reason, and GateError where the two differ. ::

        report = import_model("osnet_ain_x1_0.onnx", "models", preset="torchreid", data="Market-1501")

    >>> report = import_model(foreign_file, scratch / "models", preset="torchreid")
    >>> report.path.name, report.card.input_hw, report.card.recipe["imported_from"], report.parity.max_error < 1e-4
    ('foreign_fp32.onnx', (64, 32), 'foreign.onnx', True)
    """
    from reid_edge.export.foreign.preprocessing import FOREIGN_FORMATS, preprocessing_of
    from reid_edge.export.parity.limits import Checks

    path = require_file(model, "an ONNX model")
    if is_checkpoint(path):
        raise InputError(f"{path} is a checkpoint: import takes .onnx, and  reid-edge export --arch  reads torchreid's")
    require_name(input_format, FOREIGN_FORMATS, "input format")
    given = {"size": size, "mean": mean, "std": std, "scale": scale, "channels": channels, "resize": resize}
    preprocessing = preprocessing_of(preset, given)
    checks = checks or Checks()
    limits = checks.limits()["fp32"]

    from reid_edge.engines.ort import import_onnxruntime
    from reid_edge.export.foreign.imported import import_file
    from reid_edge.export.source import open_data

    import_onnxruntime()
    with phase(f"importing {path.name}"), open_data(data, layout, crops=checks.crops) as opened:
        return import_file(
            path,
            Path(out),
            preprocessing,
            opened.crops,
            limits,
            size=size,
            embedding=embedding,
            name=name,
            threads=threads,
        )
