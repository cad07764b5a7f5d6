"""Long and short axis, judged by scikit-image, by SimpleITK and by brute force."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy.ndimage import label
from scipy.spatial.distance import pdist

from medseg_runtime.result.axes import axes

MASKS = hnp.arrays(bool, st.tuples(st.integers(1, 9), st.integers(1, 9)))
SPACINGS = st.tuples(st.floats(0.1, 5), st.floats(0.1, 5))


def measured(mask, spacing=(1.0, 1.0)):
    """(long axis, short axis) of one mask."""
    return tuple(axes(np.asarray(mask, bool)[None], spacing)[0].tolist())


def parts_of(mask):
    """Each part of a mask by itself, as SciPy finds them."""
    labels, count = label(mask, np.ones((3, 3)))
    return [labels == index for index in range(1, count + 1)]


def outline(mask):
    """The middles of the pixel edges on the border, as marching squares draw them: (points, 2) rows and columns."""
    measure = pytest.importorskip("skimage.measure")
    return np.concatenate(measure.find_contours(np.pad(mask, 1).astype(float), 0.5))


@given(MASKS, SPACINGS)
def test_the_long_axis_is_the_largest_distance_in_scikit_images_outline(mask, spacing):
    expected = max((pdist(outline(part) * spacing).max() for part in parts_of(mask)), default=0.0)
    assert measured(mask, spacing)[0] == pytest.approx(expected)


@given(MASKS, SPACINGS)
def test_the_short_axis_is_perpendicular_and_no_longer(mask, spacing):
    long_axis, short_axis = measured(mask, spacing)
    assert 0 <= short_axis <= long_axis * (1 + 1e-9)
    assert (short_axis > 0) == mask.any()
    found = [measured(part, spacing) for part in parts_of(mask)]
    assert measured(mask, spacing) == max(found, default=(0, 0))
    for part, (_, short) in zip(parts_of(mask), found, strict=True):
        assert short == pytest.approx(longest_chord(outline(part) * spacing), rel=1e-6)


def longest_chord(points):
    """The same by trying every pair of points as the long axis, and every corner as a place of the short one."""
    spatial = pytest.importorskip("scipy.spatial")
    ring = points[spatial.ConvexHull(points).vertices]
    lengths = np.linalg.norm(ring[:, None] - ring, axis=2)
    best = 0.0
    for start, end in np.argwhere(lengths >= lengths.max() * (1 - 1e-9)):
        along = (ring[end] - ring[start]) / lengths[start, end]
        turned = np.stack([ring @ along, ring @ (-along[1], along[0])], axis=1)
        best = max(best, *(height_at(turned, x) for x in turned[:, 0]))
    return best


def height_at(ring, x):
    """The extent of a polygon at one x: from its edges that cross it."""
    found = []
    for (x0, y0), (x1, y1) in zip(ring, np.roll(ring, -1, axis=0), strict=True):
        if min(x0, x1) - 1e-9 <= x <= max(x0, x1) + 1e-9:
            found += [y0, y1] if abs(x1 - x0) < 1e-9 else [y0 + (y1 - y0) * (x - x0) / (x1 - x0)]
    return max(found) - min(found)


@given(MASKS, SPACINGS)
def test_axes_do_not_depend_on_how_the_image_is_turned(mask, spacing):
    expected = pytest.approx(measured(mask, spacing))
    for turned in (mask[::-1], mask[:, ::-1]):
        assert measured(turned, spacing) == expected
    assert measured(mask.T, spacing[::-1]) == expected


@given(MASKS)
def test_the_long_axis_lies_between_simpleitks_of_pixel_centers_and_that_of_pixel_corners(mask):
    sitk = pytest.importorskip("SimpleITK")
    if len(parts_of(mask)) != 1:
        return
    judge = sitk.LabelShapeStatisticsImageFilter()
    judge.ComputeFeretDiameterOn()
    image = sitk.GetImageFromArray(mask.astype(np.uint8))
    image.SetSpacing((0.7, 1.3))
    judge.Execute(image)
    feret = judge.GetFeretDiameter(1)
    assert feret < measured(mask, (1.3, 0.7))[0] <= feret + math.hypot(0.7, 1.3)


@pytest.mark.parametrize(
    ("mask", "expected"),
    [
        (np.zeros((4, 4)), (0, 0)),
        (np.ones((1, 1)), (1, 1)),
        (np.ones((1, 7)), (7, 1)),
        (np.ones((7, 1)), (7, 1)),
        (
            np.eye(2),
            (math.sqrt(5), math.sqrt(5) / 3),
        ),  # a diagonal of a rectangle of sqrt(9/2) x sqrt(1/2), and across it
    ],
)
def test_small_masks(mask, expected):
    assert measured(mask) == pytest.approx(expected)


def test_a_hole_changes_nothing_and_a_dent_is_spanned():
    block = np.ones((6, 9), bool)
    holed = block.copy()
    holed[2:4, 3:6] = False
    dented = block.copy()
    dented[0, 3:6] = False
    assert measured(holed) == measured(dented) == measured(block)


def test_a_stray_pixel_does_not_count():
    nodule = np.zeros((9, 20), bool)
    nodule[2:7, 2:8] = True
    strayed = nodule.copy()
    strayed[4, 17] = True
    assert measured(strayed) == measured(nodule)


def test_of_several_parts_the_longest_counts():
    mask = np.zeros((9, 12), bool)
    mask[:4, :4] = True
    mask[8, :7] = True
    assert measured(mask) == (7, 1)


def test_anisotropic_pixels():
    assert measured(np.ones((4, 1)), (2.0, 0.5)) == pytest.approx((8.0, 0.5))
    assert measured(np.ones((1, 4)), (2.0, 0.5))[0] == pytest.approx(2.5)  # from (0, 0.25) to (2, 1.75) mm


@pytest.mark.parametrize("radius", [2.5, 4.0, 8.0, 16.0, 40.0])
def test_a_disc_measures_its_diameter_within_a_pixel(radius):
    """The figures of the docstring of `axes`."""
    centers = np.random.default_rng(0).uniform(44, 46, (20, 2))
    y, x = np.mgrid[:90, :90]
    discs = np.stack([np.hypot(y - cy, x - cx) < radius for cy, cx in centers])
    excess = axes(discs, (1.0, 1.0)).mean(axis=0) - 2 * radius
    assert 0.3 < excess[0] < 0.95
    assert -0.1 < excess[1] < excess[0]
