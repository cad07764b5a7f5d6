"""Areas of annotations, held against COCO's own library and against Pillow."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageDraw

from medseg_trainer.data.polygons import circle, filled_polygon, rectangle, run_length_mask

H, W = 40, 60
RNG = np.random.default_rng(0)
STAR = [
    (30 + (18 if k % 2 else 7) * np.cos(k * np.pi / 5), 20 + (18 if k % 2 else 7) * np.sin(k * np.pi / 5))
    for k in range(10)
]


def dice(one, other):
    return 2 * (one & other).sum() / max(one.sum() + other.sum(), 1)


def test_a_pixel_is_inside_if_its_center_is():
    area = filled_polygon(rectangle([(10, 5), (20, 9)]), H, W)
    assert area.sum() == 10 * 4
    assert area[5:9, 10:20].all()
    assert filled_polygon([(10.4, 5.4), (20.6, 5.4), (20.6, 9.6), (10.4, 9.6)], H, W).sum() == 11 * 5


@pytest.mark.parametrize("moved", [(0, 0), (-20, 0), (35, 25), (-100, 0), (3.3, -15.7)])
def test_what_is_outside_of_the_image_is_cut_off(moved):
    points = np.array(STAR) + moved
    whole = filled_polygon(points + 200, 600, 600)
    np.testing.assert_array_equal(filled_polygon(points, H, W), whole[200 : 200 + H, 200 : 200 + W])


def test_a_polygon_that_crosses_itself_has_holes():
    bridge = [(5, 5), (45, 5), (45, 35), (5, 35), (5, 5), (15, 15), (15, 25), (35, 25), (35, 15), (15, 15)]
    area = filled_polygon(bridge, H, W)
    assert area[10, 30]
    assert not area[20, 25]
    assert area.sum() == 40 * 30 - 20 * 10


def test_pillow_fills_the_same_polygon_up_to_its_border():
    picture = Image.new("1", (10 * W, 10 * H))
    ImageDraw.Draw(picture).polygon([(10 * x, 10 * y) for x, y in STAR], fill=1)
    ten_times = filled_polygon(np.array(STAR) * 10, 10 * H, 10 * W)
    assert dice(ten_times, np.asarray(picture)) > 0.99


def test_a_circle_has_its_area():
    area = filled_polygon(circle([(30, 20), (30, 35)]), H, W)
    assert area.sum() == pytest.approx(np.pi * 15**2, rel=0.02)


@pytest.mark.parametrize(
    "points", [[], [(1, 1)], [(1, 1), (2, 2)], [(np.nan, 1), (2, 2), (3, 1)], [(1e300, 1), (2, 2), (3, 1)], [1, 2, 3]]
)
def test_what_is_no_polygon_is_an_error(points):
    with pytest.raises(ValueError, match="a polygon needs"):
        filled_polygon(points, H, W)


@settings(max_examples=100, deadline=None)
@given(st.lists(st.tuples(st.floats(-80, 120), st.floats(-80, 120)), min_size=3, max_size=9))
def test_no_polygon_needs_more_than_the_image(points):
    assert filled_polygon(points, H, W).shape == (H, W)


@pytest.mark.parametrize("compressed", [False, True])
@pytest.mark.parametrize("share", [0.0, 0.02, 0.5, 1.0])
def test_run_lengths_are_those_of_coco(share, compressed):
    coco = pytest.importorskip("pycocotools.mask")
    expected = RNG.random((H, W)) < share
    text = coco.encode(np.asfortranarray(expected.astype(np.uint8)))["counts"].decode()
    column_major = expected.T.reshape(-1)
    ends = np.flatnonzero(np.diff(np.concatenate([[False], column_major])) != 0)
    counts = np.diff(np.concatenate([[0], ends, [H * W]])).tolist()
    np.testing.assert_array_equal(run_length_mask(text if compressed else counts, H, W), expected)


@pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept a copy keyword:DeprecationWarning")
def test_polygons_are_those_of_coco_up_to_their_border():
    coco = pytest.importorskip("pycocotools.mask")
    points = np.array(STAR) * 10
    theirs = coco.decode(coco.merge(coco.frPyObjects([points.reshape(-1).tolist()], 10 * H, 10 * W))) > 0
    assert dice(filled_polygon(points, 10 * H, 10 * W), theirs) > 0.99


@pytest.mark.parametrize("counts", [[5], [-1, 2401], ["5"], "", "~~~", "o", "o" * 99, {"a": 1}, [2400.0], None])
def test_run_lengths_that_do_not_fill_the_image_are_an_error(counts):
    with pytest.raises(ValueError, match="run lengths"):
        run_length_mask(counts, H, W)
