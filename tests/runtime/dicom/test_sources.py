"""What a source lacks for --dicom-seg is said before anything is drawn; what passes is written."""

import io
import json
import zipfile
from pathlib import Path

import numpy as np
import pydicom
import pytest

from medseg_runtime import MedsegError, OutputError
from medseg_runtime.figures.overlay import render_overlay
from medseg_runtime.readers.image import read_image
from medseg_runtime.testing import toy_segmenter

pytest.importorskip("highdicom")

from medseg_runtime.writers.dicom import rtstruct
from medseg_runtime.writers.dicom.reference import date_and_time
from medseg_runtime.writers.dicom.seg import check_sources, dicom_objects

MARKER = "DOE^JANE"
REFERENCES = Path(__file__).parents[4] / "shared" / "data" / "dicom-seg-references.zip"
pytestmark = pytest.mark.filterwarnings("ignore")  # pydicom's, of the odd values that the tests write


@pytest.fixture
def image_of(tmp_path):
    """image_of(dataset): read by way of a file, whatever it holds."""

    def write_and_read(dataset):
        dataset.save_as(tmp_path / "a.dcm", enforce_file_format=False)
        return read_image(tmp_path / "a.dcm")

    return write_and_read


def written(image):
    result = toy_segmenter()(image, samples=2, center=(60, 60))
    objects = dicom_objects([result], render_overlay(image.pixels, result)).files
    return {name: pydicom.dcmread(io.BytesIO(content)) for name, content in objects.items()}


LEFT_OUT = [
    ("PatientSex", "CS", b"Male"),
    ("PatientSex", "CS", b"m"),
    ("PatientBirthDate", "DA", b"1950"),
    ("PatientBirthDate", "DA", b"20041319"),
    ("StudyDate", "DA", b"2004-01-19"),
    ("StudyTime", "TM", b"12:30:00"),
    ("SpecificCharacterSet", "CS", b"UTF-8"),
]


@pytest.mark.parametrize(("keyword", "vr", "value"), LEFT_OUT)
def test_an_invalid_value_is_left_out_and_named(keyword, vr, value, changed, put, image_of):
    image = image_of(put(changed("CT_small.dcm"), keyword, vr, value))
    (checked,) = check_sources([image])
    assert [keyword in warning for warning in checked.warnings] == [True]
    for dataset in written(image).values():
        assert not dataset.get(keyword)
        assert dataset.PatientName == "CompressedSamples^CT1"


def test_several_invalid_values_at_once(changed, put, image_of):
    dataset = changed("CT_small.dcm")
    for keyword, vr, value in LEFT_OUT:
        put(dataset, keyword, vr, value)
    (checked,) = check_sources([image_of(dataset)])
    assert {warning.split()[0] for warning in checked.warnings} == {keyword for keyword, _, _ in LEFT_OUT}
    assert written(checked)["consensus.dcm"].PatientID == dataset.PatientID


@pytest.mark.parametrize(
    ("keyword", "vr", "value"),
    [("AccessionNumber", "SH", b"9" * 40), ("PatientWeight", "DS", b"70,5"), ("StudyInstanceUID", "UI", b"1.2.x.3")],
)
def test_values_that_only_look_odd_are_copied(keyword, vr, value, changed, put, image_of):
    image = image_of(put(changed("CT_small.dcm"), keyword, vr, value))
    assert check_sources([image]) == (image,)
    assert str(written(image)["consensus.dcm"][keyword].value) == value.decode()


@pytest.mark.parametrize(
    ("keyword", "vr", "value"),
    [
        ("FrameOfReferenceUID", "UI", None),
        ("FrameOfReferenceUID", "UI", b""),
        ("StudyInstanceUID", "UI", None),
        ("SeriesInstanceUID", "UI", b""),
        ("SOPInstanceUID", "UI", b""),
        ("SOPClassUID", "UI", b"1.2.840.113619.4.99"),
        ("SOPClassUID", "UI", None),
        ("PixelSpacing", "DS", b"nan\\nan"),
        ("ImagePositionPatient", "DS", None),
        ("ImageOrientationPatient", "DS", b"1\\0\\0"),
        ("ImageOrientationPatient", "DS", b"1\\0\\0\\1\\0\\0"),
    ],
)
def test_what_a_seg_needs_is_refused_by_name(keyword, vr, value, changed, put, image_of):
    dataset = changed("CT_small.dcm", PatientName=MARKER)
    if value is None:
        del dataset[keyword]
    else:
        put(dataset, keyword, vr, value)
    image = image_of(dataset)
    with pytest.raises(OutputError, match=keyword) as caught:
        check_sources([image])
    assert "leave --dicom-seg, --rtstruct and --sr out." in caught.value.remedy.lower()
    assert MARKER not in str(caught.value)


