"""Checkpoints: tensors, plain numbers and a ModelCard; never a pickled object.

A checkpoint is written whole or not at all, with the hash of all that it holds; reading compares it, so that whatever
damage the file's own checksums miss is refused. Evaluation and export get every model through `load_model`, from a
reid-edge checkpoint or from a torchreid or torchvision state dict.
"""

from __future__ import annotations

import hashlib
import io
import logging
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from reid_edge.card import ModelCard
from reid_edge.core.files import written_whole
from reid_edge.errors import ModelError

from .former_names import former_name, renamed_card, renamed_tensors, renamed_training
from .macs import count_macs, count_parameters
from .registry import build_model, build_with
from .reid_model import ReidModel
from .untrusted import content_hash, load_untrusted
from .weights import WeightsReport, import_weights, read_state_dict

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
_HASH = "sha256"

logger = logging.getLogger(__name__)


@dataclass(frozen=True, repr=False)
class Checkpoint:
    """What rebuilds a model (``card``, and its state dict ``model``), and what a run resumes from (``training``).

    ``training`` is what `Trainer.state` gives, and empty in a finished model file.
    """

    card: ModelCard
    model: dict[str, Tensor]
    training: dict[str, Any] = field(default_factory=dict)

    def __repr__(self) -> str:
        done = f"a run after epoch {len(self.training.get('history', ()))}" if self.training else "finished"
        return f"<Checkpoint: {self.card.architecture}, {len(self.model)} tensors, {done}>"


def save_checkpoint(checkpoint: Checkpoint, path: Path) -> None:
    """Write a checkpoint whole or not at all."""
    content: dict[str, Any] = {
        "format": _FORMAT,
        "card": checkpoint.card.to_json(),
        "model": checkpoint.model,
        "training": checkpoint.training,
    }
    content[_HASH] = content_hash(content)
    # Into memory first: on a full disk torch.save raises a RuntimeError about its zip file, a plain write an OSError.
    buffer = io.BytesIO()
    torch.save(content, buffer)
    with written_whole(path) as beside:
        beside.write_bytes(buffer.getbuffer())


def load_checkpoint(path: Path | str) -> Checkpoint:
    """Read a reid-edge checkpoint; tensors come to the CPU. Raises ModelError for any other file and a damaged one."""
    checkpoint = _parsed(load_untrusted(path), Path(path))
    if checkpoint is None:
        raise ModelError(f"{path} was not written by reid-edge train: start from its weights (--weights {path})")
    return checkpoint


def load_model(path: Path | str, arch: str | None = None) -> tuple[ReidModel, ModelCard]:
    """A model in evaluation mode, without classifier, and its card, from a checkpoint or a bare state dict.

    ``arch`` is the architecture of a torchreid or torchvision file; for a reid-edge checkpoint it is optional and must
    agree. Raises ModelError when it does not agree, when it is missing, or when the weights do not fit or are damaged.
    """
    path = Path(path)
    checkpoint = _parsed(load_untrusted(path), path)
    if checkpoint is None:
        return _from_state_dict(path, arch)
    card = checkpoint.card
    if arch not in (None, card.architecture):
        raise ModelError(f"{path} holds a {card.architecture}, not a {arch}: leave --arch out, or give another file")
    model = build_with(card.architecture, card.options)
    if model.embedding_dim != card.embedding_dim:
        dims = f"{model.embedding_dim} numbers, and its card says {card.embedding_dim}"
        raise ModelError(f"{path} does not fit its own card (an embedding has {dims}): train or copy it again")
    own = {name: value for name, value in checkpoint.model.items() if not name.startswith("classifier.")}
    try:
        model.load_state_dict(own)
    except RuntimeError as error:
        reason = " ".join(str(error).split())[:200]
        raise ModelError(f"{path} does not fit its own card ({reason}): train or copy it again") from None
    return model.eval(), card


