"""Masks: what is a mask of one class or of several, and what would lose labels in silence."""

import io
import os
import stat

import numpy as np
import pytest
from PIL import Image
from scipy.ndimage import gaussian_filter, zoom

from medseg_runtime.errors import DataError
from medseg_trainer.data.masks import decode_mask, read_mask
from tests.trainer.data.own_folder import MASK, encoded

BIG = np.kron(MASK, np.ones((4, 4), np.uint8))


def labels(values, kind="PNG", num_classes=1, **options):
    return decode_mask(encoded(values, kind, **options), "a.png", num_classes)


def instances(count, side=3, first=1):
    """Squares of different labels, four pixels apart."""
    found = np.zeros((60, 60), np.uint16)
    for k in range(count):
        y, x = divmod(k, 14)
        found[4 * y : 4 * y + side, 4 * x : 4 * x + side] = k + first
    return found


def boxes(*values):
    found = np.zeros((60, 60, *np.shape(values[0])), np.uint8)
    for k, value in enumerate(values):
        found[15 * k + 2 : 15 * k + 12, 5:25] = value
    return found


def nested(*values):
    found = np.zeros((60, 60), np.uint8)
    for k, value in enumerate(values):
        found[6 * k + 3 : 57 - 6 * k, 6 * k + 3 : 57 - 6 * k] = value
    return found


def soft(sigma):
    return np.rint(255 * gaussian_filter((BIG > 0).astype(float), sigma)).astype(np.uint8)


TAKEN = {
    "0 and 255": BIG,
    "0 and 1": BIG // 255,
    "0 and 200": BIG // 255 * 200,
    "nothing": np.zeros_like(BIG),
    "everything": np.full_like(BIG, 255),
    "0 and 65535": (BIG > 0).astype(np.uint16) * 65535,
    "edges of antialiasing": np.asarray(Image.fromarray(BIG).resize((117, 81), Image.Resampling.BICUBIC)),
    "a blur of 1 px": soft(1),
    "a blur of 2.5 px": soft(2.5),
    "enlarged by interpolation": zoom(MASK, 3.7, order=1),
    "a colored mask": np.stack([BIG, BIG * 0, BIG * 0], axis=-1),
    "noise as in CVC-ClinicDB": np.where(BIG > 0, BIG, np.where(np.indices(BIG.shape)[0] > 100, 11, 0)).astype(
        np.uint8
    ),
}


@pytest.mark.parametrize("name", TAKEN)
def test_what_is_a_mask_of_one_class(name):
    values = TAKEN[name]
    level = values.max(axis=2) if values.ndim == 3 else values
    half = level.max() / 2 if level.max() in (1, 65535) else 127.5
    found = read_mask(encoded(values), "a.png", 1)
    np.testing.assert_array_equal(found.labels, level > half)
    assert bool(found.warnings) == (name == "everything" or "CVC" in name)


@pytest.mark.parametrize("quality", [10, 30, 75, 95])
@pytest.mark.parametrize("mode", ["L", "RGB"])
def test_the_ringing_of_a_jpeg_is_no_label(mode, quality):
    picture = Image.fromarray(BIG).convert(mode)
    found = labels(picture, "JPEG", quality=quality)
    np.testing.assert_array_equal(
        found, np.asarray(Image.open(io.BytesIO(encoded(picture, "JPEG", quality=quality))).convert("L")) > 127
    )
    assert (found != (BIG > 0)).mean() < 0.01


REFUSED = {
    "196 instances": instances(196),
    "100 instances": instances(100),
    "196 instances of 2x2 px": instances(196, side=2),
    "196 points": instances(196, side=1),
    "instances above the half": instances(60, first=150),
    "levels 85, 170, 255": boxes(85, 170, 255),
    "levels 85 and 255": boxes(85, 255),
    "1 beside 255, which is void": nested(255, 1),
    "1 and 2 beside 255": boxes(1, 2, 255),
    "a rim of 128": nested(128, 255),
    "two bright levels": boxes(200, 255),
    "red and green": boxes((255, 0, 0), (0, 255, 0)),
    "a photograph": np.random.default_rng(0).integers(0, 256, (60, 60), np.uint8),
    "a blur of 8 px": soft(8),
}


