"""Images and masks that a viewer would turn: taken together if both say the same, refused otherwise."""

import numpy as np
import pytest
from PIL import Image

from medseg_runtime.errors import DataError
from medseg_trainer.data.layouts import read_cases
from tests.trainer.data.own_folder import DISC, MASK, PHOTO, build, encoded

KINDS = {"jpg": "JPEG", "png": "PNG", "tif": "TIFF"}
ORIENTATIONS = range(1, 9)
SQUARE = (slice(None), slice(0, 40))


def turned(values, suffix, orientation):
    """A file that a viewer turns."""
    if orientation is None:
        return encoded(values, KINDS[suffix])
    exif = Image.Exif()
    exif[0x0112] = orientation
    options = {"tiffinfo": {274: orientation}} if suffix == "tif" else {"exif": exif}
    return encoded(values, KINDS[suffix], **options)


def folder(root, suffix, image, mask, mask_suffix="png"):
    files = {
        f"images/a.{suffix}": turned(PHOTO[SQUARE], suffix, image),
        f"masks/a.{mask_suffix}": turned(MASK[SQUARE], mask_suffix, mask),
    }
    return build(root, files, "image,split\na,train\n")


@pytest.mark.parametrize("suffix", KINDS)
@pytest.mark.parametrize("orientation", ORIENTATIONS)
def test_an_image_is_taken_only_with_a_mask_of_its_orientation(orientation, suffix, tmp_path):
    for number, mask in enumerate((None, *ORIENTATIONS)):
        data = folder(tmp_path / str(number), suffix, orientation, mask)
        (case,) = read_cases(data, "train", 1).entries
        if (mask or 1) == orientation:
            found = case.load()
            np.testing.assert_array_equal(found.masks[0] > 0, DISC[SQUARE])
            assert found.image[found.masks[0] > 0].mean() > 200
        else:
            with pytest.raises(DataError, match=f"orientation {orientation} and .* has {mask or 1}.*auto-orient"):
                case.load()


@pytest.mark.parametrize("suffix", KINDS)
def test_a_mask_that_is_turned_alone_is_refused(suffix, tmp_path):
    data = folder(tmp_path, "png", None, 6, suffix)
    with pytest.raises(DataError, match=f"run `mogrify -auto-orient` on masks/a.{suffix}"):
        read_cases(data, "train", 1)[0]


def test_outlines_fit_no_image_that_is_turned(tmp_path):
    shape = '{"label": "x", "shape_type": "rectangle", "points": [[1, 1], [9, 9]]}'
    outline = f'{{"shapes": [{shape}], "imageHeight": 40, "imageWidth": 40}}'
    files = {"images/a.jpg": turned(PHOTO[SQUARE], "jpg", 6), "images/a.json": outline}
    with pytest.raises(DataError, match="orientation 6"):
        read_cases(build(tmp_path, files, "image,split\na,train\n"), "train", 1)[0]


def test_an_orientation_behind_the_pixels_counts(tmp_path):
    """A PNG may hold its EXIF data behind them."""
    content = turned(PHOTO[SQUARE], "png", 3)
    start = content.index(b"eXIf") - 4
    end = start + 12 + int.from_bytes(content[start : start + 4])
    moved = content[:start] + content[end:-12] + content[start:end] + content[-12:]
    data = build(tmp_path, {"images/a.png": moved, "masks/a.png": MASK[SQUARE]}, "image,split\na,train\n")
    with pytest.raises(DataError, match="orientation 3"):
        read_cases(data, "train", 1)[0]
