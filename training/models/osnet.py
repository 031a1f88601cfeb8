"""OSNet (Zhou et al., *Omni-Scale Feature Learning for Person Re-Identification*, ICCV 2019) to its last map.

With instance norm in its first stages it is OSNet-IBN. Parameters have torchreid's names, so that its state dicts load
by name.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from .backbone import Backbone

__all__ = ["ConvBn", "ConvBnRelu", "Gate", "Lite3x3", "OSNet", "stage_channels", "transition"]

# Channels at width 1.0, as multiples of 64: the stem, then the three stages (table 1 of the paper).
_CHANNELS = (1, 4, 6, 8)


def stage_channels(width: float) -> tuple[int, ...]:
    """The channels of the stem and of the three stages.

    >>> stage_channels(0.25)
    (16, 64, 96, 128)
    """
    assert (64 * width).is_integer() and width >= 0.25
    return tuple(int(64 * width) * multiple for multiple in _CHANNELS)


class OSNet(Backbone):
    """float32 [N, 3, H, W] -> [N, 512 * width, H/16, W/16].

    ``width`` scales every channel count; 64 * width is whole, and at least 16 so that the gates have a unit. With
    ``instance_norm`` the stem has one in place of its batch norm, and each block of the first stage one after its
    residual add: the style of a camera is taken out where maps are still large (OSNet-IBN; Zhou et al., *Learning
    Generalisable Omni-Scale Representations*, TPAMI 2021, after Pan et al.'s IBN-b, ECCV 2018).
    """

    def __init__(self, width: float = 1.0, instance_norm: bool = False) -> None:
        super().__init__()
        stem, first, second, third = stage_channels(width)
        self.channels = third
        self.conv1 = ConvBnRelu(3, stem, 7, stride=2, instance_norm=instance_norm)
        self.maxpool = nn.MaxPool2d(3, stride=2, padding=1)
        blocks = _OmniBlock(stem, first, instance_norm), _OmniBlock(first, first, instance_norm)
        self.conv2 = nn.Sequential(*blocks, transition(first))
        self.conv3 = nn.Sequential(_OmniBlock(first, second), _OmniBlock(second, second), transition(second))
        self.conv4 = nn.Sequential(_OmniBlock(second, third), _OmniBlock(third, third))
        self.conv5 = ConvBnRelu(third, third, 1)

    def forward(self, images: Tensor) -> Tensor:
        """Images to the last map, [N, channels, h, w]."""
        x = self.maxpool(self.conv1(images))  # [N, stem, H/4, W/4]
        x = self.conv2(x)  # [N, first, H/8, W/8]
        x = self.conv3(x)  # [N, second, H/16, W/16]
        last_map: Tensor = self.conv5(self.conv4(x))
        return last_map


class _OmniBlock(nn.Module):
    """Four streams that see 3, 5, 7 and 9 pixels; one shared gate weighs their channels (figure 4b)."""

    def __init__(self, inputs: int, outputs: int, instance_norm: bool = False) -> None:
        super().__init__()
        middle = outputs // 4
        self.conv1 = ConvBnRelu(inputs, middle, 1)
        self.conv2a = Lite3x3(middle)
        self.conv2b = nn.Sequential(*(Lite3x3(middle) for _ in range(2)))
        self.conv2c = nn.Sequential(*(Lite3x3(middle) for _ in range(3)))
        self.conv2d = nn.Sequential(*(Lite3x3(middle) for _ in range(4)))
        self.gate = Gate(middle)
        self.conv3 = ConvBn(middle, outputs)
        self.downsample = ConvBn(inputs, outputs) if inputs != outputs else None
        self.skip = nn.Identity()  # which `training.qat` may make round
        self.IN = nn.InstanceNorm2d(outputs, affine=True) if instance_norm else None

    def forward(self, x: Tensor) -> Tensor:
        identity = x if self.downsample is None else self.downsample(x)
        y = self.conv1(x)
        streams = (self.conv2a, self.conv2b, self.conv2c, self.conv2d)
        first, *others = (self.gate(stream(y)) for stream in streams)
        for other in others:
            first = first + other
        added = self.conv3(first) + self.skip(identity)
        return torch.relu(added if self.IN is None else self.IN(added))


class Lite3x3(nn.Module):
    """A 3x3 convolution in two steps: 1x1 linear, then 3x3 depthwise (figure 3b; MobileNet swaps them)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, channels, 1, bias=False)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1, groups=channels, bias=False)
        self.bn = nn.BatchNorm2d(channels)

    def forward(self, x: Tensor) -> Tensor:
        """[N, channels, h, w] to the same shape."""
        return torch.relu(self.bn(self.conv2(self.conv1(x))))


class Gate(nn.Module):
    """Aggregation gate: a weight in 0..1 for each channel of each image, from its mean (section 3.2)."""

    def __init__(self, channels: int, reduction: int = 16) -> None:
        super().__init__()
        self.fc1 = nn.Conv2d(channels, channels // reduction, 1)
        self.fc2 = nn.Conv2d(channels // reduction, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        """[N, channels, h, w], each channel weighed."""
        mean = x.mean((2, 3), keepdim=True)  # [N, C, 1, 1]
        return x * torch.sigmoid(self.fc2(torch.relu(self.fc1(mean))))


class ConvBn(nn.Module):
    """1x1 convolution and batch norm, without activation."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(inputs, outputs, 1, bias=False)
        self.bn = nn.BatchNorm2d(outputs)

    def forward(self, x: Tensor) -> Tensor:
        """[N, inputs, h, w] to [N, outputs, h, w]."""
        y: Tensor = self.bn(self.conv(x))
        return y


class ConvBnRelu(nn.Module):
    """Convolution, batch or instance norm, ReLU; the map keeps its size up to the stride."""

    def __init__(self, inputs: int, outputs: int, kernel: int, stride: int = 1, instance_norm: bool = False) -> None:
        super().__init__()
        self.conv = nn.Conv2d(inputs, outputs, kernel, stride=stride, padding=kernel // 2, bias=False)
        self.bn = nn.InstanceNorm2d(outputs, affine=True) if instance_norm else nn.BatchNorm2d(outputs)

    def forward(self, x: Tensor) -> Tensor:
        """[N, inputs, h, w] to [N, outputs, h / stride, w / stride]."""
        return torch.relu_(self.bn(self.conv(x)))


def transition(channels: int) -> nn.Sequential:
    """Halve the map between two stages: 1x1 convolution, 2x2 average pool."""
    return nn.Sequential(ConvBnRelu(channels, channels, 1), nn.AvgPool2d(2, stride=2))
