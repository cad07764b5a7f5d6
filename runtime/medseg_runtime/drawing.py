"""What the pictures of a result are drawn with: numpy and Pillow, no plotting library.

    image, mask, confidence => screen arrays (h, w, 3) float32 in [0, 255]

An outline is a smooth curve through the middle of every pixel edge between inside and outside of a mask. It touches the exact
border once per edge and cuts a pixel's corner by at most a quarter of its diagonal, so it does not move, grow or lose a mask.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw

from medseg_runtime.imaging import Box, Pixels

Bool = npt.NDArray[np.bool_]
Float32 = npt.NDArray[np.float32]
Float64 = npt.NDArray[np.float64]
Colour = tuple[int, int, int]

INFERNO = np.array(
    [
        (0, 0, 4), (22, 11, 57), (66, 10, 104), (106, 23, 110), (147, 38, 103), (188, 55, 84),
        (221, 81, 58), (243, 120, 25), (252, 165, 10), (246, 215, 70), (252, 255, 164),
    ],
    np.float64,
)  # fmt: skip
"""matplotlib's inferno (CC0) at 0, 0.1 ... 1: perceptually even, and brighter is more."""
INFERNO_FROM = 0.12
"""Where a value of 0 begins in it: the black end could not be told from a dark image."""
_POSITIONS = np.linspace(INFERNO_FROM, 1.0, 1024) * (len(INFERNO) - 1)
_RAMP = np.stack([np.interp(_POSITIONS, np.arange(len(INFERNO)), INFERNO[:, c]) for c in range(3)], axis=-1).astype(
    np.float32
)
"""The colours of 1,024 values from 0 to 1: looked up, not interpolated for every pixel of a picture."""
SUPERSAMPLING = 3
CURVE_POINTS = 5
_T = np.linspace(0.0, 1.0, CURVE_POINTS)[:, None]
_BEZIER = (1 - _T) ** 2, _T**2
"""Weights of the ends of a quadratic Bezier curve; that of the control point is not needed, for it is the origin."""


@dataclass(frozen=True, slots=True)
class View:
    """The part of an image that is shown, and how large."""

    box: Box
    """Inside the image."""
    scale: float
    """Screen pixels per image pixel; a whole number where it enlarges."""

    @classmethod
    def fitting(cls, box: Box, longest: int) -> View:
        """Show a box so that its longer side is about `longest` screen pixels."""
        scale = longest / max(box.width, box.height)
        return cls(box, float(round(scale)) if scale >= 1.0 else scale)

    @property
    def size(self) -> tuple[int, int]:
        """Width and height on the screen."""
        return max(round(self.box.width * self.scale), 1), max(round(self.box.height * self.scale), 1)

    def nearest(self, maps: npt.NDArray[np.generic]) -> npt.NDArray[np.generic]:
        """(..., H, W) in the image => (..., h, w) on the screen, each pixel a block of its own value."""
        width, height = self.size
        rows = self.box.y + np.minimum(((np.arange(height) + 0.5) / self.scale).astype(int), self.box.height - 1)
        columns = self.box.x + np.minimum(((np.arange(width) + 0.5) / self.scale).astype(int), self.box.width - 1)
        return maps[..., rows[:, None], columns[None, :]]


def photograph(pixels: Pixels, view: View) -> Float32:
    """Draw the image itself: grey, and colour of more than 8 bits, between the 0.5 and 99.5 percentile of what is shown."""
    box = view.box
    shown = pixels[box.y : box.y + box.height, box.x : box.x + box.width]
    if pixels.ndim == 2 or pixels.dtype != np.uint8:
        low, high = np.percentile(shown, (0.5, 99.5))
        span = high - low if high > low else 1.0
        shown = np.clip(255.0 * (shown.astype(np.float64) - low) / span, 0, 255).astype(np.uint8)
    method = Image.Resampling.BICUBIC if view.scale > 1 else Image.Resampling.BOX
    screen = Image.fromarray(shown).resize(view.size, method).convert("RGB")
    return np.asarray(screen, np.float32)


