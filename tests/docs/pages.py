"""README, CONTRIBUTING and docs as tests read them: code blocks with the reasons why some are not run."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from markdown_it import MarkdownIt

__all__ = ["PAGES", "ROOT", "Block", "blocks", "commands", "prose"]

ROOT = Path(__file__).parent.parent.parent
_ELSEWHERE = ("extend", "reference")  # their code has tests of its own
PAGES = [
    page
    for page in sorted([ROOT / "README.md", ROOT / "CONTRIBUTING.md", *ROOT.glob("docs/**/*.md")])
    if page.parent.name not in _ELSEWHERE
]
_MARK = re.compile(r"<!-- (not run|measured): (.+?) -->")


@dataclass(frozen=True)
class Block:
    """A fenced block. ``reason`` says why it is not run: the mark in the line above it, or "" for one that is run."""

    page: str
    line: int
    language: str
    code: str
    reason: str


def blocks(text: str, page: str = "") -> Iterator[Block]:
    """The fenced blocks of a page in their order.

    >>> [each.reason for each in blocks("```bash\\nls\\n```\\n<!-- not run: device -->\\n```bash\\nrm\\n```")]
    ['', 'device']
    """
    tokens = MarkdownIt().parse(text)
    for before, token in zip([None, *tokens], tokens, strict=False):
        if token.type == "fence":
            mark = _MARK.search(before.content) if before and before.type == "html_block" else None
            reason = "" if mark is None else mark[2] if mark[1] == "not run" else "measured"
            yield Block(page, (token.map or [0])[0] + 1, token.info.strip(), token.content, reason)


def prose(text: str) -> str:
    """A page without its code, between backticks too."""
    lines = text.splitlines()
    for token in MarkdownIt().parse(text):
        if token.type == "fence" and token.map:
            lines[slice(*token.map)] = [""] * (token.map[1] - token.map[0])
    return re.sub(r"`[^`]+`", "", "\n".join(lines))


def commands(text: str) -> Iterator[str]:
    """The ``reid-edge`` lines of shell blocks, continued lines joined, and those in running text between backticks."""
    for block in blocks(text):
        if block.language == "bash":
            for line in re.sub(r"\\\n\s*", " ", block.code).splitlines():
                yield from (part.strip() for part in line.split("|") if part.strip().startswith("reid-edge "))
    inline = re.sub(r"^```.*?^```", "", text, flags=re.M | re.S)
    yield from (" ".join(code.split()) for code in re.findall(r"`([^`]+)`", inline) if code.startswith("reid-edge "))
