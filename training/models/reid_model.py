"""A re-identification model: a backbone, and the head that turns its feature map into an embedding.

::

    images -> backbone -> map -> pool -> fc -> feature -> neck -> embedding -> classifier -> logits
                   [N, C, h, w]  [N, C]        [N, D]             [N, D]                 [N, classes]

Which backbone and which head is one row of `registry.ARCHITECTURES`. A BNNeck (Luo et al., *Bag of Tricks*, CVPRW
2019, section 3.5) is a batch norm whose bias stays 0, before a classifier without bias: the triplet and center losses
see the feature before it, the classifier sees the embedding after it.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from .backbone import Backbone
from .resnet import ResNet50

__all__ = ["Features", "GeM", "Mean", "ReidModel"]


class Features(NamedTuple):
    """A training batch's outputs: ``feature`` [N, D] before the neck; ``embedding`` [N, D], ``logits`` [N, C] after.

    C is the number of classes; a model without a classifier has no logits.
    """

    feature: Tensor
    embedding: Tensor
    logits: Tensor | None


class ReidModel(nn.Module):
    """A backbone and its head; `registry.build_model` makes one.

    ``name`` and ``options`` (JSON-able) are enough to build it again. Without classes ``classifier`` is None:
    the model embeds, and trains only on losses that need no logits. ``unused`` is None except in
    ``mobilenetv3_large_seed``, where it holds 2,511,080 parameters that no forward pass reads.
    """

    def __init__(self, name: str, backbone: Backbone, options: dict[str, Any], num_classes: int = 0) -> None:
        super().__init__()
        self.name = name
        self.options = options
        self.embedding_dim: int = options["feature_dim"] or backbone.channels
        self.backbone = backbone
        self.pool = GeM() if options["pooling"] == "gem" else Mean()
        self.fc = _fc(backbone.channels, options["feature_dim"])
        self.neck = _neck(self.embedding_dim, options["neck"], options["neck_bias"])
        bnneck = options["neck"] and not options["neck_bias"]
        self.classifier = nn.Linear(self.embedding_dim, num_classes, bias=not bnneck) if num_classes else None
        self.unused: nn.Module | None = None
        self.apply(_initialise)
        if self.classifier is not None and bnneck:
            nn.init.normal_(self.classifier.weight, std=0.001)

    def forward(self, images: Tensor) -> Tensor | Features:
        """Normalised float32 [N, 3, H, W] -> `Features` in training, the embedding [N, D] in evaluation.

        The embedding is taken after the neck, and not L2-normalised: `deploy.DeployModel` does that.
        """
        pooled = self.pool(self.backbone(images))  # [N, C]
        feature = self.fc(pooled)  # [N, D]
        embedding: Tensor = self.neck(feature)  # [N, D]
        if not self.training:
            return embedding
        return Features(feature, embedding, None if self.classifier is None else self.classifier(embedding))

    def __repr__(self) -> str:
        """One line; ``print(model.backbone)`` shows layers."""
        millions = sum(parameter.numel() for parameter in self.parameters()) / 1e6
        classes = f", {self.classifier.out_features} classes" if self.classifier else ""
        return f"<ReidModel: {self.name}, {self.embedding_dim}-d, {millions:.2f} M parameters{classes}>"

    def set_stem_relu(self, present: bool) -> None:
        """Change the ``stem_relu`` option of a ResNet50 that is already built, to match imported weights."""
        assert "stem_relu" in self.options and isinstance(self.backbone, ResNet50)
        self.backbone.stem_relu = self.options["stem_relu"] = present


class Mean(nn.Module):
    """Global average pooling: [N, C, h, w] -> [N, C]."""

    def forward(self, x: Tensor) -> Tensor:
        """Pool a map."""
        return x.mean((2, 3))


class GeM(nn.Module):
    """Generalised mean (Radenovic et al., TPAMI 2019, equation 3): [N, C, h, w] -> [N, C], p learned from 3.

    p = 1 is the mean, p to infinity the maximum. Values below 1e-6 count as 1e-6. Computed in float32.
    """

    def __init__(self) -> None:
        super().__init__()
        self.p = nn.Parameter(torch.tensor(3.0))

    def forward(self, x: Tensor) -> Tensor:
        """Pool a map."""
        return x.float().clamp(min=1e-6).pow(self.p).mean((2, 3)).pow(1 / self.p)


def _fc(channels: int, feature_dim: int) -> nn.Module:
    """OSNet's head (torchreid names its layers fc.0, fc.1, fc.2)."""
    if not feature_dim:
        return nn.Identity()
    layers = nn.Linear(channels, feature_dim), nn.BatchNorm1d(feature_dim), nn.ReLU(inplace=True)
    return nn.Sequential(*layers)


def _neck(embedding_dim: int, present: bool, trainable_bias: bool) -> nn.Module:
    if not present:
        return nn.Identity()
    neck = nn.BatchNorm1d(embedding_dim)
    neck.bias.requires_grad_(trainable_bias)
    return neck


def _initialise(module: nn.Module) -> None:
    """He et al.'s normal over the outputs for convolutions, 0.01 for linear layers; batch norm is 1 and 0."""
    if isinstance(module, nn.Conv2d):
        nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
    elif isinstance(module, nn.Linear):
        nn.init.normal_(module.weight, std=0.01)
    if isinstance(module, nn.Conv2d | nn.Linear) and module.bias is not None:
        nn.init.zeros_(module.bias)
