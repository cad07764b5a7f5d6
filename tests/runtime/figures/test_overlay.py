"""The pictures: outlines lie on the masks' edges, everything is shown, and any shape of image works."""

import dataclasses
import tracemalloc

import numpy as np
import pytest

from medseg_runtime.figures.contours import curves, joined, outline_on_screen, outlines_on_screen, paint_outline
from medseg_runtime.figures.overlay import (
    BY_SIZE,
    CONSENSUS,
    NOTICE,
    _locator,
    _zoom,
    key_figures,
    render_overlay,
    render_samples,
)
from medseg_runtime.figures.photo import colored, inferno, photograph
from medseg_runtime.figures.viewport import Viewport
from medseg_runtime.model.preprocess import Box
from medseg_runtime.testing import toy_manifest, toy_segmenter


def random_mask(seed, shape=(9, 12)):
    return np.random.default_rng(seed).random(shape) > 0.5


def edge_middles(mask):
    """The middle of every pixel edge between inside and outside, the slow way."""
    padded = np.pad(mask, 1)
    found = set()
    for y, x in np.argwhere(padded):
        for dy, dx in ((0, 1), (1, 0), (0, -1), (-1, 0)):
            if not padded[y + dy, x + dx]:
                found.add((x - 0.5 + dx / 2, y - 0.5 + dy / 2))
    return found


def drawn_curves(mask, points=5):
    """(curves, points, 2) the course of the outline, in pixels of the image."""
    height, width = mask.shape
    outline = outline_on_screen(mask, Viewport(Box(x=0, y=0, width=width, height=height), 1.0))
    corners = [
        np.array([x, y]) + curves(turn, points) for x, y, turn in zip(outline.x, outline.y, outline.turn, strict=True)
    ]
    return np.concatenate(corners).reshape(-1, points, 2) if corners else np.zeros((0, points, 2))


@pytest.mark.parametrize("seed", range(5))
def test_curves_join_the_middles_of_the_border_edges_and_nothing_else(seed):
    mask = random_mask(seed)
    ends = [tuple(point) for curve in drawn_curves(mask) for point in (curve[0], curve[-1])]
    assert set(ends) == edge_middles(mask)
    assert all(ends.count(end) == 2 for end in ends)  # closed: each middle ends two pieces


def test_a_pixel_alone_is_a_rounded_square_and_corner_neighbours_stay_apart():
    for touching in (np.eye(2, dtype=bool), np.eye(2, dtype=bool)[::-1]):
        middles = drawn_curves(touching)[:, 2]
        assert len(middles) == 8
        centers = np.argwhere(touching)[:, ::-1] + 0.5
        nearest = np.linalg.norm(middles[:, None] - centers, axis=2).min(axis=1)
        np.testing.assert_allclose(nearest, np.sqrt(2) * 3 / 8)


def test_an_empty_mask_has_no_outline():
    assert len(drawn_curves(np.zeros((5, 7), bool))) == 0


@pytest.mark.parametrize("box", [Box(x=0, y=0, width=12, height=9), Box(x=3, y=2, width=6, height=7)])
def test_ink_lies_on_the_masks_edges_and_only_there(box):
    view = Viewport.fitting(box, 200)
    mask = np.zeros((9, 12), bool)
    mask[3:7, 4:8] = True
    canvas = np.zeros((view.size[1], view.size[0], 3), np.uint8)
    paint_outline(canvas, outline_on_screen(mask, view), (255, 255, 255), width=2)
    ink = canvas[..., 0].astype(int)
    on_screen = [((x - box.x) * view.scale, (y - box.y) * view.scale) for x, y in edge_middles(mask)]
    for x, y in on_screen:
        assert ink[int(y) - 1 : int(y) + 1, int(x) - 1 : int(x) + 1].max() > 200
    y, x = np.nonzero(ink > 0)
    left, right = (4 - box.x) * view.scale, (8 - box.x) * view.scale
    top, bottom = (3 - box.y) * view.scale, (7 - box.y) * view.scale
    assert abs(x.min() - left) <= 2
    assert abs(x.max() + 1 - right) <= 2
    assert abs(y.min() - top) <= 2
    assert abs(y.max() + 1 - bottom) <= 2
    inside = ink[
        int(top + view.scale / 2) : int(bottom - view.scale / 2),
        int(left + view.scale / 2) : int(right - view.scale / 2),
    ]
    assert inside.max() == 0


def test_reduced_images_are_outlined_too():
    mask = np.zeros((3000, 1000), bool)
    mask[1000:2000, 200:800] = True
    view = Viewport.fitting(Box(x=0, y=0, width=1000, height=3000), 300)
    canvas = np.zeros((300, 100, 3), np.uint8)
    paint_outline(canvas, outline_on_screen(mask, view), (255, 255, 255), width=1.5)
    y, x = np.nonzero(canvas[..., 0] > 100)
    assert (abs(np.array([x.min(), x.max(), y.min(), y.max()]) - [20, 79, 100, 199]) <= 1).all()