def test_a_name_in_an_unknown_character_set_is_not_guessed(changed, put, image_of):
    dataset = put(changed("CT_small.dcm"), "PatientName", "PN", "Mueller^J\u00fcrgen".encode())
    with pytest.raises(OutputError, match="SpecificCharacterSet"):
        check_sources([image_of(put(dataset, "SpecificCharacterSet", "CS", b"UTF-8"))])


def test_an_image_without_a_plane_gives_a_seg_without_one(changed, image_of):
    """A mosaic states a position, which is that of no slice."""
    image = image_of(changed("MR_small.dcm", ImageType=["ORIGINAL", "PRIMARY", "M", "ND", "MOSAIC"]))
    check_sources([image])
    seg = written(image)["consensus.dcm"]
    assert not any("PlanePositionSequence" in groups for groups in seg.PerFrameFunctionalGroupsSequence)
    assert "PixelMeasuresSequence" not in seg.SharedFunctionalGroupsSequence[0]


def test_the_date_is_the_first_that_is_valid():
    header = pydicom.Dataset()
    assert date_and_time(header) == ("19700101", "000000")
    header.SeriesDate, header.SeriesTime = "2004-01-19", "1010"
    header.StudyDate, header.StudyTime = "20040119", "0930"
    assert date_and_time(header) == ("20040119", "0930")


@pytest.mark.parametrize(("stated", "expected"), [("YES", "YES"), ("NO", "NO"), ("", None), (None, None)])
def test_the_overlay_says_of_burned_in_text_what_its_source_says(stated, expected, changed, image_of):
    image = image_of(changed("examples_rgb_color.dcm", BurnedInAnnotation=stated))
    assert written(image)["overlay.dcm"].get("BurnedInAnnotation") == expected


def test_the_check_leaves_the_source_alone(changed, put, image_of):
    image = image_of(put(changed("CT_small.dcm"), "PatientSex", "CS", b"Male"))
    check_sources([image])
    assert image.dicom.header.PatientSex == "Male"
    assert (image.dicom.header.Rows, image.dicom.header.Columns) == image.pixels.shape


def said(call, *arguments):
    """What a call returns, and the error of ours that it raises."""
    try:
        return call(*arguments), None
    except MedsegError as error:
        return None, error


VALUES = {
    "DA": (b"1950", b"x"), "TM": (b"24:00", b"x"), "CS": (b"Male", b"a b"), "PN": (b"a^b^c^d^e^f", b"a=b=c=d"),
    "LO": (80 * b"x",), "SH": (40 * b"y",), "DS": (b"1,5", b"nan"), "IS": (b"1.5", b"abc"), "UI": (b"1.2.x", b"abc"),
    "AS": (b"45",), "DT": (b"abc",),
}  # fmt: skip


@pytest.mark.slow
def test_what_passes_the_check_is_written(changed, put, image_of):
    """Every element of a CT and some more, each with odd values."""
    dataset = changed("CT_small.dcm")
    keywords = {element.keyword for element in dataset if element.keyword and element.tag.group != 0x0028}
    keywords |= {
        "ContentDate", "ContentTime", "DateOfLastCalibration", "DeviceSerialNumber", "EthnicGroup", "InstitutionName",
        "LastMenstrualDate", "PatientBirthTime", "PatientComments", "PatientSexNeutered", "PhysiciansOfRecord",
        "PregnancyStatus", "SmokingStatus", "SoftwareVersions", "StationName", "StudyDescription",
        "TimezoneOffsetFromUTC", "ClinicalTrialSponsorName",
    }  # fmt: skip
    outcomes = {"written": 0, "refused": 0}
    for keyword in sorted(keywords - {"PixelData"}):
        vr = pydicom.datadict.dictionary_VR(keyword)
        for value in (b"", *VALUES.get(vr, ())):
            image = image_of(put(changed("CT_small.dcm"), keyword, vr, value))
            _, refusal = said(check_sources, [image])
            if refusal is None:
                written(image)
            else:
                assert keyword in str(refusal)
            outcomes["written" if refusal is None else "refused"] += 1
    assert outcomes["written"] > 100
    assert outcomes["refused"] < 30


