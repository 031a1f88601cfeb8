"""How to make an INT8 graph: `Int8Options` as they are given, and the `Int8Plan` that they are resolved to once.

::

    plan = plan_int8(graph, card, Int8Options(calibrate="market1501"))  # opens the data set, chooses crops and layers
    int8, int8_card = int8_from_fp32(graph, card, plan)  # see convert.py
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from reid_edge.card import ModelCard
from reid_edge.core.names import require_name
from reid_edge.data.datasets import Dataset, open_dataset
from reid_edge.data.images import read_crops
from reid_edge.errors import InputError, ModelError
from reid_edge.export.graph.graph import Graph

from .calibrate import calibrated_ranges
from .crops import CalibrationCrops, ReadCrops, calibration_crops
from .histogram import METHODS
from .layers import default_keep, match_layers

__all__ = ["RUNTIMES", "UNQUANTIZED", "Int8Options", "Int8Plan", "open_calibration", "plan_int8"]

RUNTIMES = ("tensorrt", "cpu")
"""The runtimes that an INT8 file can be for: the two need different graphs."""

UNQUANTIZED = ("fp16", "fp32")
"""Precisions of the layers left unquantised in TensorRT's file; ONNX Runtime's for a CPU has them in FP32."""

_NO_DATA = "INT8 needs training crops to find its activation ranges: add --calibrate DATASET (calibrate=)"


@dataclass(frozen=True, kw_only=True)
class Int8Options:
    """How to make an INT8 graph; values only, nothing is opened.

    ``calibrate`` is a data set with training crops, ``layout`` its layout (None: auto-detected); ``count`` of its crops
    are taken, balanced over identities and cameras by ``seed``; ``method`` is one of `histogram.METHODS`; ``keep``
    names the layers that stay in float ("default", as None: `layers.default_keep`); ``for_runtime`` is one of
    `RUNTIMES`, ``unquantized`` one of `UNQUANTIZED`; ``threads`` None takes all cores.
    """

    calibrate: Path | str | None = None
    layout: str | None = None
    count: int = 512
    seed: int = 0
    method: str = "mse"
    keep: tuple[str, ...] | None = None
    for_runtime: str = "tensorrt"
    threads: int | None = None
    unquantized: str = "fp16"

    def check(self) -> None:
        """Raise InputError for a runtime, a precision or a method that is unknown."""
        choices = (
            ("runtime", self.for_runtime, RUNTIMES),
            ("unquantized", self.unquantized, UNQUANTIZED),
            ("method", self.method, METHODS),
        )
        for what, value, known in choices:
            require_name(value, known, f"INT8 {what}")

    def check_for(self, card: ModelCard) -> None:
        """Raise InputError without a data set, for a model that brings no activation ranges of its own."""
        if self.calibrate is None and not self.uses_ranges_of(card):
            raise InputError(_NO_DATA)

    @property
    def named_layers(self) -> list[str]:
        """The layers of ``keep`` that are named one by one."""
        return [name for name in self.keep or () if name != "default"]

    def uses_ranges_of(self, card: ModelCard) -> bool:
        """Whether the activation ranges that the model of ``card`` was trained for are taken."""
        return bool(card.quantization) and self.for_runtime == "tensorrt" and self.calibrate is None


@dataclass(frozen=True, kw_only=True)
class Int8Plan:
    """What `Int8Options` mean for one FP32 graph.

    ``kept`` are the layers left unquantised. Either ``crops`` are what to calibrate on, or ``trained`` are the
    activation ranges by value that the model was trained for, and ``trained_note`` says how they were found.
    """

    options: Int8Options
    kept: frozenset[str]
    crops: CalibrationCrops | None = None
    trained: Mapping[str, float] | None = None
    trained_note: str = ""

    @property
    def method(self) -> str:
        """The calibration method: ONNX Runtime's quantiser for a CPU has its own."""
        return "minmax" if self.options.for_runtime == "cpu" else self.options.method

    def calibration(self) -> CalibrationCrops:
        """The crops to calibrate on. Raises InputError for a plan of a model that brings its activation ranges."""
        if self.crops is None:
            raise InputError(_NO_DATA)
        return self.crops

    def activation_ranges(self, graph: Graph) -> Mapping[str, float]:
        """The activation range (amax) by value: those trained for, else `calibrated_ranges` of the FP32 ``graph``."""
        if self.trained is not None:
            return self.trained
        return calibrated_ranges(graph, self.calibration(), self.options.method, threads=self.options.threads)

    def note(self) -> str:
        """What the card says of where the activation ranges are from."""
        return self.trained_note if self.crops is None else self.crops.note(self.method)


def plan_int8(
    graph: Graph,
    card: ModelCard,
    options: Int8Options,
    dataset: Dataset | None = None,
    read: ReadCrops = read_crops,
) -> Int8Plan:
    """Resolve ``options`` for an FP32 ``graph``: open the data set, choose crops and layers. Nothing is measured yet.

    ``dataset`` is that of ``options.calibrate``, where it is open already, and ``read`` decodes its crops (see
    `CalibrationCrops`). A model that was trained for INT8 (``train --qat``) brings its activation ranges and needs no
    data set; if one is given, it is calibrated on instead. Raises InputError for options that are unknown, without
    a data set, and for a layer that is not there; DatasetError for one without training crops; ModelError when trained
    activation ranges do not fit the graph.
    """
    options.check()
    if dataset is None and options.uses_ranges_of(card):
        return _trained_plan(graph, card, options)
    kept = frozenset(_kept(graph, options.keep))
    dataset = dataset or open_calibration(options)
    chosen = calibration_crops(dataset, options.count, options.seed)
    crops = CalibrationCrops(chosen, dataset.name, options.seed, card.input_hw, card.resize, read)
    return Int8Plan(options=options, kept=kept, crops=crops)


def open_calibration(options: Int8Options) -> Dataset:
    """The data set to calibrate on. Raises InputError when none was given, DatasetError when it cannot be read."""
    if options.calibrate is None:
        raise InputError(_NO_DATA)
    return open_dataset(options.calibrate, options.layout)


def _kept(graph: Graph, keep: tuple[str, ...] | None) -> set[str]:
    names = ("default",) if keep is None else keep
    defaults = default_keep(graph) if "default" in names else set()
    return defaults | match_layers(graph, [name for name in names if name != "default"])


def _trained_plan(graph: Graph, card: ModelCard, options: Int8Options) -> Int8Plan:
    """INT8 with the activation ranges that the model was trained for, in the layers where it was rounded."""
    if options.keep is not None:
        raise InputError(
            "training for INT8 chose the layers: leave --keep (keep=) out, or choose again with "
            "--calibrate (calibrate=)"
        )
    own = card.quantization.get("layers")
    by_layer = own if isinstance(own, dict) else {}
    ranges: dict[str, float] = {}
    for name, nodes in graph.layers.items():
        found = by_layer.get(name)
        if found is None:
            continue
        if not isinstance(found, list) or len(found) != len(nodes):
            raise ModelError(
                f"the activation ranges on this model's card do not fit layer {name}: add --calibrate (calibrate=)"
            )
        ranges |= {node.input[0]: float(value) for node, value in zip(nodes, found, strict=True)}
    kept = frozenset(name for name in graph.layers if by_layer.get(name) is None)
    if len(kept) == len(graph.layers):
        raise ModelError(
            "this model's card has activation ranges for none of its layers: add --calibrate DATASET (calibrate=)"
        )
    note = str(card.quantization.get("note", ""))[:2000]
    return Int8Plan(options=options, kept=kept, trained=ranges, trained_note=note)
