"""The models by name: a trunk, and the head that turns its map into an embedding.

::

    images -> trunk -> map -> mean -> fc -> feature -> neck -> embedding -> classifier -> logits
                   [N, C, h, w]              [N, D]             [N, D]                 [N, classes]

Which trunk and which head is one row of `ARCHITECTURES`. A BNNeck (Luo et al., *Bag of Tricks*, CVPRW 2019,
section 3.5) is a batch norm whose bias stays 0, before a classifier without bias: the triplet and center
losses see the feature before it, the classifier sees the embedding after it.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from reid_edge.errors import ModelError

from .mobilenetv3 import MobileNetV3Large, imagenet_classifier
from .osnet import OSNet
from .resnet import ResNet50

__all__ = ["ARCHITECTURES", "Architecture", "DeployModel", "Features", "GeM", "Mean", "ReidModel", "build_model"]

Trunk = ResNet50 | OSNet | MobileNetV3Large


@dataclass(frozen=True)
class Architecture:
    """A row of the table: what makes the trunk, and every option with its default.

    Of the options, ``pooling`` ("mean" or "gem"), ``feature_dim`` (0: the trunk's channels; else a linear layer with
    batch norm and ReLU), ``neck`` and ``neck_bias`` describe the head; the others go to the trunk.
    """

    trunk: Callable[..., Trunk]
    options: Mapping[str, Any]
    whole_imagenet_network: bool = False


_ALLOWED: Mapping[str, Sequence[Any]] = {
    "last_stride": range(1, 3),
    "feature_dim": range(65537),
    "pooling": ("mean", "gem"),
}
_BNNECK = {"feature_dim": 0, "neck": True, "neck_bias": False, "pooling": "mean"}
_FC_512 = {"feature_dim": 512, "neck": False, "neck_bias": False, "pooling": "mean"}
_SEED_BN = {"feature_dim": 0, "neck": True, "neck_bias": True, "pooling": "mean"}
_SEED_FC = {"feature_dim": 1000, "neck": False, "neck_bias": False, "pooling": "mean"}

ARCHITECTURES: Mapping[str, Architecture] = {
    "resnet50_bot": Architecture(ResNet50, {"last_stride": 1, "stem_relu": True, **_BNNECK}),
    "osnet_x0_25": Architecture(partial(OSNet, width=0.25), _FC_512),
    "osnet_x0_5": Architecture(partial(OSNet, width=0.5), _FC_512),
    "osnet_x0_75": Architecture(partial(OSNet, width=0.75), _FC_512),
    "osnet_x1_0": Architecture(partial(OSNet, width=1.0), _FC_512),
    "mobilenetv3_large": Architecture(MobileNetV3Large, {"last_stride": 2, **_BNNECK}),
    # What *Person Re-identification using Siamese Networks* built, parameter for parameter: kept as history.
    "resnet50_seed": Architecture(ResNet50, {"last_stride": 2, "stem_relu": True, **_SEED_BN}),
    "osnet_x0_25_seed": Architecture(partial(OSNet, width=0.25), _SEED_FC),
    "mobilenetv3_large_seed": Architecture(
        MobileNetV3Large, {"last_stride": 2, **_SEED_BN}, whole_imagenet_network=True
    ),
}
"""The known models. OSNet takes any other width as well: osnet_x1_25 is `OSNet` of width 1.25."""


class Features(NamedTuple):
    """What the losses see: ``feature`` [N, D] before the neck; ``embedding`` [N, D], ``logits`` [N, classes] after.

    A model without a classifier has no logits.
    """

    feature: Tensor
    embedding: Tensor
    logits: Tensor | None


class ReidModel(nn.Module):
    """A trunk and its head; `build_model` makes one.

    ``name`` and ``options`` (JSON-able) are enough to build it again. Without classes ``classifier`` is None,
    and the model can embed and not train. ``unused`` is None except in ``mobilenetv3_large_seed``, where it
    holds 2,511,080 parameters that no forward pass reads.
    """

    def __init__(self, name: str, trunk: Trunk, options: dict[str, Any], num_classes: int = 0) -> None:
        super().__init__()
        self.name = name
        self.options = options
        self.embedding_dim: int = options["feature_dim"] or trunk.channels
        self.trunk = trunk
        self.pool = GeM() if options["pooling"] == "gem" else Mean()
        self.fc = _fc(trunk.channels, options["feature_dim"])
        self.neck = _neck(self.embedding_dim, options["neck"], options["neck_bias"])
        bnneck = options["neck"] and not options["neck_bias"]
        self.classifier = nn.Linear(self.embedding_dim, num_classes, bias=not bnneck) if num_classes else None
        self.unused: nn.Module | None = None
        self.apply(_initialise)
        if self.classifier is not None and bnneck:
            nn.init.normal_(self.classifier.weight, std=0.001)

    def forward(self, images: Tensor) -> Tensor | Features:
        """Normalised float32 [N, 3, H, W] -> `Features` in training, the embedding [N, D] in evaluation.

        The embedding is taken after the neck, and not L2-normalised: `DeployModel` does that.
        """
        pooled = self.pool(self.trunk(images))  # [N, C]
        feature = self.fc(pooled)  # [N, D]
        embedding: Tensor = self.neck(feature)  # [N, D]
        if not self.training:
            return embedding
        return Features(feature, embedding, None if self.classifier is None else self.classifier(embedding))

    def set_stem_relu(self, present: bool) -> None:
        """Change a built ResNet50's ``stem_relu`` option, when its weights turn out to need the other."""
        assert "stem_relu" in self.options and isinstance(self.trunk, ResNet50)
        self.trunk.stem_relu = self.options["stem_relu"] = present


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


