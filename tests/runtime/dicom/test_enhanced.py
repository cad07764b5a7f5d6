"""Enhanced objects as scanners write them: the standard's macros decide, and dcm2niix agrees."""

import copy
import io
import subprocess
import warnings

import numpy as np
import pydicom
import pytest
from pydicom.dataset import Dataset

from medseg_runtime import ImageError
from medseg_runtime.figures.overlay import render_overlay
from medseg_runtime.readers.image import read_image
from medseg_runtime.testing import toy_segmenter

FRAMES, ROWS, COLUMNS = 5, 16, 24
SPACING, STEP = (0.9, 0.7), 3.3
TURN, TILT = np.deg2rad(20), np.deg2rad(12)
ALONG_ROW = np.array([np.cos(TURN), np.sin(TURN), 0])
ALONG_COLUMN = np.array([-np.sin(TURN) * np.cos(TILT), np.cos(TURN) * np.cos(TILT), np.sin(TILT)])
FIRST = np.array([-31.0, -42.5, 17.25])
PIXELS = np.arange(FRAMES * ROWS * COLUMNS, dtype=np.uint16).reshape(FRAMES, ROWS, COLUMNS)  # each value once


def item(**values):
    dataset = Dataset()
    for keyword, value in values.items():
        setattr(dataset, keyword, value)
    return dataset


def position(frame):
    return [round(float(v), 4) for v in FIRST + frame * STEP * np.cross(ALONG_ROW, ALONG_COLUMN)]


def misleading():
    """Values of another place and scale, as private and unrelated sequences repeat them."""
    return item(
        ImagePositionPatient=[1000, 0, 0], ImageOrientationPatient=[0, 1, 0, 0, 0, -1], PixelSpacing=[9, 9],
        SliceThickness=77, RescaleSlope=7, RescaleIntercept=70, WindowCenter=-5, WindowWidth=3,
    )  # fmt: skip


def philips(groups, shared):
    """Philips MR: a whole older header in (2005,140F) of each frame; position and spacing of its own."""
    groups.private_block(0x2005, "Philips MR Imaging DD 005", create=True).add_new(0x0F, "SQ", [misleading()])
    shared.private_block(0x2005, "Philips MR Imaging DD 001", create=True).add_new(0x0E, "SQ", [misleading()])


def siemens(groups, shared):
    """Siemens XA: private sequences in both groups (0021,10FE and 0021,11FE)."""
    groups.private_block(0x0021, "SIEMENS MR SDI 02", create=True).add_new(0xFE, "SQ", [misleading()])
    shared.private_block(0x0021, "SIEMENS MR SDS 01", create=True).add_new(0xFE, "SQ", [misleading()])


def ge(groups, shared):
    """GE: converted attributes that have no macro, and references, both public (C.7.6.16.2.25 and .26)."""
    groups.UnassignedPerFrameConvertedAttributesSequence = [misleading()]
    shared.UnassignedSharedConvertedAttributesSequence = [misleading()]
    groups.ReferencedImageSequence = [misleading()]
    groups.RealWorldValueMappingSequence = [misleading()]


VENDORS = {"philips": philips, "siemens": siemens, "ge": ge}


@pytest.fixture
def enhanced(sources):
    """enhanced(vendor): an enhanced MR object of five tilted slices, with rows and columns of different spacing."""

    def build(vendor=None):
        pytest.importorskip("data_store")  # pydicom-data
        dataset = pydicom.dcmread(sources("eCT_Supplemental.dcm"))
        for keyword in ("DimensionIndexSequence", "DimensionOrganizationSequence"):
            dataset.pop(keyword, None)
        dataset.SOPClassUID = dataset.file_meta.MediaStorageSOPClassUID = "1.2.840.10008.5.1.4.1.1.4.1"
        dataset.Modality, dataset.Manufacturer = "MR", (vendor or "nobody").upper()
        dataset.NumberOfFrames, dataset.Rows, dataset.Columns = FRAMES, ROWS, COLUMNS
        dataset.PixelRepresentation, dataset.PixelData = 0, PIXELS.tobytes()
        dataset.ImageType, dataset.PixelPresentation = ["ORIGINAL", "PRIMARY", "OTHER", "NONE"], "MONOCHROME"
        shared = item(
            PixelMeasuresSequence=[item(PixelSpacing=list(SPACING), SliceThickness=STEP)],
            PlaneOrientationSequence=[
                item(ImageOrientationPatient=[round(float(v), 8) for v in (*ALONG_ROW, *ALONG_COLUMN)])
            ],
            PixelValueTransformationSequence=[item(RescaleSlope=2, RescaleIntercept=-10, RescaleType="US")],
            FrameVOILUTSequence=[item(WindowCenter=100, WindowWidth=400)],
        )
        frames = []
        for number in range(FRAMES):
            groups = item(
                PlanePositionSequence=[item(ImagePositionPatient=position(number))],
                FrameContentSequence=[item(StackID="1", InStackPositionNumber=number + 1, DimensionIndexValues=[1])],
            )
            if vendor:
                VENDORS[vendor](groups, shared)
            frames.append(groups)
        dataset.SharedFunctionalGroupsSequence = [shared]
        dataset.PerFrameFunctionalGroupsSequence = frames
        return dataset

    return build


