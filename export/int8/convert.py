"""From an FP32 graph to an INT8 file that passed the gate: crops, ranges, what to keep, the card."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from onnx import ModelProto

from reid_edge.card import ModelCard
from reid_edge.datasets import Dataset, open_dataset
from reid_edge.errors import InputError, ModelError
from reid_edge.images import read_crops

from .calibrate import calibrated_ranges, calibration_crops, calibration_note
from .fp16 import fp16_from_fp32, stores_fp16
from .histogram import METHODS
from .int8_layers import default_keep, layers, named
from .quantize import quantized
from .quantize_cpu import quantized_for_cpu

__all__ = ["RESTS", "TARGETS", "Int8Options", "int8_from_fp32", "trained_ranges"]

TARGETS = ("tensorrt", "cpu")
"""For whom an INT8 file is: the two need different graphs."""

RESTS = ("fp16", "fp32")
"""What everything that is not INT8 can be in TensorRT's file; ONNX Runtime's for a CPU has it in FP32."""


@dataclass(frozen=True)
class Int8Options:
    """How to make an INT8 graph.

    ``calibrate`` is a data set with training crops, ``layout`` its layout (None: found out); ``count`` of its crops
    are taken, balanced over people and cameras by ``seed``; ``method`` is one of `histogram.METHODS`; ``keep`` names
    the layers that stay in float ("default", as None: `int8_layers.default_keep`); ``target`` is one of `TARGETS`,
    ``rest`` one of `RESTS`.
    """

    calibrate: Path | None = None
    layout: str | None = None
    count: int = 512
    seed: int = 0
    method: str = "mse"
    keep: tuple[str, ...] | None = None
    target: str = "tensorrt"
    threads: int | None = None
    rest: str = "fp16"

    def check(self) -> None:
        """Raise InputError for a target, a rest or a method that is none."""
        choices = (("target", self.target, TARGETS), ("rest", self.rest, RESTS), ("method", self.method, METHODS))
        for what, value, known in choices:
            if value not in known:
                raise InputError(f"INT8 {what} {value!r} is unknown: give one of {', '.join(known)}")

    def trained(self, card: ModelCard) -> bool:
        """Whether INT8 takes the ranges that the model of ``card`` was trained for."""
        return bool(card.quantization) and self.target == "tensorrt" and self.calibrate is None

    def ready(self, model: ModelProto, card: ModelCard) -> None:
        """Raise InputError or DatasetError for what `int8_from_fp32` would refuse later."""
        self.check()
        if not self.trained(card):
            self.dataset()
            self.kept(model)
        elif self.keep is not None:
            raise InputError("training for INT8 chose the layers: leave --keep out, or choose again with --calibrate")

    def dataset(self) -> Dataset:
        """The data set to calibrate on. Raises InputError when none was given, DatasetError when it cannot be read."""
        self.check()
        if self.calibrate is None:
            raise InputError("INT8 needs training crops to find its ranges: add --calibrate DATASET")
        return open_dataset(self.calibrate, self.layout)

    def kept(self, model: ModelProto) -> set[str]:
        """The layers of ``model`` that stay in float. Raises InputError for a name without a layer."""
        names = ("default",) if self.keep is None else self.keep
        own = default_keep(model) if "default" in names else set()
        return own | named(model, [name for name in names if name != "default"])


def int8_from_fp32(model: ModelProto, card: ModelCard, options: Int8Options) -> tuple[ModelProto, ModelCard]:
    """The INT8 graph of an FP32 one, and its card.

    A model that was trained for INT8 (``train --qat``) brings its ranges, and needs no calibration. Raises InputError
    without a data set to calibrate on, DatasetError when it has no training crops, GateError for weights that FP16
    cannot hold.
    """
    options.check()
    if options.trained(card):
        return _as_trained(model, card, options.rest)
    dataset = options.dataset()
    crops = calibration_crops(dataset, options.count, options.seed)
    kept = options.kept(model)
    if options.target == "cpu":
        method = "minmax"
        images = read_crops([crop.path for crop in crops], card.input_hw, card.resize)
        graph, rest = quantized_for_cpu(model, images, kept), "fp32"
    else:
        method = options.method
        ranges = calibrated_ranges(model, card, crops, method, threads=options.threads)
        graph, rest = _for_tensorrt(model, ranges, kept, options.rest)
    calibration = calibration_note(crops, method, dataset.name, options.seed)
    note = f"{options.target}: {calibration}; {_kept_note(kept, rest)}"
    return graph, card.with_(precision="int8", calibration=note, parity={})


def trained_ranges(model: ModelProto, card: ModelCard, options: Int8Options) -> dict[str, Any]:
    """What `ModelCard.quantization` holds of a model to be trained under INT8's rounding: ranges by layer, and a note.

    Raises like `int8_from_fp32`.
    """
    dataset = options.dataset()
    crops = calibration_crops(dataset, options.count, options.seed)
    ranges = calibrated_ranges(model, card, crops, options.method, threads=options.threads)
    kept = options.kept(model)
    chosen = {name: nodes for name, nodes in layers(model).items() if name not in kept}
    note = f"{calibration_note(crops, options.method, dataset.name, options.seed)}, then trained for it"
    return {
        "layers": {name: [ranges[node.input[0]] for node in nodes] for name, nodes in chosen.items()},
        "note": note,
    }


def _for_tensorrt(
    model: ModelProto, ranges: Mapping[str, float], kept: Collection[str], rest: str
) -> tuple[ModelProto, str]:
    """The graph, and what is around its INT8 layers: where there is no other layer, nothing goes to FP16."""
    graph = quantized(model, ranges, kept)
    if rest == "fp16":
        graph = fp16_from_fp32(graph)
    return graph, "fp16" if stores_fp16(graph) else "fp32"


def _as_trained(model: ModelProto, card: ModelCard, rest: str) -> tuple[ModelProto, ModelCard]:
    """INT8 with the ranges that the model was trained for, at the places where it was rounded."""
    own, kept, ranges = card.quantization.get("layers"), set[str](), dict[str, float]()
    for name, nodes in layers(model).items():
        given = own.get(name) if isinstance(own, dict) else None
        if given is None:
            kept.add(name)
        elif not isinstance(given, list) or len(given) != len(nodes):
            raise ModelError(f"the ranges that this model was trained for do not fit layer {name}: give --calibrate")
        else:
            ranges |= {node.input[0]: float(value) for node, value in zip(nodes, given, strict=True)}
    if len(kept) == len(layers(model)):
        raise ModelError("this model's card has INT8 ranges of no layer of it: give --calibrate")
    graph, rest = _for_tensorrt(model, ranges, kept, rest)
    note = f"tensorrt: {str(card.quantization.get('note', ''))[:2000]}; {_kept_note(kept, rest)}"
    return graph, card.with_(precision="int8", calibration=note, parity={})


def _kept_note(kept: Collection[str], rest: str) -> str:
    """Which layers are not INT8, as far as a line holds them."""
    shown = sorted(kept)
    return f"the rest in {rest}, with {len(shown)} layers" + (f": {', '.join(shown)}"[:2000] if shown else "")
