"""No value of a DICOM header leaves by another door than `dicom/`: every element gets a token of its own, and all that is written is searched."""

import os
import subprocess
import sys
import warnings

import pydicom
import pytest
from pydicom.data import get_testdata_file
from pydicom.datadict import dictionary_has_tag, dictionary_VR
from pydicom.sequence import Sequence
from pydicom.tag import Tag

MARK = "QZX{:04d}"
TEXT = ("AE", "CS", "LO", "LT", "PN", "SH", "ST", "UC", "UR", "UT")
KEPT = {"PhotometricInterpretation", "Modality", "BurnedInAnnotation", "SpecificCharacterSet", "PatientSex"}
"""Coded values, without which the file is no image that is read, or highdicom writes no SEG."""
MORE = (
    "PatientName", "PatientID", "PatientAddress", "PatientComments", "OtherPatientNames", "PatientBirthName", "PatientMotherBirthName",
    "ResponsiblePerson", "MilitaryRank", "Occupation", "InstitutionName", "InstitutionAddress", "ReferringPhysicianName",
    "PerformingPhysicianName", "OperatorsName", "StationName", "StudyDescription", "SeriesDescription", "StudyID", "AccessionNumber",
    "ProtocolName", "DeviceSerialNumber", "ImageComments", "FrameComments", "AdditionalPatientHistory", "RetrieveURL",
    "RequestingPhysician", "CurrentPatientLocation", "AdmissionID", "ImageType", "RescaleType", "VOILUTFunction", "ImageLaterality",
    "WindowCenterWidthExplanation", "BodyPartExamined", "ContentLabel", "Manufacturer", "ManufacturerModelName", "SoftwareVersions",
)  # fmt: skip


class Marked:
    """A CT whose every text holds a token of its own: elements, private ones, nested ones."""

    def __init__(self, **values):
        self.dataset = pydicom.dcmread(get_testdata_file("CT_small.dcm", download=False))
        self.count = 0
        for keyword in MORE:
            vr = dictionary_VR(keyword)
            setattr(self.dataset, keyword, self.token() if vr != "UR" else f"https://{self.token()}.example/x")
        self.mark(self.dataset)
        self.dataset.OtherPatientIDsSequence = Sequence([self.item(depth) for depth in range(3)])
        block = self.dataset.private_block(0x0029, self.token(), create=True)
        for offset, vr in enumerate(TEXT):
            block.add_new(offset, vr, self.token())
        block.add_new(0x20, "OB", self.token().encode() + b"\0")
        block.add_new(0x21, "UN", self.token().encode() + b"\0")
        block.add_new(0x22, "SQ", Sequence([self.item(1)]))
        for keyword, value in values.items():
            setattr(self.dataset, keyword, value)
        self.dataset.preamble = b"QZX-preamble".ljust(128, b"\0")

    def token(self):
        self.count += 1
        return MARK.format(self.count)

    def mark(self, dataset):
        for element in dataset:
            if element.VR in TEXT and element.keyword not in KEPT:
                element.value = self.token()

    def item(self, depth):
        item = pydicom.Dataset()
        item.PatientID = self.token()
        item.IssuerOfPatientID = self.token()
        item.add_new(Tag(0x0010, 0x2000), "LO", self.token())
        if depth:
            item.OtherPatientIDsSequence = Sequence([self.item(depth - 1)])
        return item


def run(folder, image, *options, before=""):
    """Run the command in a process of its own; return the exit code and all that it left and printed."""
    code = f"import sys\n{before}\nfrom medseg_runtime.commands.infer import main\nmain()"
    arguments = [
        str(image),
        "--samples",
        "2",
        "--backend",
        "onnxruntime",
        "--center",
        "60,60",
        "--out",
        "out",
        "--audit",
        "audit",
    ]
    done = subprocess.run(
        [sys.executable, "-c", code, *arguments, *options], cwd=folder, capture_output=True, check=False
    )
    return done.returncode, done.stdout, done.stderr


