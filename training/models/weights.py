"""Weights from elsewhere: read without trusting the file, matched by name, and told in one paragraph.

Names of torchvision, torchreid, reid-strong-baseline (the BoT paper's program) and this package are known. A
file's classifier is always left behind: it knows the people it was trained on, not yours.
"""

from __future__ import annotations

import re
import warnings
import zipfile
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from reid_edge.errors import ModelError
from reid_edge.files import require_file

from .models import ARCHITECTURES, ReidModel, build_model

__all__ = ["WeightsReport", "import_weights", "load_untrusted", "read_state_dict"]

_MAX_BYTES = 4 << 30
"""Above forty times the largest model here, a file is refused before it fills the memory."""

_BOT_PREFIXES = {"base.": "trunk.", "bottleneck.": "neck."}
_HEAD = re.compile(r"fc\.(weight|bias)|classifier\..*|unused\..*")  # not fc.0, fc.1: they make OSNet's embedding


@dataclass(frozen=True)
class WeightsReport:
    """What an import did: names of the model in ``matched`` and ``missing``, of the file in the others.

    ``mismatched`` have a place in the model but another shape, ``unexpected`` no place; ``dropped_heads`` are
    the file's classifier, left behind as it should be. ``trunk_share`` (0..1) is how much of the trunk was
    found, the smaller of its share in tensors and in values. Batch norm's counters are in none of these.
    ``notes`` are sentences about what else matters.
    """

    matched: tuple[str, ...]
    missing: tuple[str, ...]
    mismatched: tuple[str, ...]
    unexpected: tuple[str, ...]
    dropped_heads: tuple[str, ...]
    trunk_share: float
    notes: tuple[str, ...] = ()

    def summary(self) -> str:
        """One paragraph for people."""
        total = len(self.matched) + len(self.missing)
        sentences = [f"{len(self.matched)} of {total} tensors loaded, {self.trunk_share:.1%} of the trunk."]
        if self.missing:
            sentences.append(f"Left as initialised: {_few(self.missing)}.")
        if self.mismatched:
            sentences.append(f"Of another shape, not loaded: {_few(self.mismatched)}.")
        if self.unexpected:
            sentences.append(f"Without a place in this model: {_few(self.unexpected)}.")
        if self.dropped_heads:
            sentences.append("The file's classifier was left behind, as it should be: it knows other people.")
        return " ".join([*sentences, *self.notes])


def load_untrusted(path: Path | str) -> Any:
    """Read what ``torch.save`` wrote if it is tensors and plain values; no code in the file is run.

    Tensors come to the CPU. Raises ModelError for everything else, InputError when the file is missing.
    """
    path = require_file(path, "a checkpoint")
    try:
        _check_size(path)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return torch.load(path, map_location="cpu", weights_only=True)
    except ModelError:
        raise
    except PermissionError:
        raise ModelError(f"{path} cannot be read: ask its owner for permission") from None
    except Exception as error:  # a parser on a stranger's bytes may stumble over anything
        raise _refusal(path, error) from None


