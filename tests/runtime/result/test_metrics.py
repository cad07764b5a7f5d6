"""The definitions of GED, HM-IoU, diversity and calibration, by hand and by brute force."""

import math
from fractions import Fraction
from itertools import permutations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from medseg_runtime.result import metrics
from medseg_runtime.result.uncertainty import confidence


def mask(*pixels, size=32):
    """Return a mask of the numbered pixels."""
    return np.isin(np.arange(size), pixels)


def masks(count):
    return hnp.arrays(bool, (count, 2, 3))


EMPTY = mask()


# --- generalised energy distance ---------------------------------------------------------------------------------------


def test_identity_of_samples_from_frame_to_frame():
    discs = np.zeros((3, 12, 12), bool)
    for k in range(3):
        discs[k, : 2 + 3 * k, : 2 + 3 * k] = True
    kept = metrics.Identity.of(discs, discs)
    assert (kept.same, kept.gain) == (1.0, pytest.approx(1.0 - kept.others))
    assert kept.others == pytest.approx(np.mean([4 / 25, 4 / 64, 25 / 64]))
    exchanged = metrics.Identity.of(discs, discs[[1, 2, 0]])
    assert exchanged.gain < 0
    assert metrics.Identity.of(discs[[0, 0, 0]], discs[[1, 1, 1]]).gain == pytest.approx(0)
    empty = np.zeros((2, 4, 4), bool)
    assert (metrics.Identity.of(empty, empty).same, metrics.Identity.of(empty, empty).gain) == (1.0, 0.0)


def test_ged_by_hand():
    # S = {0,1}, {}; Y = {0,1}, {1,2}, {}. d({0,1},{1,2}) = 1 - 1/3 = 2/3; empty against anything else 1; same masks 0.
    # E d(S,Y) = (0 + 2/3 + 1 + 1 + 1 + 0) / 6 = 11/18
    # E d(S,S') = (0 + 1 + 1 + 0) / 4 = 1/2
    # E d(Y,Y') = 2 (2/3 + 1 + 1) / 9 = 16/27
    # GED = 11/9 - 1/2 - 16/27 = 7/54
    samples, raters = np.stack([mask(0, 1), EMPTY]), np.stack([mask(0, 1), mask(1, 2), EMPTY])
    assert metrics.generalized_energy_distance(samples, raters) == pytest.approx(7 / 54, abs=1e-15)


@given(st.integers(1, 4).flatmap(masks))
def test_ged_of_the_same_set_is_zero(raters):
    assert metrics.generalized_energy_distance(raters, raters) == pytest.approx(0.0, abs=1e-15)
    repeated = np.repeat(raters, 3, axis=0)  # the same distribution
    assert metrics.generalized_energy_distance(repeated, raters) == pytest.approx(0.0, abs=1e-15)


@given(masks(3), masks(4))
def test_ged_is_symmetric_and_not_negative(samples, raters):
    forth, back = (metrics.generalized_energy_distance(*sets) for sets in ((samples, raters), (raters, samples)))
    assert forth == pytest.approx(back, abs=1e-12)
    assert forth >= -1e-12  # 1 - IoU is a metric of negative type


def test_ged_of_empty_masks_when_two_of_four_raters_marked():
    # E d(S,Y) = 1/2, E d(S,S') = 0, E d(Y,Y') = 8/16 where both draw the same: GED = 1 - 0 - 1/2
    samples = np.stack([EMPTY] * 16)
    assert metrics.generalized_energy_distance(samples, np.stack([EMPTY, EMPTY, mask(3), mask(3)])) == 0.5


@pytest.mark.parametrize("num_samples", [1, 4, 16])
def test_the_floor_of_independent_samples(num_samples):
    # PAPER.md: samples from the raters' own distribution score D (2 - (1 - 1/N) - 3/4) with four raters, D over i != j.
    # Draws from a distribution so wide that no two ever meet have D = 1, and no luck: 5/16 at N = 16.
    samples = np.stack([mask(k) for k in range(num_samples)])
    raters = np.stack([mask(20 + k) for k in range(4)])
    assert metrics.diversity(raters) == 1.0
    expected = 2 - (1 - 1 / num_samples) - 3 / 4
    assert metrics.generalized_energy_distance(samples, raters) == pytest.approx(expected, abs=1e-15)


