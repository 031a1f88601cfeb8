"""HTML and SVG as elements of the standard library: text is escaped where the page is written, never by a caller."""

from __future__ import annotations

from xml.etree.ElementTree import Element, tostring

from reid_edge.core.log import printable

__all__ = ["element", "html_of"]


def element(tag: str, *children: Element | str, **attributes: str | float) -> Element:
    """An element with text and elements in it. ``class_`` is the attribute class, ``aria_label`` is aria-label.

    Control signs in a text, which a file name may hold, are shown as `printable` shows them.

    >>> html_of(element("p", "a < b, ", element("b", "bold", class_="x y"), " & after"))
    '<p>a &lt; b, <b class="x y">bold</b> &amp; after</p>'
    """
    made = Element(tag, {_attribute(name): printable(str(value)) for name, value in attributes.items()})
    for child in children:
        if isinstance(child, Element):
            made.append(child)
        elif len(made):
            made[-1].tail = (made[-1].tail or "") + printable(child)
        else:
            made.text = (made.text or "") + printable(child)
    return made


def html_of(root: Element) -> str:
    """An element and all in it as HTML."""
    return tostring(root, encoding="unicode", method="html")


def _attribute(name: str) -> str:
    return name.rstrip("_").replace("_", "-")
