"""Checkpoints: tensors, plain numbers and a ModelCard; never a pickled object.

A checkpoint is written after every epoch, beside the old one and renamed over it. `load_model` is the one door through
which evaluation and export get a model, whether the file is ours or a torchreid or torchvision state dict.
"""

from __future__ import annotations

import hashlib
import io
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from reid_edge.card import ModelCard
from reid_edge.errors import ModelError
from reid_edge.files import written_whole

from .macs import count_macs, count_parameters
from .models import ReidModel, build_model
from .weights import WeightsReport, import_weights, load_untrusted, read_state_dict

__all__ = [
    "Checkpoint",
    "card_of",
    "load_checkpoint",
    "load_model",
    "restore_stem",
    "save_checkpoint",
    "start_from",
    "weights_hash",
]

_FORMAT = "reid-edge checkpoint 1"


@dataclass(frozen=True)
class Checkpoint:
    """What a run needs to go on (``training``) and what a model needs to be rebuilt (``card``, ``model``).

    ``training`` is empty in a finished model file; else it holds the epoch reached, the optimisers' states, the centers
    and the history.
    """

    card: ModelCard
    model: dict[str, Tensor]
    training: dict[str, Any] = field(default_factory=dict)


def save_checkpoint(checkpoint: Checkpoint, path: Path) -> None:
    """Write a checkpoint whole or not at all."""
    content = {
        "format": _FORMAT,
        "card": checkpoint.card.to_json(),
        "model": checkpoint.model,
        "training": checkpoint.training,
    }
    # Into memory first: on a full disk torch.save raises a RuntimeError about its zip file, a plain write an OSError.
    buffer = io.BytesIO()
    torch.save(content, buffer)
    with written_whole(path) as beside:
        beside.write_bytes(buffer.getbuffer())


def load_checkpoint(path: Path | str) -> Checkpoint:
    """Read one of our own checkpoints; tensors come to the CPU. Raises ModelError for anything else."""
    checkpoint = _ours(load_untrusted(path), Path(path))
    if checkpoint is None:
        raise ModelError(f"{path} was not written by reid-edge train: to start from its weights use --weights {path}")
    return checkpoint


def load_model(path: Path | str, architecture: str | None = None) -> tuple[ReidModel, ModelCard]:
    """A model in evaluation mode, without classifier, and its card, from a checkpoint or a bare state dict.

    ``architecture`` names what a torchreid or torchvision file holds; for our own files it is optional and must agree.
    Raises ModelError when it does not, when it is missing, or when the weights do not fit.
    """
    path = Path(path)
    content = load_untrusted(path)
    checkpoint = _ours(content, path)
    if checkpoint is None:
        return _from_state_dict(path, architecture)
    card = checkpoint.card
    if architecture not in (None, card.architecture):
        raise ModelError(
            f"{path} holds a {card.architecture}, not a {architecture}: leave --model out, or name the file"
        )
    model = build_model(card.architecture, **card.options)
    own = {name: value for name, value in checkpoint.model.items() if not name.startswith("classifier.")}
    try:
        model.load_state_dict(own)
    except RuntimeError as error:
        reason = " ".join(str(error).split())[:200]
        raise ModelError(f"{path} does not fit its own card ({reason}): train or copy it again") from None
    return model.eval(), card


def start_from(model: ReidModel, path: Path | str) -> WeightsReport:
    """Copy into ``model`` the weights of a checkpoint, ours or another's, as far as they fit.

    A ResNet trained without its stem's ReLU goes on without it. Raises ModelError when too little fits.
    """
    path = Path(path)
    ours = _ours(load_untrusted(path), path)
    report = import_weights(model, read_state_dict(path) if ours is None else ours.model)
    if ours is not None:
        restore_stem(model, ours.card)
    return report


def restore_stem(model: ReidModel, card: ModelCard) -> None:
    """Give ``model`` the stem that its weights were trained with: an import may have changed it after building."""
    if isinstance(relu := card.options.get("stem_relu"), bool) and "stem_relu" in model.options:
        model.set_stem_relu(relu)


def card_of(model: ReidModel, **known: Any) -> ModelCard:
    """The card of a model: its architecture, size and weights, and what the caller ``known`` adds."""
    from reid_edge import __version__

    card = ModelCard(architecture=model.name, embedding_dim=model.embedding_dim, options=model.options, **known)
    return card.with_(
        parameters=count_parameters(model),
        macs=count_macs(model, card.input_hw),
        weights_sha256=weights_hash(model),
        made_with=f"reid-edge {__version__}, torch {torch.__version__}",
    )


def weights_hash(model: ReidModel) -> str:
    """SHA-256 of what decides the embedding: every tensor but the classifier's, in the order of their names."""
    digest = hashlib.sha256()
    for name, value in sorted(model.state_dict().items()):
        if not name.startswith("classifier.") and not name.endswith("num_batches_tracked"):
            digest.update(name.encode())
            digest.update(value.detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()


def _ours(content: Any, path: Path) -> Checkpoint | None:
    if not isinstance(content, dict) or "format" not in content:
        return None
    if content["format"] != _FORMAT:
        raise ModelError(
            f"{path}: checkpoint format {content['format']!r} is unknown to this version: upgrade reid-edge"
        )
    card, model, training = (content.get(part) for part in ("card", "model", "training"))
    if isinstance(card, str) and isinstance(model, dict) and isinstance(training, dict):
        if all(isinstance(value, Tensor) for value in model.values()):
            return Checkpoint(ModelCard.from_json(card, str(path)), model, training)
    raise ModelError(f"{path} is damaged: a part of the checkpoint is missing; train or copy it again")


def _from_state_dict(path: Path, architecture: str | None) -> tuple[ReidModel, ModelCard]:
    if architecture is None:
        raise ModelError(f"{path} is a bare state dict: name its architecture, for example --model osnet_x0_25")
    model = build_model(architecture)
    import_weights(model, read_state_dict(path))
    return model.eval(), card_of(model.eval(), trained_on=f"imported from {path.name}")
