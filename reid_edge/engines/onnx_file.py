"""The bytes of an ONNX file: its seal, its card, and what its graph says of itself, read without the onnx package.

The seal is the last of the file's metadata properties: the SHA-256 of every byte before its 64 hex digits, which are
the last of the file. It finds damage and edits, and is no protection from an attacker: anyone can seal a file.
"""

from __future__ import annotations

import hashlib
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from reid_edge.card import CARD_KEY, ModelCard
from reid_edge.core.files import require_file
from reid_edge.errors import ModelError

__all__ = ["SEAL_KEY", "OnnxFile", "check_content", "check_signature", "checked_file", "read_content", "seal_of"]

SEAL_KEY = "reid_edge.sha256"
"""The ONNX metadata property that holds the seal."""

_DIGITS = 64
# A property as protobuf writes it: field 14 of the model, and in it a key and a value of 64 digits.
_SEAL = b"\x72\x54\x0a\x10" + SEAL_KEY.encode() + b"\x12\x40"

_MAX_FILE_BYTES = 2 << 30
_MAX_FIELDS = 1 << 22
"""A hundred times those of the largest model here: a file of more would take minutes to walk through."""

# onnx.proto: the message in a field of another, for all that may hold a tensor.
_MESSAGES = {
    ("model", 7): "graph",
    ("model", 14): "property",
    ("model", 20): "training",
    ("model", 25): "function",
    ("training", 1): "graph",
    ("training", 2): "graph",
    ("function", 7): "node",
    ("function", 11): "attribute",
    ("graph", 1): "node",
    ("graph", 5): "tensor",
    ("graph", 15): "sparse",
    ("node", 5): "attribute",
    ("attribute", 5): "tensor",
    ("attribute", 6): "graph",
    ("attribute", 10): "tensor",
    ("attribute", 11): "graph",
    ("attribute", 22): "sparse",
    ("attribute", 23): "sparse",
    ("sparse", 1): "tensor",
    ("sparse", 2): "tensor",
}
_FP16 = 10  # onnx.TensorProto.FLOAT16
_QUANTIZERS = {b"QuantizeLinear", b"DequantizeLinear"}


@dataclass(frozen=True)
class OnnxFile:
    """An ONNX file that was found sound: its ``card``, and the ``sha256`` of all its bytes in hexadecimal.

    ``card.sealed`` is False for a file of an earlier version: damage to it shows only where it breaks the graph.
    ``rounds_matmuls`` says that it has matmuls and values in FP16 or INT8.
    """

    card: ModelCard
    sha256: str
    rounds_matmuls: bool = False


def seal_of(content: bytes) -> bytes:
    """The seal of a serialized model: append it, and the file is whole."""
    return _SEAL + hashlib.sha256(content + _SEAL).hexdigest().encode()


@contextmanager
def checked_file(path: Path | str) -> Iterator[OnnxFile]:
    """What `check_content` says of a file, which must stay as it is within: another program reads it there by its path.

    Raises InputError where there is no file, and what `read_content` and `check_content` raise.
    """
    path = require_file(path, "an ONNX model")
    before = _stamp(path)
    yield check_content(read_content(path), path)
    if _stamp(path) != before:
        raise ModelError(f"{path} was changed while it was opened: open it again")


def read_content(path: Path) -> bytes:
    """The bytes of an ONNX file. Raises ModelError for an empty or a huge one."""
    size = path.stat().st_size
    if size == 0:
        raise ModelError(f"{path} is empty (0 bytes): copy or export the model again")
    if size > _MAX_FILE_BYTES:
        raise ModelError(
            f"{path} is over {_MAX_FILE_BYTES >> 30} GiB, larger than any supported model: export it again"
        )
    return path.read_bytes()


def check_content(content: bytes, path: Path | str) -> OnnxFile:
    """What the ``content`` of the file ``path`` says of itself.

    Raises ModelError for a file that is damaged, was changed after its export, was not written by ``reid-edge
    export``, has weights in another file, or has a card that is not its graph's: in precision, or in the mean and std
    that are constants of the graph.
    """
    with ThreadPoolExecutor(1) as pool:  # hashing, which needs no interpreter lock, takes as long as the walk
        verified = pool.submit(_verified, content, path)
        found = _scanned(content)
    sha256, sealed = verified.result()  # what was changed is said before what is damaged by it
    if isinstance(found, ValueError):
        raise ModelError(f"{path} is damaged, or not an ONNX file ({found}): copy or export the model again")
    if found.external:
        raise ModelError(f"{path} has its weights in another file: run  reid-edge export CHECKPOINT")
    card = _card(found.card, path)
    if card.sealed and not sealed:
        raise _changed(path)
    _check_card(card, found, path)
    return OnnxFile(card, sha256, found.matmuls and found.precision != "fp32")


def check_signature(inputs: Sequence[str], outputs: Sequence[str], card: ModelCard, path: Path) -> None:
    """Raise ModelError unless input and output of a graph are those of its card, which is untrusted input.

    Each is name, type and shape, with N for a dynamic batch: "images tensor(uint8) [N, 256, 128, 3]".
    """
    height, width = card.input_hw
    plain = f"images tensor(uint8) [N, {height}, {width}, 3]"
    wanted = [
        plain if card.input_format == "nhwc-uint8" else f"images tensor(float) [N, 3, {height}, {width}]",
        f"embeddings tensor(float) [N, {card.embedding_dim}]",
    ]
    if [*inputs, *outputs] != wanted:
        difference = f"its graph has {'; '.join([*inputs, *outputs])} and its card says {'; '.join(wanted)}"
        raise ModelError(f"{path}: {difference}: run  reid-edge export CHECKPOINT  again")


