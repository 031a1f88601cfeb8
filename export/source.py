"""What an export starts from: a model in FP32 with the crops that its files must agree on, and the data sets."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from reid_edge.card import ModelCard
from reid_edge.data.datasets import Dataset
from reid_edge.engines.base import Engine
from reid_edge.engines.onnxruntime import OnnxEngine
from reid_edge.scoring.test_set import TestSet

from .parity.crops import ParityCrops
from .parity.gate import embed_in_batches
from .parity.limits import PARITY_CROPS

if TYPE_CHECKING:
    from .graph.graph import Graph

__all__ = ["ExportData", "ExportSource", "onnx_source", "open_data", "reference_of"]

_REFERENCE_BATCH = 32


@dataclass(frozen=True)
class ExportSource:
    """A model in FP32, and what its files must agree with.

    ``reference`` float32 [N, D] are the embeddings of ``crops`` uint8 [N, H, W, 3], by PyTorch where there is one;
    ``file`` is the FP32 file when the source is one.
    """

    graph: Graph
    card: ModelCard
    crops: NDArray[np.uint8]
    reference: NDArray[np.float32]
    file: Path | None = None


@dataclass(frozen=True, kw_only=True)
class ExportData:
    """The data sets of one export, each opened once and each crop decoded once, however many files are made.

    ``crops`` are what embeddings are compared on; ``test`` is scored on, ``calibration`` gives INT8 its training crops.
    The two are one object when they are one data set.
    """

    crops: ParityCrops
    test: TestSet | None = None
    calibration: TestSet | None = None

    @property
    def scored(self) -> TestSet | None:
        """The data set ``test`` where files can be scored on it; None where it lacks queries or a gallery."""
        split = self.test.dataset.split if self.test else None
        return self.test if split and split.query and split.gallery else None


@contextmanager
def open_data(
    data: Path | str | Dataset | TestSet | None = None,
    layout: str | None = None,
    *,
    calibrate: Path | str | None = None,
    calibration_layout: str | None = None,
    crops: int = PARITY_CROPS,
) -> Iterator[ExportData]:
    """Open the data sets to score and to calibrate on, and free their decoded crops at the end.

    A `TestSet` is used as it is; the caller closes it. Raises what `open_dataset` raises.
    """
    with ExitStack() as owned:
        opened: dict[tuple[Path, str | None], TestSet] = {}

        def once(path: Path, layout: str | None) -> TestSet:
            key = path.resolve(), layout
            if key not in opened:
                opened[key] = owned.enter_context(TestSet.open(path, layout))
            return opened[key]

        test = data if isinstance(data, TestSet) else None
        if isinstance(data, Dataset):
            test = owned.enter_context(TestSet(data))
        elif isinstance(data, Path | str):
            test = once(Path(data), layout)
        calibration = once(Path(calibrate), calibration_layout) if calibrate is not None else None
        yield ExportData(crops=ParityCrops(test, crops), test=test, calibration=calibration)


def onnx_source(path: Path | str, crops: ParityCrops) -> ExportSource:
    """An exported FP32 ONNX file as a source, for a device without PyTorch; ONNX Runtime gives the reference."""
    from .graph.io import read_fp32  # here alone: the checks of files do without onnx

    graph, card = read_fp32(path)
    images = crops.of(card)
    reference = reference_of(OnnxEngine(path, providers=["CPUExecutionProvider"]), images)
    return ExportSource(graph, card, images, reference, Path(path))


def reference_of(engine: Engine, crops: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Open an engine, embed uint8 [N, H, W, 3], and close it: float32 [N, D]."""
    with engine:
        return embed_in_batches(engine, crops, _REFERENCE_BATCH, "embedding with the model itself")
