"""The readers: every published or own layout gives the same cases, and what is missing is named, with the remedy."""

import csv
import re
import shutil
import zipfile

import numpy as np
import pytest
from PIL import Image

from medseg_runtime.errors import DataError
from medseg_trainer.data import Cases, layout_of, lidc, read_cases
from medseg_trainer.data.case import Entry
from medseg_trainer.data.splits import hashed_split

SENTENCE = re.compile(r"^[^\n]+[^.\n]\. [A-Z][^\n]+\.$")  # what is wrong. What to do about it.


def cases(data, split="train", num_classes=1):
    return list(read_cases(data, split, num_classes))


def refuses(match, data, split="train", num_classes=1):
    with pytest.raises(DataError, match=match) as caught:
        cases(data, split, num_classes)
    assert SENTENCE.match(str(caught.value)), str(caught.value)


# --- LIDC-IDRI-slices


@pytest.fixture
def lidc_folder(phantom, tmp_path):
    phantom.write_dataset(tmp_path, num_patients=6)
    return tmp_path


def write_splits(data, **split_of):
    with (data / "splits.csv").open("w", newline="") as file:
        csv.writer(file).writerows([("patient", "split"), *split_of.items()])


def patients(data):
    return sorted(path.name for path in (data / lidc.ROOT).iterdir())


def test_lidc_zips_give_what_the_unpacked_folder_gives(phantom_zips, tmp_path):
    for archive in phantom_zips.glob("*.zip"):
        zipfile.ZipFile(archive).extractall(tmp_path)
    write_splits(tmp_path, **{name: "val" if "val" in name else "train" for name in patients(tmp_path)})
    for split in ("train", "val"):
        zipped, unpacked = cases(phantom_zips, split), cases(tmp_path, split)
        assert [c.name for c in zipped] == [c.name for c in unpacked]
        for first, second in zip(zipped, unpacked, strict=True):
            np.testing.assert_array_equal(first.image, second.image)
            np.testing.assert_array_equal(first.masks, second.masks)


def test_a_lidc_case_is_the_picture_and_its_four_masks(lidc_folder):
    write_splits(lidc_folder, **dict.fromkeys(patients(lidc_folder), "val"))
    case = cases(lidc_folder, "val")[0]
    slice_file = f"{case.name.rpartition('/')[2]}.png"
    nodule = (lidc_folder / lidc.ROOT / case.name).parent
    np.testing.assert_array_equal(case.image, np.asarray(Image.open(nodule / "images" / slice_file)))
    drawn = [np.asarray(Image.open(nodule / f"mask-{k}" / slice_file)) for k in range(4)]
    np.testing.assert_array_equal(case.masks, np.stack(drawn) > 127)
    assert (case.group, case.masks.dtype, case.masks.max()) == (case.name.partition("/")[0], np.uint8, 1)


def test_slices_are_in_anatomical_order(lidc_folder):
    nodule = next((lidc_folder / lidc.ROOT).glob("*/nodule-0"))
    for folder in nodule.iterdir():
        for number in (2, 10):
            shutil.copy(folder / "slice-0.png", folder / f"slice-{number}.png")
    write_splits(lidc_folder, **dict.fromkeys(patients(lidc_folder), "train"))
    numbers = [
        int(c.name.rpartition("-")[2]) for c in cases(lidc_folder) if f"{nodule.parent.name}/nodule-0/" in c.name
    ]
    assert 10 in numbers
    assert numbers == sorted(numbers)


def test_lidc_splits_come_from_the_table(lidc_folder):
    first, second, *rest = patients(lidc_folder)
    write_splits(lidc_folder, **{first: "val", second: "test"}, **dict.fromkeys(rest, "train"))
    found = {split: {c.group for c in cases(lidc_folder, split)} for split in ("train", "val", "test")}
    assert found == {"train": set(rest), "val": {first}, "test": {second}}


def test_without_a_table_a_patients_name_decides_the_split():
    names = [f"LIDC-IDRI-{number:04d}" for number in range(1000)]
    splits = [hashed_split(name) for name in names]
    assert [splits.count(s) for s in ("train", "val", "test")] == pytest.approx([800, 100, 100], abs=30)
    # train, val or test by the second letter; fixed for ever, as no patient may wander from test to train with a new version
    assert "".join(split[1] for split in splits[1:25]) == "rrrrrrrerrrrrrrrrrerrrre"


def test_splits_by_name_share_no_patient_and_lose_none(phantom, tmp_path):
    root = phantom.write_dataset(tmp_path, num_patients=1)
    (patient,) = root.iterdir()
    for number in range(40):
        shutil.copytree(patient, root / f"P-{number}")
    shutil.rmtree(patient)
    groups = [{c.group for c in cases(tmp_path, split)} for split in ("train", "val", "test")]
    assert sum(map(len, groups)) == len(set.union(*groups)) == 40


def test_a_missing_lidc_mask_is_named(lidc_folder):
    write_splits(lidc_folder, **dict.fromkeys(patients(lidc_folder), "train"))
    victim = next((lidc_folder / lidc.ROOT).glob("*/nodule-0/mask-2/slice-0.png"))
    victim.unlink()
    refuses(f"1 masks are missing.*{victim.relative_to(lidc_folder)}", lidc_folder)


