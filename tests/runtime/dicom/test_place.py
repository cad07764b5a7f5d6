"""Where an image lies and what its pixels measure: only what a header really gives. dcm2niix judges."""

import struct
import subprocess

import numpy as np
import pydicom
import pytest

from medseg_runtime.readers.image import read_image

SECONDARY_CAPTURE, CR, XA = (f"1.2.840.10008.5.1.4.1.1.{end}" for end in ("7", "1", "12.1"))


def no_plane_because(read, dataset, reason):
    image = read(dataset)
    assert image.dicom.plane is None
    assert any(reason in warning for warning in image.warnings), image.warnings


def test_a_mosaic_has_no_plane(changed, read):
    no_plane_because(read, changed("CT_small.dcm", ImageType=["ORIGINAL", "PRIMARY", "M", "ND", "MOSAIC"]), "MOSAIC")


def test_a_mosaic_is_known_by_its_number_of_images(changed, read):
    """De-identification and some exports keep this element alone."""
    dataset = changed("MR_small.dcm")
    dataset.private_block(0x0019, "SIEMENS MR HEADER", create=True).add_new(0x0A, "US", 36)
    no_plane_because(read, dataset, "MOSAIC")


def csa_header(number):
    """A CSA image header ("SV10") with one tag, as nibabel describes it."""
    value = f"{number}".encode().ljust(4, b"\0") if number else b""
    tag = b"NumberOfImagesInMosaic".ljust(64, b"\0") + struct.pack("<i4siii", 1, b"US\0\0", 5, 6, 77)
    return b"SV10\4\3\2\1" + struct.pack("<II", 1, 77) + tag + struct.pack("<4i", len(value), len(value), 77, 0) + value


@pytest.mark.parametrize(("number", "planes"), [(36, 0), (1, 1), (None, 1)])
def test_a_mosaic_is_known_by_its_csa_header_alone(number, planes, changed, read):
    dataset = changed("MR_small.dcm")
    dataset.private_block(0x0029, "SIEMENS CSA HEADER", create=True).add_new(0x10, "OB", csa_header(number))
    assert (read(dataset).dicom.plane is not None) == planes


@pytest.mark.parametrize(("vr", "value"), [("US", [36, 36]), ("UN", b"\x24\0"), ("IS", "36")])
def test_the_number_of_images_of_any_vr(vr, value, changed, read):
    dataset = changed("MR_small.dcm")
    dataset.private_block(0x0019, "SIEMENS MR HEADER", create=True).add_new(0x0A, vr, value)
    no_plane_because(read, dataset, "MOSAIC")


def test_empty_functional_groups_make_no_enhanced_object(changed, read):
    values = {"ImageType": ["ORIGINAL", "PRIMARY", "M", "MOSAIC"], "SharedFunctionalGroupsSequence": []}
    no_plane_because(read, changed("MR_small.dcm", **values), "MOSAIC")


@pytest.mark.parametrize("values", [{"ImageType": None}, {"ImageType": ""}, {"Modality": None}])
def test_a_tilt_without_a_type_or_modality(values, changed, read):
    no_plane_because(read, changed("CT_small.dcm", GantryDetectorTilt=15, **values), "GantryDetectorTilt")


def test_a_derived_slice_may_keep_the_tilt_of_its_source(changed, read):
    dataset = changed("CT_small.dcm", GantryDetectorTilt=15, ImageType=["DERIVED", "SECONDARY", "AXIAL"])
    assert read(dataset).dicom.plane is not None


def test_the_number_of_images_of_another_creator_says_nothing(changed, read):
    dataset = changed("MR_small.dcm")
    dataset.private_block(0x0019, "SOMEBODY ELSE", create=True).add_new(0x0A, "US", 36)
    assert read(dataset).dicom.plane is not None


def test_a_secondary_capture_has_no_plane(changed, read):
    no_plane_because(read, changed("CT_small.dcm", SOPClassUID=SECONDARY_CAPTURE), "secondary capture")


@pytest.mark.parametrize("kind", [CR, XA])
def test_a_projection_has_no_plane(kind, changed, read):
    no_plane_because(read, changed("CT_small.dcm", SOPClassUID=kind), "projection")


def test_frames_without_a_place_of_their_own(sources, read):
    dataset = pydicom.dcmread(sources("rtdose.dcm"))
    image = read(dataset, 3)
    assert image.dicom.plane is None
    assert any("several frames" in warning for warning in image.warnings)


def test_a_ct_localizer_is_a_projection(changed, read):
    image = read(changed("CT_small.dcm", ImageType=["ORIGINAL", "PRIMARY", "LOCALIZER"]))
    assert "localizer" in image.warnings[0]


