"""Paint outlines of masks as stamps: an outline has fourteen kinds of corner, and each is rendered once.

    masks (N, H, W) => corners of the pixel grid where inside and outside meet => one small patch of ink each => canvas

An outline is a smooth curve through the middle of every pixel edge between inside and outside of a mask. It touches the exact
border once per edge and cuts a pixel's corner by at most a quarter of its diagonal, so it does not move, grow or lose a mask.

The ink around a corner depends on which of its four pixels are inside, on the scale and on the line width. A page of sixteen samples
has some thousand corners and needs fourteen stamps.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import pairwise

import numpy as np
import numpy.typing as npt

from medseg_runtime.figures.viewport import Bool, Canvas, Color, Float32, Float64, Viewport

Int = npt.NDArray[np.intp]
UInt8 = npt.NDArray[np.uint8]

CHUNK = 16
"""Masks processed at once, to bound the memory for many masks."""
NORTH_WEST, NORTH_EAST, SOUTH_WEST, SOUTH_EAST = 1, 2, 4, 8
"""Bits of a turn: which of the four pixels around a corner are inside the mask. At 0 and 15 there is no outline."""
_NORTH, _EAST, _SOUTH, _WEST = np.array([(0.0, -0.5), (0.5, 0.0), (0.0, 0.5), (-0.5, 0.0)])
"""Offsets (x, y) in pixels from a corner to the middles of its four pixel edges."""


@dataclass(frozen=True, slots=True)
class Outline:
    """The corners of the pixel grid that an outline passes, on the screen."""

    x: Int
    """(corners,) screen pixels from the left edge of the canvas; may be outside."""
    y: Int
    turn: UInt8
    """(corners,) kind of corner, 1 to 14."""
    step: int
    """Screen pixels per pixel of the mask."""

    def moved(self, x: int, y: int) -> Outline:
        """Return the outline shifted right by x and down by y screen pixels."""
        return Outline(self.x + x, self.y + y, self.turn, self.step)


def joined(outlines: Sequence[Outline]) -> Outline:
    """Concatenate outlines of one scale that do not overlap."""
    x, y, turn = (np.concatenate([getattr(one, name) for one in outlines]) for name in ("x", "y", "turn"))
    return Outline(x, y, turn, outlines[0].step)


def outlines_on_screen(masks: Bool, view: Viewport) -> Iterator[Outline]:
    """Yield the outline of each mask, (N, H, W)."""
    for start in range(0, len(masks), CHUNK):
        yield from _outlines(masks[start : start + CHUNK], view)


def outline_on_screen(mask: Bool, view: Viewport) -> Outline:
    """Return the outline of a mask (H, W)."""
    (outline,) = _outlines(mask[None], view)
    return outline


def _outlines(masks: Bool, view: Viewport) -> Iterator[Outline]:
    if view.scale < 1:  # reduced: outline the mask as resampled to the screen
        masks, x, y, step = np.asarray(view.nearest(masks), np.bool_), 0, 0, 1
    else:
        x, y, step = -view.box.x, -view.box.y, int(view.scale)
    rows, columns = _extent(masks)
    turns = _turns(masks[:, rows, columns])
    found = np.flatnonzero((turns - np.uint8(1)) < 14)  # 0 becomes 255
    which, row, column = np.unravel_index(found, turns.shape)
    x, y = x + columns.start, y + rows.start
    ends = np.searchsorted(which, np.arange(len(masks) + 1)).tolist()
    for start, stop in pairwise(ends):
        own = slice(start, stop)
        yield Outline((column[own] + x) * step, (row[own] + y) * step, turns.reshape(-1)[found[own]], step)


def _extent(masks: Bool) -> tuple[slice, slice]:
    """Return the rows and columns that contain all masks (N, H, W); empty slices for empty masks."""
    union: Bool = np.logical_or.reduce(masks, axis=0)
    rows, columns = np.flatnonzero(union.any(axis=1)), np.flatnonzero(union.any(axis=0))
    if not len(rows):
        return slice(0, 0), slice(0, 0)
    return slice(int(rows[0]), int(rows[-1]) + 1), slice(int(columns[0]), int(columns[-1]) + 1)


def _turns(masks: Bool) -> UInt8:
    """Return the turn at each corner of the pixel grid: (N, H, W) => (N, H + 1, W + 1)."""
    count, height, width = masks.shape
    turns = np.zeros((count, height + 1, width + 1), np.uint8)
    inside = masks.view(np.uint8)
    turns[:, 1:, 1:] += NORTH_WEST * inside
    turns[:, 1:, :-1] += NORTH_EAST * inside
    turns[:, :-1, 1:] += SOUTH_WEST * inside
    turns[:, :-1, :-1] += SOUTH_EAST * inside
    return turns


def paint_outline(
    canvas: Canvas, outline: Outline, color: Color | Float32, *, width: float, opacity: float = 1.0
) -> None:
    """Paint an outline on the canvas (h, w, 3), in place.

    color: RGB, or one per corner, (corners, 3). width: line width in screen pixels.
    """
    if not len(outline.turn):
        return
    stamps = _stamps(outline.step, width)
    x, y = outline.x[:, None] + stamps.x[outline.turn], outline.y[:, None] + stamps.y[outline.turn]
    ink = stamps.ink[outline.turn]
    high, wide = canvas.shape[:2]
    outside = (x < 0) | (y < 0) | (x >= wide) | (y >= high)
    x[outside], y[outside], ink[outside] = 0, 0, 0
    place = (y * wide + x).reshape(-1)
    # Where stamps overlap take the strongest ink, so that pixels written twice get the same color twice.
    strongest = np.zeros(high * wide, np.uint8)
    np.maximum.at(strongest, place, ink.reshape(-1))
    weight = np.float32(opacity / 255) * strongest[place].reshape(*ink.shape, 1)
    pixels = canvas.reshape(-1, 3)
    under = pixels[place].reshape(*ink.shape, 3).astype(np.float32)
    shade = np.asarray(color, np.float32).reshape(-1, 1, 3)
    pixels[place] = np.rint(under + weight * (shade - under)).reshape(-1, 3)


@dataclass(frozen=True, slots=True)
class Stamps:
    """The ink around a corner, for each turn."""

    x: Int
    """(16, pixels) screen pixels from the corner; turns with fewer pixels are padded with pixels without ink."""
    y: Int
    ink: UInt8
    """(16, pixels) coverage of the screen pixel, 0 to 255."""


@cache
def _stamps(step: int, width: float) -> Stamps:
    """Render the stamps of one scale and line width."""
    near = int(np.ceil(width / 2 + 1))
    reach = step // 2 + near + 1
    side, offsets = np.arange(-reach, reach + 1), np.arange(-near, near + 1)
    x, y = np.meshgrid(side, side)
    ink = np.zeros((16, x.size))
    for turn in range(1, 15):
        points = step * curves(turn, 4 * step + 5)
        cells = np.floor(points).astype(np.intp)
        # a point of the curve inks only pixels near it
        columns, rows = cells[:, :1, None] + offsets[:, None], cells[:, 1:, None] + offsets
        apart = np.hypot(columns + 0.5 - points[:, :1, None], rows + 0.5 - points[:, 1:, None])
        distance = np.full(x.size, np.inf)
        np.minimum.at(distance, (rows + reach) * len(side) + columns + reach, apart)
        ink[turn] = np.clip(width / 2 + 0.5 - distance, 0, 1)  # antialiased over one screen pixel
    most = np.count_nonzero(np.rint(255 * ink), axis=1).max()
    strongest = np.argsort(-ink, axis=1, kind="stable")[:, :most]
    shades = np.rint(255 * np.take_along_axis(ink, strongest, axis=1)).astype(np.uint8)
    return Stamps(x.reshape(-1)[strongest], y.reshape(-1)[strongest], shades)


def curves(turn: int, points: int) -> Float64:
    """Return the outline around a corner: (curves * points, 2) points (x, y) in pixels from the corner.

    Two or four of the corner's pixel edges separate inside from outside. A quadratic Bezier curve with the corner as control point
    runs from the middle of one to the middle of another. Pixels that touch only at the corner get separate outlines.
    """
    inside = [bool(turn & bit) for bit in (NORTH_WEST, NORTH_EAST, SOUTH_EAST, SOUTH_WEST)]
    north_west, north_east, south_east, south_west = inside
    crossed = [
        middle
        for middle, separates in (
            (_NORTH, north_west != north_east),
            (_EAST, north_east != south_east),
            (_SOUTH, south_east != south_west),
            (_WEST, south_west != north_west),
        )
        if separates
    ]
    if len(crossed) == 4:  # two pixels that touch: a curve around each
        pairs = [(_NORTH, _WEST), (_SOUTH, _EAST)] if north_west else [(_NORTH, _EAST), (_SOUTH, _WEST)]
    else:
        pairs = [(crossed[0], crossed[1])]
    t = np.linspace(0.0, 1.0, points)[:, None]
    return np.concatenate([(1 - t) ** 2 * first + t**2 * second for first, second in pairs])
