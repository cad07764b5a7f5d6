"""Write text on a page in Pillow's default font. Rendered text is cached, because the pages of a folder repeat it."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache, lru_cache

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from medseg_runtime.figures.viewport import Canvas, Color

PAPER: Color = (18, 20, 24)
INK: Color = (238, 240, 244)
FAINT: Color = (160, 166, 176)
SMALL, MEDIUM, LARGE = 15, 18, 22
"""Font sizes, in screen pixels."""
KEPT = 2048
"""Number of cached texts: some megabytes."""


@dataclass(frozen=True, slots=True)
class RenderedText:
    """Text on the page's background."""

    canvas: Canvas
    x: int
    """Offset of the canvas from the writing position."""
    y: int
    length: int
    """Advance width, in screen pixels."""


def blank(width: int, height: int) -> Canvas:
    """Return an empty page."""
    page = np.empty((height, width, 3), np.uint8)
    page[:] = np.tile(np.array(PAPER, np.uint8), (width, 1))
    return page


def write(
    page: Canvas, x: int, y: int, text: str, *, size: int = SMALL, color: Color = INK, width: int | None = None
) -> int:
    """Write one line on the page (h, w, 3), in place; return where it ends.

    width: a wider line is cut and ends in dots.
    """
    rendered = _rendered(text if width is None else _cut(text, size, width), size, color)
    left, top = x + rendered.x, y + rendered.y
    room = page[top : top + rendered.canvas.shape[0], left : left + rendered.canvas.shape[1]]
    room[:] = rendered.canvas[: room.shape[0], : room.shape[1]]
    return x + rendered.length


@lru_cache(KEPT)
def _rendered(text: str, size: int, color: Color) -> RenderedText:
    left, top, right, bottom = (round(side) for side in _font(size).getbbox(text))
    canvas = Image.new("RGB", (right - left, bottom - top), PAPER)
    ImageDraw.Draw(canvas).text((-left, -top), text, fill=color, font=_font(size))
    return RenderedText(np.asarray(canvas), left, top, round(_font(size).getlength(text)))


def _cut(text: str, size: int, width: int) -> str:
    if _font(size).getlength(text) <= width:
        return text
    while text and _font(size).getlength(text + "...") > width:
        text = text[:-1]
    return text + "..."


@cache
def _font(size: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    """Return Pillow's default font, which Pillow would decode for every line."""
    return ImageFont.load_default(size)