def start_from(model: ReidModel, path: Path | str) -> WeightsReport:
    """Copy into ``model`` the weights of a reid-edge checkpoint or a bare state dict, as far as they fit.

    A ResNet trained without its stem's ReLU stays without it. Raises ModelError when too little fits.
    """
    path = Path(path)
    checkpoint = _parsed(load_untrusted(path), path)
    report = import_weights(model, read_state_dict(path) if checkpoint is None else checkpoint.model)
    if checkpoint is not None:
        restore_stem(model, checkpoint.card)
    return report


def restore_stem(model: ReidModel, card: ModelCard) -> None:
    """Set ``model``'s stem as its weights were trained: importing weights may have changed it after building."""
    if isinstance(relu := card.options.get("stem_relu"), bool) and "stem_relu" in model.options:
        model.set_stem_relu(relu)


def card_of(model: ReidModel, **known: Any) -> ModelCard:
    """The card of a model: its architecture, size and weights' hash, and the fields that the caller ``known`` gives."""
    from reid_edge import __version__

    card = ModelCard(architecture=model.name, embedding_dim=model.embedding_dim, options=model.options, **known)
    return card.with_(
        parameters=count_parameters(model),
        macs=count_macs(model, card.input_hw),
        weights_sha256=weights_hash(model),
        made_with=f"reid-edge {__version__}, torch {torch.__version__}",
    )


def weights_hash(model: ReidModel) -> str:
    """SHA-256 of what decides the embedding: every tensor except the classifier's, in the order of their names.

    Galleries and pair heads hold it, and refuse embeddings of a model with another one: it must not change by version.
    """
    return _hash_of(model.state_dict())


def _hash_of(state: Mapping[str, Tensor]) -> str:
    digest = hashlib.sha256()
    named = {former_name(name): value for name, value in state.items()}
    for name, value in sorted(named.items()):
        if not name.startswith("classifier.") and not name.endswith("num_batches_tracked"):
            digest.update(name.encode())
            digest.update(value.detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()


def _parsed(content: Any, path: Path) -> Checkpoint | None:
    """A reid-edge checkpoint from what was read, None when it is another file. Raises ModelError when it is damaged."""
    if not isinstance(content, dict) or "format" not in content:
        return None
    if content["format"] != _FORMAT:
        raise ModelError(
            f"{path}: checkpoint format {content['format']!r} is unknown to this version: upgrade reid-edge"
        )
    try:
        return _checked(content, path)
    except (
        KeyError,
        TypeError,
        ValueError,
        RuntimeError,
        AttributeError,
    ):  # not the parts, or not the kinds, that were written
        raise ModelError(f"{path} is damaged: a part of the checkpoint is missing; train or copy it again") from None


def _checked(content: dict[str, Any], path: Path) -> Checkpoint:
    """The checkpoint in ``content``, compared with its own hash and with the hash of the weights in its card."""
    card = renamed_card(ModelCard.from_json(content["card"], str(path)))
    checkpoint = Checkpoint(card, renamed_tensors(content["model"]), renamed_training(content["training"]))
    if _HASH not in content:
        checked = "alone are checked" if card.weights_sha256 else "cannot be checked either"
        logger.warning("%s has no seal, as checkpoints of earlier versions: its weights %s", path, checked)
    elif content[_HASH] != content_hash({name: part for name, part in content.items() if name != _HASH}):
        raise ModelError(f"{path} is damaged: its content does not match its seal; train or copy it again")
    if card.weights_sha256 not in ("", _hash_of(checkpoint.model)):
        raise ModelError(
            f"{path} does not fit its own card (its weights are not those that it names): train or copy it again"
        )
    if broken := [name for name, value in checkpoint.model.items() if not torch.isfinite(value).all()]:
        raise ModelError(f"{path} has weights that are not finite ({broken[0]!r}): take an earlier checkpoint")
    return checkpoint


def _from_state_dict(path: Path, arch: str | None) -> tuple[ReidModel, ModelCard]:
    if arch is None:
        raise ModelError(f"{path} is a bare state dict: name its architecture, for example --arch osnet_x0_25")
    model = build_model(arch)
    import_weights(model, read_state_dict(path))
    return model.eval(), card_of(model.eval(), trained_on=f"imported from {path.name}")
