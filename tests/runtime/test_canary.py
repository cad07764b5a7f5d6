"""No value of a DICOM header leaves by another door than `dicom/`: every element gets a mark of its own, and all that is written is searched."""

import gzip
import json
import os
import subprocess
import sys
import warnings
import zlib
from functools import cache
from importlib.util import find_spec
from pathlib import Path

import pydicom
import pytest
import typer
from pydicom.datadict import dictionary_VR
from pydicom.tag import Tag

from medseg_runtime.commands.infer import app
from tests.runtime.canary import marked_ct, marked_elements, marks_in

OUTPUTS = {
    "folder": (),
    "json": ("--json",),
    "representatives": ("--representatives", "2"),
    "limit": ("--limit", "long_axis_mm=3"),
    "nifti": ("--nifti",),
    "html": ("--html",),
    "dicom": ("--dicom-seg", "--rtstruct", "--sr", "--representatives", "2"),
}
"""What is written and printed, by the options that ask for it. A new option belongs here, and a test says if one is missing."""
NEEDS = {"nifti": "nibabel", "dicom": "highdicom"}
MODULES = (
    "patient", "clinical-trial-subject", "general-study", "patient-study", "clinical-trial-study", "specimen", "frame-of-reference",
)  # fmt: skip
"""The modules of PS3.3 that say of whom and in which study an object is: `dicom/` copies them as they are."""
REFERRED = {
    "ContentDate", "ContentTime", "StructureSetDate", "StructureSetTime", "ContributingEquipmentSequence", "PerFrameFunctionalGroupsSequence",
    "ReferencedSeriesSequence", "SourceImageSequence", "ROIContourSequence", "ReferencedFrameOfReferenceSequence", "StructureSetROISequence",
    "ContentSequence", "CurrentRequestedProcedureEvidenceSequence",
}  # fmt: skip
"""Elements of `dicom/` that refer to the source by its UIDs, name the device that made it, or take its date."""


def run(folder, image, *options, before=""):
    """Run the command in a process of its own; return the exit code and all that it printed."""
    code = f"import sys\n{before}\nfrom medseg_runtime.commands.infer import main\nmain()"
    usual = ["--samples", "2", "--backend", "onnxruntime", "--center", "60,60", "--out", "out", "--audit", "audit"]
    environment = os.environ | {"XDG_CACHE_HOME": str(folder / "cache")}
    done = subprocess.run(
        [sys.executable, "-c", code, str(image), *usual, *options],
        cwd=folder,
        env=environment,
        capture_output=True,
        check=False,
    )
    return done.returncode, done.stdout, done.stderr


def leaks(folder, *printed):
    """Return the names of what holds a mark, apart from the image and `dicom/`."""
    found = {f"printed {number}": marks for number, text in enumerate(printed) if (marks := marks_in("", text))}
    for path in folder.rglob("*"):
        name = path.relative_to(folder).as_posix()
        if path.name != "image.dcm" and path.parent.name != "dicom":
            marks = marks_in("", os.fsencode(path.name)) | (
                marks_in(name, path.read_bytes()) if path.is_file() else set()
            )
            found |= {name: marks} if marks else {}
    return found


def written(folder, dataset, name="image.dcm"):
    path = folder / name
    path.parent.mkdir(exist_ok=True)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        dataset.save_as(path, enforce_file_format=True)
    return path


@cache
def copied():
    """The elements that may be in `dicom/` as the source has them, by the tables of highdicom."""
    tables = Path(find_spec("highdicom").origin).parent / "_standard" / "module_attribute_map.json"
    modules = json.loads(tables.read_text())
    return REFERRED | {each["keyword"] for module in MODULES for each in modules[module] if not each["path"]}


def test_the_marks_are_there():
    dataset, count = marked_ct()
    assert count > 10_000
    marked = {name.partition("/")[0] for name in marked_elements(dataset)}
    assert len(marked) > 3500
    assert {
        "PatientName",
        "PatientBirthDate",
        "StudyTime",
        "PatientWeight",
        "AccessionNumber",
        "KVP",
        "DeviceUID",
    } <= marked
    assert {element.VR for element in dataset if element.keyword in marked or element.tag.is_private} >= {
        "AE", "CS", "DA", "DS", "DT", "FD", "IS", "LO", "LT", "OB", "PN", "SH", "SQ", "ST", "TM", "UC", "UI", "UN", "UR", "UT", "SL", "UL",
    }  # fmt: skip
    assert marked_elements(dataset.file_meta)


