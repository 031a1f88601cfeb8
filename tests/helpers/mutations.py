"""Damage to a file's bytes, drawn from a seed: what a bad disk, a cut download or a hostile hand may leave."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from random import Random

__all__ = ["KINDS", "mutations"]

_NUMBERS = (b"0", b"-1", b"1.5", b"1e999", b"nan", b"true", b"00", b"+1", b"4294967296", b"9223372036854775808")
_TEXTS = (b"", b"\0", b"\xff", b"\xed\xa0\x80", b"\n", b"'", b'"', b"{", b"..", b"/etc/passwd", b"\xd9\xa3", b"A" * 300)
_WORD = re.compile(rb"[A-Za-z_.<>|]{2,}")
_NUMBER = re.compile(rb"-?\d+(?:\.\d+)?")


def mutations(content: bytes, seed: int, count: int = 100) -> Iterator[tuple[str, bytes]]:
    """Yield ``count`` damaged copies of ``content``, each with the kind of its damage, one of `KINDS`.

    The same ``seed`` gives the same copies. None equals ``content``; one in four is damaged two or three times, and
    its kind is then that of the last.

    >>> [kind for kind, _ in mutations(b"an example, 17", seed=1, count=3)] == [
    ...     kind for kind, _ in mutations(b"an example, 17", seed=1, count=3)
    ... ]
    True
    """
    rng, kinds = Random(seed), tuple(KINDS.items())
    while count:
        damaged = content
        for _ in range(rng.choice((1, 1, 1, rng.randint(2, 3)))):
            kind, damage = rng.choice(kinds)
            damaged = damage(damaged, rng)
        if damaged != content:
            count -= 1
            yield kind, damaged


def _block(content: bytes, rng: Random) -> tuple[int, int]:
    """The start and end of a block, as likely a few bytes long as a large part of the content."""
    start = rng.randrange(len(content) + 1)
    longest = rng.choice((4, 16, 64, 512, len(content)))
    return start, min(len(content), start + rng.randint(1, max(longest, 1)))


def _bit_flipped(content: bytes, rng: Random) -> bytes:
    damaged = bytearray(content or b"\0")
    damaged[rng.randrange(len(damaged))] ^= 1 << rng.randrange(8)
    return bytes(damaged)


def _bytes_set(content: bytes, rng: Random) -> bytes:
    start, end = _block(content, rng)
    end = min(end, start + 8)
    filler = rng.choice((b"\0", b"\xff", b"\x7f", b"\x80", b"\x01"))
    written = filler * (end - start) if rng.random() < 0.5 else rng.randbytes(end - start)
    return content[:start] + written + content[end:]


def _truncated(content: bytes, rng: Random) -> bytes:
    cut = rng.choice((rng.randrange(len(content) + 1), min(len(content), rng.randint(1, 64))))
    return content[:cut] if rng.random() < 0.5 else content[: len(content) - cut]


def _swapped(content: bytes, rng: Random) -> bytes:
    first, second = sorted((_block(content, rng), _block(content, rng)))
    if first[1] > second[0]:
        return content
    return b"".join(
        (
            content[: first[0]],
            content[slice(*second)],
            content[first[1] : second[0]],
            content[slice(*first)],
            content[second[1] :],
        )
    )


def _duplicated(content: bytes, rng: Random) -> bytes:
    (start, end), place = _block(content, rng), rng.randrange(len(content) + 1)
    place = end if rng.random() < 0.5 else place
    return content[:place] + content[start:end] + content[place:]


def _deleted(content: bytes, rng: Random) -> bytes:
    start, end = _block(content, rng)
    return content[:start] + content[end:]


def _inserted(content: bytes, rng: Random) -> bytes:
    place = rng.choice((rng.randrange(len(content) + 1), len(content)))
    return content[:place] + rng.randbytes(rng.choice((1, 2, 4, 8, 64))) + content[place:]


def _number_edited(content: bytes, rng: Random) -> bytes:
    """One number written in ASCII becomes another: its neighbour, or one of those that parsers trip over."""
    found = list(_NUMBER.finditer(content))
    if not found:
        return content
    match = rng.choice(found)
    changed = rng.choice((*_NUMBERS, str(rng.randrange(300)).encode(), match.group() + b"0"))
    return content[: match.start()] + changed + content[match.end() :]


def _text_edited(content: bytes, rng: Random) -> bytes:
    """One word becomes another of the same content, of another case, or bytes that are not text."""
    found = list(_WORD.finditer(content))
    if not found:
        return content
    match, other = rng.choice(found), rng.choice(found)
    changed = rng.choice((other.group(), match.group().swapcase(), rng.choice(_TEXTS), match.group()[:-1]))
    return content[: match.start()] + changed + content[match.end() :]


KINDS: dict[str, Callable[[bytes, Random], bytes]] = {
    "a bit flipped": _bit_flipped,
    "bytes set": _bytes_set,
    "cut": _truncated,
    "blocks swapped": _swapped,
    "a block duplicated": _duplicated,
    "a block deleted": _deleted,
    "bytes inserted": _inserted,
    "a number edited": _number_edited,
    "a text edited": _text_edited,
}
"""Each kind of damage, and the function from content and generator to damaged content."""
