"""The ModelCard: what a model file says of itself.

It travels inside the ONNX file (metadata property ``reid_edge.card``), inside our checkpoints, and beside an engine as
JSON, so that no preprocessing is ever guessed from a file's name.
"""

from __future__ import annotations

import json
import math
import re
from dataclasses import asdict, dataclass, field, fields, replace
from typing import Any

from .errors import ModelError

__all__ = ["CARD_KEY", "IMAGENET_MEAN", "IMAGENET_STD", "ModelCard"]

CARD_KEY = "reid_edge.card"
"""The ONNX metadata property that holds the card."""

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)

_MAX_CARD_BYTES = 1 << 20


@dataclass(frozen=True)
class ModelCard:
    """What a model is, what it eats and what was measured of it.

    ``input_hw`` is (height, width) in pixels; ``resize`` names how crops of other sizes get there
    (`reid_edge.images.RESIZES`); ``layout`` is how the graph takes them (`reid_edge.engine.as_input`); ``mean`` and
    ``std`` are per RGB channel on the 0..1 scale and are already applied inside the graph; ``recipe`` is how it was
    trained, ``quantization`` the INT8 ranges that it was trained for (``layers``: from a name to the range of each
    call's input; ``note``), ``parity`` what the export gate measured, ``macs`` the multiply-accumulates of one crop.
    """

    architecture: str
    embedding_dim: int
    input_hw: tuple[int, int] = (256, 128)
    resize: str = "opencv"
    precision: str = "fp32"
    layout: str = "nhwc-uint8"
    mean: tuple[float, float, float] = IMAGENET_MEAN
    std: tuple[float, float, float] = IMAGENET_STD
    options: dict[str, Any] = field(default_factory=dict)
    trained_on: str = ""
    recipe: dict[str, Any] = field(default_factory=dict)
    calibration: str = ""
    quantization: dict[str, Any] = field(default_factory=dict)
    parity: dict[str, Any] = field(default_factory=dict)
    parameters: int = 0
    macs: int = 0
    weights_sha256: str = ""
    made_with: str = ""
    schema: int = 1

    def to_json(self) -> str:
        """One line of JSON; `from_json` reads it back."""
        return json.dumps(asdict(self), sort_keys=True)

    def with_(self, **changes: Any) -> ModelCard:
        """A copy with some fields changed."""
        return replace(self, **changes)

    @classmethod
    def from_json(cls, text: str, source: str = "the model card") -> ModelCard:
        """Read a card; ``source`` names the file in errors.

        Raises ModelError for anything that is not a card of a schema this version knows: a card is untrusted input.
        """
        if len(text) > _MAX_CARD_BYTES:
            raise ModelError(f"{source}: its model card is over 1 MiB and was not read: export the model again")
        try:
            raw = json.loads(text)
        except (ValueError, RecursionError) as error:
            raise ModelError(f"{source}: its model card is not JSON ({error}): export the model again") from None
        return cls.from_dict(raw, source)

    @classmethod
    def from_dict(cls, raw: Any, source: str = "the model card") -> ModelCard:
        """Like `from_json`, from parsed JSON. Unknown fields (of a newer minor version) are ignored."""
        if not isinstance(raw, dict):
            raise ModelError(f"{source}: its model card is no JSON object: export the model again")
        if raw.get("schema") != 1:
            raise ModelError(
                f"{source}: model card schema {raw.get('schema')!r} is unknown to this version: "
                "upgrade reid-edge or export the model again"
            )
        known = {f.name: raw[f.name] for f in fields(cls) if f.name in raw}
        try:
            for name, length, kind in (("input_hw", 2, int), ("mean", 3, float), ("std", 3, float)):
                if name in known:
                    known[name] = _numbers(known[name], length, kind)
            card = cls(**known)
            card._check()
        except (TypeError, ValueError, OverflowError) as error:
            raise ModelError(f"{source}: bad model card ({error}): export the model again") from None
        return card

    def _check(self) -> None:
        text = [self.architecture, self.resize, self.precision, self.layout, self.trained_on, self.calibration]
        text += [self.weights_sha256, self.made_with]
        whole = [self.embedding_dim, self.parameters, self.macs, self.schema]
        if not all(isinstance(value, str) for value in text):
            raise ValueError("a text field holds no text")
        if not all(type(value) is int for value in whole):
            raise ValueError("a count is no whole number")
        if not all(isinstance(value, dict) for value in (self.options, self.recipe, self.parity, self.quantization)):
            raise ValueError("options, recipe, parity and quantization must be objects")
        # It becomes part of file names.
        if not re.fullmatch(r"\w[\w.-]{0,99}", self.architecture, re.ASCII):
            raise ValueError(f"architecture {self.architecture[:100]!r} is no plain name")
        if self.layout not in ("nhwc-uint8", "nchw-float"):
            raise ValueError(f"layout {self.layout!r} is unknown")
        if self.precision not in ("fp32", "fp16", "int8"):
            raise ValueError(f"precision {self.precision!r} is unknown")
        _check_ranges(self.quantization.get("layers", {}))
        if not 1 <= self.embedding_dim <= 65536:
            raise ValueError(f"embedding_dim {self.embedding_dim} is out of range")
        if not all(16 <= side <= 4096 for side in self.input_hw):
            raise ValueError(f"input_hw {self.input_hw} is out of range")


def _check_ranges(layers: Any) -> None:
    """Raise ValueError unless these are lists of INT8 ranges by layer."""
    lists = list(layers.values()) if isinstance(layers, dict) else [None]
    for ranges in lists:
        for value in ranges if isinstance(ranges, list) else [None]:
            if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < math.inf:
                raise ValueError(f"{value!r} is no INT8 range")


def _numbers(values: Any, length: int, kind: type) -> tuple[Any, ...]:
    if not isinstance(values, list | tuple) or len(values) != length:
        raise ValueError(f"expected {length} numbers, found {values!r}")
    if not all(isinstance(value, int | float) and not isinstance(value, bool) for value in values):
        raise ValueError(f"expected {length} numbers, found {values!r}")
    numbers = tuple(kind(value) for value in values)
    if not all(math.isfinite(number) for number in numbers):
        raise ValueError(f"expected {length} finite numbers, found {values!r}")
    return numbers