def inferno(values: Float32) -> Float32:
    """Return the colours of values in [0, 1]: (...) => (..., 3)."""
    return _RAMP[np.rint(np.clip(values, 0, 1) * (len(_RAMP) - 1)).astype(np.intp)]


def blend(canvas: Float32, colour: Colour | Float32, opacity: Float32 | float) -> None:
    """Lay a colour over the canvas (h, w, 3), in place; opacity: (h, w) or one number, in [0, 1]."""
    weight = np.asarray(opacity, np.float32)[..., None]
    canvas += weight * (np.asarray(colour, np.float32) - canvas)


def outline_on_screen(mask: Bool, view: View) -> Float64:
    """Return the outline of a mask (H, W) in screen pixels; see `outline_curves`."""
    if view.scale < 1:  # at a reduced size the screen's own pixels are outlined
        return outline_curves(np.asarray(view.nearest(mask), np.bool_))
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    if not len(rows):
        return outline_curves(mask[:0])
    top, left = int(rows[0]), int(columns[0])
    part = outline_curves(mask[top : int(rows[-1]) + 1, left : int(columns[-1]) + 1])
    shift = np.array([left - view.box.x, top - view.box.y])
    return np.asarray((part + shift) * view.scale, np.float64)


def draw_outline(canvas: Float32, outline: Float64, colour: Colour, *, width: float, opacity: float = 1.0) -> None:
    """Draw an outline on the canvas (h, w, 3), in place.

    outline: from `outline_on_screen`. width: in screen pixels.
    """
    if not len(outline):
        return
    curves = outline * SUPERSAMPLING
    reach = SUPERSAMPLING * (int(width) + 2)
    left, top = (np.floor(curves.min(axis=(0, 1)) - reach) // SUPERSAMPLING).astype(int).clip(min=0)
    right, bottom = (np.ceil(curves.max(axis=(0, 1)) + reach) // SUPERSAMPLING).astype(int)
    part = canvas[top:bottom, left:right]
    ink = Image.new("L", (part.shape[1] * SUPERSAMPLING, part.shape[0] * SUPERSAMPLING))
    pen = ImageDraw.Draw(ink)
    points = (curves - (left * SUPERSAMPLING, top * SUPERSAMPLING)).reshape(len(curves), -1).tolist()
    for curve in points:
        pen.line(curve, fill=255, width=round(width * SUPERSAMPLING))
    blend(part, colour, opacity / 255 * np.asarray(ink.reduce(SUPERSAMPLING), np.float32))


def outline_curves(mask: Bool) -> Float64:
    """Return the outline of a mask (H, W) as short curves, (pieces, CURVE_POINTS, 2) points (x, y) in pixels.

    (0, 0) is the first pixel's corner. Round each corner of the pixel grid where inside and outside meet lie two or four
    pixel edges that separate them; a piece runs from the middle of one to the middle of another, as a quadratic Bezier curve
    whose control point is the corner. Pixels that touch at a corner only are outlined apart.
    """
    padded = np.pad(mask, 1)
    north_west, north_east, south_west, south_east = padded[:-1, :-1], padded[:-1, 1:], padded[1:, :-1], padded[1:, 1:]
    north, south = north_west != north_east, south_west != south_east  # the edge going north from the corner separates
    west, east = north_west != south_west, north_east != south_east
    saddle = north & south & west & east
    through = ~saddle
    pieces = []
    for first, second, where in (
        ((0, -1), (0, 1), north & south & through),
        ((-1, 0), (1, 0), west & east & through),
        ((0, -1), (-1, 0), north & west & (through | north_west)),
        ((0, -1), (1, 0), north & east & (through | north_east)),
        ((0, 1), (-1, 0), south & west & (through | south_west)),
        ((0, 1), (1, 0), south & east & (through | south_east)),
    ):
        y, x = np.nonzero(where)
        corner = np.stack([x, y], axis=1).astype(np.float64)[:, None]
        # Bezier from corner + first / 2 to corner + second / 2
        pieces.append(corner + 0.5 * (_BEZIER[0] * np.array(first) + _BEZIER[1] * np.array(second)))
    return np.concatenate(pieces)
