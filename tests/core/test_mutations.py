"""The damage that the fuzz tests draw: the same for a seed, of every kind, never none."""

from __future__ import annotations

import pytest
from helpers.mutations import KINDS, mutations

CONTENT = bytes(range(256)) + b'{"input_hw": [256, 128], "name": "osnet", "eps": 1.5}'


def test_a_seed_gives_the_same_damage_and_another_seed_other() -> None:
    assert list(mutations(CONTENT, 3)) == list(mutations(CONTENT, 3))
    assert list(mutations(CONTENT, 3)) != list(mutations(CONTENT, 4))


def test_every_kind_is_drawn_and_every_copy_is_damaged() -> None:
    drawn = list(mutations(CONTENT, 0, count=400))
    assert len(drawn) == 400 and {kind for kind, _ in drawn} == set(KINDS)
    assert all(copy != CONTENT for _, copy in drawn)


@pytest.mark.parametrize("content", [b"", b"x", b"7"])
def test_tiny_contents_are_damaged_too(content: bytes) -> None:
    assert all(copy != content for _, copy in mutations(content, 1, count=200))
