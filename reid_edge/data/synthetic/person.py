"""Persons: bodies, hair, clothes and bags, drawn at random but dressed alike in small groups."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

__all__ = ["Colour", "Garment", "Person", "dressed_people"]

Colour = tuple[int, int, int]
"""RGB, 0..255."""

_ALIKE = 4  # persons in a group that shares the colours of its clothes
_CLOTHES: tuple[Colour, ...] = (
    *((25, 25, 28), (60, 60, 64), (130, 130, 132), (232, 232, 228), (28, 36, 80), (50, 90, 165), (150, 25, 35)),
    *((35, 90, 50), (190, 165, 120), (95, 65, 45), (225, 185, 50), (220, 120, 150), (105, 60, 130), (225, 110, 40)),
)
_TOPS = {"plain": 3, "rows": 2, "columns": 2, "checks": 1, "block": 2, "open": 3, "logo": 3}
_BOTTOMS = {"plain": 6, "rows": 1, "checks": 1}
_SKINS: tuple[Colour, ...] = ((245, 215, 190), (230, 185, 150), (190, 140, 105), (140, 95, 65), (90, 60, 45))
_HAIRS: tuple[Colour, ...] = ((20, 18, 16), (60, 40, 25), (120, 80, 40), (205, 170, 105), (140, 140, 140))


@dataclass(frozen=True)
class Garment:
    """Cloth: ``pattern`` is one of plain, rows, columns, checks, block, open, logo; ``period`` in body heights."""

    colour: Colour
    second: Colour
    pattern: str = "plain"
    period: float = 0.08


@dataclass(frozen=True)
class Person:
    """Everything about a person that does not change between cameras.

    ``height``, ``girth`` and ``head`` are factors about 1. ``hair_style``: short, long, bun or bald. ``sleeves``: long,
    short or none. ``legwear``: trousers, shorts or skirt. ``bag``: none, backpack, shoulder or hand, carried on
    ``side`` (1 left, -1 right).
    """

    height: float
    girth: float
    head: float
    skin: Colour
    hair: Colour
    hair_style: str
    hat: Colour | None
    upper: Garment
    sleeves: str
    lower: Garment
    legwear: str
    shoes: Colour
    bag: str
    bag_colour: Colour
    side: int


def dressed_people(count: int, rng: np.random.Generator) -> Iterator[Person]:
    """``count`` persons; each few in a row share the colours of their clothes, so colour alone identifies nobody."""
    for index in range(count):
        if index % _ALIKE == 0:
            colours = [_CLOTHES[i] for i in rng.choice(len(_CLOTHES), 2)]
        yield _person(colours[0], colours[1], rng)


def _person(upper: Colour, lower: Colour, rng: np.random.Generator) -> Person:
    return Person(
        height=rng.uniform(0.92, 1.06),
        girth=rng.uniform(0.85, 1.2),
        head=rng.uniform(0.9, 1.12),
        skin=_dyed(_SKINS, rng),
        hair=_dyed(_HAIRS, rng),
        hair_style=_weighted({"short": 5, "long": 3, "bun": 1, "bald": 1}, rng),
        hat=_dyed(_CLOTHES, rng) if rng.random() < 0.2 else None,
        upper=_cloth(upper, _TOPS, rng),
        sleeves=_weighted({"long": 5, "short": 4, "none": 1}, rng),
        lower=_cloth(lower, _BOTTOMS, rng),
        legwear=_weighted({"trousers": 5, "shorts": 2, "skirt": 2}, rng),
        shoes=_dyed(_CLOTHES, rng),
        bag=_weighted({"none": 4, "backpack": 3, "shoulder": 2, "hand": 2}, rng),
        bag_colour=_dyed(_CLOTHES, rng),
        side=1 if rng.random() < 0.5 else -1,
    )


def _cloth(colour: Colour, patterns: dict[str, int], rng: np.random.Generator) -> Garment:
    others = [other for other in _CLOTHES if other != colour]
    return Garment(_dyed([colour], rng), _dyed(others, rng), _weighted(patterns, rng), rng.uniform(0.045, 0.11))


def _weighted(weights: dict[str, int], rng: np.random.Generator) -> str:
    shares = np.array(list(weights.values())) / sum(weights.values())
    return list(weights)[int(rng.choice(len(weights), p=shares))]


def _dyed(colours: Sequence[Colour], rng: np.random.Generator) -> Colour:
    """One of the colours, slightly varied."""
    colour = colours[int(rng.integers(len(colours)))]
    red, green, blue = np.clip(colour + rng.normal(0, 9, 3), 0, 255).astype(int).tolist()
    return red, green, blue