@pytest.mark.parametrize("vendor", VENDORS)
def test_only_the_standards_macros_decide(vendor, enhanced, read):
    for number in (1, 4):
        image = read(enhanced(vendor), number)
        plane = image.dicom.plane
        assert plane.position == tuple(position(number - 1))
        np.testing.assert_allclose([*plane.along_row, *plane.along_column], [*ALONG_ROW, *ALONG_COLUMN], atol=1e-6)
        assert (image.spacing_mm, plane.thickness_mm) == (SPACING, STEP)
        np.testing.assert_array_equal(image.pixels, 2 * PIXELS[number - 1].astype(int) - 10)
        assert image.value_range == (-100.0, 300.0)
        assert image.warnings == ()


@pytest.mark.parametrize("vendor", VENDORS)
def test_dcm2niix_puts_every_pixel_in_the_same_place(vendor, enhanced, needs, tmp_path):
    """It is given the object without the other sequences: it takes elements wherever they are, and they mislead it."""
    nibabel = pytest.importorskip("nibabel")
    program = needs("dcm2niix", "dcm2niix")
    (tmp_path / "in").mkdir()
    enhanced().save_as(tmp_path / "in" / "a.dcm", enforce_file_format=True)
    arguments = ["-b", "n", "-z", "n", "-f", "out", "-o", tmp_path, tmp_path / "in"]
    subprocess.run([program, *arguments], capture_output=True, check=True)
    (path,) = tmp_path.glob("*.nii")
    volume = nibabel.load(path)
    values = np.asarray(volume.dataobj).round().astype(int)
    enhanced(vendor).save_as(tmp_path / "a.dcm", enforce_file_format=True)
    for number in range(1, FRAMES + 1):
        plane = read_image(tmp_path / "a.dcm", number).dicom.plane
        affine = np.diag([-1, -1, 1, 1]) @ plane.affine(np.ones(3))  # NIfTI counts to the right and front
        for row, column in ((0, 0), (0, COLUMNS - 1), (ROWS - 1, 0), (7, 11)):
            (where,) = np.argwhere(values == 2 * int(PIXELS[number - 1, row, column]) - 10)
            np.testing.assert_allclose(affine @ [column, row, 0, 1], volume.affine @ [*where, 1], atol=2e-3)


@pytest.mark.parametrize("vendor", VENDORS)
def test_gdcm_finds_the_same_place_and_spacing(vendor, enhanced, tmp_path):
    itk = pytest.importorskip("SimpleITK")
    enhanced(vendor).save_as(tmp_path / "a.dcm", enforce_file_format=True)
    volume, plane = itk.ReadImage(str(tmp_path / "a.dcm")), read_image(tmp_path / "a.dcm", 1).dicom.plane
    np.testing.assert_allclose(volume.GetOrigin(), plane.position, atol=1e-3)
    np.testing.assert_allclose(volume.GetSpacing()[:2], plane.spacing_mm[::-1], atol=1e-6)
    direction = np.reshape(volume.GetDirection(), (3, 3))
    np.testing.assert_allclose(direction[:, :2].T, [plane.along_row, plane.along_column], atol=1e-6)


def test_a_frames_own_macro_wins_over_the_shared_one(enhanced, read):
    dataset = enhanced()
    own = dataset.PerFrameFunctionalGroupsSequence[2]
    own.PixelValueTransformationSequence = [item(RescaleSlope=5, RescaleIntercept=1, RescaleType="US")]
    own.PixelMeasuresSequence = [item(PixelSpacing=[3, 4], SliceThickness=5)]
    image = read(dataset, 3)
    np.testing.assert_array_equal(image.pixels, 5 * PIXELS[2].astype(int) + 1)
    assert image.spacing_mm == (3, 4)
    assert read(dataset, 2).spacing_mm == SPACING


