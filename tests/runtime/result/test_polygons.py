"""Masks as polygons, against matplotlib's own point-in-polygon test."""

import numpy as np
import pytest

from medseg_runtime.result.polygons import INSET, polygons

SHAPES = {
    "nothing": ["....", "...."],
    "one pixel": ["...", ".#.", "..."],
    "two pixels at a corner": ["....", ".#..", "..#.", "...."],
    "the other corner": ["..#.", ".#.."],
    "a checkerboard": ["#.#.#", ".#.#.", "#.#.#", ".#.#."],
    "everything": ["####", "####"],
    "a hole": ["#####", "#...#", "#.#.#", "#...#", "#####"],
    "a hole that meets the outside at a corner": [".####", "##.##", "#####"],
    "a hole of two pixels at a corner": ["#####", "#.###", "##.##", "#####"],
    "holes above each other": ["###", "#.#", "###", "#.#", "###"],
    "holes beside each other": ["#######", "#.#.#.#", "#######"],
    "a ring open at a corner": ["###.", "#.#.", "##.#", ".###"],
    "an island in a hole": ["#######", "#.....#", "#.###.#", "#.#.#.#", "#.###.#", "#.....#", "#######"],
    "at every border": ["#..#", "....", ".##.", "#..#"],
}


def parsed(rows):
    return np.array([[sign == "#" for sign in row] for row in rows])


def centers_inside(found, shape):
    """Rasterise by pixel center: the pixels whose center is inside one of the polygons."""
    path = pytest.importorskip("matplotlib.path")
    y, x = np.mgrid[: shape[0], : shape[1]] + 0.5
    points = np.column_stack([x.ravel(), y.ravel()])
    mask = np.zeros(shape, np.int64)
    for polygon in found:
        mask += path.Path(np.vstack([polygon, polygon[:1]]), closed=True).contains_points(points).reshape(shape)
    return mask


def area(polygon):
    x, y = polygon.T
    return 0.5 * float(np.sum(x * np.roll(y, -1) - np.roll(x, -1) * y))


def regions(mask):
    ndimage = pytest.importorskip("scipy.ndimage")
    return ndimage.label(mask)[1]  # 4-connected


@pytest.mark.parametrize("name", SHAPES)
def test_the_centers_inside_are_the_mask(name):
    mask = parsed(SHAPES[name])
    found = polygons(mask)
    np.testing.assert_array_equal(centers_inside(found, mask.shape), mask)
    assert len(found) == regions(mask)


def test_random_masks():
    rng = np.random.default_rng(0)
    for density in (0.1, 0.4, 0.6, 0.8, 0.95):
        mask = rng.random((24, 31)) < density
        found = polygons(mask)
        np.testing.assert_array_equal(centers_inside(found, mask.shape), mask)
        assert len(found) == regions(mask)
        assert sum(map(area, found)) == pytest.approx(mask.sum(), rel=0.05)


def test_polygons_are_simple_and_apart():
    """No two edges meet, except neighbors at their common corner: some planning systems refuse outlines that cross themselves."""
    for rows in SHAPES.values():
        edges = [
            (one, other, number, index, len(polygon))
            for number, polygon in enumerate(polygons(parsed(rows)))
            for index, (one, other) in enumerate(zip(polygon, np.roll(polygon, -1, axis=0), strict=True))
        ]
        for at, (a, b, number, index, count) in enumerate(edges):
            for c, d, other, place, _ in edges[at + 1 :]:
                if number == other and (place - index) % count in (1, count - 1):
                    continue
                # all edges are parallel to an axis: they meet if their boxes do
                apart = (
                    np.maximum(np.minimum(a, b), np.minimum(c, d)) - np.minimum(np.maximum(a, b), np.maximum(c, d))
                ).max()
                assert apart > INSET, rows


def test_a_square_is_four_corners_clockwise():
    mask = np.zeros((5, 5), bool)
    mask[1:4, 2:5] = True
    (square,) = polygons(mask)
    low, high = 1 + INSET, 4 - INSET
    np.testing.assert_allclose(
        sorted(map(tuple, square)), [(1 + low, low), (1 + low, high), (1 + high, low), (1 + high, high)]
    )
    assert area(square) == pytest.approx((3 - 2 * INSET) ** 2)
