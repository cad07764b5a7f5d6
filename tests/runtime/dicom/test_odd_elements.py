"""Odd values: those that do not matter for the pixels are left out, with a warning that names the element and quotes nothing."""

import numpy as np
import pytest

from medseg_runtime import ImageError

MARKER = "DOE^JANE"


@pytest.fixture
def plain(changed, read):
    return read(changed("CT_small.dcm"))


def warned(image, keyword):
    assert any(keyword in warning for warning in image.warnings), image.warnings
    assert MARKER not in " ".join(image.warnings)


@pytest.mark.parametrize("value", [b"", b"0,5", b"abc", MARKER.encode(), b"1\\2"])
@pytest.mark.parametrize(("keyword", "otherwise"), [("RescaleSlope", -1024), ("RescaleIntercept", 0)])
def test_a_rescale_that_is_no_number(keyword, otherwise, value, changed, put, read):
    dataset = changed("CT_small.dcm")
    stored = dataset.pixel_array.astype(int)
    image = read(put(dataset, keyword, "DS", value))
    np.testing.assert_array_equal(image.pixels, stored + otherwise)
    warned(image, keyword)


@pytest.mark.parametrize(
    ("keyword", "value"),
    [
        ("RescaleSlope", b"0"),
        *((keyword, value) for keyword in ("RescaleSlope", "RescaleIntercept") for value in (b"1e308", b"nan", b"inf")),
    ],
)
def test_a_rescale_that_cannot_be_is_refused(keyword, value, changed, put, read):
    with pytest.raises(ImageError, match="slope or intercept"):
        read(put(changed("CT_small.dcm"), keyword, "DS", value))


@pytest.mark.parametrize(("vr", "value"), [("LO", b"2 "), ("FD", np.float64(2).tobytes()), ("US", b"\2\0")])
def test_a_number_of_another_vr_is_used(vr, value, changed, put, read):
    dataset = changed("CT_small.dcm")
    stored = dataset.pixel_array.astype(int)
    np.testing.assert_array_equal(read(put(dataset, "RescaleSlope", vr, value)).pixels, 2 * stored - 1024)


@pytest.mark.parametrize(
    ("keyword", "value"),
    [
        *((keyword, value) for keyword in ("WindowCenter", "WindowWidth") for value in (b"", b"4,0", b"abc", b"nan")),
        ("WindowWidth", b"0"),
        ("WindowWidth", b"-5"),
        ("WindowCenter", b"1e300"),
    ],
)
def test_an_odd_window(keyword, value, changed, put, read, plain):
    image = read(put(changed("CT_small.dcm", WindowCenter=40, WindowWidth=400), keyword, "DS", value))
    np.testing.assert_array_equal(image.pixels, plain.pixels)
    assert image.value_range == plain.value_range
    warned(image, keyword)


@pytest.mark.parametrize("value", [b"", b"0,5\\0,5", b"0.5", b"abc\\1", b"0\\0", b"-1\\1", b"nan\\nan", b"1\\2\\3"])
def test_an_odd_spacing(value, changed, put, read, plain):
    image = read(put(changed("CT_small.dcm"), "PixelSpacing", "DS", value))
    np.testing.assert_array_equal(image.pixels, plain.pixels)
    assert (image.spacing_mm, image.dicom.plane) == (None, None)
    warned(image, "PixelSpacing")


@pytest.mark.parametrize("keyword", ["ImagePositionPatient", "ImageOrientationPatient"])
@pytest.mark.parametrize("value", [b"", b"1,0\\0\\0", b"abc", b"1\\2", b"nan\\0\\0", MARKER.encode()])
def test_an_odd_place(keyword, value, changed, put, read, plain):
    image = read(put(changed("CT_small.dcm"), keyword, "DS", value))
    np.testing.assert_array_equal(image.pixels, plain.pixels)
    assert image.dicom.plane is None
    assert image.spacing_mm == plain.spacing_mm
    warned(image, keyword)


@pytest.mark.parametrize("value", [b"5,0", b"abc", b"-1", b"0", b"nan", b"1\\2"])
def test_an_odd_thickness(value, changed, put, read, plain):
    image = read(put(changed("CT_small.dcm"), "SliceThickness", "DS", value))
    assert image.dicom.plane.thickness_mm is None
    assert image.dicom.plane.position == plain.dicom.plane.position
    warned(image, "SliceThickness")


def test_an_empty_thickness_is_valid(changed, put, read):
    """Type 2: unknown."""
    assert read(put(changed("CT_small.dcm"), "SliceThickness", "DS", b"")).warnings == ()


@pytest.mark.parametrize(
    ("vr", "value"), [("US", b""), ("SS", b""), ("DS", b"abc"), ("DS", b"1.5"), ("LO", MARKER.encode())]
)
def test_an_odd_padding(vr, value, changed, put, read, plain):
    image = read(put(changed("CT_small.dcm"), "PixelPaddingValue", vr, value))
    np.testing.assert_array_equal(image.pixels, plain.pixels)
    warned(image, "PixelPaddingValue")


