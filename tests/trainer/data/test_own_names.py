"""Your own folder with names, sub-folders and tables as people have them."""

import json
import unicodedata

import numpy as np
import pytest

from medseg_runtime.errors import DataError
from medseg_trainer.data.layouts import read_cases
from tests.trainer.data.own_folder import DISC, MASK, PHOTO, build, encoded, pairs

A = "image,split\na.png,train\n"


def names(data, split="train", **options):
    return [entry.name for entry in read_cases(data, split, 1, **options).entries]


TABLES = {
    "a space": "image, split\na.png, train\n",
    "semicolons": "image;split\na.png;train\n",
    "tabs": "image\tsplit\na.png\ttrain\n",
    "a byte order mark": "\ufeffimage,split\na.png,train\n",
    "CRLF": "image,split\r\na.png,train\r\n",
    "old line ends": "image,split\ra.png,train\r",
    "upper case": "Image,SPLIT\na.png,Train\n",
    "quotes": '"image","split"\n"a.png","train"\n',
    "empty lines": "image,split\n\na.png,train\n\n",
    "semicolons and a decimal comma": "image;split;group;spacing_mm\na.png;train;p,1;\n",
    "no suffix": "image,split\na,train\n",
    "the folder images/": "image,split\nimages/a.png,train\n",
    "backslashes": "image,split\nimages\\a.png,train\n",
    "a further column": 'id,image,note,split\n1,a.png,"x, y",train\n',
}


@pytest.mark.parametrize("name", TABLES)
def test_a_table_may_be_written_as(name, tmp_path):
    data = build(tmp_path, pairs("a"), None)
    (data / "splits.csv").write_text(TABLES[name], newline="")
    assert names(data) == ["a"]


def test_a_table_without_the_columns_says_which_it_has(tmp_path):
    with pytest.raises(DataError, match="no columns image and split; it has file, part"):
        names(build(tmp_path, pairs("a"), "file;part\na.png;train\n"))


@pytest.mark.parametrize("junk", ["Thumbs.db", ".DS_Store", "a.json", "a.txt", "LICENSE", "a.xml", "a.gif"])
def test_files_that_are_no_pictures_are_passed_over(junk, tmp_path):
    assert names(build(tmp_path, pairs("a") | {f"images/{junk}": "{}", f"masks/{junk}": "{}"}, A)) == ["a"]


@pytest.mark.parametrize("mask", ["a_mask", "a_segmentation", "a-label", "a_gt", "a_GT", "a.mask", "a_seg", "a mask"])
def test_a_mask_may_have_an_ending(mask, tmp_path):
    (case,) = read_cases(
        build(tmp_path, {"images/a.png": PHOTO, f"masks/{mask}.tif": encoded(MASK, "TIFF")}, A), "train", 1
    )
    np.testing.assert_array_equal(case.masks[0] > 0, DISC)


@pytest.mark.parametrize("second", ["a", "a_mask_1", "a_label", "a.mask", "a_overlay"])
def test_two_masks_of_one_image_are_both_named(second, tmp_path):
    files = {"images/a.png": PHOTO, "masks/a_mask.png": MASK, f"masks/{second}.png": MASK}
    with pytest.raises(DataError, match="has 2 masks in masks/: ") as error:
        names(build(tmp_path, files, A))
    assert {"a_mask.png", f"{second}.png"} <= set(error.value.problem.replace(",", "").split())


def test_a_mask_for_two_images_is_refused(tmp_path):
    files = {"images/a_image.png": PHOTO, "images/a_img.png": PHOTO, "masks/a_mask.png": MASK}
    with pytest.raises(DataError, match="may be the mask of a_image and of a_img"):
        names(build(tmp_path, files, "image,split\na_image,train\na_img,val\n"))


def test_an_image_and_its_masks_may_lie_in_one_folder(tmp_path):
    files = {
        "images/b (1).png": PHOTO,
        "images/b (1)_mask.png": MASK,
        "images/b (2).png": PHOTO,
        "images/b (2)_mask.png": MASK,
    }
    data = build(tmp_path, files, "image,split\nb (1).png,train\nb (2).png,val\n")
    assert (names(data), names(data, "val")) == (["b (1)"], ["b (2)"])
    build(data, {"images/b (1)_mask_1.png": MASK}, None)
    with pytest.raises(DataError, match=r"has 2 masks|has no mask"):
        names(data)


@pytest.mark.parametrize("folders", [("p1", "p2"), ("benign", "malignant"), ("site/p1", "site/p2")])
def test_sub_folders_are_mirrored(folders, tmp_path):
    first, second = folders
    files = pairs(f"{first}/a", f"{second}/a") | {f"masks/{second}/a.png": MASK[:, ::-1]}
    data = build(tmp_path, files, f"image,split\n{first}/a.png,train\n{second}\\a.png,val\n")
    ((one,), (other,)) = read_cases(data, "train", 1), read_cases(data, "val", 1)
    assert (one.name, other.name) == (f"{first}/a", f"{second}/a")
    np.testing.assert_array_equal(one.masks[0], other.masks[0][:, ::-1])


