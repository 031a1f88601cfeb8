"""MobileNetV3-Large (Howard et al., *Searching for MobileNetV3*, ICCV 2019), up to its 960-channel map.

Parameters have torchvision's names (``features.0`` to ``features.16``), so that its state dicts load by name.
"""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor, nn

from .backbone import Backbone

__all__ = ["MobileNetV3Large", "imagenet_classifier"]

_RELU, _HARD_SWISH = nn.ReLU, nn.Hardswish

# Table 1 of the paper: kernel, expanded channels, output channels, squeeze-and-excite, activation, stride.
_BLOCKS: tuple[tuple[int, int, int, bool, type[nn.Module], int], ...] = (
    (3, 16, 16, False, _RELU, 1),
    (3, 64, 24, False, _RELU, 2),
    (3, 72, 24, False, _RELU, 1),
    (5, 72, 40, True, _RELU, 2),
    (5, 120, 40, True, _RELU, 1),
    (5, 120, 40, True, _RELU, 1),
    (3, 240, 80, False, _HARD_SWISH, 2),
    (3, 200, 80, False, _HARD_SWISH, 1),
    (3, 184, 80, False, _HARD_SWISH, 1),
    (3, 184, 80, False, _HARD_SWISH, 1),
    (3, 480, 112, True, _HARD_SWISH, 1),
    (3, 672, 112, True, _HARD_SWISH, 1),
    (5, 672, 160, True, _HARD_SWISH, 2),
    (5, 960, 160, True, _HARD_SWISH, 1),
    (5, 960, 160, True, _HARD_SWISH, 1),
)
_LAST_STRIDED = 12


class MobileNetV3Large(Backbone):
    """float32 [N, 3, H, W] -> [N, 960, H/32, W/32], or H/16, W/16 with ``last_stride`` 1."""

    channels = 960

    def __init__(self, last_stride: int = 2) -> None:
        super().__init__()
        layers: list[nn.Module] = [_conv(3, 16, 3, _HARD_SWISH, stride=2)]
        channels = 16
        for row, (kernel, expanded, outputs, squeeze, activation, stride) in enumerate(_BLOCKS):
            stride = last_stride if row == _LAST_STRIDED else stride
            layers.append(_Block(channels, kernel, expanded, outputs, squeeze, activation, stride))
            channels = outputs
        layers.append(_conv(channels, self.channels, 1, _HARD_SWISH))
        self.features = nn.Sequential(*layers)

    def forward(self, images: Tensor) -> Tensor:
        """Images to the last map, [N, 960, h, w]."""
        last_map: Tensor = self.features(images)
        return last_map


def imagenet_classifier() -> nn.Sequential:
    """Layers that follow the 960 channels in the published network, and that re-identification never uses."""
    return nn.Sequential(nn.Linear(960, 1280), nn.Hardswish(), nn.Dropout(0.2), nn.Linear(1280, 1000))


class _Block(nn.Module):
    """Expand 1x1, depthwise k x k, squeeze-and-excite, project 1x1; add the input where shapes agree."""

    def __init__(
        self,
        inputs: int,
        kernel: int,
        expanded: int,
        outputs: int,
        squeeze: bool,
        activation: type[nn.Module],
        stride: int,
    ) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        if expanded != inputs:
            layers.append(_conv(inputs, expanded, 1, activation))
        layers.append(_conv(expanded, expanded, kernel, activation, stride=stride, groups=expanded))
        if squeeze:
            layers.append(_SqueezeExcite(expanded))
        layers.append(_conv(expanded, outputs, 1))
        self.block = nn.Sequential(*layers)
        self.adds_input = stride == 1 and inputs == outputs
        self.skip = nn.Identity()  # which `training.qat` may make round

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.block(x)
        return self.skip(x) + y if self.adds_input else y


class _SqueezeExcite(nn.Module):
    """A weight in 0..1 for each channel, from the map's mean through a quarter as many units."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        squeezed = _divisible_by_8(channels / 4)
        self.fc1 = nn.Conv2d(channels, squeezed, 1)
        self.fc2 = nn.Conv2d(squeezed, channels, 1)
        self.relu = nn.ReLU(inplace=True)
        self.gate = nn.Hardsigmoid()

    def forward(self, x: Tensor) -> Tensor:
        mean = x.mean((2, 3), keepdim=True)  # [N, C, 1, 1]
        scaled: Tensor = x * self.gate(self.fc2(self.relu(self.fc1(mean))))
        return scaled


def _conv(
    inputs: int,
    outputs: int,
    kernel: int,
    activation: Callable[..., nn.Module] | None = None,
    stride: int = 1,
    groups: int = 1,
) -> nn.Sequential:
    """Convolution, batch norm and, unless None, the activation; the map keeps its size up to the stride."""
    # The paper's epsilon; not its momentum 0.01, which is for 600 epochs of ImageNet: a short run would be
    # evaluated with stale running statistics.
    layers: list[nn.Module] = [
        nn.Conv2d(inputs, outputs, kernel, stride=stride, padding=kernel // 2, groups=groups, bias=False),
        nn.BatchNorm2d(outputs, eps=0.001),
    ]
    if activation is not None:
        layers.append(activation(inplace=True))
    return nn.Sequential(*layers)


def _divisible_by_8(channels: float) -> int:
    """Nearest multiple of 8 that loses no more than a tenth."""
    rounded = max(8, int(channels + 4) // 8 * 8)
    return rounded if rounded >= 0.9 * channels else rounded + 8
