"""ResNet-50 (He et al., *Deep Residual Learning for Image Recognition*, CVPR 2016), up to its last map.

The stride of a stage sits in its first 3x3 convolution ("v1.5"), and parameters have torchvision's names,
so that its state dicts load by name.
"""

from __future__ import annotations

from torch import Tensor, nn

from .backbone import Backbone

__all__ = ["ResNet50"]

# width of the 3x3 convolution, blocks; the stride of the first block is 1, 2, 2 and ``last_stride``
_STAGES = ((64, 3), (128, 4), (256, 6), (512, 3))

_EXPANSION = 4
"""A block's output has four times the channels of its 3x3 convolution."""


class ResNet50(Backbone):
    """float32 [N, 3, H, W] -> [N, 2048, H/16, W/16] with ``last_stride`` 1, [N, 2048, H/32, W/32] with 2.

    Stride 1 in the last stage keeps a map of 16 x 8 for a 256 x 128 crop, without extra parameters (Luo et
    al., *Bag of Tricks*, CVPRW 2019, section 3.4). The weights published with that paper were trained without
    the ReLU after the first convolution: ``stem_relu=False`` computes what they were trained for.
    """

    channels = 2048

    def __init__(self, last_stride: int = 1, stem_relu: bool = True) -> None:
        super().__init__()
        self.stem_relu = stem_relu
        self.conv1 = nn.Conv2d(3, 64, 7, stride=2, padding=3, bias=False)
        self.bn1 = nn.BatchNorm2d(64)
        self.relu = nn.ReLU(inplace=True)
        self.maxpool = nn.MaxPool2d(3, stride=2, padding=1)
        self.layer1 = _stage(64, *_STAGES[0], stride=1)
        self.layer2 = _stage(256, *_STAGES[1], stride=2)
        self.layer3 = _stage(512, *_STAGES[2], stride=2)
        self.layer4 = _stage(1024, *_STAGES[3], stride=last_stride)

    def forward(self, images: Tensor) -> Tensor:
        """Images to the last map, [N, 2048, h, w]."""
        x = self.bn1(self.conv1(images))  # [N, 64, H/2, W/2]
        if self.stem_relu:
            x = self.relu(x)
        x = self.layer1(self.maxpool(x))  # [N, 256, H/4, W/4]
        x = self.layer2(x)  # [N, 512, H/8, W/8]
        x = self.layer3(x)  # [N, 1024, H/16, W/16]
        last_map: Tensor = self.layer4(x)
        return last_map


class _Bottleneck(nn.Module):
    """1x1 down, 3x3, 1x1 up, and the input added."""

    def __init__(self, inputs: int, width: int, stride: int) -> None:
        super().__init__()
        outputs = width * _EXPANSION
        self.conv1 = nn.Conv2d(inputs, width, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, stride=stride, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.conv3 = nn.Conv2d(width, outputs, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(outputs)
        self.relu = nn.ReLU(inplace=True)
        self.skip = nn.Identity()  # which `training.qat` may make round
        self.downsample: nn.Sequential | None = None
        if inputs != outputs or stride != 1:
            shortcut = nn.Conv2d(inputs, outputs, 1, stride=stride, bias=False)
            self.downsample = nn.Sequential(shortcut, nn.BatchNorm2d(outputs))

    def forward(self, x: Tensor) -> Tensor:
        identity = x if self.downsample is None else self.downsample(x)
        y = self.relu(self.bn1(self.conv1(x)))
        y = self.relu(self.bn2(self.conv2(y)))
        y = self.bn3(self.conv3(y))
        out: Tensor = self.relu(y + self.skip(identity))
        return out


def _stage(inputs: int, width: int, blocks: int, stride: int) -> nn.Sequential:
    first = _Bottleneck(inputs, width, stride)
    rest = [_Bottleneck(width * _EXPANSION, width, stride=1) for _ in range(blocks - 1)]
    return nn.Sequential(first, *rest)
