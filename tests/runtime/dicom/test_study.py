"""Folders and zips as people have them: other files, copies, several series, sub-folders."""

import json
import shutil

import numpy as np
import pydicom
import pytest
from PIL import Image

from medseg_runtime import ImageError, ParameterError, Segmenter, list_series, read_series
from medseg_runtime.commands import infer as infer_command
from medseg_runtime.testing import toy_segmenter

SEGMENTATIONS = {
    "binary": "1.2.840.10008.5.1.4.1.1.66.4",
    "surface": "1.2.840.10008.5.1.4.1.1.66.5",
    "label map": "1.2.840.10008.5.1.4.1.1.66.7",
    "heightmap": "1.2.840.10008.5.1.4.1.1.66.8",
}


@pytest.fixture
def folder(five_slices):
    return five_slices


@pytest.fixture
def infer(run_command, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(Segmenter, "load", lambda *_args, **_kwargs: toy_segmenter())
    return lambda *arguments: run_command(infer_command.main, "medseg-infer", *arguments)


def warnings_of(series):
    return series.read(0).warnings


@pytest.mark.parametrize("kind", SEGMENTATIONS)
def test_segmentations_of_every_kind_are_passed_over(kind, folder, write_slice):
    write_slice(folder / "seg.dcm", 0, series="1.9", Modality="SEG", SOPClassUID=SEGMENTATIONS[kind])
    series = read_series(folder)
    assert len(series) == 5
    assert warnings_of(series)[0] == "passed over as no image: 1 SEG"


def test_what_is_no_image_is_passed_over_with_one_warning(folder, write_slice, infer, tmp_path):
    for name, modality, kind in (
        ("a", "SR", pydicom.uid.ComprehensiveSRStorage),
        ("b", "SR", pydicom.uid.EnhancedSRStorage),
        ("c", "PR", pydicom.uid.GrayscaleSoftcopyPresentationStateStorage),
        ("d", "KO", pydicom.uid.KeyObjectSelectionDocumentStorage),
        ("e", "RTSTRUCT", pydicom.uid.RTStructureSetStorage),
        ("f", None, "1.3.12.2.1107.5.9.1"),  # Siemens CSA Non-Image
    ):
        write_slice(folder / name, 0, series=f"1.{ord(name)}", Modality=modality, SOPClassUID=kind, PixelData=None)
    (folder / "notes.txt").write_text("Übung 1\n")
    (folder / "README").write_text("no suffix")
    (folder / "report.pdf").write_bytes(b"%PDF-1.7\0")
    Image.new("L", (99, 99)).save(folder / "thumbnail.png")
    (folder / "DICOMDIR").write_bytes(bytes(128) + b"DICM, and damaged")
    (folder / ".DS_Store").write_bytes(b"\0\0\0\1Bud1")
    expected = (
        "passed over as no image: 1 DICOM without an image, 1 DICOMDIR, 1 KO, 1 PR, 1 RTSTRUCT, 2 SR, 4 not DICOM"
    )
    series = read_series(folder)
    assert (len(series), warnings_of(series)[0]) == (5, expected)

    code, _, err = infer(folder, "--center", "40,40,2", "--samples", 2, "--out", "one")
    assert code == 0
    assert err == f"medseg-infer: warning: series: {expected}\n"
    assert expected in json.loads((tmp_path / "one" / "result.json").read_text())["warnings"]

    code, out, err = infer(folder, "--roi", "32,32,64,64", "--samples", 2, "--out", "all")  # a folder of images
    assert (code, out.count("\n")) == (0, 6)  # the thumbnail is one
    assert err.startswith(
        "medseg-infer: warning: series: passed over as no image: 1 DICOM without an image, 1 DICOMDIR, 1 KO"
    )
    assert err.count("\n") == 1


@pytest.mark.parametrize(
    ("path", "problem"),
    [("IM2.dcm", "neither a folder nor a zip"), ("none", "No such file"), ("https://example.org/a.zip", "Download it")],
)
def test_what_is_no_study_is_refused(path, problem, folder, monkeypatch):
    monkeypatch.chdir(folder)
    for call in (read_series, list_series):
        with pytest.raises(ImageError, match=problem):
            call(path)


def test_a_mediums_directory_is_not_its_images(study, infer):
    code, _, err = infer(study / "DICOMDIR", "--center", "5,5")
    assert (code, err.count("\n")) == (1, 1)
    assert "Give the folder that it lies in" in err


def test_copies_are_one_slice(folder, write_slice):
    shutil.copy(folder / "IM1.dcm", folder / "copy.dcm")
    again = pydicom.dcmread(folder / "IM3.dcm")
    again.file_meta.ImplementationVersionName = "ANOTHER"
    again.compress(pydicom.uid.RLELossless, generate_instance_uid=False)
    again.save_as(folder / "other.dcm", enforce_file_format=True)
    series = read_series(folder)
    assert [plane.depth for plane in series.planes] == [0, 5, 10, 15, 20]
    assert list_series(folder)[0].slices == 5
    write_slice(folder / "false.dcm", 25, uid=again.SOPInstanceUID)
    with pytest.raises(ImageError, match=r"IM3\.dcm and false\.dcm have one SOP Instance UID|false\.dcm and IM3\.dcm"):
        read_series(folder)


def test_two_contents_under_one_uid_are_refused(folder):
    other = pydicom.dcmread(folder / "IM1.dcm")
    other.PixelData = bytes(len(other.PixelData))
    other.save_as(folder / "x.dcm", enforce_file_format=True)
    with pytest.raises(ImageError, match=r"IM1\.dcm and x\.dcm have one SOP Instance UID and are different images"):
        read_series(folder)


@pytest.fixture
def study(write_slice, tmp_path):
    """A medium: sub-folders, names without suffix, three series, a directory and a report."""
    root = tmp_path / "study"
    for index in range(4):
        write_slice(root / "PAT1" / "ST1" / "SE1" / f"IM{index}", 5 * index, series="1.2.3", SeriesNumber=2)
    for index in range(3):
        write_slice(
            root / "PAT1" / "ST1" / "SE2" / f"IM{index}", 2 * index, series="1.2.4", SeriesNumber=5, Modality="MR"
        )
    write_slice(root / "PAT1" / "ST1" / "SE3" / "IM0", 0, series="1.2.5", SeriesNumber=7, NumberOfFrames=3,
          PixelData=bytes(3 * 2 * 128 * 128))  # fmt: skip
    write_slice(root / "PAT1" / "ST1" / "SR", 0, series="1.2.6", Modality="SR", SOPClassUID=pydicom.uid.EnhancedSRStorage, PixelData=None)  # fmt: skip
    (root / "DICOMDIR").write_bytes(b"x")
    return root


TABLE = (
    "there are 3 series: 2 (CT, 4 slices of 128x128), 5 (MR, 3 slices of 128x128), 7 (CT, 3 slices of 128x128). "
    "Choose one with --series N."
)


@pytest.mark.parametrize("packed", [False, True], ids=["folder", "zip"])
def test_a_study_says_which_series_it_holds(packed, study, tmp_path, zip_of):
    path = zip_of(study, tmp_path / "study.zip") if packed else study
    with pytest.raises(ImageError) as caught:
        read_series(path)
    assert str(caught.value) == TABLE
    assert [(info.number, info.uid, info.modality, info.slices, info.rows, info.columns) for info in list_series(path)] == [
        (2, "1.2.3", "CT", 4, 128, 128), (5, "1.2.4", "MR", 3, 128, 128), (7, "1.2.5", "CT", 3, 128, 128),
    ]  # fmt: skip
    for chosen, slices in ((2, 4), ("1.2.4", 3), (5, 3)):
        series = read_series(path, chosen)
        assert len(series) == len(series.around(0, 9)) == slices
    assert warnings_of(series)[0] == "passed over as no image: 1 DICOMDIR, 1 SR"
    for wrong in (1, "1.2", "1.2.9"):
        with pytest.raises(ParameterError, match=r"2 \(CT.*5 \(MR"):
            read_series(path, wrong)
    with pytest.raises(ImageError, match="several frames"):
        read_series(path, 7)


def test_series_that_share_a_number_are_counted(study):
    for path in (study / "PAT1" / "ST1" / "SE2").iterdir():
        dataset = pydicom.dcmread(path)
        dataset.SeriesNumber = 2
        dataset.save_as(path)
    assert [str(info) for info in list_series(study)] == [
        "1 (CT, 4 slices of 128x128, series number 2)",
        "2 (MR, 3 slices of 128x128)",
        "3 (CT, 3 slices of 128x128, series number 7)",
    ]
    assert read_series(study, 2).slices[0].uid.startswith("1.2.4")


@pytest.mark.parametrize("packed", [False, True], ids=["folder", "zip"])
def test_the_command_takes_a_series_of_a_study(packed, study, infer, tmp_path, zip_of):
    pytest.importorskip("highdicom")
    path = zip_of(study, tmp_path / "study.zip") if packed else study
    code, out, err = infer(path, "--center-mm", "20,20,4")
    assert (code, out, err) == (1, "", f"medseg-infer: error: {path.name}: {TABLE}\n")
    arguments = ("--center-mm", "20,20,4", "--slices", 3, "--samples", 2, "--dicom-seg", "--out", "one")
    code, _, err = infer(path, "--series", 5, *arguments)
    assert (code, err.count("\n")) == (0, 3)
    assert "their volume may be that of a part" in err
    assert "3 slices were asked for, and there are 2 around the point" in err
    seg = pydicom.dcmread(tmp_path / "one" / "dicom" / "consensus.dcm")
    assert {str(item.ReferencedSOPInstanceUID) for item in seg.ReferencedSeriesSequence[0].ReferencedInstanceSequence} == {
        "1.2.4.5020", "1.2.4.5040",
    }  # fmt: skip
    code, _, err = infer(path, "--series", "five", "--center-mm", "20,20,4")
    assert (code, err.count("\n")) == (1, 1)
    assert "--series N" in err


def test_a_folder_of_images_says_that_it_has_sub_folders(study, infer):
    code, _, err = infer(study)
    assert code == 1
    assert "but sub-folders" in err
    Image.new("L", (80, 80), 9).save(study / "a.png")
    code, _, err = infer(study, "--samples", 1)
    assert (code, err) == (0, "medseg-infer: warning: study: passed over as no image: 1 DICOMDIR, 1 sub-folder\n")


@pytest.mark.parametrize("packed", [False, True], ids=["folder", "zip"])
@pytest.mark.parametrize("syntax", ["RLELossless", "DeflatedExplicitVRLittleEndian"])
def test_large_compressed_slices_are_read_whole(syntax, packed, write_slice, tmp_path, zip_of):
    for index in range(3):
        path = write_slice(tmp_path / "series" / f"{index}.dcm", 5 * index)
        dataset = pydicom.dcmread(path)
        dataset.Rows = dataset.Columns = 400
        dataset.PixelData = np.random.default_rng(index).integers(0, 1000, (400, 400)).astype(np.int16).tobytes()
        if syntax == "RLELossless":
            dataset.compress(pydicom.uid.RLELossless, generate_instance_uid=False)
        dataset.file_meta.TransferSyntaxUID = getattr(pydicom.uid, syntax)
        dataset.save_as(path)
        assert path.stat().st_size > 200_000
    study = zip_of(tmp_path / "series", tmp_path / "study.zip") if packed else tmp_path / "series"
    assert [plane.depth for plane in read_series(study).planes] == [0, 5, 10]
    assert list_series(study)[0].slices == 3


def test_slices_across_a_hole(folder, infer, tmp_path):
    pytest.importorskip("highdicom")
    (folder / "IM2.dcm").unlink()
    code, out, err = infer(folder, "--center-mm", "40,40,10", "--dicom-seg")
    assert (code, out) == (1, "")
    assert "slices are missing there" in err
    arguments = (folder, "--center", "40,40,1", "--slices", 3, "--samples", 2)
    code, out, err = infer(*arguments, "--nifti", "--out", "nifti")
    assert (code, out) == (1, "")
    assert "not evenly spaced" in err
    code, _, err = infer(*arguments, "--dicom-seg", "--out", "seg")
    expected = "slices are missing in 1 of the 2 gaps between the slices"
    assert code == 0, err
    assert f"medseg-infer: warning: series: {expected}\n" in err
    assert f"{expected}: the volume is interpolated there\n" in err
    assert expected in json.loads((tmp_path / "seg" / "result.json").read_text())["warnings"]


def test_hidden_dicom_and_linked_folders_are_counted(folder, tmp_path):
    shutil.copy(folder / "IM1.dcm", folder / ".IM1.dcm")
    (folder / "._IM1.dcm").write_bytes(b"\0\5\x16\7" + bytes(100))  # of macOS
    (folder / "link").symlink_to(tmp_path)
    assert warnings_of(read_series(folder))[0] == "passed over as no image: 1 hidden DICOM, 1 linked folder"


def test_no_value_of_a_header_is_in_what_is_said(study, infer):
    for path in study.rglob("IM*"):
        dataset = pydicom.dcmread(path)
        dataset.SeriesDescription = dataset.PatientName = dataset.ProtocolName = "DOE^JANE"
        dataset.Modality = "DOE JANE"
        dataset.save_as(path)
    code, _, err = infer(study, "--center-mm", "20,20,4")
    assert code == 1
    assert "DOE" not in err
    assert err.count("no modality") == 3
