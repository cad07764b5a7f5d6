"""Series and points in the patient, NIfTI, and the real chest CT where it is at hand."""

import gzip
import hashlib
import io
import json
import sys
import warnings
import xml.etree.ElementTree as ET
import zipfile
from pathlib import Path

import numpy as np
import pydicom
import pytest

from medseg_runtime import ImageError, ParameterError, Segmenter
from medseg_runtime.commands import infer as infer_command
from medseg_runtime.readers.dicom.series import read_series
from medseg_runtime.readers.target import Location, read_target
from medseg_runtime.testing import toy_segmenter

STEP = 2.5
ORIENTATION = [0.8, 0.6, 0.0, -0.48, 0.64, 0.6]  # oblique; the normal is (0.36, -0.48, 0.8)


@pytest.fixture
def folder(tmp_path, changed):
    """Five oblique slices of 128x128, named against their order; the value of each is its place."""
    series = tmp_path / "series"
    series.mkdir()
    normal = np.cross(ORIENTATION[:3], ORIENTATION[3:])
    for index in range(5):
        dataset = changed(
            "CT_small.dcm",
            ImageOrientationPatient=ORIENTATION,
            ImagePositionPatient=[float(f"{v:.4f}") for v in np.array([10, -20, 30]) + index * STEP * normal],
            PixelSpacing=[0.5, 0.25],
            SOPInstanceUID=f"1.2.3.{index}",
            SliceThickness=STEP,
            PixelData=np.full((128, 128), 100 * index, np.int16).tobytes(),
        )
        dataset.file_meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID
        dataset.save_as(series / f"{9 - index}.dcm", enforce_file_format=True)
    return series


def alter(path, **values):
    dataset = pydicom.dcmread(path)
    for keyword, value in values.items():
        setattr(dataset, keyword, value)
    dataset.save_as(path, enforce_file_format=True)


def patient_mm(x, y, z):
    """Of a point in pixels from the image's corner and a slice."""
    row, column = np.array(ORIENTATION[:3]), np.array(ORIENTATION[3:])
    origin = np.array([10, -20, 30]) + z * STEP * np.cross(row, column)
    return tuple(origin + (x - 0.5) * 0.25 * row + (y - 0.5) * 0.5 * column)


def test_slices_are_sorted_in_the_patient(folder):
    (folder / "notes.txt").write_text("not DICOM")
    series = read_series(folder)
    assert [s.uid for s in series.slices] == [f"1.2.3.{index}" for index in range(5)]
    assert [int(series.read(z).pixels[0, 0]) + 1024 for z in range(5)] == [0, 100, 200, 300, 400]


@pytest.mark.parametrize("point", [(30.5, 99.25, 0), (100, 12, 3), (64, 64, 4)])
def test_a_point_in_the_patient_is_found(point, folder):
    x, y, z = read_series(folder).locate(patient_mm(*point))
    assert z == point[2]
    np.testing.assert_allclose((x, y), point[:2], atol=1e-2)


def test_the_nearest_slice_counts_and_a_point_outside_is_refused(folder):
    series = read_series(folder)
    assert series.locate(patient_mm(64, 64, 2.4))[2] == 2
    assert series.locate(patient_mm(64, 64, 2.6))[2] == 3
    with pytest.raises(ParameterError, match="mm from the nearest slice"):
        series.locate(patient_mm(64, 64, 9))


def test_a_point_where_slices_are_missing_is_refused(folder):
    for index in (2, 3, 4):
        place = np.array([10, -20, 30]) + (index + 40) * STEP * np.cross(ORIENTATION[:3], ORIENTATION[3:])
        alter(folder / f"{9 - index}.dcm", ImagePositionPatient=[float(f"{v:.4f}") for v in place])
    series = read_series(folder)
    assert series.locate(patient_mm(64, 64, 1.4))[2] == 1
    assert series.locate(patient_mm(64, 64, 42))[2] == 2
    for z in (3, 20, 38, 49, -6):
        with pytest.raises(ParameterError, match="all of its slices"):
            series.locate(patient_mm(64, 64, z))


@pytest.mark.parametrize(("thickness", "reach"), [(0.6, 0.6), (10, 10), ("", 5)])
def test_how_far_a_point_may_lie_from_a_single_slice(thickness, reach, folder):
    path = folder / "9.dcm"
    alter(path, SliceThickness=thickness)
    near, far = (patient_mm(30, 40, share * reach / STEP) for share in (0.99, 1.01))
    assert read_target(path, Location(center_mm=near)).center == pytest.approx((30, 40), abs=0.01)
    with pytest.raises(ParameterError, match="from the nearest slice"):
        read_target(path, Location(center_mm=far))


