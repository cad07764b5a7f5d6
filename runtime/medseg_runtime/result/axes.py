"""Long and short axis of masks, as RECIST 1.1 and the Fleischner Society measure a finding in one plane.

    long axis       the largest distance between two points of the outline
    short axis      the longest segment perpendicular to it with both ends on the outline

The outline runs through the middles of the edges between pixels inside and outside, as marching squares draw it and the meshes of IBSI and
PyRadiomics have it. One pixel is 1 x 1, and a row of n pixels n x 1. Discs of radius 2.5 to 40 pixels measure 0.4 to 0.9 pixels more than
2r; distances between pixel centers would be 0.1 to 0.5 less than that, and between pixel corners 0.8 to 1.3 more. Both axes are of the
convex hull, as calipers measure: they span a dent, and all parts of a mask with several parts.

RECIST 1.1: Eisenhauer et al. 2009, doi 10.1016/j.ejca.2008.10.026. Fleischner Society: Bankier et al. 2017, doi 10.1148/radiol.2017162894.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Bool = npt.NDArray[np.bool_]
Float64 = npt.NDArray[np.float64]

TIE = 1e-9
"""Relative difference of two lengths that count as equal."""


def axes(masks: Bool, spacing: tuple[float, float]) -> Float64:
    """Return long and short axis of each mask, (N, 2), in the unit of the spacing; 0 where a mask is empty.

    masks: (N, H, W) bool. spacing: of rows, then of columns.
    """
    lengths = np.zeros((len(masks), 2))
    rows: Bool = np.any(masks, axis=2)
    first = masks.argmax(axis=2)  # of the row's pixels inside
    last = masks.shape[2] - 1 - masks[:, :, ::-1].argmax(axis=2)
    for k in np.flatnonzero(np.any(rows, axis=1)):
        (inside,) = np.nonzero(rows[k])
        lengths[k] = _axes_of(_hull(inside, first[k, inside], last[k, inside]) * (spacing[1] / 2, spacing[0] / 2))
    return lengths


def _hull(rows: npt.NDArray[np.intp], first: npt.NDArray[np.intp], last: npt.NDArray[np.intp]) -> Float64:
    """Return the corners of the convex hull of all middles of pixel edges, (M, 2): x, y in half pixels, in order round the hull.

    rows: the rows with pixels inside. first, last: the columns of the outermost ones.
    """
    y = 2 * np.concatenate([rows, rows, rows]) + np.repeat([0, 1, 2], len(rows))  # upper, side and lower edges
    inset = np.repeat([1, 0, 1], len(rows))
    left = _envelope(2 * np.tile(first, 3) + inset, y)
    right = _envelope(-(2 * np.tile(last + 1, 3) - inset), y) * (-1, 1)
    ring = np.concatenate([left, right[::-1]])
    repeated = np.all(ring == np.roll(ring, 1, axis=0), axis=1)
    return np.asarray(ring[~repeated], np.float64)


def _envelope(x: npt.NDArray[np.int64], y: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """Return the left side of the convex hull of points, (M, 2), from small y to large."""
    order = np.lexsort((x, y))
    chain = np.stack([x[order], y[order]], axis=1)
    chain = chain[np.concatenate([[True], np.diff(chain[:, 1]) > 0])]  # the leftmost at each y
    while len(chain) > 2:
        before, after = chain[1:-1] - chain[:-2], chain[2:] - chain[1:-1]
        bulges = (
            before[:, 0] * after[:, 1] < before[:, 1] * after[:, 0]
        )  # a corner of the hull does, between any others
        if bulges.all():
            break
        chain = chain[np.concatenate([[True], bulges, [True]])]
    return np.asarray(chain, np.int64)


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
