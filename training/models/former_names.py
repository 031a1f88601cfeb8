"""Checkpoints of before some names changed: read as if they had been written today.

The backbone was called ``trunk``, identities were called ``people``; the format string is the same. Settings of a
recipe are renamed by `TrainConfig.from_dict`, fields of a card by `ModelCard.from_dict`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeVar

from reid_edge.card import ModelCard

__all__ = ["former_name", "renamed_card", "renamed_tensors", "renamed_training"]

T = TypeVar("T")


def renamed_tensors(named: Mapping[str, T]) -> dict[str, T]:
    """Tensors (or anything) by the layers' present names.

    >>> renamed_tensors({"trunk.conv1.weight": 1, "module.trunk.conv1.weight": 2, "neck.weight": 3})
    {'backbone.conv1.weight': 1, 'module.backbone.conv1.weight': 2, 'neck.weight': 3}
    """
    return {_renamed(name): value for name, value in named.items()}


def former_name(name: str) -> str:
    """A tensor's name as it was before the renaming: a model's hash is over these, and so stays what it was.

    >>> former_name("backbone.conv1.weight"), former_name("neck.weight")
    ('trunk.conv1.weight', 'neck.weight')
    """
    return f"trunk.{name.removeprefix('backbone.')}" if name.startswith("backbone.") else name


def renamed_card(card: ModelCard) -> ModelCard:
    """A card whose INT8 activation ranges are by the layers' present names."""
    layers = card.quantization.get("layers")
    if not isinstance(layers, dict):
        return card
    return card.with_(quantization={**card.quantization, "layers": renamed_tensors(layers)})


def renamed_training(training: Mapping[str, Any]) -> dict[str, Any]:
    """What ``--resume`` needs, by present names: the number of identities, and the weights within it."""
    renamed = {"identities" if name == "people" else name: value for name, value in training.items()}
    for name in ("model", "averaged"):
        if name in renamed:
            renamed[name] = renamed_tensors(renamed[name])
    return renamed


def _renamed(name: str) -> str:
    # A moving average has the model's names behind "module.".
    for prefix in ("trunk.", "module.trunk."):
        if name.startswith(prefix):
            return prefix.replace("trunk.", "backbone.") + name.removeprefix(prefix)
    return name