class DeployModel(nn.Module):
    """What evaluation runs and export writes: uint8 [N, H, W, 3] RGB -> float32 [N, D], rows of L2 norm 1.

    Normalisation and L2 norm are inside, so that nobody forgets or doubles them. ``mean`` and ``std`` are per
    RGB channel on the 0..1 scale. Puts ``model`` into evaluation mode, and shares its weights.
    """

    def __init__(self, model: ReidModel, mean: Sequence[float], std: Sequence[float]) -> None:
        super().__init__()
        self.model = model
        self.mean: Tensor
        self.std: Tensor
        self.register_buffer("mean", torch.tensor(mean).mul(255).view(1, 3, 1, 1))
        self.register_buffer("std", torch.tensor(std).mul(255).view(1, 3, 1, 1))
        self.eval()

    def forward(self, images: Tensor) -> Tensor:
        """Embed a batch of uint8 RGB crops."""
        assert not self.model.training, "DeployModel is for evaluation: call .eval()"
        pixels = images.float().permute(0, 3, 1, 2)  # the cast first: TensorRT refuses a uint8 transpose
        x = self.model((pixels - self.mean) / self.std)  # [N, D]
        norm = (x * x).sum(dim=1, keepdim=True).sqrt()  # [N, 1]
        normalised: Tensor = x / norm.clamp(min=1e-12)
        return normalised


def build_model(name: str, num_classes: int = 0, **options: Any) -> ReidModel:
    """Build a model with random weights; ``num_classes`` 0 leaves the classifier out, as when deployed.

    Raises ModelError for a name or an option that is not known, listing those that are.
    """
    row = _row(name)
    merged = dict(row.options)
    for option, value in options.items():
        _check_option(name, row, option, value)
        merged[option] = value
    trunk = row.trunk(**{option: merged[option] for option in merged if option not in _BNNECK})
    model = ReidModel(name, trunk, merged, num_classes)
    if row.whole_imagenet_network:
        model.unused = imagenet_classifier()
    return model


def _row(name: str) -> Architecture:
    if name in ARCHITECTURES:
        return ARCHITECTURES[name]
    if match := re.fullmatch(r"osnet_x(\d)_(\d{1,6})", name):
        width = float(f"{match[1]}.{match[2]}")
        if 0.25 <= width <= 4 and (64 * width).is_integer():
            return Architecture(partial(OSNet, width=width), _FC_512)
    known = ", ".join(ARCHITECTURES)
    raise ModelError(f"unknown model {name!r}: use one of {known}, or OSNet of another width up to x4_0")


def _check_option(name: str, row: Architecture, option: str, value: Any) -> None:
    if option not in row.options:
        raise ModelError(f"{name} has no option {option!r}: its options are {', '.join(row.options)}")
    kind = type(row.options[option])
    allowed = _ALLOWED.get(option)
    if type(value) is not kind or (allowed is not None and value not in allowed):
        wanted = " or ".join(map(str, allowed or ("true", "false")))
        if isinstance(allowed, range):
            wanted = f"a whole number, {allowed[0]}..{allowed[-1]}"
        raise ModelError(f"{name}: option {option} cannot be {value!r}: give {wanted}")


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
