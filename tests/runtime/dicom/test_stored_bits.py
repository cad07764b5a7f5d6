"""Where a value lies in its cell: High Bit, unused bits, signs, overlays, padding, floats. DCMTK judges."""

import subprocess

import numpy as np
import pytest
from PIL import Image

from medseg_runtime import ImageError
from medseg_runtime.readers.image import read_image

SIDE = 32


def values_of(bits, *, signed):
    """Values (SIDE, SIDE) from the lowest to the highest that these bits hold."""
    lowest = -(2 ** (bits - 1)) if signed else 0
    return np.linspace(lowest, lowest + 2**bits - 1, SIDE * SIDE).round().astype(np.int64).reshape(SIDE, SIDE)


@pytest.fixture
def cells(changed):
    """cells(array, bits, high, signed): a CT whose cells hold an array of 16-bit words."""

    def build(words, *, bits, high, signed, **values):
        dataset = changed(
            "CT_small.dcm", Rows=SIDE, Columns=SIDE, BitsStored=bits, HighBit=high, PixelRepresentation=int(signed),
            RescaleSlope=1, RescaleIntercept=0, **({"PixelPaddingValue": None} | values),
        )  # fmt: skip
        dataset.PixelData = words.astype(np.uint16).tobytes()
        return dataset

    return build


def shown_by_dcmtk(program, path, out):
    """The 16-bit picture that DCMTK makes, scaled from the lowest to the highest value of the image."""
    subprocess.run([program, "--min-max-window", "--write-16-bit-png", path, out], capture_output=True, check=True)
    return np.asarray(Image.open(out)).astype(float)


@pytest.mark.parametrize("signed", [False, True])
@pytest.mark.parametrize(("bits", "high"), [(12, 15), (12, 13), (10, 15), (12, 11), (16, 15)])
def test_a_value_is_taken_from_the_bits_that_hold_it(bits, high, signed, cells, read, needs, tmp_path):
    values = values_of(bits, signed=signed)
    words = (values % (1 << bits)) << (high + 1 - bits)
    image = read(cells(words, bits=bits, high=high, signed=signed))
    np.testing.assert_array_equal(image.pixels, values)
    assert image.value_range == (values.min(), values.max())
    theirs = shown_by_dcmtk(needs("dcmj2pnm", "dcmtk"), tmp_path / "image.dcm", tmp_path / "out.png")
    ours = (values - values.min()) / np.ptp(values) * theirs.max()
    np.testing.assert_allclose(ours, theirs, atol=1.01)


@pytest.mark.parametrize("program", ["dcmcrle", "dcmcjpls"])
@pytest.mark.parametrize("signed", [False, True])
@pytest.mark.parametrize("high", [15, 13])
def test_compressed_cells_hold_the_same_values(high, signed, program, cells, read, needs, tmp_path):
    if program == "dcmcjpls":
        pytest.importorskip("jpeg_ls")
    values = values_of(12, signed=signed)
    read(cells((values % 4096) << (high - 11), bits=12, high=high, signed=signed))
    subprocess.run([needs(program, "dcmtk"), tmp_path / "image.dcm", tmp_path / "out.dcm"], check=True)
    np.testing.assert_array_equal(read_image(tmp_path / "out.dcm").pixels, values)


@pytest.mark.parametrize("signed", [False, True])
def test_bits_above_the_value_are_not_part_of_it(signed, cells, read):
    """Old overlays lie there (PS3.5, 8.1.2), or a sign."""
    values = values_of(12, signed=signed)
    overlay = (np.indices((SIDE, SIDE)).sum(axis=0) % 2) << 13
    image = read(cells((values % 4096) | overlay, bits=12, high=11, signed=signed))
    np.testing.assert_array_equal(image.pixels, values)
    assert "HighBit" in image.warnings[0]


def test_a_sign_in_the_unused_bits_needs_no_warning(cells, read):
    values = values_of(12, signed=True)
    image = read(cells(values % 65536, bits=12, high=11, signed=True))
    np.testing.assert_array_equal(image.pixels, values)
    assert image.warnings == ()


def test_values_below_the_stated_bits_are_refused(cells, read):
    """They are right-justified, whatever High Bit says, or something else: which one cannot be known."""
    with pytest.raises(ImageError, match="HighBit and BitsStored"):
        read(cells(values_of(12, signed=False), bits=12, high=15, signed=False))


@pytest.mark.parametrize("high", [5, 200])
def test_a_high_bit_that_cannot_be_is_not_used(high, cells, read):
    values = values_of(12, signed=False)
    image = read(cells(values, bits=12, high=high, signed=False))
    np.testing.assert_array_equal(image.pixels, values)
    assert "HighBit" in image.warnings[0]


def test_padding_that_the_stored_bits_cannot_hold_is_found_in_the_cells(cells, read):
    values = values_of(12, signed=False)
    words = values.copy()
    words[:3] = 63536
    dataset = cells(words, bits=12, high=11, signed=False)
    dataset.add_new("PixelPaddingValue", "US", 63536)
    image = read(dataset)
    assert (image.pixels[:3] == values[3:].min()).all()
    np.testing.assert_array_equal(image.pixels[3:], values[3:])


