"""OSNet-AIN: OSNet with instance norm where a search over several domains put it, for cameras that it never saw.

Zhou et al., *Learning Generalisable Omni-Scale Representations for Person Re-Identification*, TPAMI 2021, section 3.3
and figure 6. Parameters have torchreid's names, so that its state dicts load by name.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from .backbone import Backbone
from .osnet import ConvBn, ConvBnRelu, Gate, Lite3x3, stage_channels, transition

__all__ = ["OSNetAIN"]

# Which blocks have an instance norm inside: two a stage.
_FOUND = ((True, True), (False, True), (True, False))


class OSNetAIN(Backbone):
    """float32 [N, 3, H, W] -> [N, 512 * width, H/16, W/16], the shapes and multiply-accumulates of `osnet.OSNet`.

    The stem has an instance norm too.
    """

    def __init__(self, width: float = 1.0) -> None:
        super().__init__()
        stem, first, second, third = stage_channels(width)
        self.channels = third
        self.conv1 = ConvBnRelu(3, stem, 7, stride=2, instance_norm=True)
        self.maxpool = nn.MaxPool2d(3, stride=2, padding=1)
        self.conv2 = _stage(stem, first, _FOUND[0])
        self.pool2 = transition(first)
        self.conv3 = _stage(first, second, _FOUND[1])
        self.pool3 = transition(second)
        self.conv4 = _stage(second, third, _FOUND[2])
        self.conv5 = ConvBnRelu(third, third, 1)

    def forward(self, images: Tensor) -> Tensor:
        """Images to the last map, [N, channels, h, w]."""
        x = self.maxpool(self.conv1(images))  # [N, stem, H/4, W/4]
        x = self.pool2(self.conv2(x))  # [N, first, H/8, W/8]
        x = self.pool3(self.conv3(x))  # [N, second, H/16, W/16]
        last_map: Tensor = self.conv5(self.conv4(x))
        return last_map


def _stage(inputs: int, outputs: int, instance_norms: tuple[bool, bool]) -> nn.Sequential:
    first, second = instance_norms
    return nn.Sequential(_Block(inputs, outputs, first), _Block(outputs, outputs, second))


class _Block(nn.Module):
    """Four streams and one gate, as OSNet's; an instance norm may take the place of the batch norm before the add."""

    def __init__(self, inputs: int, outputs: int, instance_norm: bool) -> None:
        super().__init__()
        middle = outputs // 4
        self.conv1 = ConvBnRelu(inputs, middle, 1)
        self.conv2 = nn.ModuleList(_Stream(middle, length) for length in range(1, 5))
        self.gate = Gate(middle)
        self.conv3 = _Conv(middle, outputs) if instance_norm else ConvBn(middle, outputs)
        self.downsample = ConvBn(inputs, outputs) if inputs != outputs else None
        self.IN = nn.InstanceNorm2d(outputs, affine=True) if instance_norm else nn.Identity()
        self.skip = nn.Identity()  # which `training.qat` may make round

    def forward(self, x: Tensor) -> Tensor:
        identity = x if self.downsample is None else self.downsample(x)
        y = self.conv1(x)
        first, *others = (self.gate(stream(y)) for stream in self.conv2)
        for other in others:
            first = first + other
        return torch.relu(self.IN(self.conv3(first)) + self.skip(identity))


class _Stream(nn.Module):
    """So many Lites one after the other."""

    def __init__(self, channels: int, length: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(*(Lite3x3(channels) for _ in range(length)))

    def forward(self, x: Tensor) -> Tensor:
        output: Tensor = self.layers(x)
        return output


class _Conv(nn.Module):
    """1x1 convolution alone, under the name that it has with a batch norm."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(inputs, outputs, 1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        output: Tensor = self.conv(x)
        return output