def test_the_confidence_colors_get_brighter():
    luma = inferno(np.linspace(0, 1, 65, dtype=np.float32)) @ [0.299, 0.587, 0.114]
    assert (np.diff(luma) > 0).all()


def test_the_confidence_covers_what_any_sample_marks_and_dims_the_rest():
    values = np.zeros((6, 8), np.float32)
    values[1, 2], values[4, 5] = 1e-3, 1
    view = Viewport.fitting(Box(x=0, y=0, width=8, height=6), 80)
    photo = np.full((60, 80, 3), 100, np.uint8)
    canvas = colored(photo, values, view)
    shown = canvas[5::10, 5::10].astype(int)  # the middle of each pixel
    assert (shown[values == 0] == 50).all()
    assert (canvas.reshape(6, 10, 8, 10, 3) == canvas[5::10, None, 5::10, None]).all()
    for value, at in ((0, (1, 2)), (1, (4, 5))):
        assert np.abs(shown[at] - (5 + 0.9 * inferno(np.float32(value)))).max() <= 2


def test_lines_that_cross_are_laid_over_each_other_and_one_line_is_laid_once():
    mask = np.zeros((9, 9), bool)
    mask[3:6, 3:6] = True
    view = Viewport.fitting(Box(x=0, y=0, width=9, height=9), 90)
    once, twice = np.zeros((2, 90, 90, 3), np.uint8)
    outline = outline_on_screen(mask, view)
    paint_outline(once, outline, (200, 200, 200), width=3, opacity=0.5)
    assert once.max() == 100  # nowhere twice as much, though the patches of its corners overlap
    for _ in range(2):
        paint_outline(twice, outline, (200, 200, 200), width=3, opacity=0.5)
    assert twice.max() == 150


def test_outlines_drawn_together_are_those_drawn_one_by_one():
    masks = np.zeros((20, 40, 8), bool)  # more than are sought at once
    for k in range(20):
        masks[k, 2 * k : 2 * k + 1, k % 5 : 5 + k % 4] = True
    view = Viewport.fitting(Box(x=1, y=3, width=6, height=30), 120)  # and some lie outside
    shades = np.random.default_rng(0).integers(50, 255, (20, 3)).astype(np.float32)
    apart, together = np.zeros((2, 120, 60 * 20, 3), np.uint8)
    outlines = [outline.moved(60 * k, 0) for k, outline in enumerate(outlines_on_screen(masks, view))]
    for outline, shade in zip(outlines, shades, strict=True):
        paint_outline(apart, outline, shade, width=1.5)
    each = np.repeat(shades, [len(outline.turn) for outline in outlines], axis=0)
    paint_outline(together, joined(outlines), each, width=1.5)
    for k, mask in enumerate(masks):
        alone = np.zeros_like(apart)
        paint_outline(alone, outline_on_screen(mask, view).moved(60 * k, 0), shades[k], width=1.5)
        assert alone.any() == (2 <= 2 * k <= 32)  # the lower edge of row 2 is the upper edge of the view
    np.testing.assert_array_equal(apart, together)


def test_a_photograph_is_robust_to_outliers_and_to_flat_images():
    pixels = np.tile(np.arange(100, dtype=np.int16), (100, 1)) - 1000
    pixels[0, 0] = 30000
    view = Viewport.fitting(Box(x=0, y=0, width=100, height=100), 100)
    shown = photograph(pixels, view)
    assert shown[50, 90, 0] > 200
    assert photograph(np.zeros((100, 100), np.float32), view).max() == 0


def test_a_small_finding_is_enlarged_and_kept_inside_the_view():
    masks = np.zeros((3, 1, 512, 512), bool)
    masks[:, :, 500:508, 3:11] = True
    box = _zoom(masks, Box(x=0, y=0, width=512, height=512), 0.36, 32)
    assert box.width == box.height == 32
    assert (box.x, box.y + box.height) == (0, 512)
    masks[:, :, 100:400, 100:400] = True
    assert _zoom(masks, Box(x=0, y=0, width=512, height=512), 0.36, 32) == Box(x=0, y=0, width=512, height=512)


def color_present(picture, color, tolerance=40):
    return (np.abs(np.asarray(picture, int) - color).max(axis=-1) <= tolerance).any()


