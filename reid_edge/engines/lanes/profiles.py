"""Which of an engine's optimisation profiles takes a batch."""

from __future__ import annotations

from collections.abc import Sequence

__all__ = ["MOST_PROFILES", "Profile", "choose_profile", "whole"]

Profile = tuple[int, int, int]
"""The minimum, the optimum (which kernels are tuned for) and the maximum batch."""

MOST_PROFILES = 8
"""Each has kernels of its own in the file: two are usual."""


def whole(profiles: Sequence[Profile]) -> Profile:
    """The batches of an engine with these profiles: the smallest minimum, the largest maximum with its optimum.

    >>> whole([(1, 1, 8), (9, 32, 64)])
    (1, 32, 64)
    """
    largest = max(profiles, key=lambda profile: profile[2])
    return min(profile[0] for profile in profiles), largest[1], largest[2]


def choose_profile(profiles: Sequence[Profile], count: int) -> tuple[int, int]:
    """The profile for ``count`` crops, by its index, and the batch to run: ``count``, or more where it must be padded.

    The profile with the fewest padded rows, then the one whose optimum is nearest, then the first. Raises ValueError
    when no profile is large enough.

    >>> choose_profile([(1, 1, 8), (9, 32, 64)], 8), choose_profile([(1, 1, 8), (9, 32, 64)], 9)
    ((0, 8), (1, 9))
    >>> choose_profile([(4, 16, 64)], 3)
    (0, 4)
    """
    fits = [
        (max(smallest - count, 0), abs(optimal - max(count, smallest)), index)
        for index, (smallest, optimal, largest) in enumerate(profiles)
        if count <= largest
    ]
    if not fits or count < 1:
        raise ValueError(f"no profile of {list(profiles)} takes {count}")
    padded, _, index = min(fits)
    return index, count + padded
