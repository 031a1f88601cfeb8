"""The ModelCard: the description that travels with a model.

It is in the ONNX file (metadata property ``reid_edge.card``), in checkpoints, and beside an engine as JSON, so that
preprocessing is never guessed from a file name.
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
_MAX_LEVELS = 16
"""How deep a card may be nested: twice what one is."""
_MAX_SHOWN = 200
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\ud800-\udfff]")  # surrogates cannot be printed, escapes write anywhere
_RENAMED = {"layout": "input_format"}  # names in cards of earlier versions


@dataclass(frozen=True)
class ModelCard:
    """What a model is, the input it takes, and what was measured on it.

    ``input_hw`` is (height, width) in pixels; ``resize`` names the method that brings crops to that size
    (`reid_edge.data.images.RESIZES`); ``input_format`` is the graph's (`reid_edge.engines.base.as_input`);
    ``mean`` and ``std`` are per RGB channel on the 0..1 scale and are already applied inside the graph; ``recipe`` is
    how it was trained, ``quantization`` the INT8 activation ranges that it was trained with (``layers``: from a layer's
    name to the range of the input of each call; ``residuals``: from a block's last layer to that of what is added to
    it; ``note``), ``parity`` what the export gate measured, ``macs`` the multiply-accumulates of one crop,
    ``optimized_for`` the form of a graph that was rewritten for a device (`reid_edge.export.graph.merge_streams`),
    empty for one as trained; ``weights_sha256`` is empty in files of early versions alone. ``sealed`` says that
    the ONNX file around the card ends in its own hash (`reid_edge.engines.onnx_file`), and two cards may differ in it.
    """

    architecture: str
    embedding_dim: int
    input_hw: tuple[int, int] = (256, 128)
    resize: str = "opencv"
    precision: str = "fp32"
    input_format: str = "nhwc-uint8"
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
    optimized_for: str = ""
    weights_sha256: str = ""
    made_with: str = ""
    sealed: bool = field(default=False, compare=False)
    schema: int = 1

    def __repr__(self) -> str:
        size = f"{self.input_hw[0]}x{self.input_hw[1]} to {self.embedding_dim} dimensions"
        trained = f", trained on {self.trained_on}" if self.trained_on else ""
        weights = f", weights {self.weights_sha256:.12}" if self.weights_sha256 else ""
        return f"<ModelCard: {self.architecture} {self.precision}, {size}, {self.input_format}{trained}{weights}>"

    def to_json(self) -> str:
        """One line of JSON; `from_json` reads it back."""
        return json.dumps(asdict(self), sort_keys=True)

    def with_(self, **changes: Any) -> ModelCard:
        """A copy with some fields changed."""
        return replace(self, **changes)

    @classmethod
    def from_json(cls, text: str, source: str = "the model card") -> ModelCard:
        """Read a card; ``source`` names the file in errors.

        Raises ModelError unless it is a card of a schema that this version knows: cards are untrusted input.
        """
        if len(text) > _MAX_CARD_BYTES:
            raise ModelError(f"{source}: its model card is larger than 1 MiB: export the model again")
        try:
            raw = json.loads(text)
        except (ValueError, RecursionError) as error:
            reason = str(error)[:_MAX_SHOWN]
            raise ModelError(f"{source}: its model card is not JSON ({reason}): export the model again") from None
        return cls.from_dict(raw, source)

    @classmethod
    def from_dict(cls, raw: Any, source: str = "the model card") -> ModelCard:
        """Like `from_json`, from parsed JSON. Unknown fields (of a newer minor version) are ignored."""
        if not isinstance(raw, dict):
            raise ModelError(f"{source}: its model card is not a JSON object: export the model again")
        if raw.get("schema") != 1:
            shown = repr(raw.get("schema"))[:_MAX_SHOWN]
            remedy = "upgrade reid-edge or export the model again"
            raise ModelError(f"{source}: model card schema {shown} is unknown to this version: {remedy}")
        raw = {_RENAMED.get(name, name): value for name, value in raw.items()}
        known = {f.name: raw[f.name] for f in fields(cls) if f.name in raw}
        try:
            _check_plain(known)
            for name, length, kind in (("input_hw", 2, int), ("mean", 3, float), ("std", 3, float)):
                if name in known:
                    known[name] = _numbers(known[name], length, kind)
            card = cls(**known)
            card._check()
        except (TypeError, ValueError, OverflowError) as error:
            reason = str(error)[:_MAX_SHOWN]
            raise ModelError(f"{source}: bad model card ({reason}): export the model again") from None
        return card

    def _check(self) -> None:
        text = [self.architecture, self.resize, self.precision, self.input_format, self.trained_on, self.calibration]
        text += [self.weights_sha256, self.made_with, self.optimized_for]
        whole = [self.embedding_dim, self.parameters, self.macs, self.schema]
        if not all(isinstance(value, str) for value in text):
            raise ValueError("a text field is not a string")
        if not all(type(value) is int and 0 <= value < 1 << 63 for value in whole):
            raise ValueError("a count is not a whole number")
        if type(self.sealed) is not bool:
            raise ValueError("sealed is not true or false")
        if not all(isinstance(value, dict) for value in (self.options, self.recipe, self.parity, self.quantization)):
            raise ValueError("options, recipe, parity and quantization must be objects")
        # The architecture becomes part of file names.
        if not re.fullmatch(r"\w[\w.-]{0,99}", self.architecture, re.ASCII):
            raise ValueError(f"architecture {self.architecture[:100]!r} is not a plain name")
        if self.input_format not in ("nhwc-uint8", "nchw-float"):
            raise ValueError(f"input format {self.input_format!r} is unknown")
        if self.precision not in ("fp32", "fp16", "int8"):
            raise ValueError(f"precision {self.precision!r} is unknown")
        if self.optimized_for not in ("", "gpu", "gpu-latency"):
            raise ValueError(f"form {self.optimized_for[:100]!r} (optimized_for) is unknown")
        _check_ranges(self.quantization.get("layers", {}))
        _check_ranges(self.quantization.get("residuals", {}))
        if not 1 <= self.embedding_dim <= 65536:
            raise ValueError(f"embedding_dim {self.embedding_dim} is out of range")
        if not all(16 <= side <= 4096 for side in self.input_hw):
            raise ValueError(f"input_hw {self.input_hw} is out of range")
        if min(self.std) <= 0:
            raise ValueError(f"std {self.std} is not positive")
        if self.weights_sha256 == "0" * 64 or not re.fullmatch(r"([0-9a-f]{64})?", self.weights_sha256):
            raise ValueError("weights_sha256 is not a hash: 64 hexadecimal digits, not all zero")
        if self.sealed and not self.weights_sha256:
            raise ValueError("weights_sha256 is missing")


def _check_plain(value: Any, levels: int = _MAX_LEVELS) -> None:
    """Raise ValueError for text that cannot be printed on a line, and for objects and lists nested without end."""
    if isinstance(value, str) and _CONTROL.search(value):
        raise ValueError(f"the text {value!r:.60} holds control characters")
    if isinstance(value, dict | list):
        if not levels:
            raise ValueError(f"nested over {_MAX_LEVELS} levels deep")
        for inner in (*value, *value.values()) if isinstance(value, dict) else value:
            _check_plain(inner, levels - 1)


def _check_ranges(layers: Any) -> None:
    """Raise ValueError unless ``layers`` maps layer names to lists of INT8 activation ranges."""
    lists = list(layers.values()) if isinstance(layers, dict) else [None]
    for ranges in lists:
        for value in ranges if isinstance(ranges, list) else [None]:
            if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < math.inf:
                raise ValueError(f"{value!r} is not an INT8 activation range")


def _numbers(values: Any, length: int, kind: type) -> tuple[Any, ...]:
    if not isinstance(values, list | tuple) or len(values) != length:
        raise ValueError(f"expected {length} numbers, found {values!r}")
    if not all(isinstance(value, int | float) and not isinstance(value, bool) for value in values):
        raise ValueError(f"expected {length} numbers, found {values!r}")
    numbers = tuple(kind(value) for value in values)
    if not all(math.isfinite(number) for number in numbers):
        raise ValueError(f"expected {length} finite numbers, found {values!r}")
    if numbers != tuple(values):
        raise ValueError(f"expected {length} whole numbers, found {values!r}")
    return numbers
