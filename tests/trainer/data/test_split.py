"""medseg-train split: whole groups, by a seed."""

import csv

import pytest

from medseg_runtime.errors import DataError, OutputError, ParameterError
from medseg_trainer.data.layouts import read_cases
from medseg_trainer.data.split import split_folder
from tests.trainer.data.own_folder import PHOTO, build, pairs

SHARES = {"val": 0.2, "test": 0.2, "seed": 0, "group": None}


def divided(data, **options):
    return split_folder(data, **SHARES | options)


def rows(data):
    with (data / "splits.csv").open() as file:
        return list(csv.DictReader(file))


@pytest.fixture
def patients(tmp_path):
    """Twelve patients with four images each."""
    return build(tmp_path, pairs(*[f"p{p}/{k}" for p in range(12) for k in range(4)]), None)


def test_patients_are_kept_whole_and_the_shares_are_met(patients):
    table = divided(patients)
    table.write(patients)
    assert table.grouped_by == "the folder"
    assert table.counts() == {"train": (32, 8), "val": (8, 2), "test": (8, 2)}
    found = {
        split: {case.group for case in read_cases(patients, split, 1).entries} for split in ("train", "val", "test")
    }
    assert [len(found[split]) for split in ("train", "val", "test")] == [8, 2, 2]
    assert not found["train"] & found["val"] | found["train"] & found["test"] | found["val"] & found["test"]


def test_a_seed_gives_one_split(patients):
    assert divided(patients).lines == divided(patients).lines
    assert divided(patients).lines != divided(patients, seed=1).lines


def test_a_table_is_not_replaced_without_being_told(patients):
    divided(patients).write(patients)
    before = (patients / "splits.csv").read_bytes()
    with pytest.raises(OutputError, match=r"exists already.*Give --force"):
        divided(patients, seed=1).write(patients)
    assert (patients / "splits.csv").read_bytes() == before
    divided(patients, seed=1).write(patients, force=True)
    assert (patients / "splits.csv").read_bytes() != before


@pytest.mark.parametrize("column", ["group", "patient", "Patient ID", "subject-id"])
def test_the_group_of_a_table_and_its_other_columns_are_kept(column, tmp_path):
    lines = "".join(f"{k}.png,train,patient {k // 4},0.{k % 9 + 1}\n" for k in range(40))
    data = build(tmp_path, pairs(*map(str, range(40))), f"image,split,{column},spacing_mm\n{lines}")
    table = divided(data)
    table.write(data, force=True)
    assert table.grouped_by == "the column of the groups"
    found = {row["image"]: row for row in rows(data)}
    assert found["7.png"]["group"] == "patient 1"
    assert found["7.png"]["spacing_mm"] == "0.8"
    for patient in range(10):
        assert len({found[f"{4 * patient + k}.png"]["split"] for k in range(4)}) == 1


def test_a_pattern_replaces_the_groups_of_a_table(patients):
    divided(patients).write(patients)
    divided(patients, group="[0-9]$").write(patients, force=True)
    assert {row["group"] for row in rows(patients)} == set("0123")
    assert list(rows(patients)[0]) == ["image", "split", "group"]


@pytest.mark.parametrize(("pattern", "groups"), [("^([^_]+)_", 10), ("^[^_]+", 10), (".*", 40)])
def test_a_pattern_finds_the_patient_in_the_name(pattern, groups, tmp_path):
    data = build(tmp_path, pairs(*[f"pat{k // 4}_{k}" for k in range(40)]), None)
    counts = divided(data, group=pattern).counts()
    assert sum(number for _, number in counts.values()) == groups
    assert sum(images for images, _ in counts.values()) == 40


def test_images_that_are_alone_are_warned_of(tmp_path):
    table = divided(build(tmp_path, pairs(*map(str, range(20))), None))
    assert any("say so with --group" in warning for warning in table.warnings)
    assert table.counts() == {"train": (12, 12), "val": (4, 4), "test": (4, 4)}


def test_two_folders_cannot_be_shared_among_three_splits(tmp_path):
    data = build(tmp_path, pairs(*[f"{kind}/{k}" for kind in ("benign", "malignant") for k in range(9)]), None)
    with pytest.raises(DataError, match=r"in 2 groups cannot be shared.*Give --group"):
        divided(data)
    assert divided(data, group=".*").counts()["train"] == (10, 10)


def test_one_large_patient_is_warned_of(tmp_path):
    names = [f"big/{k}" for k in range(30)] + [f"p{k}/a" for k in range(4)]
    table = divided(build(tmp_path, pairs(*names), None))
    assert table.counts()["train"][0] >= 30
    assert min(images for images, _ in table.counts().values()) > 0
    assert any("because groups are kept whole" in warning for warning in table.warnings)


@pytest.mark.parametrize("shares", [{"val": 1.0}, {"val": -0.1}, {"val": 0.6, "test": 0.4}, {"test": float("nan")}])
def test_shares_must_leave_something_to_train_on(shares, patients):
    with pytest.raises(ParameterError, match="leave no training images"):
        divided(patients, **shares)


@pytest.mark.parametrize(("pattern", "says"), [("(", "no regular expression"), ("^x", "does not match the image")])
def test_a_pattern_that_finds_nothing_is_refused(pattern, says, patients):
    with pytest.raises(ParameterError, match=says):
        divided(patients, group=pattern)


def test_a_share_of_nothing_is_empty(patients):
    assert divided(patients, test=0.0).counts()["test"] == (0, 0)


def test_masks_beside_images_are_no_images(tmp_path):
    files = pairs(*map(str, range(10)), mask="images/{}_mask.png")
    assert len(divided(build(tmp_path, files, None)).lines) == 10


def test_two_images_cannot_be_shared_by_any_pattern(tmp_path):
    with pytest.raises(DataError, match=r"2 images in 2 groups cannot be shared.*Add images of other patients"):
        divided(build(tmp_path, pairs("a", "b"), None))


def test_a_folder_without_images_says_so(tmp_path):
    with pytest.raises(DataError, match="images/ holds no image"):
        divided(build(tmp_path, {"images/a.txt": "x", "masks/a.png": PHOTO}, None))


@pytest.mark.parametrize("names", [("train", "val", "test"), ("Training", "Validation", "Testing"), ("train", "valid")])
def test_folders_that_are_called_as_splits_stay_as_they_are(names, tmp_path):
    """They were shuffled like patients, and test images went into val."""
    images = [f"{name}/p{k}/{name}{part}" for name in names for k in range(3) for part in "ab"]
    table = divided(build(tmp_path, pairs(*images), None))
    assert any("called as splits" in warning for warning in table.warnings)
    for line in table.lines:
        assert line.image.casefold().startswith(line.split)
        assert line.group == line.image.rpartition("/")[0]


def test_a_group_in_two_folders_that_are_splits_is_refused(tmp_path):
    data = build(tmp_path, pairs("train/p1_a", "train/p2_a", "val/p1_b"), None)
    with pytest.raises(DataError, match=r"the folders of images/ put the group 'p1' into train and val"):
        divided(data, group="p[0-9]")


def test_folders_that_are_no_patients_are_warned_of(tmp_path):
    images = [f"{kind}/{k}" for kind in ("benign", "malignant", "normal") for k in range(6)]
    assert "was taken for a patient" in divided(build(tmp_path, pairs(*images), None)).warnings[0]
