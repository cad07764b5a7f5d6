"""A reliability diagram: how large a share of the raters marks the pixels to which the samples give a confidence."""

from __future__ import annotations

import math

from PIL import Image, ImageDraw, ImageFont

from medseg_runtime.figures.viewport import Colour
from medseg_runtime.result.metrics import ReliabilityBin

BACKGROUND: Colour = (18, 20, 24)
INK: Colour = (238, 240, 244)
FAINT: Colour = (92, 98, 110)
CURVE: Colour = (255, 214, 70)
BAR: Colour = (52, 84, 116)
SIDE, LEFT, TOP, BARS = 320, 52, 30, 70
"""Pixels: of the diagram's square, left and above it, and the height of the bars below it."""


def draw_reliability(bins: tuple[ReliabilityBin, ...]) -> Image.Image:
    """Draw confidence against the raters' mean, and how many pixels each bin has, on a logarithmic scale."""
    picture = Image.new("RGB", (LEFT + SIDE + 40, TOP + SIDE + BARS + 50), BACKGROUND)
    pen, font = ImageDraw.Draw(picture), ImageFont.load_default(size=13)
    _draw_axes(pen, font)
    points = [_place(b.confidence, b.agreement) for b in bins]
    pen.line(points, fill=CURVE, width=2)
    floor = TOP + SIDE + BARS + 26
    most = max((math.log10(1 + b.pixels) for b in bins), default=1.0)
    for (x, y), b in zip(points, bins, strict=True):
        pen.ellipse((x - 3, y - 3, x + 3, y + 3), fill=CURVE)
        pen.rectangle((x - 6, floor - BARS * math.log10(1 + b.pixels) / most, x + 6, floor), fill=BAR)
    pen.text(
        (LEFT, floor + 4),
        f"pixels, log scale; the fullest bin has {max((b.pixels for b in bins), default=0):,}",
        INK,
        font,
    )
    return picture


def _place(confidence: float, agreement: float) -> tuple[float, float]:
    return LEFT + SIDE * confidence, TOP + SIDE * (1.0 - agreement)


def _draw_axes(pen: ImageDraw.ImageDraw, font: ImageFont.FreeTypeFont | ImageFont.ImageFont) -> None:
    pen.text((LEFT, 6), "raters' mean (up), confidence (right)", INK, font)
    pen.rectangle((*_place(0, 1), *_place(1, 0)), outline=FAINT)
    pen.line((_place(0, 0), _place(1, 1)), fill=FAINT, width=1)
    for tick in (0.0, 0.25, 0.5, 0.75, 1.0):
        x, y = _place(tick, tick)
        pen.text((x - 8, TOP + SIDE + 4), f"{tick:g}", INK, font)
        pen.text((12, y - 8), f"{tick:g}", INK, font)
