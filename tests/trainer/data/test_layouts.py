"""The choice of a layout, and what all published data sets have in common."""

import numpy as np
import pytest

from medseg_runtime.errors import DataError
from medseg_trainer.data.layouts import layout_of, read_cases
from tests.trainer.data.photographs import names
from tests.trainer.readers import refuses


def test_cases_are_decoded_when_they_are_asked_for(isic_folder):
    data = isic_folder(Training=2, Validation=1)
    found = read_cases(data, "train", 1)
    (data / "ISIC2018_Task1-2_Training_Input" / "ISIC_0000002.jpg").write_bytes(b"damaged")
    assert (len(found), found[0].name) == (2, "ISIC_0000001")
    with pytest.raises(DataError, match=r"ISIC_0000002\.jpg"):
        found[1]


@pytest.mark.parametrize("published", ["isic", "cvc"])
def test_published_sets_of_outlines_have_one_class(published, isic_folder, cvc_folder):
    refuses("has one class, not 2", isic_folder(Training=1) if published == "isic" else cvc_folder(), num_classes=2)


def test_of_several_data_sets_the_one_with_the_structure_is_read(cvc_folder, isic_folder):
    data = isic_folder(cvc_folder(), Training=1, Validation=1)
    assert layout_of(data, "polyp").name == "CVC-ClinicDB"
    assert layout_of(data, "lesion").name == layout_of(data).name == "ISIC-2018 Task 1"
    assert names(data, classes=("lesion",)) == ["ISIC_0000001"]
    with pytest.raises(DataError, match="holds ISIC-2018 Task 1, CVC-ClinicDB, and none of them outlines a nodule"):
        layout_of(data, "nodule")


def test_a_data_set_alone_may_be_given_a_class_of_another_name(isic_folder):
    assert names(isic_folder(Training=1, Validation=1), classes=("naevus",)) == ["ISIC_0000001"]


@pytest.mark.parametrize(
    ("structure", "split", "images", "groups", "size", "share"),
    [("lesion", "val", 270, 270, (256, 256, 3), 0.279), ("polyp", "val", 67, 3, (288, 384, 3), 0.040)],
)
def test_the_real_photographs_have_the_known_sizes_and_areas(structure, split, images, groups, size, share, lidc_zips):
    if layout_of(lidc_zips, "nodule") is layout_of(lidc_zips, structure):
        pytest.skip(f"no data set that outlines a {structure} in {lidc_zips}")
    found = read_cases(lidc_zips, split, 1, (structure,))
    assert (len(found), found.num_groups) == (images, groups)
    areas = []
    for case in found.evenly(20):
        assert (case.image.shape, case.image.dtype, case.masks.shape) == (size, np.uint8, (1, *size[:2]))
        areas.append(case.masks.mean())
    assert min(areas) > 0.0
    assert np.mean(areas) == pytest.approx(share, abs=0.001)  # as counted in the data
