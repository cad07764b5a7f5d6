"""Palettes and Modality LUTs of every shape. DCMTK judges."""

import subprocess

import numpy as np
import pydicom
import pytest
from PIL import Image

from medseg_runtime import ImageError

SIDE = 32
RANDOM = np.random.default_rng(0)


def plain(changed, values, *, bits, signed=False, **elements):
    """A grey image of these stored values, without a rescale."""
    allocated = 8 if bits <= 8 else 16
    dataset = changed(
        "CT_small.dcm", Rows=SIDE, Columns=SIDE, BitsAllocated=allocated, BitsStored=bits, HighBit=bits - 1,
        PixelRepresentation=int(signed), PixelPaddingValue=None, RescaleSlope=None, RescaleIntercept=None,
        Modality="OT", **elements,
    )  # fmt: skip
    dataset.PixelData = values.astype(f"{'i' if signed else 'u'}{allocated // 8}").tobytes()
    return dataset


def with_palette(dataset, entries, first, bits):
    count, signed = len(entries), dataset.PixelRepresentation == 1
    dataset.PhotometricInterpretation = "PALETTE COLOR"
    for index, color in enumerate(("Red", "Green", "Blue")):
        descriptor = f"{color}PaletteColorLookupTableDescriptor"
        dataset.add_new(descriptor, "SS" if signed else "US", [count if count < 65536 else 0, first, bits])
        data = entries[:, index].astype("u1" if bits == 8 else "<u2").tobytes()
        dataset.add_new(f"{color}PaletteColorLookupTableData", "OW", data + bytes(len(data) % 2))
    return dataset


def palette(count, bits):
    return RANDOM.integers(0, 2**bits, (count, 3))


@pytest.mark.parametrize(
    ("stored", "signed", "count", "first", "bits"),
    [
        (8, False, 256, 0, 16),
        (8, False, 100, 60, 16),
        (8, False, 101, 60, 8),
        (8, False, 256, 0, 8),
        (16, False, 200, 1000, 16),
        (16, False, 4096, 500, 8),  # more entries than 8 bits count
        (12, True, 300, -150, 16),
        (16, True, 4096, -2048, 16),
    ],
)
def test_a_palette_starts_at_its_first_entry(stored, signed, count, first, bits, changed, read, needs, tmp_path):
    lowest = -(2 ** (stored - 1)) if signed else 0
    values = RANDOM.integers(max(first - 50, lowest), min(first + count + 50, lowest + 2**stored), (SIDE, SIDE))
    entries = palette(count, bits)
    image = read(with_palette(plain(changed, values, bits=stored, signed=signed), entries, first, bits))
    np.testing.assert_array_equal(image.pixels, entries[np.clip(values - first, 0, count - 1)])
    assert image.value_range == (0.0, 2.0**bits - 1)
    out = tmp_path / "out.ppm"
    subprocess.run(
        [needs("dcmj2pnm", "dcmtk"), "--write-raw-pnm", tmp_path / "image.dcm", out], capture_output=True, check=True
    )
    theirs = np.asarray(Image.open(out)).astype(float)
    np.testing.assert_allclose(image.pixels / (257.0 if bits == 16 else 1.0), theirs, atol=1.01)


def test_a_segmented_palette_starts_at_its_first_entry(changed, read):
    """Its one segment is discrete: opcode 0, number of entries, entries (PS3.3, C.7.9.2.1)."""
    values, entries = RANDOM.integers(0, 256, (SIDE, SIDE)), palette(100, 16)
    dataset = with_palette(plain(changed, values, bits=8), entries, 60, 16)
    for color in ("Red", "Green", "Blue"):
        data = dataset[f"{color}PaletteColorLookupTableData"].value
        del dataset[f"{color}PaletteColorLookupTableData"]
        segment = np.array([0, 100], "<u2").tobytes() + data
        dataset.add_new(f"Segmented{color}PaletteColorLookupTableData", "OW", segment)
    np.testing.assert_array_equal(read(dataset).pixels, entries[np.clip(values - 60, 0, 99)])


def test_palettes_that_differ_in_shape_are_refused(changed, read):
    dataset = with_palette(plain(changed, np.zeros((SIDE, SIDE)), bits=8), palette(256, 8), 0, 8)
    dataset.RedPaletteColorLookupTableDescriptor = [256, 5, 8]
    with pytest.raises(ImageError, match="damaged"):
        read(dataset)