def test_single_frames_of_enhanced_objects_are_slices(sources, tmp_path):
    dataset = pydicom.dcmread(sources("eCT_Supplemental.dcm"))
    frames, groups = dataset.pixel_array, dataset.PerFrameFunctionalGroupsSequence
    dataset.NumberOfFrames = 1
    for index in range(2):
        dataset.SOPInstanceUID = dataset.file_meta.MediaStorageSOPInstanceUID = f"1.2.{index}"
        dataset.PerFrameFunctionalGroupsSequence = groups[index : index + 1]
        dataset.PixelData = frames[index].tobytes()
        dataset.save_as(tmp_path / f"{index}.dcm", enforce_file_format=True)
    places = {tuple(frame.PlanePositionSequence[0].ImagePositionPatient) for frame in groups}
    assert {s.plane.position for s in read_series(tmp_path).slices} == places


def test_reports_beside_the_slices_are_passed_over(folder, changed):
    report = changed("CT_small.dcm", PixelData=None, SeriesInstanceUID="1.9", Rows=None)
    report.SOPClassUID = pydicom.uid.ComprehensiveSRStorage
    report.save_as(folder / "report.dcm", enforce_file_format=True)
    assert len(read_series(folder)) == 5


def test_the_damaged_file_of_a_series_is_named(folder):
    alter(folder / "6.dcm", SamplesPerPixel=3)
    with pytest.raises(ImageError, match=r"6\.dcm: .*SamplesPerPixel"):
        read_series(folder)


def test_no_text_of_a_header_leaks_from_a_folder(folder, capfd):
    for path in folder.iterdir():
        content = path.read_bytes()
        uid = pydicom.dcmread(path).SeriesInstanceUID.encode()
        path.write_bytes(content.replace(uid, b"DOE^JANE^1970".ljust(len(uid), b"x")))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert len(read_series(folder)) == 5
    assert "DOE" not in "".join(capfd.readouterr())


@pytest.mark.parametrize(
    ("middle", "count", "expected"), [(2, 1, [2]), (2, 3, [1, 2, 3]), (2, 2, [2, 3]), (0, 3, [0, 1])]
)
def test_slices_around_a_point(middle, count, expected, folder):
    images = read_series(folder).around(middle, count)
    assert [image.dicom.header.SOPInstanceUID for image in images] == [f"1.2.3.{index}" for index in expected]


