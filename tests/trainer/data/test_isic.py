"""ISIC-2018 Task 1: every published layout gives the same cases, and missing files are named."""

import shutil

import numpy as np
from PIL import Image

from medseg_trainer.data.layouts import layout_of
from medseg_trainer.data.splits import hashed_split
from tests.trainer.data.photographs import names, zipped
from tests.trainer.readers import cases, refuses


def test_an_isic_case_is_the_photograph_and_its_one_mask(isic_folder):
    data = isic_folder(Training=1, Validation=1)
    (case,) = cases(data, "train")
    assert layout_of(data).grouped_by == "images"
    assert (case.name, case.group, case.image.shape) == ("ISIC_0000001", "ISIC_0000001", (12, 16, 3))
    expected = np.zeros((1, 12, 16), np.uint8)
    expected[0, 3:6, 4:7] = 1  # 127 is background
    np.testing.assert_array_equal(case.masks, expected)


def test_the_parts_of_isic_are_its_splits(isic_folder):
    data = isic_folder(Training=2, Validation=1, Test=1)
    assert [names(data, split) for split in ("train", "val", "test")] == [
        ["ISIC_0000001", "ISIC_0000002"],
        ["ISIC_0000003"],
        ["ISIC_0000004"],
    ]


def test_where_only_the_training_part_is_there_its_names_are_split(isic_folder):
    data = isic_folder(Training=40)
    found = {split: names(data, split) for split in ("train", "val", "test")}
    assert sum(map(len, found.values())) == len(set().union(*found.values())) == 40
    assert all(hashed_split(name) == split for split, given in found.items() for name in given)


def test_a_table_decides_the_splits_of_isic(isic_folder):
    data = isic_folder(Training=2, Validation=1)
    (data / "splits.csv").write_text("image,split\nISIC_0000001,val\nISIC_0000002.jpg,test\nISIC_0000003,train\n")
    assert [names(data, split) for split in ("train", "val", "test")] == [
        ["ISIC_0000003"],
        ["ISIC_0000001"],
        ["ISIC_0000002"],
    ]


def test_isic_zips_give_what_the_folders_give(isic_folder, tmp_path_factory):
    data, published, ours = isic_folder(Training=2, Validation=1), *(tmp_path_factory.mktemp("zips") for _ in range(2))
    for folder in data.iterdir():
        wrapped = tmp_path_factory.mktemp("wrapped")
        shutil.copytree(folder, wrapped / folder.name)
        zipped(wrapped, published / f"{folder.name}.zip")
    zipped(isic_folder(tmp_path_factory.mktemp("train"), Training=2), ours / "isic2018-256px-train-0.zip")
    for other in (published, ours):
        assert names(other) == names(data) == ["ISIC_0000001", "ISIC_0000002"]
        for first, second in zip(cases(other), cases(data), strict=True):
            np.testing.assert_array_equal(first.image, second.image)
            np.testing.assert_array_equal(first.masks, second.masks)
    refuses("no ISIC-2018 images of the split 'val'", ours, "val")


def test_an_isic_image_without_a_mask_is_named(isic_folder):
    data = isic_folder(Training=2, Validation=1)
    (data / "ISIC2018_Task1_Training_GroundTruth" / "ISIC_0000002_segmentation.png").unlink()
    refuses(r"1 masks are missing, the first is \S+/ISIC_0000002_segmentation.png", data)


def test_an_isic_mask_of_another_size_is_named(isic_folder):
    data = isic_folder(Training=1, Validation=1)
    Image.new("L", (16, 10)).save(data / "ISIC2018_Task1_Training_GroundTruth" / "ISIC_0000001_segmentation.png")
    refuses("ISIC_0000001_segmentation.png is 16x10 px, its image 16x12", data)


def test_unknown_images_in_the_table_of_isic_are_refused(isic_folder):
    data = isic_folder(Training=2)
    (data / "splits.csv").write_text("image,split\nISIC_9999999,test\n")
    refuses("names the image 'ISIC_9999999'", data)