def leaks(folder, *printed):
    """Return the names of what holds a token, apart from `dicom/`."""
    found = [f"printed {number}" for number, text in enumerate(printed) if b"QZX" in text]
    for path in folder.rglob("*"):
        if path.name == "image.dcm" or path.parent.name == "dicom":
            continue
        if b"QZX" in os.fsencode(path.name) or (path.is_file() and b"QZX" in path.read_bytes()):
            found.append(path.relative_to(folder).as_posix())
    return found


def written(folder, dataset):
    path = folder / "image.dcm"
    dataset.save_as(path, enforce_file_format=True)
    return path


def test_the_marks_are_there():
    marked = Marked()
    assert marked.count > 80
    assert all(dictionary_has_tag(keyword) for keyword in MORE)


@pytest.mark.parametrize("options", [(), ("--json",), ("--dicom-seg", "--nifti", "--representatives", "2")])
def test_nothing_of_a_header_is_in_a_result(tmp_path, options):
    if "--nifti" in options:
        pytest.importorskip("highdicom")
        pytest.importorskip("nibabel")
    path = written(tmp_path, Marked().dataset)
    code, out, err = run(tmp_path, path, *options)
    assert code == 0, err
    assert leaks(tmp_path, out, err) == []
    if "--dicom-seg" in options:
        assert b"QZX" in (tmp_path / "out" / "dicom" / "consensus.dcm").read_bytes()  # the search finds what is there


CRASHES = {
    "in the reader": "medseg_runtime.readers.dicom.image.as_image",
    "in the network": "medseg_runtime.inference.segmenter.sample",
    "in the writer": "medseg_runtime.commands.pipeline.write_result",
}
CRASH = """
from importlib import import_module
def crash(*arguments, **options):
    raise {error}
module, name = {where!r}.rsplit(".", 1)
setattr(import_module(module), name, crash)
"""


@pytest.mark.slow
@pytest.mark.parametrize("where", CRASHES)
@pytest.mark.parametrize("error", ["ZeroDivisionError", "MemoryError", "OSError(28, 'No space left on device')"])
def test_nothing_of_a_header_is_in_a_crash(tmp_path, where, error):
    path = written(tmp_path, Marked().dataset)
    code, out, err = run(tmp_path, path, before=CRASH.format(error=error, where=CRASHES[where]))
    assert code != 0
    assert leaks(tmp_path, out, err) == []


BROKEN = {
    "window": {"WindowCenter": "QZX", "WindowWidth": "QZX"},
    "spacing": {"PixelSpacing": ["QZX", "QZX"]},
    "slope": {"RescaleSlope": "QZX"},
    "position": {"ImagePositionPatient": ["QZX", "1", "2"]},
    "photometric interpretation": {"PhotometricInterpretation": "QZX"},
    "modality": {"Modality": "QZX of a ward"},
    "frames": {"NumberOfFrames": "QZX"},
    "character set": {"SpecificCharacterSet": "QZX"},
    "date": {"StudyDate": "QZX", "PatientBirthDate": "QZX"},
    "class": {"SOPClassUID": "QZX"},
}


@pytest.mark.slow
@pytest.mark.parametrize("name", BROKEN)
def test_nothing_of_a_damaged_value_is_in_a_message(tmp_path, name):
    with warnings.catch_warnings(), pydicom.config.disable_value_validation():
        warnings.simplefilter("ignore")
        pydicom.config.settings.writing_validation_mode = pydicom.config.IGNORE
        try:
            marked = Marked().dataset
            for keyword, value in BROKEN[name].items():
                values = value if isinstance(value, list) else [value]
                raw = "\\".join(values).encode()
                tag = Tag(keyword)
                marked[tag] = pydicom.dataelem.RawDataElement(
                    tag, dictionary_VR(tag), len(raw), raw, 0, is_implicit_VR=False, is_little_endian=True
                )
            path = written(tmp_path, marked)
        finally:
            pydicom.config.settings.writing_validation_mode = None
    assert b"QZX" in path.read_bytes()
    _, out, err = run(tmp_path, path, "--json")
    assert leaks(tmp_path, out, err) == []