@pytest.mark.parametrize(
    "table",
    ["id,split\nPHANTOM-0000,train\n", "patient,split\nPHANTOM-0000,training\n", "patient,split\nPHANTOM-0000\n"],
)
def test_a_lidc_table_that_cannot_be_used_is_refused(table, lidc_folder):
    (lidc_folder / "splits.csv").write_text(table)
    refuses("does not put each patient", lidc_folder)


def test_lidc_has_one_class(phantom_zips):
    refuses("one class", phantom_zips, num_classes=2)


def test_a_split_that_no_zip_holds_is_refused(phantom_zips):
    refuses("no LIDC slices of the split 'test'", phantom_zips, "test")


@pytest.mark.parametrize(("count", "numbers"), [(3, "024"), (1, "0"), (6, "012345"), (9, "012345"), (None, "012345")])
def test_some_of_the_cases_are_evenly_spaced(count, numbers):
    six = Cases([Entry(str(k), f"patient {k // 4}", lambda: pytest.fail("it was decoded")) for k in range(6)])
    assert "".join(entry.name for entry in six.evenly(count).entries) == numbers
    assert six.num_groups == 2


@pytest.mark.parametrize("damage", ["no zip", "bit flip"])
def test_a_damaged_zip_is_named(damage, phantom_zips, tmp_path):
    content = bytearray((phantom_zips / "lidc-val-0.zip").read_bytes())
    content[1000] ^= 0xFF
    (tmp_path / "lidc-val-0.zip").write_bytes(content if damage == "bit flip" else b"not a zip")
    refuses("lidc-val-0.zip cannot be read", tmp_path, "val")


def test_the_real_lidc_is_what_design_data_says(lidc_zips):
    """76 patients, 1,417 slices; how often 0 to 4 raters marked a nodule, counted once and kept."""
    marked = np.zeros(5, int)
    groups, names, areas = set(), [], []
    for case in read_cases(lidc_zips, "val", 1):
        assert (case.image.shape, case.image.dtype, case.masks.shape) == ((128, 128), np.uint8, (4, 128, 128))
        areas += [area for area in case.masks.sum(axis=(1, 2)) if area]
        marked[case.masks.any(axis=(1, 2)).sum()] += 1
        groups.add(case.group)
        names.append(case.name)
    assert (len(groups), len(set(names)), len(names)) == (76, 1417, 1417)
    assert marked.tolist() == [15, 426, 293, 276, 407]
    assert 45 < np.median(areas) < 85  # 64 px over all splits


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


# --- anyone's own folder


@pytest.fixture
def own_folder(tmp_path):
    """build(...) writes the images a and b with the masks of some raters, and returns the folder."""

    def build(
        *,
        raters=("",),
        sizes=((20, 30), (24, 16)),
        value=255,
        colour=False,
        splits="image,split\na.png,train\nb.png,val\n",
    ):
        rng = np.random.default_rng(0)
        (tmp_path / "images").mkdir()
        for name, (height, width) in zip("ab", sizes, strict=True):
            shape = (height, width, 3) if colour else (height, width)
            Image.fromarray(rng.integers(0, 256, shape, np.uint8)).save(tmp_path / "images" / f"{name}.png")
            for number, rater in enumerate(raters):
                mask = np.zeros((height, width), np.uint8)
                mask[2 : 6 + number, 3:8] = value
                (tmp_path / "masks" / rater).mkdir(parents=True, exist_ok=True)
                Image.fromarray(mask).save(tmp_path / "masks" / rater / f"{name}.png")
        if splits:
            (tmp_path / "splits.csv").write_text(splits)
        return tmp_path

    return build


@pytest.mark.parametrize("value", [255, 1], ids=["0 and 255", "0 and 1"])
@pytest.mark.parametrize("raters", [("",), ("anna", "ben", "chi")], ids=["one rater", "three raters"])
def test_an_own_folder_is_read_case_by_case(raters, value, own_folder):
    data = own_folder(raters=raters, value=value)
    ((train,), (val,)) = cases(data, "train"), cases(data, "val")
    assert layout_of(data).name == "own folder"
    assert (train.name, train.image.shape, val.name, val.image.shape) == ("a", (20, 30), "b", (24, 16))
    assert train.masks.sum(axis=(1, 2)).tolist() == [(4 + number) * 5 for number in range(len(raters))]
    assert set(np.unique(train.masks)) == {0, 1}


@pytest.mark.parametrize("value", [2, 127])
def test_a_mask_that_would_silently_be_empty_is_refused(value, own_folder):
    with pytest.raises(DataError, match=rf"neither 0 / 255 nor 0 / 1: its highest value is {value}. Write 255"):
        cases(own_folder(value=value))


def test_colour_images_keep_their_channels(own_folder):
    data = own_folder(colour=True)
    (case,) = cases(data)
    np.testing.assert_array_equal(case.image, np.asarray(Image.open(data / "images" / "a.png")))
    assert case.image.shape == (20, 30, 3)