REFUSED = {
    "two series": ({"SeriesInstanceUID": "1.9"}, "2 series"),
    "a localizer": ({"ImageOrientationPatient": [1, 0, 0, 0, 0, -1]}, "localizer"),
    "two times": ({"ImagePositionPatient": [10, -20, 30]}, "one place"),
    "no place": ({"ImagePositionPatient": None}, "no position in the patient"),
    "several frames": ({"NumberOfFrames": 2}, "several frames"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_no_series_is_refused(name, folder):
    values, problem = REFUSED[name]
    alter(folder / "6.dcm", **values)
    with pytest.raises(ImageError, match=problem):
        read_series(folder)


def test_a_folder_without_dicom(tmp_path):
    with pytest.raises(ImageError, match="no DICOM image"):
        read_series(tmp_path)


@pytest.fixture
def infer(monkeypatch, capsys, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(Segmenter, "load", lambda *_args, **_kwargs: toy_segmenter())

    def run(*arguments):
        monkeypatch.setattr(sys, "argv", ["medseg-infer", *map(str, arguments)])
        with pytest.raises(SystemExit) as exit_:
            infer_command.main()
        out, err = capsys.readouterr()
        return exit_.value.code, out, err

    return run


def test_the_command_on_a_series(folder, infer, tmp_path):
    pytest.importorskip("highdicom")
    pytest.importorskip("nibabel")
    point = ",".join(f"{v:.4f}" for v in patient_mm(40, 90, 2))
    arguments = (folder, "--center-mm", point, "--slices", 3, "--samples", 4, "--dicom-seg", "--nifti")
    code, _, err = infer(*arguments, "--out", "one")
    assert code == 0, err
    record = json.loads((tmp_path / "one" / "result.json").read_text())
    assert (record["field"]["x"], record["field"]["y"]) == (40 - 32, 90 - 32)
    read = [hashlib.sha256((folder / f"{9 - index}.dcm").read_bytes()).hexdigest() for index in (1, 2, 3)]
    assert (record["input"]["slices_sha256"], record["input"]["sha256"]) == (read, read[1])
    seg = pydicom.dcmread(tmp_path / "one" / "dicom" / "representatives.dcm")
    assert int(seg.NumberOfFrames) == 3 * len(record["representatives"])
    assert {str(item.ReferencedSOPInstanceUID) for item in seg.ReferencedSeriesSequence[0].ReferencedInstanceSequence} == {
        "1.2.3.1", "1.2.3.2", "1.2.3.3",
    }  # fmt: skip
    volume = nifti(tmp_path / "one" / "nifti" / "samples.nii.gz")
    assert volume.shape == (128, 128, 3, 4)
    x, y, z = np.argwhere(np.asarray(volume.dataobj)[..., 0]).mean(axis=0)
    at = volume.affine @ [x, y, z, 1]
    np.testing.assert_allclose(at[:3] * [-1, -1, 1], patient_mm(40, 90, 2), atol=0.05)  # RAS => LPS

    assert infer(*arguments, "--out", "two")[0] == 0
    names = [name for name in record["outputs"] if name.startswith(("dicom/", "nifti/"))]
    assert {"dicom/consensus.dcm", "dicom/representatives.dcm", "nifti/samples.nii.gz"} <= set(names)
    for name in names:
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes()


def test_a_series_is_measured_with_its_volume(folder, infer, tmp_path):
    """Five slices, each with the toy's disc: the volume is the area times the whole depth."""
    limits = ("--limit", "volume_mm3=1", "--limit", "volume_mm3=1e9", "--limit", "long_axis_mm=0")
    code, out, err = infer(folder, "--center", "40,90,2", "--slices", 5, "--samples", 4, *limits, "--out", "one")
    assert code == 0
    (found,) = json.loads((tmp_path / "one" / "result.json").read_text())["measurements"]
    area, volume = found["area_mm2"]["values"], found["volume_mm3"]["values"]
    planes = [each.plane for each in read_series(folder).slices]
    depth = (planes[-1].depth - planes[0].depth) * 5 / 4
    assert volume == pytest.approx([each * depth for each in area], rel=1e-3)
    assert (found["slices"], found["presence"], len(volume)) == (5, 1.0, 4)
    assert [each["share_above"] for each in found["limits"]] == [1.0, 0.0, 1.0]
    assert "volume_mm3 above 1 in 100%, volume_mm3 above 1e+09 in 0%, long_axis_mm above 0 in 100% -> " in out
    assert "4 of 4 samples reach the first or the last of the 5 slices" in err


def nifti(path):
    nibabel = pytest.importorskip("nibabel")
    return nibabel.Nifti1Image.from_bytes(gzip.decompress(path.read_bytes()))


def test_simpleitk_and_nibabel_agree_on_the_nifti_geometry(folder, infer, tmp_path):
    itk = pytest.importorskip("SimpleITK")
    assert infer(folder, "--center", "40,90,2", "--slices", 5, "--samples", 2, "--nifti", "--out", "one")[0] == 0
    path = tmp_path / "one" / "nifti" / "consensus.nii.gz"
    volume, again = itk.ReadImage(str(path)), nifti(path)
    np.testing.assert_array_equal(itk.GetArrayFromImage(volume), np.asarray(again.dataobj).T)
    for point in ((0, 0, 0), (10, 20, 4)):
        expected = patient_mm(point[0] + 0.5, point[1] + 0.5, point[2])
        np.testing.assert_allclose(volume.TransformIndexToPhysicalPoint(point), expected, atol=0.01)


BAD_ARGUMENTS = {
    "two points": (("--center", "5,5,1", "--center-mm", "1,2,3"), "exclude"),
    "not numbers": (("--center", "5;5"), "Give --center"),
    "NaN": (("--center-mm", "1,2,nan"), "Give --center-mm"),
    "a volume of one slice": (("--center", "5,5,1", "--limit", "volume_mm3=250"), "more --slices"),
    "pixels where mm are known": (("--center", "5,5,1", "--limit", "area_px=9"), "Give it in mm"),
    "slices 0": (("--center", "5,5,1", "--slices", 0), "out of range"),
    "no such slice": (("--center", "5,5,7"), "Give 0 to 4"),
    "slices without a point": (("--slices", 3, "--nifti"), "--center X,Y,Z"),
    "far away": (("--center-mm", "900,900,900"), "nearest slice"),
    "a frame of a folder": (("--center", "5,5,1", "--frame", 1), "Give the file"),
}


@pytest.mark.parametrize("name", BAD_ARGUMENTS)
def test_bad_arguments_are_one_line(name, folder, infer, tmp_path):
    arguments, remedy = BAD_ARGUMENTS[name]
    code, out, err = infer(folder, *arguments)
    assert (code, out, err.count("\n")) == (1, "", 1)
    assert remedy in err
    assert not (tmp_path / "results").exists()


def test_one_image_is_no_series_and_a_png_no_dicom(folder, infer, tmp_path):
    from PIL import Image

    Image.new("L", (100, 100), 9).save(tmp_path / "a.png")
    for arguments, remedy in (
        ((folder / "9.dcm", "--center", "5,5,1"), "Give the folder"),
        (("a.png", "--dicom-seg"), "give the DICOM file"),
        (("a.png", "--nifti"), "Leave --nifti out"),
        (("a.png", "--center-mm", "1,2,3"), "--center X,Y"),
    ):
        code, _, err = infer(*arguments)
        assert code == 1
        assert remedy in err


REAL = Path(__file__).parents[4] / "shared" / "data" / "chest-ct-dicom.zip"


def test_the_real_chest_ct_at_the_centre_of_its_tumour_box(tmp_path, infer):
    """A slice of a real series: pointed at in patient coordinates, read back by highdicom in the source's grid."""
    highdicom = pytest.importorskip("highdicom")
    if not REAL.exists():
        pytest.skip(f"no real chest CT: {REAL} is absent")
    with zipfile.ZipFile(REAL) as archive:
        archive.extractall(tmp_path)
    (voc, *_) = sorted(tmp_path.rglob("*.xml"))
    box = ET.parse(voc).getroot().find("object/bndbox")  # noqa: S314
    x, y = (0.5 * (int(box.findtext(a)) + int(box.findtext(b))) for a, b in (("xmin", "xmax"), ("ymin", "ymax")))
    (slices,) = {path.parent for path in tmp_path.rglob("*.dcm")}
    series = read_series(slices)
    assert len(series) == 30
    z = [s.uid for s in series.slices].index(voc.stem)
    plane = series.slices[z].plane
    at = np.array([*plane.position]) + (x - 0.5) * plane.spacing_mm[1] * np.array(plane.along_row)
    at += (y - 0.5) * plane.spacing_mm[0] * np.array(plane.along_column)

    code, out, err = infer(
        slices, "--center-mm", ",".join(map(str, at)), "--dicom-seg", "--samples", 4, "--representatives", "all",
        "--out", "real",
    )  # fmt: skip
    assert code == 0, err
    dataset = pydicom.dcmread(series.slices[z].path, stop_before_pixels=True)
    texts = out + err + (tmp_path / "real" / "result.json").read_text()
    assert str(dataset.PatientID) not in texts
    consensus, masks = (
        highdicom.seg.segread(
            io.BytesIO((tmp_path / "real" / "dicom" / name).read_bytes())
        ).get_pixels_by_source_instance([dataset.SOPInstanceUID])[0]
        for name in ("consensus.dcm", "representatives.dcm")
    )
    confidence = np.load(tmp_path / "real" / "confidence.npy")
    np.testing.assert_array_equal(masks.mean(axis=-1), confidence)
    row, column = np.argwhere(consensus[:, :, 0]).mean(axis=0) + 0.5
    assert abs(column - x) <= 1
    assert abs(row - y) <= 1


def test_slices_of_several_frames_of_reference_are_named(write_slice, tmp_path):
    """Their positions are not comparable."""
    for index in range(4):
        write_slice(tmp_path / f"{index}.dcm", 5 * index, FrameOfReferenceUID=f"1.2.{index // 2}")
    (warning,) = read_series(tmp_path).around(1)[0].warnings
    assert "2 frames of reference" in warning


def test_why_a_slice_has_no_place_is_said(write_slice, tmp_path):
    write_slice(tmp_path / "a.dcm", 0, ImageType=["ORIGINAL", "PRIMARY", "M", "MOSAIC"])
    with pytest.raises(ImageError, match=r"a\.dcm: no position in the patient: .*MOSAIC"):
        read_series(tmp_path)
