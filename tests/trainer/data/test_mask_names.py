"""Which mask belongs to which image."""

import pytest

from medseg_trainer.data.mask_names import masks_among, masks_of


@pytest.mark.parametrize(
    ("image", "mask"),
    [
        ("a", "a"),
        ("a", "a_mask"),
        ("a", "a-mask"),
        ("a", "a.mask"),
        ("a", "a_Mask"),
        ("a", "a_segmentation"),
        ("a", "a-label"),
        ("a", "a_labels"),
        ("a", "a_gt"),
        ("a", "a_GT"),
        ("a", "a_seg"),
        ("a", "a_ground_truth"),
        ("a", "a mask"),
        ("a", "a.jpg"),
        ("benign (1)", "benign (1)_mask"),
        ("p1/a", "p1/a_mask"),
        ("1.2.840.1", "1.2.840.1_seg"),
        ("a_image", "a_mask"),
        ("a-img", "a-mask"),
        ("case_0000", "case"),
    ],
)
def test_a_mask_is_found_by_its_ending(image, mask):
    assert masks_of([image, "other"], [mask, "other"]) == {image: [mask], "other": ["other"]}


def test_the_longest_name_of_an_image_takes_the_mask():
    assert masks_of(["a", "a_1"], ["a_mask", "a_1_mask"]) == {"a": ["a_mask"], "a_1": ["a_1_mask"]}
    assert masks_of(["a", "a_mask"], ["a", "a_mask"]) == {"a": ["a"], "a_mask": ["a_mask"]}


@pytest.mark.parametrize("other", ["a_mask", "a_mask_1", "a_overlay", "a-label"])
def test_two_masks_of_one_image_are_both_returned(other):
    assert masks_of(["a"], sorted(["a", other])) == {"a": sorted(["a", other])}


@pytest.mark.parametrize("other", ["ab", "ab_mask", "b/a", "a_overlay", "mask"])
def test_another_name_is_no_mask_of_the_image(other):
    assert masks_of(["a"], [other]) == {"a": []}


def test_two_images_that_share_a_short_name_both_get_its_mask():
    """Which of them it belongs to is not known; the reader refuses it."""
    assert masks_of(["a_image", "a_img"], ["a_mask"]) == {"a_image": ["a_mask"], "a_img": ["a_mask"]}


def test_masks_beside_their_images_are_told_apart():
    names = ["a", "a_mask", "a_mask_1", "lesion1", "lesion1_gt", "lesion2", "b_roi", "p1/c", "p1/c-label"]
    assert masks_among(names) == ["a_mask", "a_mask_1", "lesion1_gt", "p1/c-label"]
