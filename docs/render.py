"""Write what was measured into README and docs: the files of ``docs/measured`` are the only source of figures.

::

    python docs/render.py              # write the pages; --check only lists those that would change

A page holds ``<!-- measured: SOURCE -->`` and ``<!-- end -->``, and between them what SOURCE says of a file NAME.json:

    NAME                               its table
    NAME about                         how it was measured, a line
    NAME commands                      the commands, a block
    NAME ROW COLUMN                    one figure, within a sentence; quotes around names with spaces. A number after
                                       COLUMN picks one of several: NAME ROW COLUMN 0
    NAME ROW COLUMN - ROW COLUMN       the difference of two
"""

from __future__ import annotations

import json
import re
import shlex
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

__all__ = ["MARKED", "figure", "measured", "pages", "rendered"]

ROOT = Path(__file__).parent.parent
MEASURED = ROOT / "docs" / "measured"
MARKED = re.compile(r"(<!-- measured: (.+?) -->)(.*?)(<!-- end -->)", re.DOTALL)


def pages() -> Iterator[Path]:
    """Every page that may hold figures."""
    yield ROOT / "README.md"
    yield from sorted((ROOT / "docs").rglob("*.md"))


def measured(name: str) -> dict[str, Any]:
    """The content of ``docs/measured/NAME.json``."""
    content: dict[str, Any] = json.loads((MEASURED / f"{name}.json").read_text(encoding="utf-8"))
    return content


def rendered(text: str) -> str:
    """A page's text with all that stands between its markers made anew."""
    return MARKED.sub(lambda found: f"{found[1]}{_content(found[2])}{found[4]}", text)


def figure(value: Any, spec: str) -> str:
    """A value as text, by its column's format.

    >>> figure(0.4, ".2f"), figure([1, 2], "d"), figure({"value": 0.4, "low": -0.1, "high": 1}, ".1f"), figure(None, "")
    ('0.40', '1 / 2', '0.4 [-0.1, 1.0]', '')
    """
    if value is None or isinstance(value, str):
        return value or ""
    if isinstance(value, list):
        return " / ".join(figure(each, spec) for each in value)
    if isinstance(value, dict):
        return "{value} [{low}, {high}]".format(**{name: figure(each, spec) for name, each in value.items()})
    text = format(value, spec)
    return text.replace("-", "") if float(text.replace(",", "")) == 0 else text  # 0.00, never -0.00


def _content(source: str) -> str:
    name, *words = shlex.split(source)
    content = measured(name)
    if not words:
        return f"\n{_table(content)}\n"
    if words == ["about"]:
        return f"\n{_about(content)}\n"
    if words == ["commands"]:
        return "\n```bash\n" + "\n".join(content["commands"]) + "\n```\n"
    return _of_sentence(content, words)


def _table(content: Mapping[str, Any]) -> str:
    columns = content["columns"]
    lines = [list(columns), ["---"] * len(columns)]
    lines += [[figure(row.get(name), spec) for name, spec in columns.items()] for row in content["rows"].values()]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)


def _about(content: Mapping[str, Any]) -> str:
    versions = ", ".join(f"{name} {version}" for name, version in content["versions"].items())
    how = [
        content["data"],
        f"seed {content['seed']}" if content["seed"] is not None else "",
        content["machine"],
        versions,
    ]
    part = content["part"]
    again = f"`make measured PARTS={part}` does it again" if part else "no command does it again yet"
    return f"*Measured {content['date']} at {content['commit']}: {', '.join(filter(None, how))}. {again}.*"


def _of_sentence(content: Mapping[str, Any], words: list[str]) -> str:
    if "-" not in words:
        return figure(*_value(content, *words))
    middle = words.index("-")
    (first, spec), (second, _) = _value(content, *words[:middle]), _value(content, *words[middle + 1 :])
    return figure(first - second, spec)


def _value(content: Mapping[str, Any], row: str, column: str, place: str = "") -> tuple[Any, str]:
    value = content["rows"][row][column]
    return value[int(place)] if place else value, content["columns"][column]


def main() -> int:
    """Write the pages, or with ``--check`` only list them."""
    changed = False
    for page in pages():
        old = page.read_text(encoding="utf-8")
        if (new := rendered(old)) != old:
            changed = True
            print(page.relative_to(ROOT))
            if "--check" not in sys.argv:
                page.write_text(new, encoding="utf-8")
    return int(changed and "--check" in sys.argv)


if __name__ == "__main__":
    sys.exit(main())
