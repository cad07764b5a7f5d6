"""Long and short axis of masks, as RECIST 1.1 and the Fleischner Society measure a finding in one plane.

    long axis       the largest distance between two points of the outline
    short axis      the longest segment perpendicular to it with both ends on the outline

The outline runs through the middles of the edges between pixels inside and outside, as marching squares draw it and the meshes of IBSI and
PyRadiomics have it. One pixel is 1 x 1, and a row of n pixels n x 1. Discs of radius 2.5 to 40 pixels measure 0.4 to 0.9 pixels more than
2r; distances between pixel centers would be 0.1 to 0.5 less than that, and between pixel corners 0.8 to 1.3 more.

Both axes are of the convex hull, as calipers measure: they span a dent. A mask with several parts that do not touch measures what its longest
part does, so that a stray pixel does not count.

RECIST 1.1: Eisenhauer et al. 2009, doi 10.1016/j.ejca.2008.10.026. Fleischner Society: Bankier et al. 2017, doi 10.1148/radiol.2017162894.
"""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

from medseg_runtime.result.parts import Run, parts

Bool = npt.NDArray[np.bool_]
Float64 = npt.NDArray[np.float64]
Int64 = npt.NDArray[np.int64]

TIE = 1e-9
"""Relative difference of two lengths that count as equal."""


def axes(masks: Bool, spacing: tuple[float, float]) -> Float64:
    """Return long and short axis of each mask, (N, 2), in the unit of the spacing; 0 where a mask is empty.

    masks: (N, H, W) bool. spacing: of rows, then of columns.
    """
    return np.array([_axes_of_longest(parts(mask), spacing) for mask in masks]).reshape(-1, 2)


def _axes_of_longest(found: list[list[Run]], spacing: tuple[float, float]) -> tuple[float, float]:
    longest = (0.0, 0.0)
    for reach, part in sorted(((_reach(part, spacing), part) for part in found), reverse=True):
        if reach < longest[0]:
            break
        longest = max(longest, _axes_of(_hull(part) * (spacing[1] / 2, spacing[0] / 2)))
    return longest


def _reach(part: list[Run], spacing: tuple[float, float]) -> float:
    """Return the diagonal of the box around a part. No axis is longer."""
    rows = part[-1][0] - part[0][0] + 1
    columns = max(last for _, _, last in part) - min(first for _, first, _ in part) + 1
    return math.hypot(rows * spacing[0], columns * spacing[1])


def _hull(part: list[Run]) -> Float64:
    """Return the corners of the convex hull of the middles of all pixel edges, (M, 2): x, y in half pixels, in order round the hull."""
    row, first, last = np.array(part).T
    rows = row - row[0]  # a part has pixels in all rows between its first and its last
    left, right = np.full((2, rows[-1] + 1), np.iinfo(np.int64).max // 4)
    np.minimum.at(left, rows, 2 * first)
    np.minimum.at(right, rows, -2 * (last + 1))
    ring = np.concatenate([_left_side(left), (_left_side(right) * (-1, 1))[::-1]])
    return np.asarray(ring[np.diff(ring, axis=0, append=ring[:1]).any(axis=1)], np.float64)


def _left_side(edges: Int64) -> Int64:
    """Return the left side of the convex hull, (M, 2) from top to bottom. edges: (rows,) x of the leftmost edge in each row."""
    x = np.empty(2 * len(edges) + 1, np.int64)
    x[1::2] = edges
    x[0], x[-1] = edges[[0, -1]] + 1  # the upper edge of the first pixel, the lower edge of the last
    x[2:-1:2] = np.minimum(edges[:-1], edges[1:]) + 1
    side = np.stack([x, np.arange(len(x))], axis=1)
    while len(side) > 2:
        (dx, dy), (next_dx, next_dy) = (steps := np.diff(side, axis=0).T)[:, :-1], steps[:, 1:]
        bulges = dx * next_dy < dy * next_dx  # a corner of the hull does, between any two others
        if bulges.all():
            break
        side = side[np.concatenate([[True], bulges, [True]])]
    return side


def _axes_of(hull: Float64) -> tuple[float, float]:
    """Return long and short axis of a convex polygon (M, 2). Of equally long axes, the one with the longest perpendicular."""
    distances = np.linalg.norm(hull[:, None] - hull, axis=2)
    long_axis = float(distances.max())
    ends = np.argwhere(np.triu(distances >= long_axis * (1 - TIE)))
    return long_axis, max(_chord(hull, int(start), int(end)) for start, end in ends)


def _chord(hull: Float64, start: int, end: int) -> float:
    """Return the longest segment in a convex polygon that is perpendicular to the line between two of its corners.

    The corners are those farthest from each other. Both ways round the polygon then run forwards along the line, and the length of the
    segment is linear between corners.
    """
    along = (hull[end] - hull[start]) / np.linalg.norm(hull[end] - hull[start])
    forward = (hull - hull[start]) @ along
    sideways = (hull - hull[start]) @ (-along[1], along[0])
    one, other = np.arange(start, end + 1), np.arange(end, start + len(hull) + 1)[::-1] % len(hull)
    sides = [np.interp(forward, forward[way], sideways[way]) for way in (one, other)]
    return float(np.abs(sides[0] - sides[1]).max())
