"""Names that must be in a list: a wrong one is refused with the list and the nearest name."""

from __future__ import annotations

from collections.abc import Iterable

from reid_edge.errors import InputError

__all__ = ["did_you_mean", "require_name"]


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """The end of an error about an unknown name: its nearest neighbour in ``known``; empty where none is near.

    >>> did_you_mean("OSNet_x025", ["resnet50_bot", "osnet_x0_25"]), did_you_mean("vit", ["osnet_x0_25"])
    ('; did you mean osnet_x0_25?', '')
    """
    from difflib import get_close_matches

    by_lower = {each.lower(): each for each in known}
    near = get_close_matches(name.lower(), by_lower, n=1)
    return f"; did you mean {by_lower[near[0]]}?" if near else ""


def require_name(name: str, known: Iterable[str], what: str, error: type[InputError] = InputError) -> str:
    """``name`` if it is one of ``known``; else raise ``error``, which says ``what`` it is and lists them.

    >>> require_name("finetun", ["default", "finetune"], "recipe")
    Traceback (most recent call last):
    reid_edge.errors.InputError: recipe 'finetun' is unknown: give one of default, finetune; did you mean finetune?
    """
    known = list(known)
    if name not in known:
        raise error(f"{what} {name!r} is unknown: give one of {', '.join(known)}{did_you_mean(name, known)}")
    return name
