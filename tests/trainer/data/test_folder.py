"""Your own folder: images, masks and a table of splits. Each fault is an error with a remedy."""

import shutil

import numpy as np
import pytest
from PIL import Image

from medseg_runtime.errors import DataError
from medseg_trainer.data.layouts import layout_of
from tests.trainer.readers import cases, refuses


@pytest.fixture
def own_folder(tmp_path):
    """build(...) writes the images a and b with the masks of some raters, and returns the folder."""

    def build(
        *,
        raters=("",),
        sizes=((20, 30), (24, 16)),
        value=255,
        color=False,
        splits="image,split\na.png,train\nb.png,val\n",
    ):
        rng = np.random.default_rng(0)
        (tmp_path / "images").mkdir()
        for name, (height, width) in zip("ab", sizes, strict=True):
            shape = (height, width, 3) if color else (height, width)
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


def test_color_images_keep_their_channels(own_folder):
    data = own_folder(color=True)
    (case,) = cases(data)
    np.testing.assert_array_equal(case.image, np.asarray(Image.open(data / "images" / "a.png")))
    assert case.image.shape == (20, 30, 3)


def test_images_are_decoded_as_in_inference(own_folder):
    from medseg_runtime.readers.image import read_image

    data = own_folder(color=True)
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
    "no lines": (splits("image,split\n"), "no line below the first"),
    "unknown split": (splits("image,split\na.png,training\n"), "puts 'a.png' into 'training'"),
    "no names of columns": (splits("a.png,train\n"), "no line below the first"),
    "a column twice": (splits("image,split,split\na.png,train,val\n"), "has the column split twice"),
    "a patient in two splits": (
        splits("image,split,Patient ID\na.png,train,p1\nb.png,val,p1\n"),
        "group 'p1' into train and val",
    ),
    "a short line": (splits("image,split\na.png\n"), "puts 'a.png' into ''"),
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


def marked(picture, data, num_classes=1):
    """Save a mask of the image a, and return its labels."""
    picture.save(data / "masks" / "a.tiff")
    (data / "masks" / "a.png").unlink()
    return cases(data, num_classes=num_classes)[0].masks[0]


@pytest.mark.parametrize("mode", ["RGBA", "LA"])
@pytest.mark.parametrize("num_classes", [1, 2])
def test_transparent_pixels_are_background(mode, num_classes, own_folder):
    """Drawing programs save a mask as the opacity of a white layer."""
    data = own_folder()
    alpha = np.zeros((20, 30), np.uint8)
    alpha[2:7, 3:8], alpha[9, 9] = 255, 100
    picture = Image.new(mode, (30, 20), "white" if num_classes == 1 else (2,) * (len(mode) - 1))
    picture.putalpha(Image.fromarray(alpha))
    np.testing.assert_array_equal(marked(picture, data, num_classes), num_classes * (alpha > 127))


@pytest.mark.parametrize(
    "values",
    [np.float32(np.nan), np.float32(0.5), np.int32(-1), np.float32(np.inf)],
    ids=["NaN", "a half", "-1", "infinity"],
)
def test_values_that_are_no_labels_are_refused(values, own_folder):
    data = own_folder()
    with pytest.raises(DataError, match="values that are no labels"):
        marked(Image.fromarray(np.full((20, 30), values)), data, 2)


@pytest.mark.parametrize(
    "content", ["image,split\nb\xfc.png,train\n".encode("latin-1"), "image,split\na.png,train\n".encode("utf-16")]
)
def test_a_table_in_another_encoding_says_which_is_read(content, own_folder):
    data = own_folder()
    (data / "splits.csv").write_bytes(content)
    with pytest.raises(DataError, match="Save it as CSV in UTF-8"):
        cases(data)


def test_a_line_that_begins_with_its_split_may_be_short(own_folder):
    data = own_folder(splits="split,image\ntrain\n")
    with pytest.raises(DataError, match="which is not in images/"):
        cases(data)


def test_hidden_folders_are_no_raters(own_folder):
    data = own_folder(raters=("anna",))
    for name in (".ipynb_checkpoints", "__MACOSX"):
        (data / "masks" / name).mkdir()
    assert len(cases(data)[0].masks) == 1


def test_names_with_dots_of_their_own_need_no_suffix(own_folder):
    data = own_folder(splits="image,split\n1.2.840.1,train\n1.2.840.2,train\n")
    for folder in ("images", "masks"):
        for old, new in (("a", "1.2.840.1"), ("b", "1.2.840.2")):
            (data / folder / f"{old}.png").rename(data / folder / f"{new}.png")
    assert [case.name for case in cases(data)] == ["1.2.840.1", "1.2.840.2"]
