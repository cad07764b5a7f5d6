"""Areas that an annotation draws: polygons, circles and run lengths => (H, W) masks.

The point (0, 0) is the upper left corner of the first pixel, as in COCO and labelme. A pixel is inside if its center is. What lies
outside of the image is cut off. A polygon that crosses itself has holes by the even-odd rule.
"""

from __future__ import annotations

import math
from collections.abc import Iterable

import numpy as np
import numpy.typing as npt

from medseg_trainer.data.masks import Bool, Labels

Float64 = npt.NDArray[np.float64]
MAX_CROSSINGS = 50_000_000
"""Most crossings of edges and rows of one polygon."""
FARTHEST = 1e6
"""Coordinates beyond it, and NaN, are mistakes."""
CIRCLE_POINTS = 360


def labels_of(areas: Iterable[tuple[int, Bool]], height: int, width: int) -> Labels:
    """Paint areas (H, W) with the numbers of their classes, later ones over earlier ones."""
    labels = np.zeros((height, width), np.uint8)
    for number, area in areas:
        labels[area] = number
    return labels


def filled_polygon(points: object, height: int, width: int) -> Bool:
    """Fill a polygon. points: n times (x, y), at least three.

    Raises:
        ValueError: it is no polygon.
    """
    corners = points_of(points)
    if len(corners) < 3:
        raise ValueError("a polygon needs three or more points (x, y)")
    (x0, y0), (x1, y1) = corners.T, np.roll(corners, -1, axis=0).T
    # the rows whose center line an edge crosses; its upper end counts, its lower end does not
    first, end = (np.clip(np.ceil(pick(y0, y1) - 0.5), 0, height).astype(int) for pick in (np.minimum, np.maximum))
    counts = end - first
    if counts.sum() > MAX_CROSSINGS:
        raise ValueError("a polygon has too many points")
    edge = np.repeat(np.arange(len(corners)), counts)
    rows = np.arange(len(edge)) - np.repeat(np.cumsum(counts) - counts, counts) + first[edge]
    crossings = x0[edge] + (rows + 0.5 - y0[edge]) * (x1 - x0)[edge] / (y1 - y0)[edge]
    columns = np.clip(np.ceil(crossings - 0.5), 0, width).astype(int)
    toggled = np.zeros((height, width + 1), bool)
    np.logical_xor.at(toggled, (rows, columns), True)
    return np.asarray(np.logical_xor.accumulate(toggled, axis=1)[:, :width])


def points_of(points: object) -> Float64:
    """Return points as (n, 2) x and y.

    Raises:
        ValueError: they are no points, or far from any image.
    """
    found = np.asarray(points, np.float64)
    if found.ndim != 2 or found.shape[1] != 2 or not (np.abs(found) < FARTHEST).all():
        raise ValueError("a polygon needs points (x, y) that are near the image")
    return found


def rectangle(points: object) -> Float64:
    """Return the corners of a rectangle, given two opposite ones."""
    (x0, y0), (x1, y1) = points_of(points)
    return np.array([(x0, y0), (x1, y0), (x1, y1), (x0, y1)])


def circle(points: object) -> Float64:
    """Return a circle as a polygon, given its center and a point on it."""
    center, on_it = points_of(points)
    angles = np.linspace(0, 2 * math.pi, CIRCLE_POINTS, endpoint=False)
    radius = math.dist(center, on_it)
    return np.asarray(center + radius * np.stack([np.cos(angles), np.sin(angles)], axis=-1))


def run_length_mask(counts: object, height: int, width: int) -> Bool:
    """Decode COCO's run lengths: alternating numbers of pixels outside and inside, down one column after another.

    counts: a list, or COCO's text form of it.

    Raises:
        ValueError: they do not fill the image.
    """
    runs = _numbers_in(counts) if isinstance(counts, str) else counts
    if not isinstance(runs, list) or not all(isinstance(run, int) and run >= 0 for run in runs):
        raise ValueError("run lengths are no list of numbers")
    if sum(runs) != height * width:
        raise ValueError("run lengths do not fill the image")
    inside = np.repeat(np.arange(len(runs)) % 2 == 1, runs)
    return np.asarray(inside.reshape(width, height).T)


def _numbers_in(text: str) -> list[int]:
    """Decode COCO's text: groups of 5 bits from the lowest on, bit 6 if more follow; from the fourth number on, differences.

    Source: cocodataset/cocoapi, common/maskApi.c, rleFrString.
    """
    numbers, value, shift = list[int](), 0, 0
    for character in text:
        bits = ord(character) - 48
        if not 0 <= bits < 64 or shift > 60:
            raise ValueError("run lengths hold a character that they cannot")
        value |= (bits & 0x1F) << shift
        shift += 5
        if not bits & 0x20:
            if bits & 0x10:
                value -= 1 << shift
            numbers.append(value + (numbers[-2] if len(numbers) > 2 else 0))
            value, shift = 0, 0
    if shift:
        raise ValueError("run lengths end too early")
    return numbers
