"""What every backbone is: a network from normalised images to its last feature map."""

from __future__ import annotations

from torch import Tensor, nn

__all__ = ["Backbone"]


class Backbone(nn.Module):
    """float32 [N, 3, H, W] -> feature map [N, channels, h, w]; a new architecture is a subclass in its own file."""

    channels: int
    """Channels of the last map."""

    def forward(self, images: Tensor) -> Tensor:
        """Images to the last map."""
        raise NotImplementedError
