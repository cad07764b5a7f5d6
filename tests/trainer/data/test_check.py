"""medseg-train check: all that a training would refuse, and what a reader should know."""

import numpy as np
import pytest
from PIL import Image

from medseg_runtime.errors import DataError
from medseg_trainer.data.check import check_data
from medseg_trainer.data.check_sheet import PANEL, render_sheet
from medseg_trainer.data.duplicates import MOST_BITS, Hashed, difference_hash, duplicates
from tests.trainer.data.own_folder import MASK, PHOTO, build, encoded, pairs

SPLITS = "image,split,group\na,train,p1\nb,val,p2\n"


def check(data, *classes):
    return check_data(data, classes or ("",))


def test_a_sound_folder_has_no_problem(tmp_path):
    report = check(build(tmp_path, pairs("a", "b"), SPLITS))
    assert (report.problems, report.warnings) == ([], [])
    assert (report.layout, report.masks) == ("own folder", "masks/, one rater")
    train = report.splits["train"]
    assert (train.images, train.groups, dict(train.sizes), train.empty) == (1, {"p1"}, {"60x40": 1}, 0)
    assert train.mean_shares == [pytest.approx((MASK > 0).mean())]


def test_all_problems_are_listed_and_not_only_the_first(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 3
    names = [f"i{k}" for k in range(9)]
    files = pairs(*names) | {
        "images/i1.jpg": encoded(PHOTO, "JPEG", exif=exif),
        "masks/i2.png": MASK[:, :50],
        "masks/i3.png": np.where(MASK > 0, 9, 0).astype(np.uint8),
        "images/i4.png": b"\x89PNG",
        "masks/i5_mask.png": MASK,
    }
    del files["images/i1.png"], files["masks/i6.png"]
    lines = "".join(f"i{k},{'val' if k == 8 else 'train'},{'p0' if k in (0, 8) else k}\n" for k in range(9))
    report = check(build(tmp_path, files, f"image,split,group\n{lines}absent,train,x\ni7,nowhere,y\n"))
    expected = (
        "'absent', which is not in images/",
        "puts 'i7' into 'nowhere'",
        "the group 'p0' into train and val",
        "i5.png has 2 masks",
        "i6.png has no mask",
        "orientation 3",
        "i2.png is 50x40 px",
        "i3.png is neither 0 / 255",
        "i4.png: ",
    )
    for text in expected:
        assert sum(text in problem for problem in report.problems) >= 1, (text, report.problems)
    assert len(report.problems) == len(expected)
    assert report.splits["train"].images == 2  # the others of train could not be read


def test_what_a_reader_should_know_is_a_warning(tmp_path):
    files = pairs("p1/a", "p1/b", "p2/c", "p2/d") | {
        "images/Thumbs.db": "x",
        "images/p1/e.gif": "GIF89a",
        "masks/p2/z_mask.png": MASK,
        "images/p2/c.png": np.dstack([PHOTO, np.full_like(PHOTO, 99)]),
    }
    report = check(build(tmp_path, files, "image,split\np1/a,train\np1/b,val\np2/c,train\n"))
    assert not report.problems
    for text in (
        "1 images are not in splits.csv, and are not used (p2/d)",
        "2 files of images/ are no images",
        "1 masks belong to no image (masks/p2/z_mask)",
        "1 folders of images/ are in several splits",
        "each image is a group of its own",
        "composited on black (p2/c)",
    ):
        assert any(text in warning for warning in report.warnings), (text, report.warnings)


def photo(seed, size=(300, 200)):
    """A smooth random picture."""
    noise = np.random.default_rng(seed).integers(0, 256, (12, 18, 3), np.uint8)
    return Image.fromarray(noise).resize(size, Image.Resampling.BICUBIC)


COPIES = {
    "the same": lambda picture: picture,
    "half the size": lambda picture: picture.resize((150, 100)),
    "another shape": lambda picture: picture.resize((256, 256)),
    "grey": lambda picture: picture.convert("L"),
    "darker": lambda picture: picture.point(lambda value: value // 2 + 9),
}


@pytest.mark.parametrize("name", COPIES)
def test_nearly_the_same_picture_in_two_splits_is_named(name, tmp_path):
    copy = COPIES[name](photo(0))
    files = {"images/a.png": photo(0), "images/b.jpg": encoded(copy, "JPEG"), "images/c.png": photo(2)}
    files = {path: content if isinstance(content, bytes) else encoded(content) for path, content in files.items()}
    for image, picture in (("a", photo(0)), ("b", copy), ("c", photo(2))):
        files[f"masks/{image}.png"] = encoded(Image.new("L", picture.size, 255))
    report = check(build(tmp_path, files, "image,split,group\na,train,1\nb,val,2\nc,val,3\n"))
    (warning,) = [warning for warning in report.warnings if "difference hash" in warning]
    assert warning.startswith("train: a and val: b are nearly the same picture")


def test_different_pictures_and_those_of_one_split_are_no_pairs():
    hashes = [difference_hash(np.asarray(photo(seed))) for seed in range(40)]
    apart = [Hashed(str(k), "", "train" if k % 2 else "val", bits) for k, bits in enumerate(hashes)]
    assert duplicates(apart) == []
    assert duplicates([Hashed("a", "", "train", hashes[0]), Hashed("b", "", "train", hashes[0])]) == []
    assert MOST_BITS < 46


def test_a_class_that_no_mask_marks_is_a_problem(tmp_path):
    files = pairs("a", "b") | {f"masks/{name}.png": MASK // 255 for name in "ab"}
    report = check(build(tmp_path, files, SPLITS), "core", "rim")
    assert report.problems == ["no training mask marks any rim"]


@pytest.mark.parametrize("missing", ["splits.csv", "masks", "everything"])
def test_what_stops_the_reading_is_a_problem_too(missing, tmp_path):
    files = {"images/a.png": PHOTO} if missing == "masks" else pairs("a")
    data = build(tmp_path, files, None if missing == "splits.csv" else "image,split\n")
    assert any(text in check(data).problems[0] for text in ("splits.csv", "masks/"))


def test_a_folder_that_is_no_data_set_is_an_error(tmp_path):
    with pytest.raises(DataError, match="no data set of a known layout"):
        check(tmp_path)


def test_published_data_are_checked_too(isic_folder):
    report = check(isic_folder(Training=3, Validation=2))
    assert (report.layout, report.splits["train"].images, report.splits["val"].images) == ("ISIC-2018 Task 1", 3, 2)
    assert not report.problems


@pytest.mark.parametrize("size", [(40, 60), (128, 128), (700, 300), (60, 900)])
def test_the_sheet_shows_the_outlines_where_the_mask_is(size, tmp_path):
    height, width = size
    marked = np.zeros(size, np.uint8)
    marked[height // 4 : height // 2, width // 4 : width // 2] = 255
    files = {f"images/{n}.png": np.full(size, 90, np.uint8) for n in "ab"} | {f"masks/{n}.png": marked for n in "ab"}
    report = check(build(tmp_path, files, SPLITS))
    (_, panel), _ = report.panels
    assert max(panel.shape[:2]) <= PANEL
    rows, columns = np.nonzero((panel != panel[:, :, :1]).any(axis=2))  # colored
    scale = panel.shape[0] / height, panel.shape[1] / width
    assert rows.min() == pytest.approx(height // 4 * scale[0], abs=3)
    assert columns.max() == pytest.approx(width // 2 * scale[1], abs=3)
    sheet = render_sheet(report.panels)
    assert sheet.size[1] > PANEL


def test_masks_beside_their_images_are_not_called_unused(tmp_path):
    report = check(build(tmp_path, pairs("a", "b", mask="images/{}_mask.png"), SPLITS))
    assert (report.problems, report.warnings) == ([], [])
