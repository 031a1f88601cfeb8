"""How to make an INT8 graph: `Int8Options` as they are given, and the `Int8Plan` that they are resolved to once.

::

    plan = plan_int8(graph, card, Int8Options(calibrate="market1501"))  # opens the data set, chooses crops and layers
    int8, int8_card = int8_from_fp32(graph, card, plan)  # see convert.py
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from reid_edge.card import ModelCard
from reid_edge.core.names import require_name
from reid_edge.data.datasets import Dataset, open_dataset
from reid_edge.data.images import read_crops
from reid_edge.errors import InputError, ModelError
from reid_edge.export.graph.graph import Array, Graph

from .bias import mean_errors
from .calibrate import calibrated_ranges
from .crops import CalibrationCrops, ReadCrops, calibration_crops
from .histogram import METHODS
from .layers import default_keep, match_layers, thin_layers
from .qdq import quantized
from .residuals import layers_before_adds, ranges_of_skips

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
    names the layers that stay in float ("default": `layers.default_keep`; None: those and what `search` adds);
    ``for_runtime`` is one of `RUNTIMES`, ``unquantized`` one of `UNQUANTIZED`; ``quantize_residuals`` also rounds the
    skip input of residual adds (`residuals.residual_adds`); ``threads`` None takes all cores.
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
    quantize_residuals: bool = False

    def check(self) -> None:
        """Raise InputError for an unknown runtime, precision or method, and for options that exclude each other."""
        choices = (
            ("runtime", self.for_runtime, RUNTIMES),
            ("unquantized", self.unquantized, UNQUANTIZED),
            ("method", self.method, METHODS),
        )
        for what, value, known in choices:
            require_name(value, known, f"INT8 {what}")
        if self.quantize_residuals and self.for_runtime == "cpu":
            raise InputError(
                "ONNX Runtime's file for a CPU rounds residual adds anyway: leave --quantize-residuals "
                "(quantize_residuals=) out"
            )

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

    ``kept`` are the layers left unquantised, ``searched`` those of them that `search.search_layers` added, and
    ``unclipped`` the layers to whose inputs it gave activation ranges that clip nothing; ``residuals`` are those after
    which an add rounds its skip input. Either
    ``crops`` are what to calibrate on, or ``trained`` are the activation ranges by value that the model was trained
    for, and ``trained_note`` says how they were found. `calibrated` gives a plan that has measured its crops.
    """

    options: Int8Options
    kept: frozenset[str]
    residuals: frozenset[str] = frozenset()
    crops: CalibrationCrops | None = None
    trained: Mapping[str, float] | None = None
    trained_note: str = ""
    searched: tuple[str, ...] = ()
    unclipped: tuple[str, ...] = ()
    errors: Mapping[str, Array] | None = field(default=None, repr=False)

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

    def calibrated(self, graph: Graph) -> Int8Plan:
        """The plan with what it measures of the FP32 ``graph``: activation ranges, and the errors to correct.

        Those are `bias.mean_errors` with every layer in INT8 that has activation ranges: a layer's own do not depend on
        the others. A model that was trained for INT8 has learned its biases with the errors in them.
        """
        if self.errors is not None:
            return self
        ranges = self.activation_ranges(graph)
        if self.crops is None:
            return replace(self, trained=ranges, errors={})
        int8 = quantized(graph, ranges)
        return replace(self, trained=ranges, errors=mean_errors(graph, int8, self.crops.images, self.options.threads))

    def with_all_in_int8(self, graph: Graph) -> Int8Plan:
        """The same plan without a layer in float."""
        residuals = layers_before_adds(graph, ()) if self.options.quantize_residuals else self.residuals
        return replace(self, kept=frozenset(), residuals=residuals)

    def with_method(self, method: str) -> Int8Plan:
        """The same plan, not calibrated yet, for another calibration method."""
        return replace(self, options=replace(self.options, method=method), trained=None, errors=None)

    def with_ranges_of(self, other: Int8Plan, graph: Graph, layers: Collection[str]) -> Int8Plan:
        """A calibrated plan with the ranges and errors of an ``other`` one for the ``layers``, by name.

        Where layers read one value, all of them must be among these.
        """
        readers: dict[str, set[str]] = {}
        for name, nodes in graph.layers.items():
            for node in nodes:
                readers.setdefault(node.input[0], set()).add(name)
        changed = [
            name for name in layers if all(readers[n.input[0]] - self.kept <= {*layers} for n in graph.layers[name])
        ]
        nodes = [node for name in changed for node in graph.layers[name]]
        ranges, errors = dict(self.activation_ranges(graph)), dict(self.errors or {})
        ranges |= {node.input[0]: other.activation_ranges(graph)[node.input[0]] for node in nodes}
        biases = [node.input[2] for node in nodes if len(node.input) > 2]
        errors |= {bias: (other.errors or {})[bias] for bias in biases if bias in errors}
        return replace(self, trained=ranges, errors=errors, unclipped=tuple(changed))

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
    kept = frozenset(_kept(graph, options.keep, merged=bool(card.optimized_for)))
    dataset = dataset or open_calibration(options)
    chosen = calibration_crops(dataset, options.count, options.seed)
    crops = CalibrationCrops(chosen, dataset.name, options.seed, card.input_hw, card.resize, read)
    residuals = layers_before_adds(graph, kept) if options.quantize_residuals else frozenset()
    return Int8Plan(options=options, kept=kept, residuals=residuals, crops=crops)


def open_calibration(options: Int8Options) -> Dataset:
    """The data set to calibrate on. Raises InputError when none was given, DatasetError when it cannot be read."""
    if options.calibrate is None:
        raise InputError(_NO_DATA)
    return open_dataset(options.calibrate, options.layout)


def _kept(graph: Graph, keep: tuple[str, ...] | None, *, merged: bool) -> set[str]:
    names = ("default",) if keep is None else keep
    defaults = default_keep(graph) | (thin_layers(graph) if merged else set()) if "default" in names else set()
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
    if other := sorted(set(by_layer) - set(graph.layers)):
        raise InputError(
            f"this model was trained for INT8 in another form, with a layer {other[0][:100]!r}: give that form as "
            "--optimize-for (optimize_for=), or --calibrate (calibrate=)"
        )
    skips = card.quantization.get("residuals") or {}
    if options.quantize_residuals and not skips:
        raise InputError(
            "this model was trained without rounded residual adds: leave --quantize-residuals (quantize_residuals=) "
            "out, train --qat with it, or add --calibrate (calibrate=)"
        )
    ranges = ranges_of_skips(graph, skips, ranges)
    note = str(card.quantization.get("note", ""))[:2000]
    return Int8Plan(options=options, kept=kept, residuals=frozenset(skips), trained=ranges, trained_note=note)