def test_the_command_says_what_it_left_out(changed, put, run_command, tmp_path):
    from medseg_runtime.commands.infer import main

    dataset = put(changed("CT_small.dcm"), "PatientSex", "CS", MARKER.encode())
    dataset.save_as(tmp_path / "a.dcm", enforce_file_format=False)
    arguments = [
        "--center",
        "64,64",
        "--samples",
        "2",
        "--backend",
        "onnxruntime",
        "--dicom-seg",
        "--out",
        tmp_path / "out",
    ]
    code, _, err = run_command(main, "medseg-infer", tmp_path / "a.dcm", *arguments)
    assert code == 0, err
    assert "PatientSex is not valid" in err
    assert MARKER not in err
    assert "PatientSex" in json.loads((tmp_path / "out" / "result.json").read_text())["warnings"][0]


def test_a_series_is_checked_as_a_whole(changed, tmp_path):
    images = []
    for index in range(3):
        dataset = changed("CT_small.dcm", SOPInstanceUID=f"1.2.{index + 1}", ImagePositionPatient=[0, 0, 5 * index])
        dataset.PatientSex = "F" if index else "O"
        dataset.save_as(tmp_path / "a.dcm", enforce_file_format=True)
        images.append(read_image(tmp_path / "a.dcm"))
    assert check_sources(images) == tuple(images)
    np.testing.assert_array_equal([image.dicom.header.Rows for image in images], 128)


def test_a_saved_result_says_what_its_dicom_objects_left_out(changed, put, image_of, tmp_path):
    """As the command does, which checks before it draws."""
    image = image_of(put(changed("CT_small.dcm"), "PatientSex", "CS", MARKER.encode()))
    result = toy_segmenter()(image, samples=2, center=(60, 60))
    result.save(tmp_path / "out", dicom_seg=True)
    (warning,) = json.loads((tmp_path / "out" / "result.json").read_text())["warnings"]
    assert warning == "PatientSex is not valid and was left out of the DICOM objects"


@pytest.mark.parametrize(
    ("character_set", "name"),
    [
        ("ISO 2022 IR 100", "M\u00fcller"),
        (["", "ISO 2022 IR 87"], "Yamada^Tarou=\u5c71\u7530^\u592a\u90ce"),
        ("GB18030", "\u738b^\u5c0f\u4e1c"),
    ],
)
def test_names_of_every_character_set_are_kept(character_set, name, changed, image_of):
    image = image_of(changed("CT_small.dcm", SpecificCharacterSet=character_set, PatientName=name))
    assert check_sources([image]) == (image,)
    assert {str(dataset.PatientName) for dataset in written(image).values()} == {name}


def test_empty_functional_groups_are_none(changed, image_of):
    image = image_of(changed("MR_small.dcm", SharedFunctionalGroupsSequence=[]))
    check_sources([image])
    rtstruct.check_sources([image])
    assert "PlanePositionSequence" in written(image)["consensus.dcm"].PerFrameFunctionalGroupsSequence[0]


def test_a_tile_of_a_slide_is_not_blamed_for_its_orientation():
    if not REFERENCES.exists():
        pytest.skip(f"{REFERENCES} is absent")
    with zipfile.ZipFile(REFERENCES) as archive:
        (name,) = (name for name in archive.namelist() if name.endswith("/sm_image.dcm"))
        image = read_image(archive.read(name), 5)
    assert check_sources([image]) == (image,)


def test_what_a_structure_set_cannot_copy_is_refused_by_name(changed, put, image_of):
    image = image_of(put(changed("CT_small.dcm"), "DeidentificationMethodCodeSequence", "UN", b"abcd"))
    with pytest.raises(OutputError, match="DeidentificationMethodCodeSequence"):
        rtstruct.check_sources([image])