@pytest.mark.parametrize("shape", [(128, 128), (64, 200), (301, 77), (2, 2), (3, 500), (700, 900), (90, 110, 3)])
@pytest.mark.parametrize("samples", [1, 5])
def test_any_shape_and_number(shape, samples):
    pixels = np.random.default_rng(0).integers(0, 255, shape).astype(np.uint8)
    segmentation = toy_segmenter(toy_manifest(geometry="resize"))(pixels, samples=samples)
    overlay = render_overlay(pixels, segmentation, title="a title " * 40)
    assert max(overlay.shape) < 2000
    assert color_present(overlay, CONSENSUS[0])  # in the key at least
    grid = render_samples(pixels, segmentation)
    assert color_present(grid, BY_SIZE[0]) == segmentation.masks.any()  # none in 2x2 pixels


def test_an_outline_of_a_much_enlarged_pixel_lies_on_its_curve_and_needs_no_more_memory_than_the_picture():
    """Each pixel is 170 on the screen wide: all these times all points of the curve would be gigabytes."""
    mask, width = np.pad([[True]], 1), 3.3
    canvas = np.zeros((510, 510, 3), np.uint8)
    outline = outline_on_screen(mask, Viewport(Box(x=0, y=0, width=3, height=3), 170.0))
    tracemalloc.start()
    paint_outline(canvas, outline, (255, 255, 255), width=width)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 30 * 2**20
    inked = np.argwhere(canvas.any(axis=-1)) + 0.5
    course = 170 * drawn_curves(mask, points=500).reshape(-1, 2)[:, ::-1]
    apart = np.linalg.norm(inked[:, None] - course[None], axis=2)
    assert apart.min(axis=1).max() < width / 2 + 1
    assert apart.min(axis=0).max() < 1


def test_every_sample_is_drawn():
    pixels = np.zeros((64, 64), np.uint8)
    masks = np.zeros((9, 64, 64), bool)
    for k in range(9):
        masks[k, 20 * (k // 3) + 2 : 20 * (k // 3) + 16, 20 * (k % 3) + 2 : 20 * (k % 3) + 16] = True
    segmentation = dataclasses.replace(
        toy_segmenter()(pixels, samples=9),
        kept_masks=masks,
        consensus=np.zeros((64, 64), bool),
        confidence=masks.mean(axis=0, dtype=np.float32),
        areas=masks.sum(axis=(1, 2)),
    )
    overlay = render_overlay(pixels, segmentation)
    top, left = 52, 24  # of the left panel: heading and margin
    for k in range(9):
        x, y = left + 8 * (20 * (k % 3) + 2), top + 8 * (20 * (k // 3) + 9)  # 8 screen pixels each, at the left edge
        assert overlay[y, x - 2 : x + 3].max() > 100
        assert overlay[y, x + 8 : x + 104].max() == 0


def test_several_classes_have_a_color_each():
    pixels = np.full((96, 128, 3), 90, np.uint8)
    segmentation = toy_segmenter(toy_manifest(classes=("disc", "cup"), geometry="resize", channels=3))(
        pixels, samples=8
    )
    overlay = render_overlay(pixels, segmentation)
    assert color_present(overlay, CONSENSUS[0])
    assert color_present(overlay, CONSENSUS[1])


def test_the_grid_stops_at_64():
    pixels = np.zeros((128, 128), np.uint8)
    segmenter = toy_segmenter()
    assert (
        render_samples(pixels, segmenter(pixels, samples=64)).shape
        == render_samples(pixels, segmenter(pixels, samples=70)).shape
    )


def test_key_figures_say_what_is_empty_and_skip_what_is_undefined():
    pixels = np.zeros((128, 128), np.uint8)
    one, many = (toy_segmenter()(pixels, samples=samples) for samples in (1, 4))
    assert len(key_figures(one)) == 2
    assert "mean pairwise IoU 0." in key_figures(many)[1]
    object.__setattr__(many, "areas", np.array([0, 5, 0, 7]))
    assert key_figures(many)[0] == "4 samples, 2 of them empty"
    assert key_figures(many)[2] == "area 0 to 7 px"


def test_drawing_is_deterministic_and_the_notice_is_in_words():
    pixels = np.zeros((128, 128), np.uint8)
    first, second = (render_overlay(pixels, toy_segmenter()(pixels, samples=4)).tobytes() for _ in range(2))
    assert first == second
    assert "not a medical device" in NOTICE


@pytest.mark.parametrize(("width", "height"), [(16000, 1070), (1070, 16000), (12000, 805)])
def test_the_frame_of_the_small_map_stays_in_it(width, height):
    """A map of a long picture is a few pixels high, and rounds that down."""
    view = Viewport.fitting(Box(x=width - 64, y=height - 64, width=64, height=64), 512)
    small = _locator(np.zeros((height, width), np.uint8), view)
    rows, columns = np.nonzero((small == CONSENSUS[0]).all(axis=-1))
    assert 0 < len(rows) <= 4
    assert rows.max() >= small.shape[0] - 2
    assert columns.max() >= small.shape[1] - 2