def read_state_dict(path: Path | str) -> dict[str, Tensor]:
    """Read tensors by name: a bare state dict, or one under "state_dict" or "model"; "module." is taken off.

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
    """Copy into ``model`` what fits by name and shape, if that is at least ``minimum`` of its trunk.

    Weights of reid-strong-baseline were trained without a ReLU in ResNet's stem: they turn ``stem_relu`` off.
    Raises ModelError, with the model unchanged, when too little fits or a value is not finite.
    """
    own = {name: value for name, value in model.state_dict().items() if not _HEAD.fullmatch(name)}
    found, mismatched, unexpected = _fitting(own, state)
    share = _trunk_share(own, found)
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
        trunk_share=share,
        notes=(*_adapt_stem(model, state), *_untrained(missing)),
    )


def _check_size(path: Path) -> None:
    size = path.stat().st_size
    if zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            size = sum(entry.file_size for entry in archive.infolist())  # deflated, it may be a bomb
    if size > _MAX_BYTES:
        raise ModelError(f"{path} holds {size:,} bytes, far above any model here: is it the right file?")


def _refusal(path: Path, error: Exception) -> ModelError:
    if any(word in str(error) for word in ("GLOBAL", "TorchScript", "allowlisted", "unrecognized function")):
        return ModelError(
            f"{path} holds Python objects, which could run code, and was not opened: "
            "get a plain state dict, as torch.save(model.state_dict(), path) writes"
        )
    return ModelError(f"{path} is damaged, or no PyTorch checkpoint: copy or download it again")


def _check_entry(path: Path | str, name: Any, value: Any) -> None:
    if not isinstance(name, str) or not isinstance(value, Tensor):
        entry = f"{str(name)[:80]!r} is a {type(value).__name__}, not a tensor"
        raise ModelError(f"{path}: {entry}: save model.state_dict() alone")
    if value.layout is not torch.strided or value.device.type != "cpu" or value.is_quantized:
        raise ModelError(f"{path}: {name[:80]!r} is no plain dense tensor: save the weights in float32")
    if value.numel() * value.element_size() > _MAX_BYTES:
        raise ModelError(f"{path}: {name[:80]!r} has the absurd shape {list(value.shape)}: is it the right file?")


def _fitting(
    own: Mapping[str, Tensor], state: Mapping[str, Tensor]
) -> tuple[dict[str, Tensor], tuple[str, ...], tuple[str, ...]]:
    """Split a file's tensors: those that fit, by the model's names; of another shape; without a place."""
    found, mismatched, unexpected = {}, [], []
    for name, value in state.items():
        target = _our_name(name, own)
        if _HEAD.fullmatch(name):
            continue
        if target is None:
            unexpected.append(name)
        elif _same_kind(own[target], value):
            found[target] = value
        else:
            mismatched.append(f"{name} ({_kind(value)}, here {_kind(own[target])})")
    return found, tuple(mismatched), tuple(unexpected)


def _our_name(name: str, own: Mapping[str, Tensor]) -> str | None:
    for theirs, ours in _BOT_PREFIXES.items():
        if name.startswith(theirs):
            name = ours + name.removeprefix(theirs)
    return next((candidate for candidate in (name, f"trunk.{name}") if candidate in own), None)


def _same_kind(ours: Tensor, theirs: Tensor) -> bool:
    return ours.shape == theirs.shape and ours.is_floating_point() == theirs.is_floating_point()


def _kind(value: Tensor) -> str:
    return f"{str(value.dtype).removeprefix('torch.')} {list(value.shape)}"


def _trunk_share(own: Mapping[str, Tensor], found: Mapping[str, Tensor]) -> float:
    trunk = _without_counters((name for name in own if name.startswith("trunk.")), order=own)
    there = [name for name in trunk if name in found]
    values = sum(own[name].numel() for name in there) / sum(own[name].numel() for name in trunk)
    return min(values, len(there) / len(trunk))


def _too_little(model: ReidModel, state: Mapping[str, Tensor], share: float, minimum: float) -> str:
    remedy = "give weights of this architecture, or name the one that these are of"
    with torch.device("meta"):  # shapes alone: nothing is allocated
        for name in ARCHITECTURES:
            own = build_model(name).state_dict()
            if _trunk_share(own, _fitting(own, state)[0]) >= minimum:
                remedy = f"they are weights of {name}, so give --model {name}"
                break
    head = f"the weights hold {share:.1%} of the trunk of {model.name}, and {minimum:.0%} are needed"
    return f"{head} (their first tensors: {_few(list(state))}): {remedy}"


def _adapt_stem(model: ReidModel, state: Mapping[str, Tensor]) -> tuple[str, ...]:
    if "base.conv1.weight" not in state or not model.options.get("stem_relu"):
        return ()
    model.set_stem_relu(False)
    return ("They are reid-strong-baseline's, trained without the stem's ReLU: stem_relu is now false.",)


def _untrained(missing: tuple[str, ...]) -> tuple[str, ...]:
    if not any(name.startswith("fc.") for name in missing):
        return ()
    return ("The embedding layer is untrained: train before you use the embeddings.",)


def _without_counters(names: Iterable[str], order: Iterable[str]) -> tuple[str, ...]:
    """Leave out batch norm's num_batches_tracked: old files lack it, and evaluation never reads it."""
    chosen = {name for name in names if not name.endswith("num_batches_tracked")}
    return tuple(name for name in order if name in chosen)


def _few(names: Iterable[str]) -> str:
    names = [repr(name[:120])[1:-1] for name in names]  # a stranger's name may hold line breaks
    more = f" and {len(names) - 3} more" if len(names) > 3 else ""
    return ", ".join(names[:3]) + more
