"""The JSON file beside an engine: the model's card, and everything that the engine depends on."""

from __future__ import annotations

import hashlib
import json
import logging
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from reid_edge.card import ModelCard
from reid_edge.errors import ModelError

from .lanes.profiles import MOST_PROFILES, whole
from .tensorrt_api import BACKENDS

__all__ = ["EngineCard"]

logger = logging.getLogger(__name__)

_MAX_BYTES = 4 << 20
_SEAL = "sha256"
_OLD_GPU = re.compile(r"(.*), compute capability (\d+\.\d+), driver CUDA (\d+\.\d+)")
"""The GPU in cards of schema 1."""


@dataclass(frozen=True)
class EngineCard:
    """What an engine was built from, with which TensorRT and for which GPU.

    ``backend`` and ``version`` are TensorRT's; ``gpu`` holds the facts of `reid_edge.engines.gpu.Gpu`, empty for an
    engine built without a GPU; ``engine_sha256`` is the hash of the engine file that the card belongs to; ``options``
    are the builder's, among them ``batches`` (min, opt, max of the profile) and, of an engine with several profiles,
    ``profiles`` (the same of each; ``batches`` spans them all then); ``layers`` counts the compiled layers by
    type and precision, ``placed`` those of an engine for the deep-learning accelerator by where they run (DLA, GPU).

    The file also holds the SHA-256 of its content, so that a damaged card is refused.
    """

    model: ModelCard
    onnx_sha256: str
    backend: str
    version: str
    gpu: dict[str, Any] = field(default_factory=dict)
    engine_sha256: str = ""
    options: dict[str, Any] = field(default_factory=dict)
    layers: dict[str, int] = field(default_factory=dict)
    placed: dict[str, int] = field(default_factory=dict)
    schema: int = 2

    @property
    def key(self) -> str:
        """A hash of everything the engine depends on: two engines with the same key are interchangeable."""
        return _hash([self.onnx_sha256, self.backend, self.version, self.gpu, self.options])[:32]

    @property
    def batches(self) -> tuple[int, int, int]:
        """The batch sizes: min, opt, max; of several profiles as `lanes.profiles.whole` has it."""
        smallest, optimal, largest = self.options["batches"]
        return smallest, optimal, largest

    @property
    def profiles(self) -> tuple[tuple[int, int, int], ...]:
        """Min, opt and max of each optimisation profile, in the engine's order."""
        return tuple((a, b, c) for a, b, c in self.options.get("profiles") or [self.batches])

    def with_(self, **changes: Any) -> EngineCard:
        """A copy with some fields changed."""
        return replace(self, **changes)

    def to_json(self) -> str:
        """Indented JSON with its seal; `read` reads it back."""
        content = {**json.loads(json.dumps(asdict(self))), "key": self.key}  # as it will be read: names are strings
        return json.dumps({**content, _SEAL: _hash(content)}, indent=1, sort_keys=True) + "\n"

    @staticmethod
    def path_for(engine: Path) -> Path:
        """The path of the card of an engine file."""
        return engine.with_name(f"{engine.name}.json")

    @classmethod
    def beside(cls, engine: Path) -> EngineCard | None:
        """The card beside an engine file, or None if it is missing or unreadable; opening the engine gives the note."""
        try:
            return cls._read(engine)[0]
        except ModelError:
            return None

    @classmethod
    def read(cls, engine: Path) -> EngineCard:
        """The card beside an engine file. Raises ModelError when it is missing, damaged or of another schema.

        A card of an earlier version has no seal: it is read with a note.
        """
        card, sealed = cls._read(engine)
        if not sealed:
            name = cls.path_for(engine)
            logger.warning(
                "%s has no seal, as cards of earlier versions: build the engine again with export --force", name
            )
        return card

    @classmethod
    def _read(cls, engine: Path) -> tuple[EngineCard, bool]:
        """The card, and whether it has a seal."""
        path = cls.path_for(engine)
        remedy = "build the engine again with  reid-edge export MODEL.onnx --engine"
        if not path.is_file() or path.stat().st_size > _MAX_BYTES:
            raise ModelError(
                f"{engine} has no card beside it ({path.name}): {remedy}, or give one that trtexec built to  "
                "reid-edge adopt"
            )
        try:
            raw = json.loads(path.read_text(encoding="utf-8"))
            return _parsed(raw, path), _SEAL in raw
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError, OverflowError) as error:
            raise ModelError(f"{path} is not an engine card ({_one_line(error)}): {remedy}") from None


