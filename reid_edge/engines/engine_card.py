"""What stands beside an engine as JSON: the model's card, and everything that the engine depends on."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from .card import ModelCard
from .errors import ModelError

__all__ = ["EngineCard"]

_MAX_BYTES = 4 << 20


@dataclass(frozen=True)
class EngineCard:
    """What an engine was built from, by what and for what.

    ``backend`` and ``version`` are TensorRT's; ``gpu`` is name, compute capability and driver in one text, empty for an
    engine built without one; ``engine_sha256`` is the engine file's own, which tells a card of another; ``options`` are
    the builder's, among them ``batches`` (least, usual, most); ``layers`` counts the compiled layers by type and
    precision.
    """

    model: ModelCard
    onnx_sha256: str
    backend: str
    version: str
    gpu: str = ""
    engine_sha256: str = ""
    options: dict[str, Any] = field(default_factory=dict)
    layers: dict[str, int] = field(default_factory=dict)
    schema: int = 1

    @property
    def key(self) -> str:
        """A hash of all that the engine depends on: two engines of one key are interchangeable."""
        facts = [self.onnx_sha256, self.backend, self.version, self.gpu, self.options]
        return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()[:32]

    @property
    def batches(self) -> tuple[int, int, int]:
        """The least, the usual and the largest batch."""
        least, usual, most = self.options["batches"]
        return least, usual, most

    def with_(self, **changes: Any) -> EngineCard:
        """A copy with some fields changed."""
        return replace(self, **changes)

    def to_json(self) -> str:
        """Indented JSON; `from_json` reads it back."""
        return json.dumps({**asdict(self), "key": self.key}, indent=1, sort_keys=True) + "\n"

    @staticmethod
    def path_for(engine: Path) -> Path:
        """Where the card of an engine file is."""
        return engine.with_name(f"{engine.name}.json")

    @classmethod
    def beside(cls, engine: Path) -> EngineCard | None:
        """The card beside an engine file, or None where there is none that this version can read."""
        try:
            return cls.read(engine)
        except ModelError:
            return None

    @classmethod
    def read(cls, engine: Path) -> EngineCard:
        """The card beside an engine file. Raises ModelError when it is missing, damaged or of another schema."""
        path = cls.path_for(engine)
        remedy = "build the engine again with  reid-edge export MODEL.onnx --engine"
        if not path.is_file() or path.stat().st_size > _MAX_BYTES:
            raise ModelError(f"{engine} has no card beside it ({path.name}): {remedy}")
        try:
            raw: Any = json.loads(path.read_text(encoding="utf-8"))
            if not isinstance(raw, dict) or raw.get("schema") != 1:
                raise ValueError("unknown schema")
            names = ("onnx_sha256", "backend", "version", "gpu", "engine_sha256")
            sha, backend, version, gpu, own = (str(raw[name]) for name in names)
            batches = raw["options"]["batches"]
            if not (isinstance(batches, list) and len(batches) == 3 and all(type(b) is int for b in batches)):
                raise ValueError("batches are not three numbers")
            if not 1 <= batches[0] <= batches[1] <= batches[2] < 1 << 31:
                raise ValueError(f"batches {batches} do not grow from 1")
            layers = {str(name): int(count) for name, count in raw.get("layers", {}).items()}
            model = ModelCard.from_dict(raw["model"], str(path))
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError, OverflowError) as error:
            raise ModelError(f"{path} is no card of an engine ({error}): {remedy}") from None
        return cls(model, sha, backend, version, gpu, own, raw["options"], layers)