def test_the_floor_holds_on_average_for_samples_that_do_meet():
    random = np.random.default_rng(0)
    shapes = np.stack([mask(*range(k)) for k in (0, 4, 6, 8)])  # any of four masks, each as likely
    pairs = 1 - np.array([[metrics.iou(a, b) for b in shapes] for a in shapes])
    scores = [
        metrics.generalized_energy_distance(shapes[random.integers(4, size=16)], shapes[random.integers(4, size=4)])
        for _ in range(2000)
    ]
    assert np.mean(scores) == pytest.approx(pairs.mean() * (2 - 15 / 16 - 3 / 4), rel=0.05)


# --- matched IoU -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("num_samples", "num_raters"), [(1, 1), (3, 2), (2, 3), (1, 4), (4, 1), (2, 4), (3, 3), (6, 4)]
)
def test_hm_iou_is_the_best_of_all_matchings(num_samples, num_raters):
    random = np.random.default_rng(num_samples)
    samples, raters = random.random((num_samples, 6)) < 0.5, random.random((num_raters, 6)) < 0.5
    size = math.lcm(num_samples, num_raters)
    many_samples, many_raters = np.tile(samples, (size // num_samples, 1)), np.tile(raters, (size // num_raters, 1))
    if size <= 6:
        best = max(
            np.mean([metrics.iou(a, many_raters[j]) for a, j in zip(many_samples, order, strict=True)])
            for order in permutations(range(size))
        )
    else:  # 12! orders are too many; the matching is a transport plan, which is a linear program
        best = transport(1 - np.array([[metrics.iou(a, b) for b in raters] for a in samples]))
    assert metrics.hungarian_matched_iou(samples, raters) == pytest.approx(best, abs=1e-12)


def transport(cost):
    """Return one less the least mean cost of moving a uniform distribution over rows to one over columns."""
    from scipy.optimize import linprog

    n, m = cost.shape
    rows, columns = np.kron(np.eye(n), np.ones(m)), np.kron(np.ones(n), np.eye(m))
    shares = np.concatenate([np.full(n, 1 / n), np.full(m, 1 / m)])
    return 1 - linprog(cost.ravel(), A_eq=np.concatenate([rows, columns]), b_eq=shares).fun


def test_hm_iou_by_hand():
    # Three samples {0}, {0}, {}; two raters {0,1}, {}. Six of each: {0} x4, {} x2 and {0,1} x3, {} x3.
    # Best: {0}-{0,1} x3 at 1/2, {}-{} x2 at 1, {0}-{} at 0: (3/2 + 2) / 6
    samples, raters = np.stack([mask(0), mask(0), EMPTY]), np.stack([mask(0, 1), EMPTY])
    assert metrics.hungarian_matched_iou(samples, raters) == pytest.approx(3.5 / 6)


# --- diversity, majority, overlap --------------------------------------------------------------------------------------


def test_diversity_is_over_pairs_of_different_samples():
    # {0}, {0}, {1}: three pairs at 0, 1, 1. With i = j it would be 4/9.
    assert metrics.diversity(np.stack([mask(0), mask(0), mask(1)])) == pytest.approx(2 / 3)
    assert metrics.diversity(np.stack([EMPTY] * 4)) == 0.0
    assert math.isnan(metrics.diversity(EMPTY[None]))


@pytest.mark.parametrize(("raters", "expected"), [(1, 1), (2, 1), (3, 2), (4, 2), (5, 3)])
def test_half_of_the_raters_are_a_majority(raters, expected):
    marked = np.arange(raters)[:, None] < np.arange(raters + 1)  # pixel k is marked by k raters
    assert metrics.majority(marked).tolist() == [k >= expected for k in range(raters + 1)]


@pytest.mark.parametrize(
    ("first", "second", "dice", "iou"),
    [
        (mask(0, 1, 2), mask(1, 2, 3, 4), 4 / 7, 2 / 5),  # 2 common; sizes 3 and 4
        (mask(0), mask(1), 0.0, 0.0),
        (mask(5), EMPTY, 0.0, 0.0),
        (mask(5, 6), mask(5, 6), 1.0, 1.0),
        (EMPTY, EMPTY, 1.0, 1.0),
    ],
)
def test_dice_and_iou(first, second, dice, iou):
    assert metrics.dice(first, second) == metrics.dice(second, first) == pytest.approx(dice, abs=1e-15)
    assert metrics.iou(first, second) == metrics.iou(second, first) == pytest.approx(iou, abs=1e-15)


# --- weights -----------------------------------------------------------------------------------------------------------


def with_counts(seed):
    """Return masks, how often each is drawn, and raters."""
    random = np.random.default_rng(seed)
    return random.random((4, 9)) < 0.4, random.integers(1, 5, 4), random.random((3, 9)) < 0.4


@pytest.mark.parametrize("seed", range(5))
def test_a_weight_is_as_good_as_repeating_the_mask(seed):
    few, counts, raters = with_counts(seed)
    many, weights = few.repeat(counts, axis=0), counts / counts.sum()
    ged, hm_iou = metrics.generalized_energy_distance, metrics.hungarian_matched_iou
    assert ged(few, raters, weights) == pytest.approx(ged(many, raters), abs=1e-12)
    assert hm_iou(few, raters, weights) == pytest.approx(hm_iou(many, raters), abs=1e-9)


def test_a_weight_of_zero_is_as_good_as_leaving_the_mask_out():
    few, _, raters = with_counts(0)
    weights = np.array([0.5, 0.0, 0.25, 0.25])
    kept, rest = few[weights > 0], weights[weights > 0]
    for figure in (metrics.generalized_energy_distance, metrics.hungarian_matched_iou):
        assert figure(few, raters, weights) == pytest.approx(figure(kept, raters, rest), abs=1e-9)


def test_empty_margins_change_no_figure():
    random = np.random.default_rng(0)
    samples, raters = random.random((5, 6, 7)) < 0.4, random.random((4, 6, 7)) < 0.4
    wide = [np.pad(masks, ((0, 0), (3, 1), (2, 5))) for masks in (samples, raters)]
    for field in ("samples", "raters", "across"):
        inside, outside = (metrics.Overlaps.of(*sets) for sets in ((samples, raters), wide))
        np.testing.assert_array_equal(getattr(inside, field), getattr(outside, field))
        assert getattr(inside, field)[0, 0] == metrics.iou(
            {"samples": samples, "raters": raters, "across": samples}[field][0],
            {"samples": samples, "raters": raters, "across": raters}[field][0],
        )


def test_the_overlaps_of_some_samples_are_those_of_a_smaller_set():
    random = np.random.default_rng(1)
    samples, raters = random.random((6, 4, 4)) < 0.4, random.random((4, 4, 4)) < 0.4
    for indices in (slice(3), np.array([4, 0])):
        some, alone = (
            metrics.Overlaps.of(samples, raters).of_samples(indices),
            metrics.Overlaps.of(samples[indices], raters),
        )
        assert (some.ged(), some.hm_iou(), some.sample_diversity) == (
            alone.ged(),
            alone.hm_iou(),
            alone.sample_diversity,
        )


# --- HD95 --------------------------------------------------------------------------------------------------------------


def border(mask):
    """Return the coordinates of the pixels with a 4-neighbour outside, one by one."""
    padded = np.pad(mask, 1)
    return np.array(
        [
            (y, x)
            for y, x in np.argwhere(mask)
            if not (padded[y, x + 1] and padded[y + 2, x + 1] and padded[y + 1, x] and padded[y + 1, x + 2])
        ]
    )


@pytest.mark.parametrize("spacing", [(1.0, 1.0), (0.7, 1.9)])
@pytest.mark.parametrize("seed", range(4))
def test_hd95_is_that_of_all_pairs_of_border_pixels(seed, spacing):
    random = np.random.default_rng(seed)
    first, second = (random.random((15, 12)) < share for share in (0.5, 0.1))
    a, b = border(first) * spacing, border(second) * spacing
    distances = np.linalg.norm(a[:, None] - b[None], axis=-1)
    expected = max(np.percentile(distances.min(axis=1), 95), np.percentile(distances.min(axis=0), 95))
    assert metrics.hausdorff_95(first, second, spacing) == pytest.approx(expected)
    assert metrics.hausdorff_95(second, first, spacing) == pytest.approx(expected)


def test_hd95_by_hand():
    square = np.zeros((20, 20), bool)
    square[4:9, 4:9] = True
    assert metrics.hausdorff_95(square, square) == 0.0
    assert metrics.hausdorff_95(square, np.roll(square, 3, axis=1)) == 3.0
    assert metrics.hausdorff_95(square, np.roll(square, 3, axis=1), (1.0, 0.5)) == 1.5


def test_hd95_of_empty_masks():
    empty, square = np.zeros((6, 6), bool), np.ones((6, 6), bool)
    assert metrics.hausdorff_95(empty, empty) == 0.0
    assert math.isnan(metrics.hausdorff_95(square, empty))
    assert math.isnan(metrics.hausdorff_95(empty, square))


# --- calibration -------------------------------------------------------------------------------------------------------


def test_calibration_by_hand():
    # Confidence 1, 1/2, 1/4, 0, 0; two raters' mean 1, 0, 1/2, 1/2, 0. The last pixel is left out: both are zero.
    # Brier: (0 + 1/4 + 1/16 + 1/4) / 4 = 9/64
    # Bins of 1/15: 1 -> 14, 1/2 -> 7, 1/4 -> 3, 0 -> 0. Gaps 0, 1/2, -1/4, -1/2: ECE = (1/2 + 1/4 + 1/2) / 4 = 5/16
    calibration = metrics.Calibration.of(
        np.array([1, 0.5, 0.25, 0, 0], np.float32), np.array([[1, 0, 1, 1, 0], [1, 0, 0, 0, 0]], bool)
    )
    assert calibration.count.tolist() == [1, 0, 0, 1, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 1]
    assert calibration.gap[[14, 7, 3, 0]].tolist() == [0.0, 0.5, -0.25, -0.5]
    assert calibration.brier == pytest.approx(9 / 64)
    assert calibration.expected_calibration_error == pytest.approx(5 / 16)


def test_the_reliability_diagram_has_the_bins_with_pixels():
    calibration = metrics.Calibration.of(
        np.array([1, 0.5, 0.51, 0, 0], np.float32), np.array([[1, 0, 1, 1, 0], [1, 0, 0, 0, 0]], bool)
    )
    found = [(b.pixels, round(b.confidence, 6), b.agreement) for b in calibration.reliability]
    assert found == [(1, 0.0, 0.5), (2, 0.505, 0.25), (1, 1.0, 1.0)]


def test_errors_in_one_bin_cancel_in_the_ece_and_not_in_brier():
    # Confidence 1/2 at two pixels of which the rater marked one: calibrated, and wrong by 1/2 at each.
    calibration = metrics.Calibration.of(np.array([0.5, 0.5], np.float32), np.array([[1, 0]], bool))
    assert calibration.expected_calibration_error == 0.0
    assert calibration.brier == 0.25


@given(hnp.arrays(np.float32, (2, 20), elements=st.floats(0, 1, width=32)), hnp.arrays(bool, (3, 2, 20)))
def test_two_images_add_up_to_one_computation_over_all_pixels(maps, raters):
    parts = [metrics.Calibration.of(maps[i], raters[:, i]) for i in range(2)]
    total, pooled = parts[0] + parts[1], metrics.Calibration.of(maps, raters)
    assert (total.count == pooled.count).all()
    assert total.brier == pytest.approx(pooled.brier)
    assert total.expected_calibration_error == pytest.approx(pooled.expected_calibration_error, abs=1e-12)


@pytest.mark.parametrize("num_samples", [5, 15, 16, 30, 45, 60])
def test_a_confidence_on_an_edge_falls_into_the_bin_above(num_samples):
    # k/N as float32, 3/15 for example, must not slip below the edge that it is; 1 belongs to the last bin.
    k = np.arange(1, num_samples + 1)
    calibration = metrics.Calibration.of(confidence(k, num_samples), np.zeros((1, num_samples), bool))
    bins = [min(math.floor(Fraction(int(i), num_samples) * 15), 14) for i in k]
    assert calibration.count.tolist() == np.bincount(bins, minlength=15).tolist()


def test_an_image_without_marks_adds_nothing_to_the_calibration():
    calibration = metrics.Calibration.of(np.zeros(9, np.float32), np.zeros((4, 9), bool))
    assert calibration.count.sum() == 0
    assert (calibration.brier, calibration.expected_calibration_error) == (0.0, 0.0)