def _parsed(raw: Any, path: Path) -> EngineCard:
    """The card in parsed JSON. Raises ValueError, KeyError, TypeError or AttributeError where it is not a card."""
    if not isinstance(raw, dict) or raw.get("schema") not in (1, 2):
        raise ValueError("unknown schema")
    content = {name: part for name, part in raw.items() if name != _SEAL}
    if (_SEAL in raw or raw["schema"] != 1) and raw.get(_SEAL) != _hash(content):
        raise ValueError("its content does not match its seal: it is damaged or was edited")
    backend, version = raw["backend"], raw["version"]
    if backend not in BACKENDS:
        raise ValueError(f"backend {str(backend)[:40]!r} is unknown")
    if not re.fullmatch(r"[\w.+-]{1,64}", version, re.ASCII):
        raise ValueError(f"version {version[:40]!r} is not one")
    return EngineCard(
        model=ModelCard.from_dict(raw["model"], str(path)),
        onnx_sha256=_hex(raw["onnx_sha256"]),
        backend=backend,
        version=version,
        gpu=_gpu(raw["gpu"]),
        engine_sha256=_hex(raw["engine_sha256"]),
        options=_options(raw["options"]),
        layers=_counts(raw.get("layers", {})),
        placed=_counts(raw.get("placed", {})),
    )


def _gpu(raw: Any) -> dict[str, Any]:
    """The facts of a GPU; a card of schema 1 has them in one text."""
    if isinstance(raw, str) and (old := _OLD_GPU.fullmatch(raw)):
        return dict(zip(("name", "compute_capability", "driver"), old.groups(), strict=True))
    if raw == "":
        return {}
    for name, value in raw.items():
        whole = name in ("multiprocessors", "memory_mib")
        if type(value) is not (int if whole else str) or not f"{name}{value}".isprintable():
            raise ValueError(f"gpu {name[:40]!r} is not a fact of a GPU")
    return dict(raw)


def _options(raw: Mapping[str, Any]) -> dict[str, Any]:
    batches = _profile(raw["batches"])
    if "profiles" in raw:
        profiles = raw["profiles"]
        if not isinstance(profiles, list) or not 2 <= len(profiles) <= MOST_PROFILES:
            raise ValueError(f"profiles are not a list of 2 to {MOST_PROFILES}")
        if batches != whole([_profile(one) for one in profiles]):
            raise ValueError(f"batches {batches} do not span the profiles")
    for name in ("workspace_mib", "dla"):
        if (value := raw.get(name)) is not None and type(value) is not int:
            raise ValueError(f"{name} is not a whole number")
    if type(raw.get("version_compatible", False)) is not bool:
        raise ValueError("version_compatible is not true or false")
    return dict(raw)


def _profile(batches: Any) -> tuple[int, int, int]:
    if not (isinstance(batches, list) and len(batches) == 3 and all(type(b) is int for b in batches)):
        raise ValueError("batches are not three numbers")
    smallest, optimal, largest = batches
    if not 1 <= smallest <= optimal <= largest < 1 << 31:
        raise ValueError(f"batches {batches} do not grow from 1")
    return smallest, optimal, largest


def _counts(raw: Mapping[str, Any]) -> dict[str, int]:
    for name, count in raw.items():
        if type(count) is not int or count < 0:
            raise ValueError(f"{name[:40]!r} is not a count of layers")
    return dict(raw)


def _hex(value: str) -> str:
    if not re.fullmatch(r"[0-9a-f]{64}", value):
        raise ValueError(f"{value[:40]!r} is not a SHA-256")
    return value


def _hash(content: Any) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())[:200]