def test_images_are_decoded_as_they_are_served(own_folder):
    from medseg_runtime.io import read_image

    data = own_folder(colour=True)
    path = data / "images" / "a.png"
    picture = Image.open(path).convert("RGBA")
    picture.putalpha(Image.linear_gradient("L").resize(picture.size))
    picture.save(path)
    np.testing.assert_array_equal(cases(data)[0].image, read_image(path).pixels)


def test_several_classes_are_pixel_values(own_folder):
    data = own_folder(value=2)
    assert set(np.unique(cases(data, num_classes=2)[0].masks)) == {0, 2}


def test_the_classes_of_a_palette_image_are_its_indices(own_folder):
    data = own_folder(value=2)
    mask = Image.open(data / "masks" / "a.png")
    mask.putpalette([0, 0, 0, 255, 0, 0, 0, 255, 0])
    mask.save(data / "masks" / "a.png")
    assert set(np.unique(cases(data, num_classes=2)[0].masks)) == {0, 2}


def test_a_label_beyond_the_classes_is_refused(own_folder):
    refuses("a.png holds the value 3, but there are 2 classes", own_folder(value=3), num_classes=2)


def test_soft_edges_are_cut_at_127(own_folder):
    data = own_folder()
    mask = np.zeros((20, 30), np.uint8)
    mask[4, 4:9] = 1, 127, 128, 200, 255
    Image.fromarray(mask).save(data / "masks" / "a.png")
    assert cases(data)[0].masks[0, 4, 4:9].tolist() == [0, 0, 1, 1, 1]


def test_groups_are_the_table_s_or_the_image_s_own(own_folder):
    data = own_folder(splits="image,split,group\na.png,train,video-7\nb.png,train,\n")
    assert [c.group for c in cases(data)] == ["video-7", "b"]


@pytest.mark.parametrize(("given", "spacing"), [("0.5", (0.5, 0.5)), ("0.5 0.75", (0.5, 0.75)), ("", None)])
def test_the_spacing_is_what_the_table_says(given, spacing, own_folder):
    data = own_folder(splits=f"image,split,spacing_mm\na.png,train,{given}\nb.png,val,\n")
    assert (cases(data)[0].spacing_mm, cases(data, "val")[0].spacing_mm) == (spacing, None)


def remove(*parts):
    def break_it(data):
        path = data.joinpath(*parts)
        shutil.rmtree(path) if path.is_dir() else path.unlink()

    return break_it


def splits(text):
    return lambda data: (data / "splits.csv").write_text(text)


def another_size(data):
    Image.fromarray(np.zeros((30, 20), np.uint8)).save(data / "masks" / "anna" / "a.png")


def no_image(*parts):
    return lambda data: data.joinpath(*parts).write_bytes(b"\x89PNG, or so it says")


def twice_under_one_name(data):
    shutil.copy(data / "images" / "a.png", data / "images" / "a.jpg")


FAULTS = {
    "no splits.csv": (remove("splits.csv"), "splits.csv is missing"),
    "no columns": (splits("file,part\na.png,train\n"), "no columns image and split"),
    "no lines": (splits("image,split\n"), "no columns image and split"),
    "unknown split": (splits("image,split\na.png,training\n"), "puts 'a.png' into 'training'"),
    "a short line": (splits("image,split\na.png\n"), "puts 'a.png' into None"),
    "an image in two splits": (splits("image,split\na.png,train\na.png,val\n"), "names the image 'a' 2 times"),
    "a group in two splits": (
        splits("image,split,group\na.png,train,p1\nb.png,val,p1\n"),
        "group 'p1' into train and val",
    ),
    "a spacing that is none": (
        splits("image,split,spacing_mm\na.png,train,half a mm\nb.png,val,1\n"),
        "gives 'a.png' the spacing_mm 'half a mm'",
    ),
    "a negative spacing": (
        splits("image,split,spacing_mm\na.png,train,-1\nb.png,val,1\n"),
        "gives 'a.png' the spacing_mm '-1'",
    ),
    "an empty split": (splits("image,split\nb.png,val\n"), "names no image of the split 'train'"),
    "a line without an image": (splits("image,split\nc.png,train\n"), "names 'c.png', which is not in images/"),
    "no masks": (remove("masks"), "masks/ is missing"),
    "an unpaired image": (remove("masks", "ben", "a.png"), "images/a.png has no mask in masks/ben/"),
    "a mask of another size": (another_size, "anna/a.png is 20x30 px, its image 30x20"),
    "a damaged image": (no_image("images", "a.png"), "a.png: "),
    "a damaged mask": (no_image("masks", "ben", "a.png"), "a.png is not a mask"),
    "two images of one name": (twice_under_one_name, "share a name"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_of_an_own_folder_is_named_with_its_remedy(fault, own_folder):
    break_it, message = FAULTS[fault]
    data = own_folder(raters=("anna", "ben"))
    break_it(data)
    refuses(message, data)


def test_a_folder_that_is_no_data_set_is_refused(tmp_path):
    refuses("holds no data set", tmp_path)
    refuses("there is no folder 'absent'", tmp_path / "absent")
