"""Weights from other programs: matched by name, reported in one paragraph.

Names of torchvision, torchreid, reid-strong-baseline (the BoT paper's program) and this package are known. A
file's classifier is never imported: its classes are the identities that it was trained on.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from reid_edge.errors import ModelError

from .registry import ARCHITECTURES, build_model
from .reid_model import ReidModel
from .untrusted import load_untrusted

__all__ = ["WeightsReport", "import_weights", "read_state_dict"]

_PREFIXES = {"base.": "backbone.", "bottleneck.": "neck.", "trunk.": "backbone."}
"""Prefixes of other programs: reid-strong-baseline's two, and this package's former one."""

_HEAD = re.compile(r"fc\.(weight|bias)|classifier\..*|unused\..*")  # not fc.0, fc.1: they make OSNet's embedding


@dataclass(frozen=True)
class WeightsReport:
    """What an import did: names of the model in ``matched`` and ``missing``, of the file in the other fields.

    ``mismatched`` tensors have a place in the model but another shape, ``unexpected`` ones no place; ``dropped_heads``
    are the file's classifier, which is never imported. ``backbone_share`` (0..1) is how much of the backbone was found,
    the smaller of its share in tensors and in values. Batch norm's counters are in none of these. ``notes`` are
    further sentences for the user.
    """

    matched: tuple[str, ...]
    missing: tuple[str, ...]
    mismatched: tuple[str, ...]
    unexpected: tuple[str, ...]
    dropped_heads: tuple[str, ...]
    backbone_share: float
    notes: tuple[str, ...] = ()

    def summary(self) -> str:
        """One paragraph to read."""
        total = len(self.matched) + len(self.missing)
        sentences = [f"{len(self.matched)} of {total} tensors loaded, {self.backbone_share:.1%} of the backbone."]
        if self.missing:
            sentences.append(f"Left as initialised: {_few(self.missing)}.")
        if self.mismatched:
            sentences.append(f"Of another shape, not loaded: {_few(self.mismatched)}.")
        if self.unexpected:
            sentences.append(f"Without a place in this model: {_few(self.unexpected)}.")
        if self.dropped_heads:
            sentences.append("The file's classifier was left out, as it should be: its classes are other identities.")
        return " ".join([*sentences, *self.notes])


def read_state_dict(path: Path | str) -> dict[str, Tensor]:
    """Read tensors by name: a bare state dict, or one under "state_dict" or "model"; a prefix "module." is removed.

    Raises ModelError for a file that holds anything else, InputError when it is missing.
    """
    content = load_untrusted(path)
    for key in ("state_dict", "model"):
        if isinstance(content, Mapping) and isinstance(content.get(key), Mapping):
            content = content[key]
    if not isinstance(content, Mapping) or not content:
        raise ModelError(f"{path} holds no state dict: save one with torch.save(model.state_dict(), path)")
    for name, value in content.items():
        _check_entry(path, name, value)
    return {name.removeprefix("module."): value for name, value in content.items()}


def import_weights(model: ReidModel, state: Mapping[str, Tensor], minimum: float = 0.95) -> WeightsReport:
    """Copy into ``model`` what fits by name and shape, if that is at least ``minimum`` of its backbone.

    Weights of reid-strong-baseline were trained without a ReLU in ResNet's stem: they turn ``stem_relu`` off.
    Raises ModelError, with the model unchanged, when too little fits or a value is not finite.
    """
    own = {name: value for name, value in model.state_dict().items() if not _HEAD.fullmatch(name)}
    found, mismatched, unexpected = _fitting(own, state)
    share = _backbone_share(own, found)
    if share < minimum:
        raise ModelError(_too_little(model, state, share, minimum))
    if broken := [name for name, value in found.items() if not torch.isfinite(value).all()]:
        raise ModelError(f"the weights are not finite in {_few(broken)}: take an earlier checkpoint")
    model.load_state_dict(found, strict=False)
    missing = _without_counters(own.keys() - found.keys(), order=own)
    return WeightsReport(
        matched=_without_counters(found, order=own),
        missing=missing,
        mismatched=mismatched,
        unexpected=unexpected,
        dropped_heads=tuple(name for name in state if _HEAD.fullmatch(name)),
        backbone_share=share,
        notes=(*_adapt_stem(model, state), *_untrained(missing)),
    )


def _check_entry(path: Path | str, name: Any, value: Any) -> None:
    if not isinstance(name, str) or not isinstance(value, Tensor):
        entry = f"{str(name)[:80]!r} is a {type(value).__name__}, not a tensor"
        raise ModelError(f"{path}: {entry}: save model.state_dict() alone")
    if value.layout is not torch.strided or value.device.type != "cpu" or value.is_quantized:
        raise ModelError(f"{path}: {name[:80]!r} is not a plain dense tensor: save the weights in float32")


def _fitting(
    own: Mapping[str, Tensor], state: Mapping[str, Tensor]
) -> tuple[dict[str, Tensor], tuple[str, ...], tuple[str, ...]]:
    """Split a file's tensors: those that fit, by the model's names; of another shape; without a place."""
    found, mismatched, unexpected = {}, [], []
    for name, value in state.items():
        target = _name_in_model(name, own)
        if _HEAD.fullmatch(name):
            continue
        if target is None:
            unexpected.append(name)
        elif _same_kind(own[target], value):
            found[target] = value
        else:
            mismatched.append(f"{name} ({_kind(value)}, here {_kind(own[target])})")
    return found, tuple(mismatched), tuple(unexpected)


def _name_in_model(name: str, own: Mapping[str, Tensor]) -> str | None:
    for prefix, here in _PREFIXES.items():
        if name.startswith(prefix):
            name = here + name.removeprefix(prefix)
    return next((candidate for candidate in (name, f"backbone.{name}") if candidate in own), None)


def _same_kind(own: Tensor, other: Tensor) -> bool:
    return own.shape == other.shape and own.is_floating_point() == other.is_floating_point()


def _kind(value: Tensor) -> str:
    return f"{str(value.dtype).removeprefix('torch.')} {list(value.shape)}"


def _backbone_share(own: Mapping[str, Tensor], found: Mapping[str, Tensor]) -> float:
    backbone = _without_counters((name for name in own if name.startswith("backbone.")), order=own)
    matched = [name for name in backbone if name in found]
    values = sum(own[name].numel() for name in matched) / sum(own[name].numel() for name in backbone)
    return min(values, len(matched) / len(backbone))


def _too_little(model: ReidModel, state: Mapping[str, Tensor], share: float, minimum: float) -> str:
    remedy = "give weights of this architecture, or name theirs with --arch"
    with torch.device("meta"):  # shapes alone: nothing is allocated
        for name in ARCHITECTURES:
            own = build_model(name).state_dict()
            if _backbone_share(own, _fitting(own, state)[0]) >= minimum:
                remedy = f"they are weights of {name}, so give --arch {name}"
                break
    found = f"the weights hold {share:.1%} of the backbone of {model.name}, and {minimum:.0%} are needed"
    return f"{found} (their first tensors: {_few(list(state))}): {remedy}"


def _adapt_stem(model: ReidModel, state: Mapping[str, Tensor]) -> tuple[str, ...]:
    if "base.conv1.weight" not in state or not model.options.get("stem_relu"):
        return ()
    model.set_stem_relu(False)
    return ("These are reid-strong-baseline's weights, trained without the stem's ReLU: stem_relu is now false.",)


def _untrained(missing: tuple[str, ...]) -> tuple[str, ...]:
    if not any(name.startswith("fc.") for name in missing):
        return ()
    return ("The embedding layer is untrained: train before you use the embeddings.",)


def _without_counters(names: Iterable[str], order: Iterable[str]) -> tuple[str, ...]:
    """Leave out batch norm's num_batches_tracked: old files lack it, and evaluation never reads it."""
    chosen = {name for name in names if not name.endswith("num_batches_tracked")}
    return tuple(name for name in order if name in chosen)


def _few(names: Iterable[str]) -> str:
    names = [repr(name[:120])[1:-1] for name in names]  # an untrusted name may hold line breaks
    more = f" and {len(names) - 3} more" if len(names) > 3 else ""
    return ", ".join(names[:3]) + more