@pytest.mark.parametrize(
    ("macro", "place", "window"),
    [("PlanePosition", False, True), ("PixelMeasures", False, True), ("FrameVOILUT", True, False)],
)
def test_a_macro_with_several_items_is_not_used_and_named(macro, place, window, enhanced, read):
    dataset = enhanced()
    holder = (
        dataset.PerFrameFunctionalGroupsSequence[0]
        if macro == "PlanePosition"
        else dataset.SharedFunctionalGroupsSequence[0]
    )
    items = holder[f"{macro}Sequence"].value
    items.append(copy.deepcopy(items[0]))
    image = read(dataset, 1)
    np.testing.assert_array_equal(image.pixels, 2 * PIXELS[0].astype(int) - 10)
    assert (image.dicom.plane is not None, image.value_range == (-100.0, 300.0)) == (place, window)
    assert image.warnings == (f"{macro}Sequence has several items and was not used",)


def test_a_rescale_with_several_items_is_refused(enhanced, read):
    dataset = enhanced()
    items = dataset.SharedFunctionalGroupsSequence[0].PixelValueTransformationSequence
    items.append(copy.deepcopy(items[0]))
    with pytest.raises(ImageError, match=r"PixelValueTransformationSequence .* several items"):
        read(dataset, 1)


@pytest.mark.parametrize("value", ["COLOR", "MIXED"])
def test_values_that_stand_for_colors_are_named(value, enhanced, read):
    dataset = enhanced()
    dataset.PixelPresentation = value
    assert "PixelPresentation" in read(dataset, 1).warnings[0]


@pytest.mark.parametrize("home", ["SharedFunctionalGroupsSequence", "PerFrameFunctionalGroupsSequence"])
def test_a_seg_finds_the_macros_where_they_are(home, enhanced, read):
    """Each may be shared or per frame (PS3.3, A.36.2.4)."""
    pytest.importorskip("highdicom")
    from medseg_runtime.writers.dicom.reference import functional_group
    from medseg_runtime.writers.dicom.seg import check_sources, dicom_objects

    dataset = enhanced()
    shared, own = dataset.SharedFunctionalGroupsSequence[0], dataset.PerFrameFunctionalGroupsSequence[1]
    for keyword in ("PixelMeasuresSequence", "PlaneOrientationSequence", "PlanePositionSequence"):
        item_of = own[keyword] if keyword in own else shared[keyword]
        for groups in (shared, *dataset.PerFrameFunctionalGroupsSequence):
            groups.pop(keyword, None)
        for groups in dataset[home].value:
            groups[keyword] = copy.deepcopy(item_of)
    image = read(dataset, 2)
    check_sources([image])
    result = toy_segmenter()(image, samples=2, center=(12, 8))
    content = dicom_objects([result], render_overlay(image.pixels, result)).files["consensus.dcm"]
    seg = pydicom.dcmread(io.BytesIO(content))
    assert list(functional_group(seg, 0, "PlanePositionSequence").ImagePositionPatient) == position(1)
    assert tuple(functional_group(seg, 0, "PixelMeasuresSequence").PixelSpacing) == SPACING


def test_the_position_of_the_object_is_that_of_no_frame(enhanced, read):
    dataset = enhanced()
    dataset.ImagePositionPatient = [1, 2, 3]
    del dataset.PerFrameFunctionalGroupsSequence[1].PlanePositionSequence
    assert read(dataset, 2).dicom.plane is None
    assert read(dataset, 1).dicom.plane.position == tuple(position(0))


def test_values_of_the_object_hold_where_it_has_no_macro(enhanced, read):
    """As in multi-frame secondary captures (PS3.3, C.8.6.3)."""
    dataset = enhanced()
    del dataset.SharedFunctionalGroupsSequence[0].PixelValueTransformationSequence
    dataset.RescaleSlope, dataset.RescaleIntercept = 3, 1
    np.testing.assert_array_equal(read(dataset, 1).pixels, 3 * PIXELS[0].astype(int) + 1)


def test_dimensions_that_point_to_private_elements_do_not_matter(enhanced, read):
    dataset = enhanced("philips")
    dataset.DimensionIndexSequence = [
        item(DimensionIndexPointer=0x2005106E, FunctionalGroupPointer=0x2005140F, DimensionOrganizationUID="1.2")
    ]
    np.testing.assert_array_equal(read(dataset, 1).pixels, 2 * PIXELS[0].astype(int) - 10)


