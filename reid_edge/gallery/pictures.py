"""A picture of ranked lists: each query with its ranked crops."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from reid_edge.core.files import written_whole
from reid_edge.core.log import printable
from reid_edge.data.images import read_crops
from reid_edge.errors import InputError

if TYPE_CHECKING:
    from PIL.Image import Image as PillowImage

__all__ = ["ranking_picture", "require_picture", "save_picture"]

# All in pixels.
_MARGIN, _GAP, _AFTER_QUERY, _FRAME = 28, 14, 30, 5
_TEXT, _CAPTION, _LEGEND = 15, 34, 30
_MAX_PIXELS = 100_000_000

_WHITE, _INK, _QUIET = "#ffffff", "#1d232b", "#6a7380"
_BLUE, _GREEN, _RED = "#2463c8", "#1f9d4d", "#d23b33"
_FRAMES = {True: _GREEN, False: _RED, None: _WHITE}
_SUFFIXES = (".png", ".jpg", ".jpeg", ".webp")


def ranking_picture(
    queries: Sequence[Path],
    ranked: Sequence[Sequence[Path]],
    *,
    distances: Sequence[Sequence[float]] | None = None,
    matches: Sequence[Sequence[bool | None]] | None = None,
    crop_hw: tuple[int, int] = (256, 128),
) -> PillowImage:
    """Draw a row for each query: the query framed blue, then its ranked crops, best first; RGB.

    ``ranked[q]`` are the ranked crops of ``queries[q]``; rows may differ in length. ``distances[q][r]`` is
    written under a crop beside its rank. ``matches[q][r]`` decides its frame: True green, False red, None without.
    ``crop_hw`` is the (height, width) of each crop in pixels.

    Raises InputError when the lists differ in length or the picture would be over 100 megapixels, and ImageError
    for a crop that cannot be read.
    """
    _check_lengths(queries, ranked, distances, matches)
    frames = [[_FRAMES[match] for match in row] for row in matches or [[None] * len(row) for row in ranked]]
    legend = any(frame != _WHITE for row in frames for frame in row)
    sheet = _Sheet([printable(query.name) for query in queries], max(map(len, ranked)), crop_hw, legend)
    for row, query in enumerate(queries):
        sheet.draw_query(row, query)
        for rank, path in enumerate(ranked[row]):
            distance = f"{distances[row][rank]:.4f}" if distances else ""
            sheet.draw_ranked(row, rank, path, frames[row][rank], distance)
    return sheet.picture


def save_picture(picture: PillowImage, path: Path | str) -> None:
    """Write a picture as PNG, JPEG or WebP, by the suffix of ``path``, whole or not at all.

    Raises InputError for another suffix.
    """
    require_picture(path)
    with written_whole(path) as beside:
        picture.save(beside, quality=92)


def require_picture(path: Path | str) -> None:
    """Raise InputError unless ``path`` has the suffix of a picture that `save_picture` writes."""
    if Path(path).suffix.lower() not in _SUFFIXES:
        raise InputError(f"{path} is not a picture file name: end it in one of {', '.join(_SUFFIXES)}")


class _Sheet:
    """The picture while it is drawn: one row for each query, one column for each rank."""

    def __init__(self, names: list[str], columns: int, crop_hw: tuple[int, int], legend: bool) -> None:
        from PIL import Image, ImageDraw, ImageFont

        self._crop_hw = crop_hw
        self._font = ImageFont.load_default(_TEXT)
        # A file name may be up to twice as wide as its crop; longer ones are shortened.
        widest = max(int(self._font.getlength(name)) + 1 for name in names)
        self._query_width = max(crop_hw[1], min(widest, 2 * crop_hw[1]))
        width = self._left(columns) + (_MARGIN - _GAP if columns else _MARGIN - _AFTER_QUERY)
        height = self._top(len(names)) + _MARGIN - _GAP + legend * _LEGEND
        if width * height > _MAX_PIXELS:
            raise InputError(f"{len(names)} queries would make a picture of {width}x{height} pixels: give fewer")
        self.picture = Image.new("RGB", (width, height), _WHITE)
        self._pen = ImageDraw.Draw(self.picture)
        if legend:
            self._draw_legend(height - _MARGIN)

    def draw_query(self, row: int, path: Path) -> None:
        """Draw a query, framed, over its file name."""
        left = _MARGIN + (self._query_width - self._crop_hw[1]) // 2
        self._draw_crop(path, left, self._top(row), _BLUE)
        middle = _MARGIN + _FRAME + self._query_width // 2
        self._write(self._shortened(printable(path.name)), middle, self._under(row), _INK, "ma")

    def draw_ranked(self, row: int, rank: int, path: Path, frame: str, distance: str) -> None:
        """Draw a ranked crop above its rank, counted from 1 in the picture, and its distance."""
        left = self._left(rank)
        self._draw_crop(path, left, self._top(row), frame)
        self._write(str(rank + 1), left + _FRAME, self._under(row), _INK, "la")
        self._write(distance, left + _FRAME + self._crop_hw[1], self._under(row), _QUIET, "ra")

    def _draw_crop(self, path: Path, left: int, top: int, frame: str) -> None:
        from PIL import Image

        height, width = self._crop_hw
        self._pen.rectangle((left, top, left + width + 2 * _FRAME - 1, top + height + 2 * _FRAME - 1), frame)
        crop = read_crops([path], self._crop_hw)[0]
        self.picture.paste(Image.fromarray(crop), (left + _FRAME, top + _FRAME))

    def _draw_legend(self, bottom: int) -> None:
        left = _MARGIN
        for colour, text in ((_BLUE, "query"), (_GREEN, "same person"), (_RED, "another person")):
            self._pen.rectangle((left, bottom - _TEXT, left + _TEXT - 1, bottom - 1), colour)
            self._write(text, left + _TEXT + 7, bottom - _TEXT // 2, _QUIET, "lm")
            left += _TEXT + 7 + int(self._font.getlength(text)) + 24

    def _write(self, text: str, x: int, y: int, colour: str, anchor: str) -> None:
        self._pen.text((x, y), text, colour, self._font, anchor)

    def _left(self, rank: int) -> int:
        found = _MARGIN + self._query_width + 2 * _FRAME + _AFTER_QUERY
        return found + rank * (self._crop_hw[1] + 2 * _FRAME + _GAP)

    def _top(self, row: int) -> int:
        return _MARGIN + row * (self._crop_hw[0] + 2 * _FRAME + _CAPTION + _GAP)

    def _under(self, row: int) -> int:
        return self._top(row) + self._crop_hw[0] + 2 * _FRAME + 4

    def _shortened(self, name: str) -> str:
        """Replace the middle of a name by dots until it fits its column."""
        kept = len(name)
        text = name
        while self._font.getlength(text) > self._query_width and kept > 2:
            kept -= 1
            text = f"{name[: kept - kept // 2]}...{name[len(name) - kept // 2 :]}"
        return text


def _check_lengths(
    queries: Sequence[Path],
    ranked: Sequence[Sequence[Path]],
    distances: Sequence[Sequence[float]] | None,
    matches: Sequence[Sequence[bool | None]] | None,
) -> None:
    if not queries:
        raise InputError("there are no queries to draw: give at least one")
    if len(queries) != len(ranked):
        raise InputError(f"{len(queries)} queries and {len(ranked)} ranked lists: give one list a query")
    lengths = [len(row) for row in ranked]
    for what, rows in (("distances", distances), ("matches", matches)):
        if rows is not None and [len(row) for row in rows] != lengths:
            raise InputError(f"the {what} and the ranked lists differ in length: give one for each ranked crop")
