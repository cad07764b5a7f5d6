"""What a set of masks says together."""

import math
import tracemalloc

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from medseg_runtime.result import uncertainty

MASKS = hnp.arrays(bool, st.tuples(st.integers(1, 5), st.just(3), st.just(4)))


@given(MASKS)
def test_confidence_is_exactly_the_fraction_of_samples(masks):
    confidence = uncertainty.confidence(masks.sum(axis=0), len(masks))
    assert confidence.dtype == np.float32
    for index in np.ndindex(3, 4):
        assert confidence[index] == np.float32(sum(bool(mask[index]) for mask in masks) / len(masks))


def test_confidence_counts_and_does_not_accumulate_rounding():
    assert (uncertainty.confidence(np.arange(1001), 1000) == (np.arange(1001) / 1000).astype(np.float32)).all()


def test_consensus_needs_half():
    assert uncertainty.consensus(uncertainty.confidence(np.array([3, 2, 1]), 4)).tolist() == [True, True, False]


def test_entropy_is_in_bits():
    # 1/4: -(1/4 log2 1/4 + 3/4 log2 3/4) = 1/2 + 3/4 log2 4/3 = 0.811278
    entropy = uncertainty.entropy(np.array([0.0, 0.25, 0.5, 0.75, 1.0], np.float32))
    assert entropy.dtype == np.float32
    assert entropy.tolist() == pytest.approx([0.0, 0.811278, 1.0, 0.811278, 0.0], abs=1e-6)
    assert (entropy[0], entropy[2], entropy[4]) == (0.0, 1.0, 0.0)


def test_iou_by_hand():
    # {0, 1, 2} and {1, 2, 3}: 2 common of 4. {0, 1, 2} and nothing: 0 of 3. Nothing and nothing: 1 by definition.
    first = np.array([[1, 1, 1, 0], [0, 0, 0, 0]], bool)
    second = np.array([[0, 1, 1, 1], [0, 0, 0, 0], [1, 1, 1, 0]], bool)
    assert uncertainty.pairwise_iou(first, second).tolist() == [[0.5, 0.0, 1.0], [0.0, 1.0, 0.0]]


@given(MASKS, MASKS)
def test_iou_is_that_of_sets_of_pixels(first, second):
    def pixels(mask):
        return {index for index in np.ndindex(mask.shape) if mask[index]}

    for i, row in enumerate(uncertainty.pairwise_iou(first, second)):
        for j, value in enumerate(row):
            a, b = pixels(first[i]), pixels(second[j])
            assert value == (len(a & b) / len(a | b) if a | b else 1.0)


def test_iou_is_exact_for_large_masks():
    # 2048 x 2048 = 2**22 pixels; a float32 that adds ones one by one, or a float16, would lose some
    first, second = np.ones((1, 2048, 2048), bool), np.ones((1, 2048, 2048), bool)
    second[0, 0, 0] = False
    assert uncertainty.pairwise_iou(first, second)[0, 0] == (2**22 - 1) / 2**22


def packed(masks):
    return np.packbits(masks.reshape(len(masks), -1), axis=1)


@given(MASKS)
def test_the_mean_iou_of_packed_masks_is_the_same(masks):
    expected = uncertainty.mean_over_pairs(uncertainty.pairwise_iou(masks, masks))
    assert uncertainty.mean_pairwise_iou(packed(masks)) == pytest.approx(expected, nan_ok=True)


def test_more_masks_than_are_compared_at_once():
    masks = np.random.default_rng(0).random((2 * uncertainty.ROWS + 7, 3, 3)) < 0.3
    expected = uncertainty.mean_over_pairs(uncertainty.pairwise_iou(masks, masks))
    assert uncertainty.mean_pairwise_iou(packed(masks)) == pytest.approx(expected)


def test_the_mean_over_thousands_takes_no_matrix_of_them():
    bits = np.random.default_rng(0).integers(0, 255, (3000, 8), dtype=np.uint8)
    tracemalloc.start()
    uncertainty.mean_pairwise_iou(bits)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 3000 * 3000


def test_masks_that_fill_no_whole_word_are_compared_to_their_last_pixel():
    # 5 x 31 pixels: 20 bytes, and two words of eight and a half
    masks = np.zeros((2, 5, 31), bool)
    masks[:, -1, -1] = True
    masks[1, 0, 0] = True
    expected = np.array([[1.0, 0.5], [0.5, 1.0]])
    assert (uncertainty.pairwise_iou(masks, masks) == expected).all()
    assert uncertainty.mean_pairwise_iou(packed(masks)) == 0.5


def test_the_mean_over_pairs_leaves_the_diagonal_out():
    # (1 + 2 + 4 + 5 + 7 + 8) / 6 = 27 / 6
    assert uncertainty.mean_over_pairs(np.array([[9.0, 1, 2], [4, 9, 5], [7, 8, 9]])) == 4.5
    assert math.isnan(uncertainty.mean_over_pairs(np.array([[1.0]])))
