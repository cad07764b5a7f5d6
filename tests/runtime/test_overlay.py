"""The pictures: outlines lie on the masks' edges, everything is shown, and any shape of image works."""

import dataclasses

import numpy as np
import pytest

from medseg_runtime.drawing import View, draw_outline, inferno, outline_curves, outline_on_screen, photograph
from medseg_runtime.imaging import Box
from medseg_runtime.overlay import BY_SIZE, CONSENSUS, NOTICE, _zoom, draw_overlay, draw_samples, key_figures
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


@pytest.mark.parametrize("seed", range(5))
def test_curves_join_the_middles_of_the_border_edges_and_nothing_else(seed):
    mask = random_mask(seed)
    curves = outline_curves(mask)
    ends = [tuple(point) for curve in curves for point in (curve[0], curve[-1])]
    assert set(ends) == edge_middles(mask)
    assert all(ends.count(end) == 2 for end in ends)  # closed: each middle ends two pieces


def test_a_pixel_alone_is_a_rounded_square_and_corner_neighbours_stay_apart():
    curves = outline_curves(np.eye(2, dtype=bool))
    assert len(curves) == 8
    middles = curves[:, len(curves[0]) // 2]
    centre = np.where(middles.sum(axis=1) < 2, 0.5, 1.5)[:, None]  # of the pixel that the curve belongs to
    np.testing.assert_allclose(np.linalg.norm(middles - centre, axis=1), np.sqrt(2) * 3 / 8)


def test_an_empty_mask_has_no_outline():
    assert outline_curves(np.zeros((5, 7), bool)).shape[0] == 0


@pytest.mark.parametrize("box", [Box(x=0, y=0, width=12, height=9), Box(x=3, y=2, width=6, height=7)])
def test_ink_lies_on_the_masks_edges_and_only_there(box):
    view = View.fitting(box, 200)
    mask = np.zeros((9, 12), bool)
    mask[3:7, 4:8] = True
    canvas = np.zeros((view.size[1], view.size[0], 3), np.float32)
    draw_outline(canvas, outline_on_screen(mask, view), (255, 255, 255), width=2)
    ink = canvas[..., 0]
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
    view = View.fitting(Box(x=0, y=0, width=1000, height=3000), 300)
    canvas = np.zeros((300, 100, 3), np.float32)
    draw_outline(canvas, outline_on_screen(mask, view), (255, 255, 255), width=1.5)
    y, x = np.nonzero(canvas[..., 0] > 100)
    assert (abs(np.array([x.min(), x.max(), y.min(), y.max()]) - [20, 79, 100, 199]) <= 1).all()


def test_the_confidence_colours_get_brighter():
    luma = inferno(np.linspace(0, 1, 65, dtype=np.float32)) @ [0.299, 0.587, 0.114]
    assert (np.diff(luma) > 0).all()


def test_a_photograph_is_robust_to_outliers_and_to_flat_images():
    pixels = np.tile(np.arange(100, dtype=np.int16), (100, 1)) - 1000
    pixels[0, 0] = 30000
    view = View.fitting(Box(x=0, y=0, width=100, height=100), 100)
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


def colour_present(picture, colour, tolerance=40):
    return (np.abs(np.asarray(picture, int) - colour).max(axis=-1) <= tolerance).any()


@pytest.mark.parametrize("shape", [(128, 128), (64, 200), (301, 77), (2, 2), (3, 500), (700, 900), (90, 110, 3)])
@pytest.mark.parametrize("samples", [1, 5])
def test_any_shape_and_number(shape, samples):
    pixels = np.random.default_rng(0).integers(0, 255, shape).astype(np.uint8)
    segmentation = toy_segmenter(toy_manifest(geometry="resize"))(pixels, samples=samples)
    overlay = draw_overlay(pixels, segmentation, title="a title " * 40)
    assert max(overlay.size) < 2000
    assert colour_present(overlay, CONSENSUS[0])  # in the key at least
    grid = draw_samples(pixels, segmentation)
    assert colour_present(grid, BY_SIZE[0]) == segmentation.masks.any()  # none in 2x2 pixels


def test_every_sample_is_drawn():
    pixels = np.zeros((64, 64), np.uint8)
    masks = np.zeros((9, 64, 64), bool)
    for k in range(9):
        masks[k, 20 * (k // 3) + 2 : 20 * (k // 3) + 16, 20 * (k % 3) + 2 : 20 * (k % 3) + 16] = True
    segmentation = dataclasses.replace(
        toy_segmenter()(pixels, 9),
        kept_masks=masks,
        consensus=np.zeros((64, 64), bool),
        confidence=masks.mean(axis=0, dtype=np.float32),
        areas=masks.sum(axis=(1, 2)),
    )
    overlay = np.asarray(draw_overlay(pixels, segmentation), int)
    top, left = 52, 24  # of the left panel: heading and margin
    for k in range(9):
        x, y = left + 10 * (20 * (k % 3) + 2), top + 10 * (20 * (k // 3) + 9)  # 10 screen pixels each, at the left edge
        assert overlay[y, x - 2 : x + 3].max() > 100
        assert overlay[y, x + 10 : x + 130].max() == 0


def test_several_classes_have_a_colour_each():
    pixels = np.full((96, 128, 3), 90, np.uint8)
    segmentation = toy_segmenter(toy_manifest(classes=("disc", "cup"), geometry="resize", channels=3))(pixels, 8)
    overlay = draw_overlay(pixels, segmentation)
    assert colour_present(overlay, CONSENSUS[0])
    assert colour_present(overlay, CONSENSUS[1])


def test_the_grid_stops_at_64():
    pixels = np.zeros((128, 128), np.uint8)
    segmenter = toy_segmenter()
    assert draw_samples(pixels, segmenter(pixels, 64)).size == draw_samples(pixels, segmenter(pixels, 70)).size


def test_key_figures_say_what_is_empty_and_skip_what_is_undefined():
    pixels = np.zeros((128, 128), np.uint8)
    one, many = (toy_segmenter()(pixels, samples) for samples in (1, 4))
    assert len(key_figures(one)) == 2
    assert "mean pairwise IoU 0." in key_figures(many)[1]
    object.__setattr__(many, "areas", np.array([0, 5, 0, 7]))
    assert key_figures(many)[0] == "4 samples, 2 of them empty"
    assert key_figures(many)[2] == "area 0 to 7 px"


def test_drawing_is_deterministic_and_the_notice_is_in_words():
    pixels = np.zeros((128, 128), np.uint8)
    first, second = (draw_overlay(pixels, toy_segmenter()(pixels, 4)).tobytes() for _ in range(2))
    assert first == second
    assert "not a medical device" in NOTICE
