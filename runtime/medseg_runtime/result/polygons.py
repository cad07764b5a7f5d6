"""Trace masks as polygons: the outline of each 4-connected region, on the edges of its pixels.

    mask (H, W) => directed pixel edges, inside on the right => a closed path per outline; a hole is joined to the outline above it => corners

A polygon lies `INSET` inside the pixel edges. So the center of every pixel of the mask is inside by almost half a pixel, and of every other
pixel outside. No polygon touches itself or another one, also where two pixels of a mask meet at a corner: those are two regions.

A hole is joined to what surrounds it by a channel of width 2 * `INSET` ("keyhole", DICOM PS3.3, C.8.8.6.3). A region with holes is one simple
polygon.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import numpy as np
import numpy.typing as npt

Bool = npt.NDArray[np.bool_]
Float64 = npt.NDArray[np.float64]

INSET = 0.01
"""In pixels. A square of ten pixels loses 0.4 % of its area."""

Vertex = tuple[int, int]
"""x, y of a corner of the pixel grid, from the upper left corner of the image."""
Direction = tuple[int, int]
Ways = dict[Vertex, set[Direction]]
"""The directions of the edges that leave each vertex."""

RIGHT, DOWN, LEFT, UP = (1, 0), (0, 1), (-1, 0), (0, -1)


def polygons(mask: Bool) -> list[Float64]:
    """Return the outlines of a mask (H, W): one polygon (corners, 2) per region, clockwise, in no stated order.

    Corners are x, y in pixels from the image's upper left corner: the center of the first pixel is at 0.5, 0.5. The last corner is joined to
    the first, which is not repeated.
    """
    ways = _edges(mask)
    outlines = list(_paths(ways))
    holes = [outline for outline in outlines if _doubled_area(outline) < 0]
    if holes:
        outlines = list(_paths(_with_channels(ways, holes)))
    return [_corners(outline) for outline in outlines]


def _edges(mask: Bool) -> Ways:
    """Return the edges between inside and outside, directed so that the inside is on the right."""
    height, width = mask.shape
    inside = np.zeros((height + 2, width + 2), np.bool_)
    inside[1:-1, 1:-1] = mask
    here = inside[1:-1, 1:-1]
    ways: Ways = {}
    for neighbor, direction, (x, y) in (
        (inside[:-2, 1:-1], RIGHT, (0, 0)),
        (inside[1:-1, 2:], DOWN, (1, 0)),
        (inside[2:, 1:-1], LEFT, (1, 1)),
        (inside[1:-1, :-2], UP, (0, 1)),
    ):
        rows, columns = np.nonzero(here & ~neighbor)
        for row, column in zip(rows.tolist(), columns.tolist(), strict=True):
            ways.setdefault((column + x, row + y), set()).add(direction)
    return ways


def _paths(ways: Ways) -> Iterator[list[Vertex]]:
    """Yield the vertices of each closed path. Every edge is in one path."""
    left = {vertex: set(directions) for vertex, directions in ways.items()}
    for start in sorted(left, key=lambda vertex: (vertex[1], vertex[0])):
        while left[start]:
            first = direction = min(left[start])
            path, vertex = [], start
            while True:
                left[vertex].remove(direction)
                path.append(vertex)
                vertex = (vertex[0] + direction[0], vertex[1] + direction[1])
                if vertex == start and first == _turned(direction, ways[vertex]):
                    break
                direction = _turned(direction, ways[vertex])
            yield path


def _turned(arriving: Direction, leaving: Iterable[Direction]) -> Direction:
    """Return the direction in which a path goes on: as far to the right as it can, to stay at the same pixel."""
    x, y = arriving
    return next(direction for direction in ((-y, x), (x, y), (y, -x)) if direction in leaving)


def _doubled_area(path: list[Vertex]) -> int:
    """Return twice the area inside a path, negative for the outline of a hole."""
    return sum(a[0] * b[1] - b[0] * a[1] for a, b in zip(path, path[1:] + path[:1], strict=True))


def _with_channels(ways: Ways, holes: list[list[Vertex]]) -> Ways:
    """Add an edge up and down between the upper left corner of each hole and the next outline above it."""
    joined = {vertex: set(directions) for vertex, directions in ways.items()}
    for hole in holes:
        x, y = min(hole, key=lambda vertex: (vertex[1], vertex[0]))
        while True:
            joined.setdefault((x, y), set()).add(UP)
            y -= 1
            joined.setdefault((x, y), set()).add(DOWN)
            if (x, y) in ways:
                break
    return joined


def _corners(path: list[Vertex]) -> Float64:
    """Return the corners of a path, moved inwards: (corners, 2)."""
    vertices = np.array(path, np.float64)
    leaving = np.roll(vertices, -1, axis=0) - vertices
    arriving = np.roll(leaving, 1, axis=0)
    turns = (leaving != arriving).any(axis=1)
    inwards = (arriving + leaving) @ np.array([(0.0, 1.0), (-1.0, 0.0)])  # each direction turned to the right
    corners: Float64 = vertices[turns] + INSET * inwards[turns]
    return corners