def with_modality_lut(dataset, entries, first, bits, vr="US"):
    import pydicom

    item = pydicom.Dataset()
    signed = dataset.PixelRepresentation == 1
    item.add_new("LUTDescriptor", "SS" if signed else "US", [len(entries), first, bits])
    item.add_new("LUTData", vr, entries.astype("<u2").tobytes() if vr == "OW" else entries.tolist())
    item.ModalityLUTType = "US"
    dataset.ModalityLUTSequence = [item]
    return dataset


@pytest.mark.parametrize("vr", ["US", "OW"])
@pytest.mark.parametrize(
    ("stored", "signed", "count", "first", "bits"),
    [(8, False, 4096, 0, 16), (8, False, 50, 100, 8), (12, True, 4096, -2048, 12), (16, True, 100, -32768, 16)],
)
def test_a_modality_lut_starts_at_its_first_entry(stored, signed, count, first, bits, vr, changed, read):
    lowest = -(2 ** (stored - 1)) if signed else 0
    values = RANDOM.integers(lowest, lowest + 2**stored, (SIDE, SIDE))
    entries = np.sort(RANDOM.integers(0, 2**bits, count))
    image = read(with_modality_lut(plain(changed, values, bits=stored, signed=signed), entries, first, bits, vr))
    np.testing.assert_array_equal(image.pixels, entries[np.clip(values - first, 0, count - 1)])
    assert image.pixels.dtype == np.int32


def test_dcmtk_applies_a_modality_lut_alike(sources, needs, tmp_path):
    from medseg_runtime.readers.image import read_image

    image = read_image(sources("mlut_18.dcm"))
    arguments = ["--min-max-window", "--write-16-bit-png", sources("mlut_18.dcm"), tmp_path / "out.png"]
    subprocess.run([needs("dcmj2pnm", "dcmtk"), *arguments], capture_output=True, check=True)
    np.testing.assert_allclose(image.pixels, np.asarray(Image.open(tmp_path / "out.png")).astype(int), atol=1)


def test_a_modality_lut_and_a_rescale_contradict(changed, read):
    dataset = with_modality_lut(plain(changed, np.zeros((SIDE, SIDE)), bits=8), np.arange(256), 0, 16)
    dataset.RescaleSlope, dataset.RescaleIntercept = 1, 0
    read(dataset)
    dataset.RescaleSlope = 2
    with pytest.raises(ImageError, match="both a Modality LUT and a rescale"):
        read(dataset)


def test_an_empty_modality_lut_is_named(changed, read):
    dataset = plain(changed, np.arange(SIDE * SIDE).reshape(SIDE, SIDE) % 256, bits=8)
    dataset.ModalityLUTSequence = []
    assert "ModalityLUTSequence" in read(dataset).warnings[0]


def test_a_voi_lut_gives_the_range_if_there_is_no_window(changed, read):
    import pydicom

    dataset = plain(changed, np.arange(SIDE * SIDE).reshape(SIDE, SIDE), bits=12)
    item = pydicom.Dataset()
    item.add_new("LUTDescriptor", "US", [200, 100, 16])
    item.add_new("LUTData", "US", list(range(200)))
    dataset.VOILUTSequence = [item]
    assert read(dataset).value_range == (100.0, 299.0)
    dataset.WindowCenter, dataset.WindowWidth = 50, 20
    assert read(dataset).value_range == (40.0, 60.0)


@pytest.mark.parametrize("stated", [8, 16])
def test_entries_of_8_bits_in_words(stated, changed, read):
    """As 16 bits, every color would be black."""
    values, entries = RANDOM.integers(0, 256, (SIDE, SIDE)), palette(256, 8)
    dataset = with_palette(plain(changed, values, bits=8), entries, 0, 16)
    for color in ("Red", "Green", "Blue"):
        dataset[f"{color}PaletteColorLookupTableDescriptor"].value = [256, 0, stated]
    image = read(dataset)
    np.testing.assert_array_equal(image.pixels, entries[values])
    assert image.value_range == (0.0, 255.0)


def test_an_incomplete_palette_is_named(changed, read):
    dataset = with_palette(plain(changed, RANDOM.integers(0, 256, (SIDE, SIDE)), bits=8), palette(256, 16), 0, 16)
    del dataset.GreenPaletteColorLookupTableData
    with pytest.raises(ImageError, match="palette"):
        read(dataset)


def test_a_damaged_modality_lut_is_named(changed, read):
    dataset = plain(changed, RANDOM.integers(0, 256, (SIDE, SIDE)), bits=8)
    dataset.ModalityLUTSequence = [pydicom.Dataset()]
    with pytest.raises(ImageError, match="ModalityLUTSequence"):
        read(dataset)
