"""Quantisation-aware training: fine-tuning with INT8 fake quantisation in the forward pass.

Numbers are rounded exactly where `reid_edge.export.int8.qdq` puts its Q/DQ pairs: the input of each chosen convolution
and linear layer (one activation range for the tensor, calibrated and then fixed), its weights (one range for each
output channel, of the present weights), and, if it is asked for, what a block adds to its output. Batch norm is folded
when a model is exported; its factor scales a whole output channel, and the channel's range with it, so rounding before
folding and after give the same.

Gradients pass through the rounding unchanged, and are 0 where a value is clipped (the straight-through estimator; Jacob
et al., CVPR 2018, section 3).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from reid_edge.errors import ModelError
from reid_edge.training.models.osnet import Gate, Lite3x3
from reid_edge.training.models.reid_model import ReidModel

__all__ = ["activation_ranges", "add_fake_quantisation", "residual_ranges"]


class _FakeQuantised:
    """What the two layers below share: ``ranges`` (amax), one for each call of the layer in a forward pass."""

    ranges: Sequence[float]
    calls: int

    def _input(self, x: Tensor) -> Tensor:
        scale = self.ranges[self.calls % len(self.ranges)] / 127
        self.calls += 1
        # A value that was 0 on every calibration crop has the range 0: any step keeps it 0.
        rounded: Tensor = torch.fake_quantize_per_tensor_affine(x.float(), scale if scale > 0 else 1.0, 0, -128, 127)
        return rounded

    @staticmethod
    def _weight(weight: Tensor) -> Tensor:
        amax = weight.detach().flatten(1).abs().amax(1)  # [outputs]
        scales = torch.where(amax > 0, amax / 127, 1.0)
        zeros = torch.zeros_like(scales, dtype=torch.int32)
        rounded: Tensor = torch.fake_quantize_per_channel_affine(weight, scales, zeros, 0, -127, 127)
        return rounded


class _FakeQuantisedConv2d(_FakeQuantised, nn.Conv2d):
    def forward(self, x: Tensor) -> Tensor:
        output: Tensor = self._conv_forward(self._input(x), self._weight(self.weight), self.bias)
        return output


class _FakeQuantisedLinear(_FakeQuantised, nn.Linear):
    def forward(self, x: Tensor) -> Tensor:
        return functional.linear(self._input(x), self._weight(self.weight), self.bias)


class _FakeQuantisedLite(_FakeQuantised, Lite3x3):
    """A Lite as the dense 3x3 convolution that `export.graph.merge_streams` makes of it."""

    def forward(self, x: Tensor) -> Tensor:
        dense = self.conv2.weight * self.conv1.weight  # [C, 1, 3, 3] * [C, C, 1, 1]
        return torch.relu(self.bn(functional.conv2d(self._input(x), self._weight(dense), padding=1)))


class _FakeQuantisedGate(_FakeQuantised, Gate):
    """A gate whose streams are rounded, each before their sum: merged streams are summed in the convolution after."""

    def forward(self, x: Tensor) -> Tensor:
        return self._input(super().forward(x))


class _FakeQuantisedSkip(_FakeQuantised, nn.Identity):
    def forward(self, x: Tensor) -> Tensor:
        return self._input(x)


class _FakeQuantisedWeight(_FakeQuantisedConv2d):
    """A convolution whose input is rounded already."""

    def _input(self, x: Tensor) -> Tensor:
        return x


def add_fake_quantisation(
    model: ReidModel, ranges: Mapping[str, Sequence[float]], residuals: Mapping[str, Sequence[float]] | None = None
) -> None:
    """Make the layers of ``model`` that ``ranges`` names round their inputs and weights, from now on.

    ``ranges`` are the largest magnitudes (amax) of a layer's input, one for each of its calls in a forward pass, in
    their order. ``residuals`` are those of what a block adds to its output, by the name of the block's last layer.
    Parameters and state dict stay as they are. The levels of merged streams, as ``backbone.conv2.0.streams.1``, round
    as `export.graph.merge_streams` makes them. Raises ModelError for a name that is not a convolution or linear layer,
    and for one in ``residuals`` that is in no block with a residual add.
    """
    layers = dict(model.named_modules())
    for name, own in _without_streams(layers, ranges).items():
        layer = layers.get(name)
        if not isinstance(layer, nn.Conv2d | nn.Linear) or not own:
            raise ModelError(f"{name!r} is not a layer of this {model.name} that INT8 can round: calibrate this model")
        _make(layer, _FakeQuantisedConv2d if isinstance(layer, nn.Conv2d) else _FakeQuantisedLinear, own)
    for name, own in (residuals or {}).items():
        skip = _skip_of(name, layers)
        if skip is None or not own:
            raise ModelError(f"{name!r} is in no block of this {model.name} that adds its input: calibrate this model")
        _make(skip, _FakeQuantisedSkip, own)


def _without_streams(
    layers: Mapping[str, nn.Module], ranges: Mapping[str, Sequence[float]]
) -> dict[str, Sequence[float]]:
    """The ``ranges`` of layers that are modules; blocks with merged streams round from now on."""
    left = dict(ranges)
    for name in ranges:
        block, _, level = name.rpartition(".streams.")
        starts = [f"{block}.conv2a", *(f"{block}.conv2{stream}.0" for stream in "bcd")] if level == "0" else []
        lites = starts or [f"{block}.conv2{stream}.{level}" for stream in "bcd"]
        found = [layers[lite] for lite in lites if isinstance(layers.get(lite), Lite3x3)]
        if not block or not found:
            continue
        own = left.pop(name)
        for lite in found:
            _make(lite, _FakeQuantisedLite, own)
        joining, gate = f"{block}.conv3.conv", layers[f"{block}.gate"]
        if joining in left and isinstance(gate, Gate):
            _make(gate, _FakeQuantisedGate, left[joining])
            _make(layers[joining], _FakeQuantisedWeight, left.pop(joining))
    return left


def _make(layer: nn.Module, kind: type[nn.Module], ranges: Sequence[float]) -> None:
    """Make a layer one that rounds. The class and not a wrapper: names of parameters, copies and hooks stay."""
    layer.__class__ = kind
    quantised = cast(_FakeQuantised, layer)
    quantised.ranges, quantised.calls = tuple(ranges), 0


def _skip_of(layer: str, modules: Mapping[str, nn.Module]) -> nn.Module | None:
    """The module ``skip`` of the innermost block around a layer; None where there is none."""
    words = layer.split(".")
    around = (modules.get(".".join([*words[:end], "skip"])) for end in reversed(range(len(words))))
    return next((module for module in around if isinstance(module, nn.Identity)), None) if layer in modules else None


def activation_ranges(quantization: Mapping[str, Any]) -> dict[str, list[float]]:
    """The activation ranges in a card's ``quantization``, by layer. Raises ModelError when they cannot be read."""
    return _ranges(quantization, "layers")


def residual_ranges(quantization: Mapping[str, Any]) -> dict[str, list[float]]:
    """Those of what blocks add to their outputs, by the last layer of each; empty where none is rounded."""
    return _ranges(quantization, "residuals") if quantization.get("residuals") else {}


def _ranges(quantization: Mapping[str, Any], key: str) -> dict[str, list[float]]:
    try:
        return {str(name): [float(value) for value in own] for name, own in quantization[key].items()}
    except (KeyError, TypeError, ValueError, AttributeError):
        raise ModelError("this model's card has no INT8 activation ranges that can be read: calibrate again") from None