@pytest.mark.parametrize("keyword", ["BitsAllocated", "BitsStored", "PixelRepresentation"])
def test_what_pixels_cannot_do_without_is_named(keyword, changed, put, read):
    with pytest.raises(ImageError, match=f"does not state {keyword}"):
        read(put(changed("CT_small.dcm"), keyword, "US", b""))


@pytest.mark.parametrize("value", [b"1.5", b"abc", b""])
def test_an_odd_end_of_padding_is_named_by_its_own_keyword(value, changed, put, read, plain):
    image = read(put(changed("CT_small.dcm", PixelPaddingValue=-2000), "PixelPaddingRangeLimit", "DS", value))
    np.testing.assert_array_equal(image.pixels, plain.pixels)
    assert [warning.split()[0] for warning in image.warnings] == ["PixelPaddingRangeLimit"]


@pytest.mark.parametrize(
    ("keyword", "vr", "value"),
    [
        *(("NumberOfFrames", "IS", value) for value in (b"abc", b"1.5", b"1\\2", b"-1")),
        *(("BitsStored", "US", value) for value in (b"\0\0", b"\x11\0")),
        ("PixelRepresentation", "US", b"\2\0"),
        ("PhotometricInterpretation", "CS", b""),
        ("SamplesPerPixel", "US", b"\2\0"),
        ("Rows", "US", b""),
    ],
)
def test_what_pixels_cannot_do_without_and_is_not_valid_is_named(keyword, vr, value, changed, put, read):
    with pytest.raises(ImageError, match=keyword):
        read(put(changed("CT_small.dcm"), keyword, vr, value))


def test_colors_without_a_planar_configuration_are_named(changed, read):
    with pytest.raises(ImageError, match="PlanarConfiguration"):
        read(changed("SC_rgb.dcm", PlanarConfiguration=None))


@pytest.mark.parametrize("value", [b"0", b"", b"1"])
def test_no_number_of_frames_is_one(value, changed, put, read, plain):
    np.testing.assert_array_equal(
        read(put(changed("CT_small.dcm"), "NumberOfFrames", "IS", value)).pixels, plain.pixels
    )


def test_python_alone_takes_an_underscore_in_a_number(changed, put, read, plain):
    image = read(put(changed("CT_small.dcm"), "RescaleSlope", "DS", b"1_0"))
    np.testing.assert_array_equal(image.pixels, plain.pixels)
    warned(image, "RescaleSlope")


def test_an_empty_value_keeps_the_place_of_the_others(changed, put, read, plain):
    image = read(put(changed("CT_small.dcm", WindowWidth=[400, 300]), "WindowCenter", "DS", b"\\40"))
    assert image.value_range == plain.value_range
    warned(image, "WindowCenter")
    assert read(put(changed("CT_small.dcm"), "ImagePositionPatient", "DS", b"1\\2\\3\\")).dicom.plane.position == (
        1,
        2,
        3,
    )


@pytest.mark.parametrize(
    ("value", "shown"), [("SMITH", ""), ("DOE", ""), ("XX", ""), ("CT", "CT"), ("ct", "CT"), ("OPT", "OPT")]
)
def test_a_modality_is_one_of_the_standards_terms_or_not_printed(value, shown, changed, put, read):
    assert read(put(changed("CT_small.dcm"), "Modality", "CS", value.encode())).kind == f"DICOM {shown}".strip()


@pytest.mark.parametrize("value", ["US", "HU_MOD", "ED"])
def test_a_ct_that_is_not_in_hounsfield_units_is_named(value, changed, read):
    warned(read(changed("CT_small.dcm", RescaleType=value)), "RescaleType")
    assert read(changed("CT_small.dcm", RescaleType="HU")).warnings == ()


def test_a_ct_without_a_rescale_is_named(changed, read):
    warned(read(changed("CT_small.dcm", RescaleSlope=None, RescaleIntercept=None)), "RescaleSlope")


def test_a_window_narrower_than_one_is_valid_for_some_functions(changed, read):
    """PS3.3, C.11.2.1.3."""
    values = {"WindowCenter": "0.5", "WindowWidth": "0.5"}
    assert read(changed("MR_small.dcm", VOILUTFunction="LINEAR_EXACT", **values)).value_range == (0.25, 0.75)
    warned(read(changed("MR_small.dcm", **values)), "WindowWidth")


class TestBurnedIn:
    def test_what_says_nothing_may_hold_a_name(self, changed, read):
        for name, values in (
            ("examples_rgb_color.dcm", {}),
            ("CT_small.dcm", {"SOPClassUID": "1.2.840.10008.5.1.4.1.1.7"}),
            ("SC_rgb.dcm", {"Modality": "ES"}),
        ):
            image = read(changed(name, **values))
            assert any("may be burned" in warning for warning in image.warnings)

    @pytest.mark.parametrize(("value", "text"), [("YES", "text is burned"), ("NO", None)])
    def test_what_is_stated_is_believed(self, value, text, changed, read):
        warnings = read(changed("examples_rgb_color.dcm", BurnedInAnnotation=value)).warnings
        assert [text in warning for warning in warnings if "burned" in warning] == ([True] if text else [])

    def test_a_ct_is_not_suspected(self, plain):
        assert plain.warnings == ()
