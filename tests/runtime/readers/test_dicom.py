"""DICOM: what we read is right, what we do not read is one ImageError, and no patient value leaves the reader."""

import copy
import io
import logging
import warnings
from pathlib import Path

import numpy as np
import pydicom
import pytest
from pydicom.data import get_testdata_file

from medseg_runtime import ImageError
from medseg_runtime.readers.image import read_image


def path_of(name):
    return Path(get_testdata_file(name, download=False))


def example(name):
    return pydicom.dcmread(path_of(name))


@pytest.fixture
def read(tmp_path):
    def write_and_read(dataset, name="image"):
        path = tmp_path / name
        if isinstance(dataset, bytes):
            path.write_bytes(dataset)
        else:
            dataset.save_as(path, enforce_file_format=True)
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            return read_image(path)

    return write_and_read


def changed(name="CT_small.dcm", **values):
    dataset = copy.deepcopy(example(name))
    for keyword, value in values.items():
        if value is None:
            delattr(dataset, keyword)
        else:
            setattr(dataset, keyword, value)
    return dataset


def test_ct_in_hounsfield_units():
    source = read_image(path_of("CT_small.dcm"))
    dataset = example("CT_small.dcm")
    np.testing.assert_array_equal(source.pixels, dataset.pixel_array.astype(int) - 1024)
    assert source.kind == "DICOM CT"
    assert source.spacing_mm == (0.661468, 0.661468)
    assert source.warnings == ()


def test_a_slope_that_is_not_whole_gives_floats(read):
    source = read(changed(RescaleSlope="0.5", RescaleIntercept="-10"))
    np.testing.assert_allclose(source.pixels, 0.5 * example("CT_small.dcm").pixel_array - 10.0)
    assert source.pixels.dtype == np.float32


@pytest.mark.parametrize(("representation", "highest"), [(0, 65535), (1, -1)])
def test_monochrome1_is_inverted(representation, highest, read):
    source = read(
        changed(
            PhotometricInterpretation="MONOCHROME1",
            PixelRepresentation=representation,
            RescaleSlope="1",
            RescaleIntercept="0",
            PixelPaddingValue=None,
        )
    )
    np.testing.assert_array_equal(source.pixels, highest - example("CT_small.dcm").pixel_array.astype(int))


@pytest.mark.parametrize("photometric", ["MONOCHROME2", "MONOCHROME1"])
def test_padding_becomes_the_darkest_real_value(photometric, read):
    dataset = changed(PhotometricInterpretation=photometric)
    stored = dataset.pixel_array.copy()
    stored[:5] = -2000
    dataset.PixelData = stored.tobytes()
    source = read(dataset)
    assert (source.pixels[:5] == source.pixels[5:].min()).all()
    assert "padding" in source.warnings[0]


def test_ybr_is_converted_once():
    source = read_image(path_of("SC_rgb_jpeg_dcmtk.dcm"))
    np.testing.assert_array_equal(source.pixels, example("SC_rgb_jpeg_dcmtk.dcm").pixel_array)
    assert source.pixels[5, 50].tolist() == [254, 0, 0]  # the top stripe of that picture is red


def test_a_palette_becomes_color():
    source = read_image(path_of("examples_palette.dcm"))
    assert source.pixels.shape == (350, 800, 3)
    assert source.pixels.max() > 255  # its palette has 16 bits


def test_monochrome1_files_as_they_are_found():
    assert read_image(path_of("dicomdirtests/77654033/CR1/6154")).kind == "DICOM CR"


def test_invalid_spacing_is_dropped_with_a_word(read):
    for spacing in ([0.0, 0.0], [-1.0, 1.0]):
        source = read(changed(PixelSpacing=spacing))
        assert source.spacing_mm is None
        assert "PixelSpacing" in source.warnings[0]


def test_a_window_of_zero_does_not_matter_because_none_is_applied(read):
    source = read(changed(WindowCenter="40", WindowWidth="0"))
    np.testing.assert_array_equal(source.pixels, read(changed()).pixels)


def test_burned_in_text_is_announced(read):
    assert "burned" in read(changed(BurnedInAnnotation="YES")).warnings[0]


def raw(name="CT_small.dcm"):
    return path_of(name).read_bytes()


def multi_frame(count):
    return changed(NumberOfFrames=count)