@pytest.mark.parametrize(("tilt", "planes"), [("0", 1), ("0.5", 1), ("-15", 0), ("nan", 1), ("", 1)])
def test_a_tilt_that_the_orientation_does_not_have(tilt, planes, changed, put, read):
    dataset = put(changed("CT_small.dcm"), "GantryDetectorTilt", "DS", tilt.encode())
    assert (read(dataset).dicom.plane is not None) == planes


def tilted(changed, index, **values):
    angle = np.deg2rad(15)
    return changed(
        "CT_small.dcm",
        ImageOrientationPatient=[1, 0, 0, 0, float(f"{np.cos(angle):.8f}"), float(f"{-np.sin(angle):.8f}")],
        ImagePositionPatient=[-80, -80, 10 + 5 * index],
        PixelSpacing=[0.9, 0.7],
        GantryDetectorTilt=15,
        SeriesInstanceUID="1.2.3",
        SOPInstanceUID=f"1.2.3.{index + 1}",
        InstanceNumber=index + 1,
        SliceThickness=5,
        **values,
    )


def test_a_tilt_that_the_orientation_has_is_a_plane(changed, read):
    image = read(tilted(changed, 0))
    assert image.dicom.plane.along_column[2] == pytest.approx(-np.sin(np.deg2rad(15)))
    assert image.warnings == ()


def test_dcm2niix_puts_a_tilted_slice_in_the_same_place(changed, needs, tmp_path):
    """Without GantryDetectorTilt, for which dcm2niix changes the affine of what it resamples."""
    nibabel = pytest.importorskip("nibabel")
    program = needs("dcm2niix", "dcm2niix")
    stored = np.arange(128 * 128, dtype=np.int16).reshape(128, 128)
    dataset = tilted(changed, 1, RescaleIntercept=0, PixelPaddingValue=None)
    del dataset.GantryDetectorTilt
    dataset.PixelData = stored.tobytes()
    (tmp_path / "in").mkdir()
    dataset.save_as(tmp_path / "in" / "a.dcm", enforce_file_format=True)
    arguments = ["-b", "n", "-z", "n", "-f", "out", "-o", tmp_path, tmp_path / "in"]
    subprocess.run([program, *arguments], capture_output=True, check=True)
    volume = nibabel.load(tmp_path / "out.nii")
    values = np.asarray(volume.dataobj).round().astype(int)
    plane = read_image(tmp_path / "in" / "a.dcm").dicom.plane
    affine = np.diag([-1, -1, 1, 1]) @ plane.affine(np.ones(3))
    for row, column in ((0, 1), (0, 127), (127, 0), (50, 70)):
        where = np.argwhere(values == stored[row, column])[0]
        where = np.pad(where, (0, 3 - len(where)))
        np.testing.assert_allclose(affine @ [column, row, 0, 1], volume.affine @ [*where, 1], atol=2e-3)


def test_a_spacing_of_the_film_or_the_detector_is_none_in_the_patient(changed, read):
    for keyword in ("NominalScannedPixelSpacing", "ImagerPixelSpacing"):
        image = read(changed("CT_small.dcm", SOPClassUID=CR, PixelSpacing=None, **{keyword: [0.2, 0.2]}))
        assert image.spacing_mm is None


@pytest.mark.parametrize(
    ("values", "warned"),
    [
        ({"ImagerPixelSpacing": [0.2, 0.2]}, True),
        ({}, True),
        ({"ImagerPixelSpacing": [0.3, 0.3]}, False),
        ({"ImagerPixelSpacing": [0.2, 0.2], "PixelSpacingCalibrationType": "FIDUCIAL"}, False),
    ],
)
def test_a_projections_spacing_is_that_of_the_detector_unless_calibrated(values, warned, changed, read):
    """PS3.3, 10.7.1.3."""
    image = read(
        changed("RG3_UNCI.dcm", **{"SOPClassUID": CR, "PixelSpacing": [0.2, 0.2], "ImagerPixelSpacing": None} | values)
    )
    assert any("detector" in warning for warning in image.warnings) == warned


def test_pixels_that_are_not_square_are_named(changed, read):
    image = read(changed("CT_small.dcm", PixelSpacing=None, PixelAspectRatio=["2", "1"]))
    assert any("PixelAspectRatio" in warning for warning in image.warnings)
    assert read(changed("CT_small.dcm", PixelAspectRatio=["2", "1"])).warnings == ()


@pytest.mark.parametrize(
    "orientation", [[0, 0, 0, 0, 0, 0], [2, 0, 0, 0, 1, 0], [1, 0, 0, 1, 0, 0], [1, 0, 0], [1, 0, 0, 0, 1, "nan"]]
)
def test_an_orientation_that_is_none_gives_no_plane(orientation, changed, put, read):
    text = "\\".join(str(number) for number in orientation).encode()
    no_plane_because(
        read, put(changed("CT_small.dcm"), "ImageOrientationPatient", "DS", text), "ImageOrientationPatient"
    )