@dataclass
class _Found:
    """What a walk through a model finds; ``constants`` are the bytes of its ``mean`` and ``std``."""

    card: bytes | None
    external: bool
    precision: str
    constants: dict[str, bytes]
    matmuls: bool


def _verified(content: bytes, path: Path | str) -> tuple[str, bool]:
    """The hash of a file, and whether it has a seal. Raises ModelError for a seal that is another content's."""
    digest = hashlib.sha256(memoryview(content)[:-_DIGITS])
    sealed = content.endswith(_SEAL, 0, max(0, len(content) - _DIGITS))
    if sealed and content[-_DIGITS:] != digest.hexdigest().encode():
        raise _changed(path)
    digest.update(content[-_DIGITS:])
    return digest.hexdigest(), sealed


def _changed(path: Path | str) -> ModelError:
    return ModelError(
        f"{path} was changed after export, or damaged (it does not match its seal): copy or export it again"
    )


def _card(text: bytes | None, path: Path | str) -> ModelCard:
    if text is None:
        remedy = (
            "run  reid-edge export CHECKPOINT --out DIR  (or  import  for another project's) and open what it writes"
        )
        raise ModelError(f"{path} was not written by reid-edge export: {remedy}")
    try:
        return ModelCard.from_json(text.decode(), str(path))
    except UnicodeDecodeError:
        raise ModelError(f"{path}: its model card is not UTF-8 text: export the model again") from None


def _check_card(card: ModelCard, found: _Found, path: Path | str) -> None:
    """Raise ModelError for a card that says another precision, mean or std than the graph has."""
    differences = []
    if card.precision != found.precision:
        differences.append(f"says {card.precision}, and its graph is {found.precision}")
    for name, wanted in (("mean", card.mean), ("std", card.std)):
        if name in found.constants and not _is_scaled(found.constants[name], wanted):
            differences.append(f"says {name} {list(wanted)}, and its graph has another one")
    if differences:
        raise ModelError(f"{path}: its model card {'; '.join(differences)}: export the model again")


def _is_scaled(constant: bytes, wanted: tuple[float, float, float]) -> bool:
    """Whether a float32 constant for pixels of 0..255 is ``wanted``, which is for pixels of 0..1."""
    if len(constant) not in (4, 12):
        return False
    return bool(np.allclose(np.frombuffer(constant, "<f4"), np.multiply(wanted, 255), rtol=1e-5))


def _stamp(path: Path) -> tuple[int, ...]:
    status = path.stat()
    return status.st_ino, status.st_size, status.st_mtime_ns


def _scanned(content: bytes) -> _Found | ValueError:
    """What `_scan` finds, or what it raises."""
    try:
        return _scan(content)
    except ValueError as error:
        return error


def _scan(content: bytes) -> _Found:
    """Walk through a model. Raises ValueError where it is not one."""
    card, external, precisions, constants, matmuls = None, False, {"fp32"}, {}, False
    for kind, fields in _messages(content):
        matmuls = matmuls or (kind == "node" and fields.get(4) == b"MatMul")
        if kind == "property" and fields.get(1) == CARD_KEY.encode():
            card = _bytes(fields.get(2))
        elif kind == "node" and fields.get(4) in _QUANTIZERS:
            precisions.add("int8")
        elif kind == "attribute" and (fields.get(1), fields.get(3)) == (b"to", _FP16):
            precisions.add("fp16")
        elif kind == "tensor":
            external = external or 13 in fields or bool(fields.get(14))
            if fields.get(2) == _FP16:
                precisions.add("fp16")
            if fields.get(8) in (b"mean", b"std"):
                constants[_bytes(fields[8]).decode()] = _bytes(fields.get(9))
    precision = next(each for each in ("int8", "fp16", "fp32") if each in precisions)
    return _Found(card, external, precision, constants, matmuls)


def _bytes(value: int | memoryview | None) -> bytes:
    return bytes(value) if isinstance(value, memoryview) else b""


def _messages(content: bytes) -> Iterator[tuple[str, dict[int, Any]]]:
    """Every message of `_MESSAGES`, outer ones first, with the last value of each of its fields."""
    waiting, left = deque([("model", memoryview(content))]), _MAX_FIELDS
    while waiting:
        kind, message = waiting.popleft()
        fields: dict[int, Any] = {}
        for number, value in _fields(message):
            fields[number] = value
            inner = _MESSAGES.get((kind, number))
            if inner and isinstance(value, memoryview):
                waiting.append((inner, value))
            left -= 1
            if not left:
                raise ValueError(f"over {_MAX_FIELDS} fields")
        yield kind, fields


def _fields(message: memoryview) -> Iterator[tuple[int, int | memoryview]]:
    """Number and value of each field of a protobuf message: https://protobuf.dev/programming-guides/encoding."""
    at = 0
    while at < len(message):
        key, at = _varint(message, at)
        kind = key & 7
        if kind == 0:
            value, at = _varint(message, at)
            yield key >> 3, value
            continue
        size = {1: 8, 5: 4}.get(kind, -1)
        if kind == 2:
            size, at = _varint(message, at)
        if not 0 <= size <= len(message) - at or key < 8:
            raise ValueError("it breaks off, or is not in ONNX's format")
        yield key >> 3, message[at : at + size]
        at += size


def _varint(message: memoryview, at: int) -> tuple[int, int]:
    """A number of 7 bits a byte, and the place after it."""
    value = 0
    for place, byte in enumerate(message[at : at + 10]):
        value |= (byte & 127) << 7 * place
        if byte < 128:
            return value, at + place + 1
    raise ValueError("it breaks off, or is not in ONNX's format")