def enhanced():
    dataset = changed()
    dataset.PerFrameFunctionalGroupsSequence = [pydicom.Dataset(), pydicom.Dataset()]
    return dataset


BAD = {
    "truncated header": (lambda: raw()[:400], "cut short|no image"),
    "truncated pixels": (lambda: raw()[:-5000], "cut short"),
    "no preamble": (lambda: raw()[132:], "lacks its preamble"),
    "rows 0": (lambda: changed(Rows=0), "too small"),
    "rows beyond the pixels": (lambda: changed(Rows=4000), "cut short"),
    "huge": (lambda: changed(Rows=60000, Columns=60000), "too large"),
    "no photometric": (lambda: changed(PhotometricInterpretation=None), "Photometric"),
    "odd photometric": (lambda: changed(PhotometricInterpretation="ARGB"), "Photometric"),
    "samples do not fit": (lambda: changed(SamplesPerPixel=3), "SamplesPerPixel"),
    "2 frames": (lambda: multi_frame(2), "several frames"),
    "1e5 frames": (lambda: multi_frame(100_000), "several frames"),
    "enhanced, groups missing": (enhanced, "groups"),
    "slope 0": (lambda: changed(RescaleSlope="0"), "slope"),
    "slope 1e308": (lambda: changed(RescaleSlope="1e308"), "slope"),
    "slope NaN": (lambda: changed(RescaleSlope="nan"), "slope|damaged"),
    "no pixels": (lambda: changed(PixelData=None), "holds no image"),
    "SR": (lambda: raw("test-SR.dcm"), "holds no image"),
    "RT plan": (lambda: raw("rtplan.dcm"), "holds no image"),
    "SEG": (lambda: raw("liver_1frame.dcm"), "segmentation"),
    "multi-frame US": (lambda: raw("examples_ybr_color.dcm"), "several frames"),
    "JPEG lossless": (lambda: raw("SC_rgb_jpeg_gdcm.dcm"), "JPEG Lossless"),
    "truncated by a modality": (lambda: raw("MR_truncated.dcm"), "cut short"),
    "number of frames 1A": (lambda: raw("badVR.dcm"), "NumberOfFrames"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_files_are_one_error_that_ends_with_the_remedy(name, read):
    make, problem = BAD[name]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # writing an invalid file is what we want
        dataset = make()
        if not isinstance(dataset, bytes):
            buffer = io.BytesIO()
            dataset.save_as(buffer, enforce_file_format=True)
            dataset = buffer.getvalue()
    with pytest.raises(ImageError, match=problem) as caught:
        read(dataset)
    assert caught.value.remedy.endswith(".")
    assert "\n" not in str(caught.value)


NAME_AND_BIRTHDAY = "DOE^JANE^19700101"


def test_no_patient_value_leaves_the_reader(read, caplog, capfd):
    """Tags of a wrong type, with a name in each: pydicom's warnings and errors quote them."""
    caplog.set_level(logging.DEBUG)
    clean = raw().replace(b"CompressedSamples^CT1", NAME_AND_BIRTHDAY.encode().ljust(21))
    assert NAME_AND_BIRTHDAY.encode() in clean
    rng = np.random.default_rng(1)
    texts = []
    for _ in range(300):
        broken = bytearray(clean)
        for position in rng.integers(132, 2000, 4):
            broken[position] = rng.integers(256)
        try:
            texts += read(bytes(broken)).warnings
        except ImageError as error:
            texts += [str(error), str(error.__cause__ or "")]
    out, err = capfd.readouterr()
    assert "DOE" not in "".join([*texts, out, err, caplog.text])


def test_what_pydicom_warns_and_logs_is_kept_in(caplog, monkeypatch):
    real = pydicom.dcmread

    def talkative(*args, **options):
        logging.getLogger("pydicom").warning("odd value %s", NAME_AND_BIRTHDAY)
        warnings.warn(f"odd value {NAME_AND_BIRTHDAY}", stacklevel=1)
        return real(*args, **options)

    monkeypatch.setattr(pydicom, "dcmread", talkative)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        read_image(path_of("CT_small.dcm"))
    assert caught == []
    assert caplog.text == ""


def test_other_threads_and_later_calls_still_see_pydicoms_log(caplog):
    read_image(path_of("CT_small.dcm"))
    logging.getLogger("pydicom").warning("still here")
    assert "still here" in caplog.text