def test_marks_are_found_where_they_are_compressed():
    mark = b"QZX00001"
    chunk = b"Comment\0\0" + zlib.compress(mark)
    png = b"\x89PNG\r\n\x1a\n" + len(chunk).to_bytes(4) + b"zTXt" + chunk + bytes(4)
    assert all(
        marks_in("x.bin", each) for each in (mark, gzip.compress(mark), png, b"Q\0Z\0X\x000\0", b"1.2.826.0.1.9773.5")
    )
    assert not marks_in("x.json", b"QZX, 9773, 1.2.826.0.1.3680043, 20261201")


def test_every_option_that_writes_more_is_among_the_outputs():
    options = typer.main.get_command(app).params
    writing = {option.opts[0] for option in options if (option.help or "").startswith("Also write")}
    assert {"--dicom-seg", "--nifti"} <= writing <= {option for options in OUTPUTS.values() for option in options}


@pytest.mark.parametrize("name", OUTPUTS)
def test_nothing_of_a_header_is_in_a_result(tmp_path, name):
    if name in NEEDS:
        pytest.importorskip(NEEDS[name])
    code, out, err = run(tmp_path, written(tmp_path, marked_ct()[0]), *OUTPUTS[name])
    assert code == 0, err
    assert leaks(tmp_path, out, err) == {}
    objects = list(tmp_path.glob("out/dicom/*"))
    assert bool(objects) == (name == "dicom")
    for path in objects:
        found = {name.partition("/")[0] for name in marked_elements(pydicom.dcmread(path))}
        assert found - copied() == set()
        assert {"PatientName", "PatientID", "StudyInstanceUID"} <= found  # the search finds what is there


def test_nothing_of_a_header_is_in_what_the_doctor_says(tmp_path):
    assert run(tmp_path, written(tmp_path, marked_ct()[0]))[0] == 0
    code = "from medseg_runtime.commands.doctor import main; main()"
    environment = os.environ | {"XDG_CACHE_HOME": str(tmp_path / "cache")}
    for options, expected in (([], b"onnxruntime"), (["--audit", "audit"], b"last line")):
        command = [sys.executable, "-c", code, *options]
        done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, check=False)
        assert expected in done.stdout
        assert leaks(tmp_path, done.stdout, done.stderr) == {}


def test_the_name_of_a_file_is_printed_and_in_no_result(tmp_path):
    """It is the user's own, who typed it. Results are sent on: they name the image by its hash."""
    path = written(tmp_path, marked_ct()[0], "QZX-ward/QZX-Doe.dcm")
    code, out, err = run(tmp_path, path, "--dicom-seg" if find_spec("highdicom") else "--json")
    assert code == 0, err
    path.unlink()
    path.parent.rmdir()
    assert b"QZX-Doe.dcm" in out
    assert b"QZX-ward" not in out + err
    assert leaks(tmp_path / "out") == {}
    assert not any(b"QZX-" in file.read_bytes() for file in tmp_path.glob("out/dicom/*"))


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
    path = written(tmp_path, marked_ct()[0])
    code, out, err = run(tmp_path, path, before=CRASH.format(error=error, where=CRASHES[where]))
    assert code != 0
    assert leaks(tmp_path, out, err) == {}


BROKEN = {
    "window": {"WindowCenter": "QZX00000", "WindowWidth": "QZX00000"},
    "spacing": {"PixelSpacing": ["QZX00000", "QZX00000"]},
    "slope": {"RescaleSlope": "QZX00000"},
    "position": {"ImagePositionPatient": ["QZX00000", "1", "2"]},
    "photometric interpretation": {"PhotometricInterpretation": "QZX00000"},
    "modality": {"Modality": "QZX00000 of a ward"},
    "frames": {"NumberOfFrames": "QZX00000"},
    "character set": {"SpecificCharacterSet": "QZX00000"},
    "date": {"StudyDate": "QZX00000", "PatientBirthDate": "QZX00000"},
    "class": {"SOPClassUID": "QZX00000"},
}


@pytest.mark.slow
@pytest.mark.parametrize("name", BROKEN)
def test_nothing_of_a_damaged_value_is_in_a_message(tmp_path, name):
    with warnings.catch_warnings(), pydicom.config.disable_value_validation():
        warnings.simplefilter("ignore")
        pydicom.config.settings.writing_validation_mode = pydicom.config.IGNORE
        try:
            marked = marked_ct()[0]
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
    assert b"QZX00000" in path.read_bytes()
    _, out, err = run(tmp_path, path, "--json")
    assert leaks(tmp_path, out, err) == {}
