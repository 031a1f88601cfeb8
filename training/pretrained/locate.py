"""Weights by name or by path: a file that exists, and whose hash is the known one.

Files are in the folder ``weights`` of `reid_edge.core.cache.cache_folder`. Beside each is a record of its whole SHA-256
as of its first use: a file that changed since is refused, also where fewer digits are published, or none.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
from collections.abc import Iterator
from pathlib import Path

from reid_edge.core.cache import cache_folder
from reid_edge.core.files import require_file, sha256_of, write_text
from reid_edge.core.names import did_you_mean
from reid_edge.errors import InputError, ModelError
from reid_edge.training.models.names import check_architecture

from .fetch import FetchError, fetch
from .rows import WEIGHTS, PretrainedWeights, imagenet_weights

__all__ = ["IMAGENET", "architecture_of", "cached", "find_weights", "weights_folder", "weights_name"]

IMAGENET = "imagenet"
"""Stands for the ImageNet weights of the architecture that is trained."""

logger = logging.getLogger(__name__)


def weights_folder() -> Path:
    """Where fetched weights are, and where those that must be copied by hand belong."""
    return cache_folder() / "weights"


def weights_name(given: Path | str, arch: str | None = None) -> str | None:
    """The row of `WEIGHTS` that ``given`` names, or None for the path of a file.

    Raises InputError for `IMAGENET` without an architecture or with one that has no such weights, and for a word that
    is neither a name nor an existing file.

    >>> weights_name("imagenet", "mobilenetv3_large"), weights_name("run/model.pth")
    ('mobilenetv3_large_imagenet', None)
    """
    name = str(given)
    path, known = Path(name), name == IMAGENET or name in WEIGHTS
    # A folder of that name, such as ImageNet's crops, hides no weights.
    if path.is_file() or path.suffix or os.sep in name or path.exists() and not known:
        return None
    if name == IMAGENET:
        return _imagenet_name(arch)
    if name in WEIGHTS:
        return name
    near = did_you_mean(name, [IMAGENET, *WEIGHTS])
    raise InputError(f"{name!r} is neither a file nor known weights: see  reid-edge models{near}")


def architecture_of(given: Path | str) -> str | None:
    """The architecture that a name implies; None for a path. Raises InputError for `IMAGENET`, which implies none."""
    name = weights_name(given)
    return None if name is None else WEIGHTS[name].architecture


def find_weights(given: Path | str, arch: str | None = None, what: str = "the weights to start from") -> Path:
    """The file of known weights, fetched if need be, or ``given`` itself, the path of a file.

    Raises InputError when the weights are of another architecture than ``arch``, or cannot be fetched (it says which
    file to copy, and where), and ModelError for a file whose hash is not the known one.
    """
    name = weights_name(given, arch)
    if name is None:
        return require_file(given, what)
    row = WEIGHTS[name]
    if arch is not None:
        check_architecture(arch)
        if not _same_backbone(arch, row.architecture):
            raise InputError(f"{name} are weights of {row.architecture}, not of {arch}: give --arch {row.architecture}")
    path = cached(row)
    if path is None:
        return _fetched(name, row)
    _require_known(path, name, row)
    return path


def cached(row: PretrainedWeights) -> Path | None:
    """Where the file of ``row`` is on this machine: in the cache, or where torchvision and torchreid keep it."""
    return next((path for path in _places(row) if path.is_file()), None)


def _imagenet_name(arch: str | None) -> str:
    if arch is None:
        raise InputError(f"{IMAGENET} stands for the weights of an architecture: give --arch NAME (arch=) too")
    known = imagenet_weights()
    base = next((each for each in known if _same_backbone(arch, each)), None)
    if base is None:
        raise InputError(f"no ImageNet weights of {arch} are known, but of {', '.join(known)}: give --weights FILE")
    return known[base]


def _same_backbone(arch: str, other: str) -> bool:
    """Whether two architectures have one backbone: the seed paper's have other heads alone."""
    return arch == other or arch.removesuffix("_seed") == other.removesuffix("_bot")


def _places(row: PretrainedWeights) -> Iterator[Path]:
    yield weights_folder() / row.file
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    torch = Path(os.environ.get("TORCH_HOME") or cache / "torch")
    yield torch / "hub" / "checkpoints" / row.file
    yield torch / "checkpoints" / row.file


def _fetched(name: str, row: PretrainedWeights) -> Path:
    path = weights_folder() / row.file
    by_hand = f"get {row.page} on another machine and copy it to {path}, or give its path instead of the name"
    if not row.url:
        raise InputError(f"{name} are not fetched, as their page asks for a browser: {by_hand}")
    logger.info("fetching %s from %s (%s; %s)", name, row.url, row.licence, row.terms)
    try:
        sha256 = fetch(row.url, path, sha256=row.sha256, most_bytes=row.most_bytes)
    except FetchError as error:
        raise InputError(f"{error}: {by_hand}") from None
    _write_record(path, row, sha256)
    return path


def _require_known(path: Path, name: str, row: PretrainedWeights) -> None:
    """Compare a file with the hash that is published, and with the one of its first use."""
    sha256 = sha256_of(path)
    recorded = _recorded(row)
    if not sha256.startswith(row.sha256) or recorded not in (None, sha256):
        wanted = (recorded or row.sha256)[:16]
        raise ModelError(
            f"{path} is not the file that {name} is (SHA-256 {sha256[:16]}..., not {wanted}...): "
            f"delete it{'' if row.url else f', and get {row.page} again'}"
        )
    if recorded is None:
        with contextlib.suppress(OSError):  # the cache may be an image's, which nobody can write
            _write_record(path, row, sha256)
        if len(row.sha256) < len(sha256):
            logger.info("%s: SHA-256 %s is taken for that of %s from now on", path, sha256, name)


def _record_of(row: PretrainedWeights) -> Path:
    return weights_folder() / f"{row.file}.json"


def _recorded(row: PretrainedWeights) -> str | None:
    path = _record_of(row)
    try:
        return str(json.loads(path.read_text(encoding="utf-8"))["sha256"])
    except FileNotFoundError:
        return None
    except (OSError, ValueError, LookupError, TypeError):
        raise ModelError(f"{path} is damaged: delete it and {row.file} beside it") from None


def _write_record(path: Path, row: PretrainedWeights, sha256: str) -> None:
    facts = {"sha256": sha256, "bytes": path.stat().st_size, "page": row.page, "licence": row.licence}
    write_text(_record_of(row), json.dumps({**facts, "terms": row.terms}, indent=1) + "\n")
