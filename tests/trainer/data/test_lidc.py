"""LIDC-IDRI-slices: zips and folders give the same cases, splits hold whole patients, and missing files are named."""

import csv
import shutil
import zipfile

import numpy as np
import pytest
from PIL import Image

from medseg_trainer.data.layouts import lidc, read_cases
from tests.trainer.readers import cases, refuses


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


def test_splits_by_name_hold_each_patient_once(phantom, tmp_path):
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


def test_a_split_without_a_zip_is_refused(phantom_zips):
    refuses("no LIDC slices of the split 'test'", phantom_zips, "test")


@pytest.mark.parametrize("damage", ["no zip", "bit flip"])
def test_a_damaged_zip_is_named(damage, phantom_zips, tmp_path):
    content = bytearray((phantom_zips / "lidc-val-0.zip").read_bytes())
    content[1000] ^= 0xFF
    (tmp_path / "lidc-val-0.zip").write_bytes(content if damage == "bit flip" else b"not a zip")
    refuses("lidc-val-0.zip cannot be read", tmp_path, "val")


def test_the_real_lidc_has_the_known_counts(lidc_zips):
    """76 patients, 1,417 slices, and the number of slices that 0 to 4 raters marked."""
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


def test_unknown_patients_in_the_table_are_refused(lidc_folder):
    """If it were ignored, a misspelled test patient could be split into training."""
    write_splits(lidc_folder, **{"phantom-0000": "test"})
    refuses("names the patient 'phantom-0000', which is not there.*for example 'PHANTOM-0000'", lidc_folder)


def test_a_patient_in_two_splits_is_refused(lidc_folder):
    (lidc_folder / "splits.csv").write_text("patient,split\nPHANTOM-0000,test\nPHANTOM-0000,train\n")
    refuses("puts the patient 'PHANTOM-0000' into test and train", lidc_folder)


def test_links_are_followed_and_cycles_end(lidc_folder, tmp_path_factory):
    write_splits(lidc_folder, **dict.fromkeys(patients(lidc_folder), "train"))
    linked = tmp_path_factory.mktemp("linked")
    (linked / lidc.ROOT).symlink_to(lidc_folder / lidc.ROOT)
    shutil.copy(lidc_folder / "splits.csv", linked)
    (lidc_folder / lidc.ROOT / "round").symlink_to(lidc_folder / lidc.ROOT)
    images = next((lidc_folder / lidc.ROOT).glob("*/nodule-0/images"))
    (images / "slice-99.png").symlink_to("nowhere.png")
    assert [c.name for c in cases(linked)] == [c.name for c in cases(lidc_folder)] != []
