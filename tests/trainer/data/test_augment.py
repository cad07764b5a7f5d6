"""Augmentation: image and labels move together, within their bounds, as functions of (seed, step)."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from medseg_trainer.config.run import AugmentConfig
from medseg_trainer.data.augment import Draw, augmented
from medseg_trainer.data.working_set import WorkingSet
from tests.trainer.data.batches import (
    COLOR,
    LIVELY,
    NATIVE,
    OBLONG,
    STILL,
    make_case,
    source,
    working_set,
)


def marked_set(row, column, side=64):
    """Return one image that is bright, and marked by both raters, in one place."""
    image = np.zeros((1, 1, side, side), np.float16)
    labels = np.zeros((1, 2, side, side), np.uint8)
    image[0, 0, row : row + 2, column : column + 3] = 1.0
    labels[0, :, row : row + 2, column : column + 3] = 1
    return WorkingSet(image, labels, 1)


@pytest.mark.parametrize("augment", [LIVELY, replace(LIVELY, intensity=0.0)], ids=["with intensity", "moves alone"])
def test_image_and_labels_move_together(augment):
    batches = source(marked_set(26, 33), augment=augment)
    seen = set()
    for step in range(60):
        batch = batches[step]
        bright = batch.image[0, 0] > 0.5
        for rater in range(2):
            np.testing.assert_array_equal(bright, batch.labels[0, rater] > 0)
        seen.add(tuple(bright.nonzero()[0].tolist()) + tuple(bright.any(dim=1).nonzero().shape))
    assert len(seen) > 30  # the structure moved


def blob_set(value=1):
    """Return one image without symmetries that equals its mask; value: the label."""
    labels = np.zeros((1, 1, 64, 64), np.uint8)
    labels[0, 0, 24:40, 28:34], labels[0, 0, 36:40, 34:42] = value, value
    return WorkingSet((labels > 0).astype(np.float16), labels, 1)


def test_turned_and_zoomed_images_keep_their_masks_in_place():
    batches = source(blob_set(2), augment=AugmentConfig(shift_px=4, rotation_deg=180.0, zoom=0.3))
    areas = []
    for step in range(60):
        batch = batches[step]
        np.testing.assert_array_equal(batch.labels[0, 0] > 0, batch.image[0, 0] > 0.5)
        assert set(np.unique(batch.labels)) <= {0, 2}
        areas.append(int((batch.labels > 0).sum()))
    whole = (blob_set().labels > 0).sum()
    assert min(areas) < whole / 1.3 < whole * 1.3 < max(areas)  # nearly the extremes: 1 / 1.69 and 1.69
    assert whole / 1.8 < min(areas)
    assert max(areas) < whole * 1.8


@pytest.mark.parametrize(("quarters", "angle"), [(1, np.pi / 2), (2, np.pi), (3, -np.pi / 2)])
def test_a_quarter_turn_is_the_exact_one(quarters, angle):
    data = blob_set()
    still = (False, False, False)
    field, labels = augmented(data.images[0], data.labels[0], NATIVE, Draw(0, 0, still, None, (angle, 1.0)))
    expected = np.rot90(data.labels[0, 0, 16:48, 16:48], -quarters)
    np.testing.assert_array_equal(labels[0], expected)
    np.testing.assert_allclose(field[0], expected, atol=1e-5)


def test_pixels_from_outside_repeat_the_edge_and_have_no_mask():
    data = WorkingSet(np.ones((1, 1, 32, 32), np.float16), np.ones((1, 1, 32, 32), np.uint8), 1)
    field, labels = augmented(
        data.images[0], data.labels[0], NATIVE, Draw(0, 0, (False, False, False), None, (np.pi / 4, 1.0))
    )
    np.testing.assert_allclose(field, 1.0)
    assert not labels[0, [0, 0, -1, -1], [0, -1, 0, -1]].any()
    assert labels[0, 16, 16] == 1


def test_rotation_does_not_change_the_other_random_choices():
    turned = replace(LIVELY, rotation_deg=90.0, zoom=0.2)
    plain, other = (Draw.of(np.random.default_rng(3), augment) for augment in (LIVELY, turned))
    assert replace(other, turn=None) == plain
    assert other.turn is not None


def test_a_share_of_the_images_is_turned():
    rng, augment = np.random.default_rng(0), AugmentConfig(rotation_deg=180.0, turn_share=0.25)
    turned = sum(Draw.of(rng, augment).turn is not None for _ in range(2000))
    assert 430 < turned < 570  # 500, and three and a half deviations


def test_the_eight_symmetries_all_occur_and_nothing_else():
    batches = source(marked_set(18, 20), augment=AugmentConfig(shift_px=0, flip=True))
    field = batches.data.labels[0, 0, 16:48, 16:48]
    expected = {np.rot90(side, k).tobytes() for side in (field, field.T) for k in range(4)}
    assert {batches[step].labels[0, 0].numpy().tobytes() for step in range(80)} == expected


def test_a_field_that_is_not_square_is_never_transposed():
    batches = source(marked_set(30, 30), OBLONG, replace(LIVELY, shift_px=0))
    assert {tuple(batches[step].labels.shape) for step in range(20)} == {(1, 2, 16, 48)}


@pytest.mark.parametrize("shift", [16, 40])  # to the working image's edge, and beyond
def test_shifts_reach_their_limit_and_no_further(shift):
    ramp = np.linspace(0, 1, 64).astype(np.float16)
    image = np.broadcast_to(ramp[:, None], (1, 1, 64, 64))
    batches = source(
        WorkingSet(image, np.ones((1, 1, 64, 64), np.uint8), 1), augment=AugmentConfig(shift_px=shift, flip=False)
    )
    shifts = []
    for step in range(300):
        shifts.append(Draw.of(np.random.default_rng((batches.seed, 1, step)), batches.augment).down)
        rows = np.arange(16, 48) + shifts[-1]
        batch = batches[step]
        np.testing.assert_array_equal(batch.image[0, 0, :, 0], ramp[np.clip(rows, 0, 63)])  # the edge is repeated ...
        assert not batch.labels[0, 0, (rows < 0) | (rows > 63)].any()  # ... and has no mask
    assert (min(shifts), max(shifts)) == (-shift, shift)


def test_a_tint_changes_each_color_by_itself_and_the_labels_not_at_all():
    case = make_case(32, 32, channels=3)
    case.image[:] = 128
    data = working_set(case, rule=COLOR)
    batch = source(data, COLOR, replace(STILL, tint=0.2))[0]
    gains = batch.image[0, :, 0, 0].numpy() / (128 / 255)
    assert len(np.unique(gains)) == 3
    assert (np.abs(gains - 1) <= 0.201).all()
    assert torch.equal(batch.labels, source(data, COLOR)[0].labels)


def test_changed_intensities_stay_in_range_and_in_order():
    ramp = np.broadcast_to(np.linspace(0, 1, 64), (1, 1, 64, 64)).astype(np.float16)
    batches = source(WorkingSet(ramp, np.zeros((1, 1, 64, 64), np.uint8), 1), augment=replace(STILL, intensity=0.4))
    fields = np.stack([batches[step].image[0, 0, 0].numpy() for step in range(50)])
    assert fields.dtype == np.float32
    assert fields.min() >= 0.0
    assert fields.max() <= 1.0
    assert (np.diff(fields, axis=1) >= 0).all()
    assert np.ptp(fields[:, 16]) > 0.2
