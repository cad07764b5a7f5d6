"""ISIC-2018 Task 1 and CVC-ClinicDB: every published layout gives the same cases, and what is missing is named."""

import shutil
import zipfile

import numpy as np
import pytest
from PIL import Image

from medseg_runtime.errors import DataError
from medseg_trainer.data.layouts import layout_of, read_cases
from medseg_trainer.data.splits import hashed_split
from tests.trainer.readers import cases, refuses

# --- ISIC-2018 Task 1


def write_pair(image, mask, seed=0, size=(12, 16)):
    """Write a colour image and its mask, whose edge is soft: 255, then 128, then 127."""
    for path in (image, mask):
        path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.random.default_rng(seed).integers(0, 256, (*size, 3), np.uint8)).save(image)
    drawn = np.zeros(size, np.uint8)
    drawn[3:6, 4:6], drawn[3:6, 6], drawn[3:6, 7] = 255, 128, 127
    Image.fromarray(drawn).save(mask)


def zipped(source, target):
    with zipfile.ZipFile(target, "w") as archive:
        for path in sorted(source.rglob("*")):
            archive.write(path, path.relative_to(source).as_posix())


@pytest.fixture
def isic_folder(tmp_path):
    """build(Training=3, Test=1) writes so many images of each part, numbered from 1 over all."""

    def build(root=tmp_path, **parts):
        number = 0
        for part, count in parts.items():
            for _ in range(count):
                number += 1
                write_pair(
                    root / f"ISIC2018_Task1-2_{part}_Input" / f"ISIC_{number:07d}.jpg",
                    root / f"ISIC2018_Task1_{part}_GroundTruth" / f"ISIC_{number:07d}_segmentation.png",
                    seed=number,
                )
            (root / f"ISIC2018_Task1-2_{part}_Input" / "LICENSE.txt").write_text("CC BY-NC 4.0")
        return root

    return build


def test_cases_are_decoded_when_they_are_asked_for(isic_folder):
    data = isic_folder(Training=2, Validation=1)
    found = read_cases(data, "train", 1)
    (data / "ISIC2018_Task1-2_Training_Input" / "ISIC_0000002.jpg").write_bytes(b"damaged")
    assert (len(found), found[0].name) == (2, "ISIC_0000001")
    with pytest.raises(DataError, match=r"ISIC_0000002\.jpg"):
        found[1]


def names(data, split="train", **options):
    return [case.name for case in read_cases(data, split, 1, **options)]


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


# --- CVC-ClinicDB


@pytest.fixture
def cvc_folder(tmp_path):
    """build(...) writes six frames of three sequences, two of each; 10 comes behind 9."""

    def build(
        root=tmp_path, parts=(("CVC-ClinicDB/PNG", "png"),), table="CVC-ClinicDB/sequences.csv", frames=range(7, 13)
    ):
        for part, suffix in parts:
            for frame in frames:
                folder = root / part
                write_pair(
                    folder / "Original" / f"{frame}.{suffix}", folder / "Ground Truth" / f"{frame}.{suffix}", frame
                )
        if table:
            (root / table).write_text("frame,sequence\n" + "".join(f"{f},{(f - 7) // 2 + 1}\n" for f in frames))
        return root

    return build


def sequences(data, **split_of):
    lines = "".join(f"{name.removeprefix('s')},{split}\n" for name, split in split_of.items())
    (data / "splits.csv").write_text("sequence,split\n" + lines)
    return data


PUBLISHED = {
    "PNG": ((("CVC-ClinicDB/PNG", "png"),), "CVC-ClinicDB/sequences.csv"),
    "TIF": ((("CVC-ClinicDB/TIF", "tif"),), "CVC-ClinicDB/sequences.csv"),
    "PNG and TIF": ((("CVC-ClinicDB/PNG", "png"), ("CVC-ClinicDB/TIF", "tif")), "CVC-ClinicDB/sequences.csv"),
    "bare TIF": ((("", "tif"),), "sequences.csv"),
    "no part": ((("CVC-ClinicDB", "tiff"),), "CVC-ClinicDB/sequences.csv"),
}


@pytest.mark.parametrize("published", PUBLISHED)
def test_cvc_is_read_in_every_layout_it_comes_in(published, cvc_folder):
    parts, table = PUBLISHED[published]
    data = sequences(cvc_folder(parts=parts, table=table), s1="train", s2="val", s3="train")
    found = cases(data)
    assert layout_of(data).name == "CVC-ClinicDB"
    assert [(c.name, c.group) for c in found] == [
        ("7", "sequence-1"),
        ("8", "sequence-1"),
        ("11", "sequence-3"),
        ("12", "sequence-3"),
    ]
    assert names(data, "val") == ["9", "10"]
    assert (found[0].image.shape, found[0].masks.shape, found[0].masks.sum()) == ((12, 16, 3), (1, 12, 16), 9)


