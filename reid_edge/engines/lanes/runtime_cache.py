"""Kernels that a runtime compiled while an engine ran, kept in a file beside the engine for the next start."""

from __future__ import annotations

import hashlib
import logging
from pathlib import Path

from reid_edge.core.files import written_whole
from reid_edge.errors import InputError

__all__ = ["cache_path", "read_cache", "write_cache"]

logger = logging.getLogger(__name__)

_TITLE = b"reid-edge runtime cache 1\n"
_SEAL_BYTES = 32
_MAX_BYTES = 256 << 20


def cache_path(engine: Path) -> Path:
    """Where an engine's cache is kept."""
    return engine.with_name(f"{engine.name}.cache")


def read_cache(engine: Path, key: str) -> bytes:
    """The content that `write_cache` kept under the same ``key``; empty, with a note, for a damaged or foreign file.

    The seal finds damage and other engines; it is no signature. Whoever may write beside the engine may replace the
    engine as well: the cache is as trustworthy as that.
    """
    path = cache_path(engine)
    try:
        if not path.is_file():
            return b""
        if path.stat().st_size > _MAX_BYTES:
            raise ValueError("is too large")
        raw = path.read_bytes()
        body = raw[len(_TITLE) + _SEAL_BYTES :]
        if not raw.startswith(_TITLE) or raw[len(_TITLE) :][:_SEAL_BYTES] != _seal(key, body):
            raise ValueError("is damaged or belongs to another engine, version or GPU")
    except (OSError, ValueError) as error:
        logger.warning("%s %s: kernels are compiled again while the engine runs", path, error)
        return b""
    return body


def write_cache(engine: Path, key: str, content: bytes) -> None:
    """Keep ``content`` beside the engine, whole or not at all; a note where that cannot be written."""
    path = cache_path(engine)
    if not content or len(content) + len(_TITLE) + _SEAL_BYTES > _MAX_BYTES:
        return
    try:
        with written_whole(path) as beside:
            beside.write_bytes(_TITLE + _seal(key, content) + content)
    except (OSError, InputError) as error:
        logger.warning("%s cannot be written (%s): kernels are compiled again at the next start", path, error)


def _seal(key: str, content: bytes) -> bytes:
    return hashlib.sha256(key.encode() + b"\0" + content).digest()