@pytest.mark.parametrize("vendor", VENDORS)
def test_a_seg_lies_where_its_frame_does(vendor, enhanced, write, tmp_path):
    dataset = enhanced(vendor)
    dataset.DimensionIndexSequence = [
        item(DimensionIndexPointer=0x2005106E, FunctionalGroupPointer=0x2005140F, DimensionOrganizationUID="1.2")
    ]
    dataset.save_as(tmp_path / "a.dcm", enforce_file_format=True)
    made = write(tmp_path / "a.dcm", 4)
    for name in ("consensus.dcm", "representatives.dcm", "confidence.dcm"):
        seg = pydicom.dcmread(io.BytesIO(made.objects[name]))
        shared = seg.SharedFunctionalGroupsSequence[0]
        (place,) = seg.PerFrameFunctionalGroupsSequence[0].PlanePositionSequence
        np.testing.assert_allclose(place.ImagePositionPatient, position(3), atol=1e-3)
        assert tuple(shared.PixelMeasuresSequence[0].PixelSpacing) == SPACING
        assert shared.PixelMeasuresSequence[0].SliceThickness == STEP


def test_a_seg_has_the_spacing_of_its_frame(enhanced, write, tmp_path):
    dataset = enhanced()
    dataset.PerFrameFunctionalGroupsSequence[1].PixelMeasuresSequence = [item(PixelSpacing=[3, 4], SliceThickness=5)]
    dataset.save_as(tmp_path / "a.dcm", enforce_file_format=True)
    seg = pydicom.dcmread(io.BytesIO(write(tmp_path / "a.dcm", 2).objects["consensus.dcm"]))
    (measures,) = seg.SharedFunctionalGroupsSequence[0].PixelMeasuresSequence
    assert (list(measures.PixelSpacing), measures.SliceThickness) == ([3, 4], 5)


def test_a_parametric_map_is_read_at_its_place(sources, read):
    highdicom = pytest.importorskip("highdicom")
    source = pydicom.dcmread(sources("CT_small.dcm"))
    source.StudyID = "1"
    values = np.random.default_rng(0).random((128, 128)).astype(np.float32)
    unit = highdicom.sr.CodedConcept("1", "UCUM", "no units")
    mapping = highdicom.pm.RealWorldValueMapping(
        lut_label="1", lut_explanation="1", unit=unit, value_range=(-9.0, 9.0), intercept=0, slope=1,
        quantity_definition=highdicom.sr.CodedConcept("130402", "DCM", "Class activation"),
    )  # fmt: skip
    made = highdicom.pm.ParametricMap(
        source_images=[source], pixel_array=values, series_instance_uid="1.2.3", series_number=1,
        sop_instance_uid="1.2.4", instance_number=1, manufacturer="-", manufacturer_model_name="-",
        software_versions="1", device_serial_number="1", contains_recognizable_visual_features=False,
        real_world_value_mappings=[mapping],
        voi_lut_transformations=[highdicom.VOILUTTransformation(window_center=0.5, window_width=1)],
    )  # fmt: skip
    image = read(made)
    np.testing.assert_array_equal(image.pixels, values)
    assert image.dicom.plane == read_image(sources("CT_small.dcm")).dicom.plane


def test_highdicom_transforms_frames_alike(enhanced, read, tmp_path):
    highdicom = pytest.importorskip("highdicom")
    image = read(enhanced(), 3)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        theirs = highdicom.imread(tmp_path / "image.dcm").get_frame(
            3, apply_modality_transform=True, apply_real_world_transform=False
        )
    np.testing.assert_array_equal(image.pixels, theirs)


@pytest.mark.parametrize("value", [b"", b"0,5", b"abc"])
def test_an_odd_rescale_in_a_functional_group_is_named(value, enhanced, put, read):
    dataset = enhanced()
    put(dataset.SharedFunctionalGroupsSequence[0].PixelValueTransformationSequence[0], "RescaleSlope", "DS", value)
    image = read(dataset, 1)
    np.testing.assert_array_equal(image.pixels, PIXELS[0].astype(int) - 10)
    assert "RescaleSlope" in image.warnings[0]


def test_an_enhanced_object_that_says_mosaic_is_none(enhanced, read):
    dataset = enhanced("siemens")
    dataset.ImageType = ["ORIGINAL", "PRIMARY", "M", "NONE", "MOSAIC"]
    assert read(dataset, 2).dicom.plane.position == tuple(position(1))