@pytest.mark.parametrize("name", REFUSED)
def test_labels_and_levels_are_refused_for_one_class(name):
    with pytest.raises(DataError, match=r"away from any edge|as labels of several|neither 0 / 255 nor 0 / 1") as error:
        labels(REFUSED[name])
    assert "Write 255 where the structure is" in error.value.remedy


@pytest.mark.parametrize("name", ["196 instances", "levels 85, 170, 255"])
def test_they_are_refused_as_jpeg_too(name):
    with pytest.raises(DataError, match="away from any edge"):
        labels(REFUSED[name].astype(np.uint8), "JPEG", quality=95)


def test_a_lossy_file_cannot_hold_small_numbers():
    with pytest.raises(DataError, match="neither 0 / 255 nor 0 / 1"):
        labels(np.ones_like(BIG), "JPEG")
    for kind, options in (("JPEG", {}), ("TIFF", {"compression": "jpeg"})):
        with pytest.raises(DataError, match="compressed with loss"):
            labels(BIG // 255, kind, num_classes=2, **options)


def test_several_classes_are_no_colors():
    with pytest.raises(DataError, match="holds colors"):
        labels(boxes((1, 0, 0), (0, 2, 0)), num_classes=2)
    np.testing.assert_array_equal(labels(boxes((1, 1, 1), (2, 2, 2)), num_classes=2), boxes(1, 2))


@pytest.mark.parametrize("kind", ["PNG", "TIFF"])
def test_colors_of_16_bits_keep_small_numbers(kind):
    """Pillow gives 8 bits of them, and a class 1 would be background."""
    tifffile, png = pytest.importorskip("tifffile"), pytest.importorskip("png")
    values, buffer = np.stack([boxes(1, 2).astype(np.uint16)] * 3, axis=-1), io.BytesIO()
    if kind == "TIFF":
        tifffile.imwrite(buffer, values, photometric="rgb")
    else:
        png.Writer(60, 60, greyscale=False, bitdepth=16).write(buffer, values.reshape(60, -1).tolist())
    np.testing.assert_array_equal(decode_mask(buffer.getvalue(), "a", 2), boxes(1, 2))


def test_pages_are_refused_as_for_images():
    with pytest.raises(DataError, match="several images"):
        labels(Image.fromarray(MASK), "TIFF", save_all=True, append_images=[Image.fromarray(MASK)])


def test_no_program_is_run_whatever_a_mask_is_called(tmp_path, monkeypatch):
    """Pillow opens EPS by running Ghostscript, the first `gs` on the path."""
    ran = tmp_path / "ran"
    script = tmp_path / "gs"
    script.write_text(f"#!/bin/sh\ntouch {ran}\n")
    script.chmod(script.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    content = encoded(Image.fromarray(MASK).convert("RGB"), "EPS")
    with pytest.raises(DataError, match="not a mask that can be read"):
        decode_mask(content, "a.png", 1)
    assert not ran.exists()
    with pytest.raises(OSError, match=r"."):
        Image.open(io.BytesIO(content)).load()
    assert ran.exists()  # so the script would have been found


def test_a_mask_that_is_too_large_is_refused_before_it_is_decoded():
    huge = bytearray(encoded(Image.new("1", (10, 10))))
    huge[16:24] = (50_000).to_bytes(4) * 2
    with pytest.raises(DataError, match=r"too large|cut short|damaged"):
        decode_mask(bytes(huge), "a.png", 1)


def drawing(color, alpha):
    """A layer of a drawing program: (60, 60) colors and opacities."""
    return np.dstack([np.broadcast_to(color, (60, 60))] * 3 + [np.broadcast_to(alpha, (60, 60))]).astype(np.uint8)


SPOT = boxes(255)


@pytest.mark.parametrize(("color", "alpha"), [(SPOT, 255), (SPOT, SPOT), (255, SPOT), (200, SPOT)])
def test_a_bright_layer_is_a_mask(color, alpha):
    np.testing.assert_array_equal(labels(drawing(color, alpha)), SPOT > 0)


@pytest.mark.parametrize(("color", "alpha"), [(0, 0), (255, 0)])
def test_an_empty_layer_is_an_empty_mask(color, alpha):
    assert not labels(drawing(color, alpha)).any()


@pytest.mark.parametrize("num_classes", [1, 2])
@pytest.mark.parametrize(("color", "alpha"), [(0, SPOT), (SPOT, 0), (255, SPOT // 2), (0, SPOT // 2)])
def test_opacity_that_hides_the_mask_is_refused(color, alpha, num_classes):
    """It would be an empty mask in silence."""
    with pytest.raises(DataError, match="its opacity or its color may be the mask"):
        labels(drawing(color, alpha), num_classes=num_classes)


def in_palette(indices, *colors):
    picture = Image.fromarray(indices.astype(np.uint8), "P")
    picture.putpalette([value for color in colors for value in color])
    return picture


BLACK, WHITE, RED, GREEN = (0, 0, 0), (255, 255, 255), (128, 0, 0), (0, 128, 0)


@pytest.mark.parametrize("colors", [(BLACK, RED, GREEN), (BLACK, RED, BLACK), (WHITE, RED, GREEN)])
def test_indices_are_classes_as_in_pascal_voc(colors):
    np.testing.assert_array_equal(labels(in_palette(boxes(1, 2), *colors), num_classes=2), boxes(1, 2))


def test_a_palette_in_an_order_of_its_own_is_refused():
    """A program that reduces colors sorts them as it likes: here the background is 2."""
    with pytest.raises(DataError, match="its indices may be no numbers of classes"):
        labels(in_palette(2 - boxes(1, 2), GREEN, RED, BLACK), num_classes=2)


@pytest.mark.parametrize("num_classes", [1, 2])
@pytest.mark.parametrize("dtype", [bool, np.uint8, np.uint16])
def test_a_tiff_in_which_zero_is_white_is_refused(dtype, num_classes):
    """tifffile writes truth values so, and ImageJ masks with an inverting table: read by the standard, they are swapped."""
    tifffile, buffer = pytest.importorskip("tifffile"), io.BytesIO()
    tifffile.imwrite(buffer, (SPOT > 0).astype(dtype), photometric="miniswhite")
    with pytest.raises(DataError, match="a TIFF in which 0 is white") as error:
        decode_mask(buffer.getvalue(), "a", num_classes)
    assert "mogrify -negate" in error.value.remedy


@pytest.mark.parametrize("highest", [1, 255])
def test_a_mask_that_may_be_inverted_is_warned_of(highest):
    (warning,) = read_mask(encoded(np.where(SPOT > 0, 0, highest).astype(np.uint8)), "a.png", 1).warnings
    assert "background and structure are swapped" in warning
    corner = np.where(np.add.outer(np.arange(60), np.arange(60)) < 70, 255, 0).astype(np.uint8)
    for values in (SPOT, corner, nested(0, 255)):
        assert not read_mask(encoded(values), "a.png", 1).warnings


def test_a_dicom_object_is_no_mask_and_not_called_damaged():
    for preamble in (b"\0" * 128, b"II*\0" + b"\0" * 124):
        with pytest.raises(DataError, match="is a DICOM object, and masks are pictures") as error:
            decode_mask(preamble + b"DICM" + b"\0" * 99, "masks/a.dcm", 1)
        assert "PNG" in error.value.remedy


@pytest.mark.parametrize("num_classes", [1, 2])
def test_what_is_left_out_of_a_mask_is_warned_of(num_classes):
    tifffile, buffer = pytest.importorskip("tifffile"), io.BytesIO()
    both = np.dstack([boxes(1), boxes(0, 1)])
    tifffile.imwrite(buffer, both, photometric="minisblack", planarconfig="contig", extrasamples=["unspecified"])
    found = read_mask(buffer.getvalue(), "a.tif", num_classes)
    np.testing.assert_array_equal(found.labels, boxes(1))
    assert "neither color nor opacity" in found.warnings[0]


def test_classes_without_a_background_are_warned_of():
    """Data sets that count from 1 often give the background a number too."""
    assert not read_mask(encoded(boxes(1, 2)), "a.png", 2).warnings
    assert "no pixel of the background" in read_mask(encoded(boxes(1, 2) + 1), "a.png", 3).warnings[0]
