"""The report as a picture: mAP of every model on every set, a panel for each setting, as SVG without dependencies."""

from __future__ import annotations

from collections.abc import Iterator
from html import escape
from pathlib import Path

from reid_edge.core.files import write_text
from reid_edge.core.log import printable
from reid_edge.errors import InputError

from .report import SETTING_TITLES, CrossDomainReport

__all__ = ["heat_map_svg", "write_heat_map"]

_CELL_W, _CELL_H, _MARGIN, _TITLE_H, _HEAD_H = 104, 40, 16, 28, 24
_CHAR_W = 7.2
"""The width of a character of the labels, about: SVG does not measure text."""
_LONGEST = 26
_LIGHT, _DARK = (247, 251, 255), (8, 48, 107)  # the ends of ColorBrewer's Blues


def write_heat_map(report: CrossDomainReport, path: Path) -> None:
    """Write `heat_map_svg` to a file that ends in .svg. Raises InputError for another suffix."""
    if path.suffix.lower() != ".svg":
        raise InputError(f"{path} does not end in .svg: the heat map is an SVG picture")
    write_text(path, heat_map_svg(report))


def heat_map_svg(report: CrossDomainReport) -> str:
    """Models as rows, data sets as columns; a framed cell is a model's own set, an empty one was not measured."""
    labels = [_short(name) for name in report.models]
    left = _MARGIN + _CHAR_W * max(map(len, labels)) + 8
    panel = _TITLE_H + _HEAD_H + _CELL_H * len(labels)
    width = left + _CELL_W * len(report.datasets) + _MARGIN
    height = _MARGIN + (panel + _MARGIN) * len(report.settings) + 20
    body = [
        line
        for number, setting in enumerate(report.settings)
        for line in _panel(report, setting, labels, left, _MARGIN + number * (panel + _MARGIN))
    ]
    note = "mAP in per cent; a frame is a model's own set"
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width:.0f} {height}" width="{width:.0f}" '
            f'height="{height}" font-family="sans-serif" font-size="12" role="img" aria-label="{note}">',
            '<rect width="100%" height="100%" fill="#fff"/>',
            *body,
            _text(_MARGIN, height - 10, note, fill="#555"),
            "</svg>\n",
        ]
    )


def _panel(report: CrossDomainReport, setting: str, labels: list[str], left: float, top: float) -> Iterator[str]:
    yield _text(_MARGIN, top + 16, SETTING_TITLES[setting], extra='font-weight="bold"')
    first = top + _TITLE_H + _HEAD_H
    for column, dataset in enumerate(report.datasets):
        yield _text(left + _CELL_W * (column + 0.5), first - 8, _short(dataset, 14), anchor="middle")
    for row, (model, label) in enumerate(zip(report.models, labels, strict=True)):
        y = first + _CELL_H * row
        yield _text(left - 8, y + _CELL_H / 2 + 4, label, anchor="end")
        for column, dataset in enumerate(report.datasets):
            yield from _cell(report, model, dataset, setting, left + _CELL_W * column, y)


def _cell(report: CrossDomainReport, model: str, dataset: str, setting: str, x: float, y: float) -> Iterator[str]:
    cell = next((c for c in report.cells if (c.model, c.dataset, c.setting) == (model, dataset, setting)), None)
    value = None if cell is None else cell.metrics.mAP
    frame = ' stroke="#c51b1b" stroke-width="3"' if cell is not None and cell.home else ""
    box = f'x="{x + 2:.1f}" y="{y + 2:.1f}" width="{_CELL_W - 4}" height="{_CELL_H - 4}"'
    yield f'<rect {box} fill="{_color(value)}"{frame}/>'
    if value is not None:
        ink = "#fff" if value > 0.6 else "#111"
        yield _text(x + _CELL_W / 2, y + _CELL_H / 2 + 5, f"{100 * value:.1f}", anchor="middle", fill=ink)


def _color(value: float | None) -> str:
    """From light at 0 to dark at 1; grey for what was not measured.

    >>> _color(0.0), _color(1.0), _color(None)
    ('#f7fbff', '#08306b', '#eee')
    """
    if value is None:
        return "#eee"
    mixed = (round(light + value * (dark - light)) for light, dark in zip(_LIGHT, _DARK, strict=True))
    return "#" + "".join(f"{each:02x}" for each in mixed)


def _short(name: str, longest: int = _LONGEST) -> str:
    name = printable(name)
    return name if len(name) <= longest else f"{name[: longest - 1]}…"


def _text(x: float, y: float, text: str, *, anchor: str = "start", fill: str = "#111", extra: str = "") -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" fill="{fill}" {extra}>{escape(text)}</text>'
