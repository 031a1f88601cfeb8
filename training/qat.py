"""Quantisation-aware fine-tuning: a model that feels, while it trains, what INT8 will do to it.

The numbers are rounded exactly where `reid_edge.export.quantize` puts its Q/DQ pairs: the input of each chosen
convolution and linear layer (one range a tensor, found by calibration and fixed), and its weights (one range an output
channel, of the weights as they are now). Batch norm is folded when a model is exported; its factor scales a whole
output channel, and the channel's range with it, so rounding before folding and after are the same.

Gradients pass through the rounding as if it were not there, and not through what is clipped (the straight-through
estimator; Jacob et al., CVPR 2018, section 3).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from reid_edge.errors import ModelError

from .models import ReidModel

__all__ = ["prepare", "quantized_layers"]


class _Rounded:
    """What the two layers below share: ``ranges``, one for each time that a forward pass calls the layer."""

    ranges: Sequence[float]
    calls: int

    def _input(self, x: Tensor) -> Tensor:
        scale = self.ranges[self.calls % len(self.ranges)] / 127
        self.calls += 1
        # A value that was 0 on every crop has no range: any step keeps it 0.
        rounded: Tensor = torch.fake_quantize_per_tensor_affine(x.float(), scale if scale > 0 else 1.0, 0, -128, 127)
        return rounded

    @staticmethod
    def _weight(weight: Tensor) -> Tensor:
        largest = weight.detach().flatten(1).abs().amax(1)
        scales = torch.where(largest > 0, largest / 127, 1.0)
        zeros = torch.zeros_like(scales, dtype=torch.int32)
        rounded: Tensor = torch.fake_quantize_per_channel_affine(weight, scales, zeros, 0, -127, 127)
        return rounded


class _RoundedConv2d(_Rounded, nn.Conv2d):
    def forward(self, x: Tensor) -> Tensor:
        answer: Tensor = self._conv_forward(self._input(x), self._weight(self.weight), self.bias)
        return answer


class _RoundedLinear(_Rounded, nn.Linear):
    def forward(self, x: Tensor) -> Tensor:
        return functional.linear(self._input(x), self._weight(self.weight), self.bias)


def prepare(model: ReidModel, ranges: Mapping[str, Sequence[float]]) -> None:
    """Make the layers of ``model`` that ``ranges`` names round their inputs and weights, from now on.

    ``ranges`` gives the largest magnitude of a layer's input for each of its calls in a forward pass, in their order.
    Parameters and state dict stay what they were. Raises ModelError for a name that is no convolution or linear layer.
    """
    layers = dict(model.named_modules())
    for name, own in ranges.items():
        layer = layers.get(name)
        if not isinstance(layer, nn.Conv2d | nn.Linear) or not own:
            raise ModelError(
                f"{name!r} is no layer of this {model.name} that INT8 could round: calibrate this very model"
            )
        # The class and not a wrapper: names of parameters, copies and hooks stay as they are.
        layer.__class__ = _RoundedConv2d if isinstance(layer, nn.Conv2d) else _RoundedLinear
        rounded = cast(_Rounded, layer)
        rounded.ranges, rounded.calls = tuple(own), 0


def quantized_layers(quantization: Mapping[str, Any]) -> dict[str, list[float]]:
    """The ranges in a card's ``quantization``. Raises ModelError when it holds none that can be read."""
    try:
        return {str(name): [float(value) for value in own] for name, own in quantization["layers"].items()}
    except (KeyError, TypeError, ValueError, AttributeError):
        raise ModelError("this model's card has no ranges of INT8 that can be read: calibrate it again") from None
