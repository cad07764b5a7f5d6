"""The location that a graphic of a Structured Report means (PS3.3, C.18.6 and C.18.9): a point, or the center of an outline or of a line."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum

import numpy as np

from medseg_runtime.readers.patient_plane import Float64

ELLIPSE_TOLERANCE = 0.1
"""How far the middles of an ellipse's axes may be apart, as a share of the longer axis."""


class Kind(IntEnum):
    """What a graphic is, in the order in which it is trusted to point."""

    POINT = 0
    OUTLINE = 1
    LINE = 2


@dataclass(frozen=True, slots=True)
class Mark:
    """The location that a graphic means."""

    kind: Kind
    center: tuple[float, ...]
    """Two coordinates in an image, or three in the patient."""
    length: float = 0.0
    """Of a line."""


def mark_of(graphic: str, points: Float64) -> Mark | None:
    """Return the location that a graphic means, or None where it means no single one.

    graphic: Graphic Type (0070,0023). points: (n, 2) or (n, 3), finite.

        POINT        its point. OHIF adds the tail of an arrow as a second one
        CIRCLE       its center, the first of two points
        ELLIPSE      where its axes cross; ELLIPSOID likewise
        POLYLINE     closed: the center of its area, if that is inside. Two points: the middle, as of the diameter of a lesion
        POLYGON      as a closed POLYLINE
        others       None: several points, angles, open curves
    """
    count = len(points)
    if (graphic == "POINT" and count in (1, 2)) or (graphic == "MULTIPOINT" and count == 1):
        return Mark(Kind.POINT, _tuple(points[0]))
    if graphic == "CIRCLE" and count == 2:
        return Mark(Kind.OUTLINE, _tuple(points[0]))
    if (graphic, count) in {("ELLIPSE", 4), ("ELLIPSOID", 6)}:
        return _crossing(points)
    if graphic not in {"POLYLINE", "POLYGON"}:
        return None
    if count > 3 and np.array_equal(points[0], points[-1]):
        return _middle_of_area(points[:-1])
    if graphic == "POLYGON" and count > 2:
        return _middle_of_area(points)
    if graphic == "POLYLINE" and count == 2:
        return Mark(Kind.LINE, _tuple(points.mean(axis=0)), float(np.linalg.norm(points[1] - points[0])))
    return None


def _tuple(point: Float64) -> tuple[float, ...]:
    return tuple(map(float, point))


def _crossing(ends: Float64) -> Mark | None:
    """Return where the axes of an ellipse cross, from their ends in pairs; None if they do not."""
    pairs = ends.reshape(-1, 2, ends.shape[1])
    middles = pairs.mean(axis=1)
    longest = np.linalg.norm(pairs[:, 1] - pairs[:, 0], axis=1).max()
    if np.linalg.norm(middles - middles.mean(axis=0), axis=1).max() > ELLIPSE_TOLERANCE * longest:
        return None
    return Mark(Kind.OUTLINE, _tuple(middles.mean(axis=0)))


def _middle_of_area(corners: Float64) -> Mark | None:
    """Return the center of a polygon's area, (n, 2) or flat (n, 3); None if it has no area or the center is outside.

    The polygon is the sum of the triangles from one point to each edge, with signed areas.
    """
    dimensions = corners.shape[1]
    start = np.zeros((len(corners), 3))
    start[:, :dimensions] = corners - corners.mean(axis=0)
    end = np.roll(start, -1, axis=0)
    triangles = np.cross(start, end)
    normal = triangles.sum(axis=0)
    if np.linalg.norm(normal) <= 1e-9 * np.abs(start).max() ** 2:
        return None
    areas = triangles @ normal
    center = (start + end).T @ areas / (3 * areas.sum())
    seen = np.delete(np.arange(3), np.abs(normal).argmax())  # along the axis that sees most of its area
    if not _inside(center[seen], start[:, seen], end[:, seen]):
        return None
    return Mark(Kind.OUTLINE, _tuple(corners.mean(axis=0) + center[:dimensions]))


def _inside(point: Float64, start: Float64, end: Float64) -> bool:
    """Tell whether a ray from a point, (2,), crosses an odd number of edges. start, end: of the edges, (n, 2)."""
    crossed = (start[:, 1] > point[1]) != (end[:, 1] > point[1])
    (x0, y0), (x1, y1) = start[crossed].T, end[crossed].T
    return bool(np.count_nonzero(x0 + (point[1] - y0) * (x1 - x0) / (y1 - y0) > point[0]) % 2)