def test_a_name_without_its_folder_is_taken_if_there_is_one(tmp_path):
    data = build(tmp_path, pairs("p1/a", "p2/b", "p3/b"), "image,split\na.png,train\n")
    assert names(data) == ["p1/a"]
    (data / "splits.csv").write_text("image,split\nb.png,train\n")
    with pytest.raises(DataError, match=r"'b.png', which may be p2/b or p3/b"):
        names(data)
    (data / "splits.csv").write_text("image,split\np9/a.png,train\n")
    with pytest.raises(DataError, match=r"'p9/a.png', which is not in images/"):
        names(data)


def test_folders_of_raters_hold_folders_of_patients(tmp_path):
    files = {f"images/{p}/a.png": PHOTO for p in ("p1", "p2")}
    files |= {f"masks/{rater}/{p}/a_seg.png": MASK for rater in ("anna", "ben") for p in ("p1", "p2")}
    (case,) = read_cases(build(tmp_path, files, "image,split\np1/a,train\n"), "train", 1)
    assert case.masks.shape[0] == 2


def test_pictures_beside_folders_of_raters_are_refused(tmp_path):
    files = {"images/a.png": PHOTO, "masks/a.png": MASK, "masks/old/a.png": MASK}
    with pytest.raises(DataError, match="holds pictures beside the folder old/"):
        names(build(tmp_path, files, A))


def test_a_folder_of_masks_without_images_is_no_rater(tmp_path):
    files = pairs("p1/a", "p2/a") | {"masks/p3/a.png": MASK}
    assert names(build(tmp_path, files, "image,split\np1/a,train\np2/a,val\n")) == ["p1/a"]


def test_a_fault_of_another_split_does_not_matter(tmp_path):
    data = build(tmp_path, pairs("a") | {"images/b.png": PHOTO}, "image,split\na,train\nb,test\n")
    assert names(data) == ["a"]
    with pytest.raises(DataError, match=r"images/b.png has no mask in masks/"):
        names(data, "test")


def test_bmp_is_read(tmp_path):
    files = {"images/a.bmp": encoded(PHOTO, "BMP"), "masks/a.bmp": encoded(MASK, "BMP")}
    (case,) = read_cases(build(tmp_path, files, A), "train", 1)
    np.testing.assert_array_equal(case.image, PHOTO)
    np.testing.assert_array_equal(case.masks[0] > 0, DISC)


def test_no_masks_at_all_says_what_there_may_be(tmp_path):
    with pytest.raises(DataError, match=r"masks/ is missing.*COCO's annotations.json or labelme"):
        names(build(tmp_path, {"images/a.png": PHOTO}, A))
    with pytest.raises(DataError, match="masks/ holds no picture"):
        names(build(tmp_path, {"masks/a.gif": "GIF89a", "masks/b.json": json.dumps({"x": 1})}, A))


def test_links_in_a_circle_end(tmp_path):
    data = build(tmp_path, pairs("a"), A)
    (data / "images/again").symlink_to(data / "images")
    assert names(data) == ["a"]


@pytest.mark.parametrize("forms", [("NFD", "NFC", "NFC"), ("NFC", "NFD", "NFD"), ("NFD", "NFD", "NFC")])
def test_accents_may_be_written_in_either_form_of_unicode(forms, tmp_path):
    """macOS writes an accent as a character of its own."""
    image, mask, listed = (unicodedata.normalize(form, "Läsion é") for form in forms)
    files = {f"images/{image}.png": PHOTO, f"masks/{mask}_mask.png": MASK}
    (case,) = read_cases(build(tmp_path, files, f"image,split\n{listed}.png,train\n"), "train", 1)
    np.testing.assert_array_equal(case.masks[0] > 0, DISC)


@pytest.mark.parametrize("name", ["labels", "mask", "annotations", "Masks"])
def test_masks_in_another_folder_are_told_apart_from_none(name, tmp_path):
    with pytest.raises(DataError, match=rf"masks/ is missing next to images/.*{name}/.*rename the folder"):
        names(build(tmp_path, pairs("a", mask=name + "/{}.png"), A))


@pytest.mark.parametrize("kind", ["nii.gz", "nrrd", "npy", "webp"])
def test_files_that_are_not_read_are_named_with_a_remedy(kind, tmp_path):
    data = build(tmp_path, {f"images/a.{kind}": "x", f"masks/a.{kind}": "x"}, A)
    with pytest.raises(DataError, match=rf"images/ holds no image, but \*\.{kind}.*slice by slice"):
        names(data)
    build(data, {"images/a.png": PHOTO}, None)
    with pytest.raises(DataError, match=rf"masks/ holds no picture, but \*\.{kind}.*slice by slice"):
        names(data)


def test_the_folders_of_another_layout_are_named(tmp_path):
    with pytest.raises(DataError, match="no data set of a known layout, but imagesTr/, labelsTr/"):
        names(build(tmp_path, {"imagesTr/a_0000.png": PHOTO, "labelsTr/a.png": MASK}, None))


@pytest.mark.parametrize("classes", [("polyp",), ("polyp", "tool"), ("Tool", "rim")])
def test_a_folder_for_each_class_is_not_taken_for_raters(classes, tmp_path):
    data = build(tmp_path, {"images/a.png": PHOTO, "masks/polyp/a.png": MASK, "masks/tool/a.png": MASK}, A)
    with pytest.raises(DataError, match="as a class is called, but each folder is one rater"):
        read_cases(data, "train", len(classes), classes)
    assert len(read_cases(data, "train", 1, ("lesion",))[0].masks) == 2