def test_padding_of_left_justified_values(cells, read):
    values = values_of(12, signed=True)
    values[:3] = -2000
    words = (values % 4096) << 4
    image = read(cells(words, bits=12, high=15, signed=True, PixelPaddingValue=-2000))
    assert (image.pixels[:3] == values[3:].min()).all()


@pytest.mark.parametrize(("keyword", "dtype"), [("FloatPixelData", np.float32), ("DoubleFloatPixelData", np.float64)])
def test_floats_are_read_and_their_padding_is_not(keyword, dtype, changed, read):
    """As in a parametric map (PS3.3, C.7.6.24)."""
    values = np.linspace(-1.5, 2.5, SIDE * SIDE).reshape(SIDE, SIDE).astype(dtype)
    stored = values.copy()
    stored[0], stored[1] = np.nan, -999
    dataset = changed(
        "CT_small.dcm", Rows=SIDE, Columns=SIDE, BitsAllocated=8 * values.itemsize, BitsStored=None, HighBit=None,
        PixelRepresentation=None, PixelPaddingValue=None, PixelData=None, RescaleSlope=None, RescaleIntercept=None,
        Modality="MR",
    )  # fmt: skip
    setattr(dataset, keyword, stored.tobytes())
    setattr(dataset, keyword.replace("Data", "PaddingValue"), -999.0)
    image = read(dataset)
    assert image.pixels.dtype == np.float32
    np.testing.assert_allclose(image.pixels[2:], values[2:], rtol=1e-6)
    assert (image.pixels[:2] == image.pixels[2:].min()).all()
    assert image.dicom.header.get(keyword) is None


@pytest.mark.parametrize("signed", [False, True])
def test_32_bits_keep_every_value(signed, changed, read):
    info = np.iinfo(np.int32 if signed else np.uint32)
    values = np.linspace(info.min, info.max, SIDE * SIDE).round().astype(info.dtype).reshape(SIDE, SIDE)
    dataset = changed(
        "CT_small.dcm", Rows=SIDE, Columns=SIDE, BitsAllocated=32, BitsStored=32, HighBit=31,
        PixelRepresentation=int(signed), PixelPaddingValue=None, RescaleSlope=1, RescaleIntercept=0,
    )  # fmt: skip
    dataset.PixelData = values.tobytes()
    image = read(dataset)
    assert image.pixels.dtype == info.dtype
    np.testing.assert_array_equal(image.pixels, values)


def test_packed_cells_are_named_with_a_remedy_that_works(changed, read, needs, tmp_path):
    """Two values of 12 bits in three bytes, as old scanners wrote them."""
    values = values_of(12, signed=False)
    pairs = values.reshape(-1, 2)
    packed = np.stack([pairs[:, 0] & 255, (pairs[:, 0] >> 8) | ((pairs[:, 1] & 15) << 4), pairs[:, 1] >> 4], axis=-1)
    dataset = changed(
        "CT_small.dcm", Rows=SIDE, Columns=SIDE, BitsAllocated=12, BitsStored=12, HighBit=11, PixelRepresentation=0,
        PixelPaddingValue=None, RescaleIntercept=0,
    )  # fmt: skip
    dataset.PixelData = packed.astype(np.uint8).tobytes()
    with pytest.raises(ImageError, match="cells of 12 bits") as caught:
        read(dataset)
    needs("dcmj2pnm", "dcmtk")
    (tmp_path / "image.dcm").rename(tmp_path / "in.dcm")
    subprocess.run(caught.value.remedy.split("`")[1].split(), cwd=tmp_path, check=True)
    np.testing.assert_allclose(read_image(tmp_path / "out.png").pixels, values * 65535 / 4095, atol=1.01)


@pytest.mark.parametrize(("photometric", "bits"), [("YBR_PARTIAL_422", 8), ("YBR_FULL", 16), ("YBR_RCT", 8)])
def test_colors_that_are_not_converted_are_named(photometric, bits, changed, read, needs, tmp_path):
    dataset = changed(
        "CT_small.dcm", Rows=SIDE, Columns=SIDE, BitsAllocated=bits, BitsStored=bits, HighBit=bits - 1,
        PixelRepresentation=0, PhotometricInterpretation=photometric, SamplesPerPixel=3, PlanarConfiguration=0,
    )  # fmt: skip
    dataset.PixelData = bytes(3 * SIDE * SIDE * bits // 8)
    with pytest.raises(ImageError, match="converted to RGB") as caught:
        read(dataset)
    if photometric != "YBR_RCT":  # not valid without JPEG 2000
        needs("dcmj2pnm", "dcmtk")
        (tmp_path / "image.dcm").rename(tmp_path / "in.dcm")
        subprocess.run(caught.value.remedy.split("`")[1].split(), cwd=tmp_path, check=True)
        assert read_image(tmp_path / "out.png").pixels.shape == (SIDE, SIDE, 3)


def test_64_bits_are_refused(changed, read):
    dataset = changed("CT_small.dcm", Rows=SIDE, Columns=SIDE, BitsAllocated=64, BitsStored=64, HighBit=63)
    dataset.PixelData = bytes(8 * SIDE * SIDE)
    with pytest.raises(ImageError, match="64 bits are not supported"):
        read(dataset)


def test_more_pixels_than_stated_are_named(changed, read):
    dataset = changed("CT_small.dcm")
    dataset.PixelData = 2 * dataset.PixelData
    assert "more pixels" in read(dataset).warnings[0]
