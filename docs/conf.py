"""How Sphinx makes a site of these pages and of the docstrings: `make docs`.

The pages stay plain Markdown, to be read in the repository too: navigation is added here, and a link that leaves this
folder (to README, to code) becomes text.
"""

import re
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent

project = "reid-edge"
author = copyright = "The reid-edge contributors"

extensions = ["myst_parser", "sphinx.ext.autodoc"]
html_theme = "furo"
html_title = "reid-edge"

default_role = "py:obj"  # what docstrings put between single backticks
autodoc_member_order = "bysource"
autodoc_preserve_defaults = True
python_maximum_signature_line_length = 90
myst_heading_anchors = 4

_LINK = re.compile(r"(?<!!)\[([^\]]+)\]\((\.\./[^)#]+)(?:#[^)]*)?\)")


def _navigation() -> str:
    """A hidden table of contents for each folder, as the theme's sidebar shows them."""
    text = ""
    for folder in ("guides", "extend", "measurements", "reference"):
        pages = sorted(path.stem for path in (HERE / folder).glob("*.md"))
        listed = "".join(f"{folder}/{page}\n" for page in sorted(pages, key=lambda page: page != "index"))
        if pages:
            text += f"\n```{{toctree}}\n:hidden:\n:caption: {folder.title()}\n{listed}```\n"
    return text


def _prepare(app: Any, page: str, source: list[str]) -> None:
    """Add the navigation to the first page, and unlink what is outside of this folder."""

    def unlinked(match: re.Match[str]) -> str:
        target = (HERE / page).parent.joinpath(match[2]).resolve()
        outside = HERE not in target.parents and target.exists()  # Sphinx warns of what is not there
        return match[1] if outside else match[0]

    source[0] = _LINK.sub(unlinked, source[0]) + (_navigation() if page == "index" else "")


def setup(app: Any) -> None:
    """Connect the above."""
    app.connect("source-read", _prepare)
