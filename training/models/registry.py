"""The architectures: which backbone and which head is one row of `ARCHITECTURES`.

A new one is a `Backbone` in a file of its own and a row: here, with its name in `names.ARCHITECTURE_NAMES`, or by
``ARCHITECTURES.register`` and ``reid_edge.architectures`` of another package (``docs/extend/model.md``).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from reid_edge.core.registry import Registry
from reid_edge.errors import ModelError

from .backbone import Backbone
from .mobilenetv3 import MobileNetV3Large, imagenet_classifier
from .names import check_architecture, osnet_width
from .osnet import OSNet
from .osnet_ain import OSNetAIN
from .reid_model import ReidModel
from .resnet import ResNet50

__all__ = ["ARCHITECTURES", "BNNECK", "Architecture", "build_model", "build_with"]


@dataclass(frozen=True)
class Architecture:
    """A row of the table: what makes the backbone, and every option with its default.

    Of the options, ``pooling`` ("mean" or "gem"), ``feature_dim`` (0: the backbone's channels; else a linear layer with
    batch norm and ReLU), ``neck`` and ``neck_bias`` describe the head; the others go to the backbone.
    """

    backbone: Callable[..., Backbone]
    options: Mapping[str, Any]
    whole_imagenet_network: bool = False


_ALLOWED: Mapping[str, Sequence[Any]] = {
    "last_stride": range(1, 3),
    "feature_dim": range(65537),
    "pooling": ("mean", "gem"),
}
BNNECK: Mapping[str, Any] = {"feature_dim": 0, "neck": True, "neck_bias": False, "pooling": "mean"}
"""The head of the bag of tricks, and every option that a head has."""
_FC_512 = {"feature_dim": 512, "neck": False, "neck_bias": False, "pooling": "mean"}
_SEED_BN = {"feature_dim": 0, "neck": True, "neck_bias": True, "pooling": "mean"}
_SEED_FC = {"feature_dim": 1000, "neck": False, "neck_bias": False, "pooling": "mean"}

ARCHITECTURES: Registry[Architecture] = Registry(
    "architectures",
    {
        "resnet50_bot": Architecture(ResNet50, {"last_stride": 1, "stem_relu": True, **BNNECK}),
        "osnet_x0_25": Architecture(partial(OSNet, width=0.25), _FC_512),
        "osnet_x0_5": Architecture(partial(OSNet, width=0.5), _FC_512),
        "osnet_x0_75": Architecture(partial(OSNet, width=0.75), _FC_512),
        "osnet_x1_0": Architecture(partial(OSNet, width=1.0), _FC_512),
        "osnet_ibn_x1_0": Architecture(partial(OSNet, width=1.0, instance_norm=True), _FC_512),
        "osnet_ain_x0_25": Architecture(partial(OSNetAIN, width=0.25), _FC_512),
        "osnet_ain_x0_5": Architecture(partial(OSNetAIN, width=0.5), _FC_512),
        "osnet_ain_x0_75": Architecture(partial(OSNetAIN, width=0.75), _FC_512),
        "osnet_ain_x1_0": Architecture(partial(OSNetAIN, width=1.0), _FC_512),
        "mobilenetv3_large": Architecture(MobileNetV3Large, {"last_stride": 2, **BNNECK}),
        # What *Person Re-identification using Siamese Networks* built, parameter for parameter: kept as history.
        "resnet50_seed": Architecture(ResNet50, {"last_stride": 2, "stem_relu": True, **_SEED_BN}),
        "osnet_x0_25_seed": Architecture(partial(OSNet, width=0.25), _SEED_FC),
        "mobilenetv3_large_seed": Architecture(
            MobileNetV3Large, {"last_stride": 2, **_SEED_BN}, whole_imagenet_network=True
        ),
    },
)
"""The known architectures. OSNet takes any other width as well: osnet_x1_25 is `OSNet` of width 1.25."""


def build_model(name: str, num_classes: int = 0, **options: Any) -> ReidModel:
    """Build a model with random weights; ``num_classes`` 0 leaves the classifier out, as when deployed.

    Raises ModelError for a name or an option that is not known, listing those that are.
    """
    return build_with(name, options, num_classes)


def build_with(name: str, options: Mapping[str, Any], num_classes: int = 0) -> ReidModel:
    """`build_model` with the options of a card or a recipe, whose names may be anything."""
    row = _row(name)
    merged = dict(row.options)
    for option, value in options.items():
        _check_option(name, row, option, value)
        merged[option] = value
    backbone = row.backbone(**{option: merged[option] for option in merged if option not in BNNECK})
    model = ReidModel(name, backbone, merged, num_classes)
    if row.whole_imagenet_network:
        model.unused = imagenet_classifier().requires_grad_(False)  # DDP waits for a gradient of all that require one
    return model


def _row(name: str) -> Architecture:
    check_architecture(name)
    if name in ARCHITECTURES:
        return ARCHITECTURES[name]
    width = osnet_width(name)
    assert width is not None, "check_architecture lets only an OSNet pass"
    return Architecture(partial(OSNet, width=width), _FC_512)


def _check_option(name: str, row: Architecture, option: str, value: Any) -> None:
    if option not in row.options:
        raise ModelError(f"{name} has no option {option!r}: its options are {', '.join(row.options)}")
    kind = type(row.options[option])
    allowed = _ALLOWED.get(option)
    if type(value) is not kind or (allowed is not None and value not in allowed):
        wanted = (
            " or ".join(map(str, allowed or ("true", "false"))) if allowed or kind is bool else f"a {kind.__name__}"
        )
        if isinstance(allowed, range):
            wanted = f"a whole number, {allowed[0]}..{allowed[-1]}"
        raise ModelError(f"{name}: option {option} cannot be {value!r}: give {wanted}")