def test_where_png_and_tif_are_there_the_png_is_read(cvc_folder):
    parts, table = PUBLISHED["PNG and TIF"]
    data = sequences(cvc_folder(parts=parts, table=table), s1="train", s2="val", s3="train")
    shutil.rmtree(data / "CVC-ClinicDB/TIF/Ground Truth")
    assert len(cases(data)) == 4


def test_cvc_zips_of_a_split_hold_it_whole(cvc_folder, tmp_path):
    for part, frames in (("train-0", range(7, 9)), ("train-1", range(9, 11)), ("val-0", range(11, 13))):
        zipped(cvc_folder(tmp_path / part, frames=frames), tmp_path / f"cvc-clinicdb-{part}.zip")
        shutil.rmtree(tmp_path / part)
    assert [names(tmp_path, split) for split in ("train", "val")] == [["7", "8", "9", "10"], ["11", "12"]]
    refuses("no CVC-ClinicDB frames of the split 'test'", tmp_path, "test")


def test_a_sequence_that_no_table_names_is_split_by_its_hash(cvc_folder):
    data = cvc_folder()
    found = {split: {c.group for c in read_cases(data, split, 1)} for split in ("train",)}
    assert found["train"] == {f"sequence-{k}" for k in (1, 2, 3) if hashed_split(f"sequence-{k}") == "train"} != set()


def test_cvc_without_its_sequences_is_refused(cvc_folder):
    data = cvc_folder(table=None)
    refuses(r"sequences.csv is missing.*Put it into CVC-ClinicDB/", data)
    (data / "CVC-ClinicDB" / "sequences.csv").write_text("frame,sequence\n7,1\n8,1\n9,1\n10,1\n")
    refuses("does not say which video frame 11 is from", data)
    (data / "CVC-ClinicDB" / "sequences.csv").write_text("frame\n7\n")
    refuses("no columns frame and sequence", data)


def test_a_cvc_frame_without_a_mask_is_named(cvc_folder):
    data = sequences(cvc_folder(), s1="train", s2="train", s3="train")
    (data / "CVC-ClinicDB/PNG/Ground Truth/9.png").unlink()
    refuses("1 masks are missing, the first is CVC-ClinicDB/PNG/Ground Truth/9.png", data)


@pytest.mark.parametrize("published", ["isic", "cvc"])
def test_published_sets_of_outlines_have_one_class(published, isic_folder, cvc_folder):
    refuses("has one class, not 2", isic_folder(Training=1) if published == "isic" else cvc_folder(), num_classes=2)


# --- several data sets in one folder


def test_of_several_data_sets_the_one_with_the_structure_is_read(cvc_folder, isic_folder):
    data = isic_folder(cvc_folder(), Training=1, Validation=1)
    assert layout_of(data, "polyp").name == "CVC-ClinicDB"
    assert layout_of(data, "lesion").name == layout_of(data).name == "ISIC-2018 Task 1"
    assert names(data, structure="lesion") == ["ISIC_0000001"]
    with pytest.raises(DataError, match="holds ISIC-2018 Task 1, CVC-ClinicDB, and none of them outlines a nodule"):
        layout_of(data, "nodule")


def test_a_data_set_alone_may_be_given_a_class_of_another_name(isic_folder):
    assert names(isic_folder(Training=1, Validation=1), structure="naevus") == ["ISIC_0000001"]


@pytest.mark.parametrize(
    ("structure", "split", "images", "groups", "size", "share"),
    [("lesion", "val", 270, 270, (256, 256, 3), 0.279), ("polyp", "val", 67, 3, (288, 384, 3), 0.040)],
)
def test_the_real_photographs_are_what_design_data_says(structure, split, images, groups, size, share, lidc_zips):
    if layout_of(lidc_zips, "nodule") is layout_of(lidc_zips, structure):
        pytest.skip(f"no data set that outlines a {structure} in {lidc_zips}")
    found = read_cases(lidc_zips, split, 1, structure)
    assert (len(found), found.num_groups) == (images, groups)
    areas = []
    for case in found.evenly(20):
        assert (case.image.shape, case.image.dtype, case.masks.shape) == (size, np.uint8, (1, *size[:2]))
        areas.append(case.masks.mean())
    assert min(areas) > 0.0
    assert np.mean(areas) == pytest.approx(share, abs=0.001)  # counted once and kept


def test_a_table_of_isic_that_means_no_image_is_refused(isic_folder):
    data = isic_folder(Training=2)
    (data / "splits.csv").write_text("image,split\nISIC_9999999,test\n")
    refuses("names the image 'ISIC_9999999'", data)


def test_a_table_of_cvc_that_means_no_sequence_is_refused(cvc_folder):
    data = cvc_folder()
    (data / "splits.csv").write_text("sequence,split\nsequence-1,test\n")
    refuses("names the sequence 'sequence-1'.*for example '1'", data)
