"""What a Structured Report points at, to the pixel; what it may not point at; and mutated reports."""

import importlib.util
import io
import json
import re
import subprocess
import sysconfig
import warnings
from pathlib import Path

import numpy as np
import pydicom
import pytest

from medseg_runtime import ImageError, MedsegError, ParameterError, Segmenter
from medseg_runtime.commands import infer as infer_command
from medseg_runtime.readers.dicom.graphics import mark_of
from medseg_runtime.readers.dicom.pointing_sr import ImagePoint, PatientPoint, choose, read_findings
from medseg_runtime.readers.target import Location, read_target
from medseg_runtime.testing import toy_segmenter

_spec = importlib.util.spec_from_file_location("structured_reports", Path(__file__).with_name("structured_reports.py"))
sr = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(sr)

UID = "1.2.3.5100"
"""Of the slice at z = 10 of `five_slices`."""


def only(content):
    return choose(read_findings(content))


def point_of(*graphics):
    return only(sr.report(sr.group(*graphics))).point


@pytest.fixture
def hot(five_slices):
    """A series in which one pixel of one slice is the brightest: (folder, its slice, column, row)."""
    path = five_slices / "IM2.dcm"
    dataset = pydicom.dcmread(path)
    pixels = np.zeros((128, 128), np.int16)
    pixels[37, 91] = 1000
    dataset.PixelData = pixels.tobytes()
    dataset.save_as(path, enforce_file_format=True)
    return five_slices, dataset, 91, 37


def pointed_pixel(folder, content):
    """Return the value of the pixel that the center of a target lies in."""
    target = read_target(folder, only(content).location())
    x, y = target.center
    return target.images[target.index].pixels[int(np.floor(y)), int(np.floor(x))], (x, y)


def test_a_point_in_an_image_to_the_pixel(hot):
    """The center of a pixel is at half numbers (PS3.3, C.18.6). A convention with centers at whole ones is off by one at its corners."""
    pytest.importorskip("highdicom")
    folder, dataset, column, row = hot
    for dx, dy in ((0.01, 0.01), (0.5, 0.5), (0.99, 0.99)):
        value, at = pointed_pixel(folder, sr.by_highdicom(dataset, x=column + dx, y=row + dy))
        assert value == 1000 + int(dataset.RescaleIntercept)
        assert at == pytest.approx((column + dx, row + dy), abs=1e-5)
    beside, _ = pointed_pixel(folder, sr.by_highdicom(dataset, x=column - 0.01, y=row + 0.5))
    assert beside == int(dataset.RescaleIntercept)


def test_a_point_in_the_patient_to_the_pixel(hot):
    pytest.importorskip("highdicom")
    folder, dataset, column, row = hot
    across, down = map(float, dataset.PixelSpacing[::-1])
    content = sr.by_highdicom(dataset, point_mm=(column * across, row * down, 10.0))
    value, at = pointed_pixel(folder, content)
    assert value == 1000 + int(dataset.RescaleIntercept)
    assert at == pytest.approx((column + 0.5, row + 0.5), abs=1e-3)


def test_what_it_says_of_a_finding(hot):
    pytest.importorskip("highdicom")
    _, dataset, *_ = hot
    finding = only(sr.by_highdicom(dataset, x=3, y=4, name="left upper lobe"))
    assert (finding.number, finding.tracking_uid, finding.label) == (1, "1.2.3.77", "left upper lobe")
    assert finding.point == ImagePoint(dataset.SOPInstanceUID, None, 3.0, 4.0)
    assert "left" not in str(finding)


def closed(*corners):
    return [*corners, *corners[:2]]


GRAPHICS = {
    "POINT": ("POINT", [3, 4], (3, 4)),
    "an arrow of OHIF, its tip first": ("POINT", [3, 4, 50, 60], (3, 4)),
    "MULTIPOINT of one": ("MULTIPOINT", [3, 4], (3, 4)),
    "CIRCLE": ("CIRCLE", [10, 20, 15, 20], (10, 20)),
    "ELLIPSE": ("ELLIPSE", [0, 10, 20, 10, 10, 5, 10, 15], (10, 10)),
    "a length of OHIF": ("POLYLINE", [0, 0, 10, 20], (5, 10)),
    "a rectangle": ("POLYLINE", closed(0, 0, 10, 0, 10, 20, 0, 20), (5, 10)),
    "a triangle": ("POLYLINE", closed(0, 0, 9, 0, 0, 9), (3, 3)),
    "corners that lie close on one side": ("POLYLINE", closed(0, 0, 1, 0, 2, 0, 3, 0, 10, 0, 10, 10, 0, 10), (5, 5)),
}
UNCLEAR = {
    "MULTIPOINT of two": ("MULTIPOINT", [3, 4, 5, 6]),
    "an angle": ("POLYLINE", [0, 0, 10, 0, 10, 10]),
    "a line there and back": ("POLYLINE", [0, 0, 10, 0, 0, 0]),
    "a crescent, whose center is outside": ("POLYLINE", closed(0, 0, 30, 0, 30, 30, 0, 30, 0, 28, 28, 28, 28, 2, 0, 2)),
    "an ellipse whose axes do not cross": ("ELLIPSE", [0, 10, 20, 10, 90, 5, 90, 15]),
    "a circle of three points": ("CIRCLE", [1, 2, 3, 4, 5, 6]),
    "three points": ("POINT", [1, 2, 3, 4, 5, 6]),
    "an odd number": ("POINT", [1, 2, 3]),
    "infinite": ("POINT", [float("inf"), 2]),
    "unknown": ("SPIRAL", [1, 2]),
}


@pytest.mark.parametrize("name", GRAPHICS)
def test_the_location_that_a_graphic_means(name):
    graphic, data, expected = GRAPHICS[name]
    point = point_of(sr.scoord(graphic, data, sr.image(UID)))
    assert (point.instance, point.x, point.y) == (UID, *map(pytest.approx, expected))


@pytest.mark.parametrize("name", UNCLEAR)
def test_a_graphic_that_means_none(name):
    content = sr.report(sr.group(sr.scoord(*UNCLEAR[name], sr.image(UID))))
    with pytest.raises(ParameterError, match=r"does not say where.*TID 1500"):
        only(content).location()


def test_a_tilted_outline_in_the_patient():
    corners = np.array([[0, 0, 0], [10, 0, 5], [10, 8, 5], [0, 8, 0], [0, 0, 0]], float)
    assert mark_of("POLYGON", corners).center == pytest.approx((5, 4, 2.5))
    assert mark_of("POLYGON", corners[:-1]).center == pytest.approx((5, 4, 2.5))
    ellipsoid = np.array([[0, 5, 5], [10, 5, 5], [5, 0, 5], [5, 10, 5], [5, 5, 0], [5, 5, 10]], float)
    assert mark_of("ELLIPSOID", ellipsoid).center == (5, 5, 5)


def test_of_two_diameters_the_longer_one():
    axes = sr.scoord("POLYLINE", [0, 0, 0, 10], sr.image(UID)), sr.scoord("POLYLINE", [-9, 4, 11, 4], sr.image(UID))
    point = point_of(*axes)
    assert (point.x, point.y) == (1, 4)


def test_a_point_counts_before_an_outline_and_a_line():
    line = sr.scoord("POLYLINE", [0, 0, 90, 90], sr.image(UID))
    circle = sr.scoord("CIRCLE", [10, 10, 12, 10], sr.image(UID))
    assert point_of(line, circle).x == 10
    assert point_of(line, circle, sr.scoord("POINT", [7, 7], sr.image(UID))).x == 7


def test_one_region_that_several_measurements_share():
    region = sr.scoord("CIRCLE", [10, 10, 12, 10], sr.image(UID))
    assert point_of(region, region, region).x == 10


@pytest.mark.parametrize(
    ("graphics", "why"),
    [
        ([sr.scoord("POINT", [1, 2], sr.image(UID)), sr.scoord("POINT", [1, 3], sr.image(UID))], "2 different"),
        ([sr.scoord("POLYLINE", [0, 0, 4, 4], sr.image(UID)), sr.scoord("POLYLINE", [0, 0, 2, 2], sr.image("1.2"))], "2 diff"),
        ([sr.scoord("POINT", [1, 2])], "no images"),
        ([sr.scoord("POINT", [1, 2], sr.image(UID), sr.image("1.2"))], "2 images"),
        ([sr.scoord("POINT", [1, 2], sr.image(UID, [1, 2]))], "2 frames"),
        ([sr.scoord("POINT", [1, 2], sr.image(""))], "without its SOP Instance UID"),
        ([sr.scoord("POINT", [1, 2], sr.image(UID), PixelOriginInterpretation="VOLUME")], "tiled"),
        ([sr.scoord3d("POINT", [1, 2, 3], None)], "frame of reference"),
    ],
)  # fmt: skip
def test_a_finding_that_is_not_clear(graphics, why):
    finding = only(sr.report(sr.group(*graphics)))
    assert finding.point is None
    assert why in finding.fault


def test_an_image_by_reference():
    """In a Comprehensive SR an item may refer to another by its position (PS3.3, C.17.3.2.5)."""
    reference = sr.item(RelationshipType="SELECTED FROM", ReferencedContentItemIdentifier=[1, 2])
    content = sr.report(sr.group(sr.scoord("POINT", [1, 2], reference)))
    dataset = sr.as_dataset(content)
    dataset.ContentSequence.append(sr.image(UID, 3))
    assert only(dataset).point == ImagePoint(UID, 3, 1, 2)
    for nowhere in ([1, 9], [1, 2, 1], [1]):
        group = dataset.ContentSequence[0].ContentSequence[0]
        group.ContentSequence[2].ContentSequence[0].ContentSequence[0].ReferencedContentItemIdentifier = nowhere
        assert only(dataset).point is None


def test_coordinates_outside_of_groups_are_findings():
    loose = [sr.scoord("POINT", [n, n], sr.image(UID)) for n in (1, 2)]
    assert [finding.point.x for finding in read_findings(sr.report(*loose))] == [1, 2]


def several():
    groups = [sr.group(sr.scoord("POINT", [n, 5], sr.image(UID)), label="DOE", uid=f"1.2.{n}") for n in (10, 20)]
    return sr.report(*groups, sr.group(sr.scoord("POLYLINE", [1, 1, 2, 2, 3, 3], sr.image(UID)), uid="1.2.30"))


def test_of_several_findings_one_is_chosen():
    findings = read_findings(several())
    assert choose(findings, 2).point.x == choose(findings, "1.2.20").point.x == 20
    with pytest.raises(ParameterError, match=r"3 findings: 1 \(at 10,5 .*, 3 \(no point.*--finding N") as caught:
        choose(findings)
    assert "DOE" not in str(caught.value)
    for wanted in (4, "1.2.99"):
        with pytest.raises(ParameterError, match="no such finding"):
            choose(findings, wanted)
    with pytest.raises(ParameterError, match="several findings have that"):
        choose([*findings, *findings], "1.2.10")
    with pytest.raises(ParameterError, match=r"finding 3 .* does not say where"):
        choose(findings, 3).location()


@pytest.mark.parametrize(
    ("stated", "carried"),
    [("1.2.3.77", "1.2.3.77"), ("", None), ("Doe Jane", None), ("1.2." + 61 * "3", None), ("1.02", None)],
)
def test_a_tracking_uid_is_carried_if_it_is_one(stated, carried):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # pydicom writes what is no UID, and says so
        content = sr.report(sr.group(sr.scoord("POINT", [3, 4], sr.image(UID)), uid=stated))
    finding = only(content)
    assert finding.location().tracking_uid == carried


def test_files_that_do_not_point(sources):
    for content, problem in (
        (sr.report(), "no coordinates"),
        (sr.report(sr.group()), "no coordinates"),
        (sources("CT_small.dcm"), "no Structured Report"),
        (b"%PDF-1.4 " * 100, "no DICOM file"),
    ):
        with pytest.raises(ImageError, match=f"{problem}.*TID 1500"):
            read_findings(content)


def test_a_report_of_dcmqi_has_no_coordinates(written, tmp_path):
    """Its TID 1411 refers to a segment."""
    pytest.importorskip("dcmqi")
    made = written("CT, tiny")
    (tmp_path / "seg.dcm").write_bytes(made.objects["consensus.dcm"])
    (tmp_path / "ct.dcm").write_bytes(made.path.read_bytes())
    seg = pydicom.dcmread(tmp_path / "seg.dcm")
    measurement = {
        "value": "10", "quantity": {"CodeValue": "118565006", "CodingSchemeDesignator": "SCT", "CodeMeaning": "Volume"},
        "units": {"CodeValue": "mm3", "CodingSchemeDesignator": "UCUM", "CodeMeaning": "mm3"},
    }  # fmt: skip
    metadata = {
        "SeriesDescription": "M", "SeriesNumber": "1", "InstanceNumber": "1", "compositeContext": ["seg.dcm"],
        "imageLibrary": ["ct.dcm"], "observerContext": {"ObserverType": "PERSON", "PersonObserverName": "A"},
        "VerificationFlag": "UNVERIFIED", "CompletionFlag": "COMPLETE", "activitySession": "1", "timePoint": "1",
        "Measurements": [{
            "TrackingIdentifier": "a", "ReferencedSegment": 1,
            "SourceSeriesForImageSegmentation": str(made.image.dicom.header.SeriesInstanceUID),
            "segmentationSOPInstanceUID": str(seg.SOPInstanceUID),
            "Finding": {"CodeValue": "52988006", "CodingSchemeDesignator": "SCT", "CodeMeaning": "Lesion"},
            "measurementItems": [measurement],
        }],
    }  # fmt: skip
    (tmp_path / "m.json").write_text(json.dumps(metadata))
    tool = Path(sysconfig.get_path("scripts")) / "tid1500writer"
    arguments = [
        "--inputMetadata",
        "m.json",
        "--inputImageLibraryDirectory",
        ".",
        "--inputCompositeContextDirectory",
        ".",
    ]
    done = subprocess.run(
        [tool, *arguments, "--outputDICOM", "sr.dcm"], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    with pytest.raises(ImageError, match="no coordinates"):
        read_findings(tmp_path / "sr.dcm")


# In the study


@pytest.fixture
def two_series(five_slices, write_slice):
    for index in range(3):
        write_slice(five_slices / "other" / f"{index}.dcm", 5 * index, series="1.2.9", FrameOfReferenceUID="1.9.9")
    return five_slices


def located(content, folder, **more):
    return read_target(folder, only(content).location(**more))


def test_the_series_and_slice_are_found_in_a_study(two_series, zip_of, tmp_path):
    in_image = sr.report(sr.group(sr.scoord("POINT", [30, 40], sr.image("1.2.9.5050"))))
    in_patient = sr.report(sr.group(sr.scoord3d("POINT", [10, 10, 5], "1.9.9")))
    for path in (two_series, zip_of(two_series, tmp_path / "study.zip")):
        target = located(in_image, path)
        assert (target.images[0].dicom.header.SOPInstanceUID, target.center) == ("1.2.9.5050", (30, 40))
        assert located(in_patient, path).images[0].dicom.header.SOPInstanceUID == "1.2.9.5050"
        assert len(located(in_image, path, slices=3).images) == 3


def test_a_file_is_the_image_that_is_pointed_at(two_series):
    content = sr.report(sr.group(sr.scoord("POINT", [30, 40], sr.image(UID, 1))))
    assert located(content, two_series / "IM2.dcm").center == (30, 40)
    assert located(content, two_series).index == 0
    with pytest.raises(ParameterError, match="another image than this one"):
        located(content, two_series / "IM1.dcm")
    with pytest.raises(ParameterError, match=r"another image than this one \(FrameOfReferenceUID\)"):
        located(sr.report(sr.group(sr.scoord3d("POINT", [1, 1, 10], "1.9.9"))), two_series / "IM2.dcm")


@pytest.mark.parametrize(
    ("graphic", "what"),
    [
        (sr.scoord("POINT", [1, 1], sr.image("1.2.9.4")), "SOPInstanceUID"),
        (sr.scoord3d("POINT", [1, 1, 1], "1.4.4"), "FrameOfReferenceUID"),
    ],
)
def test_a_study_without_what_is_pointed_at(graphic, what, two_series):
    with pytest.raises(ParameterError, match=f"does not hold .*{what}"):
        located(sr.report(sr.group(graphic)), two_series)


def test_a_frame_of_a_slice_that_has_one(five_slices):
    with pytest.raises(ParameterError, match="frame"):
        located(sr.report(sr.group(sr.scoord("POINT", [1, 1], sr.image(UID, 3)))), five_slices)


def test_a_frame_of_an_enhanced_object(sources):
    path = sources("eCT_Supplemental.dcm")
    uid = pydicom.dcmread(path).SOPInstanceUID
    target = located(sr.report(sr.group(sr.scoord("POINT", [1, 1], sr.image(uid, 2)))), path)
    assert target.images[0].dicom.frame == 2
    with pytest.raises(ImageError, match="several frames"):
        located(sr.report(sr.group(sr.scoord("POINT", [1, 1], sr.image(uid)))), path)


def test_volumes_and_pictures_are_not_what_an_sr_points_at(tmp_path):
    content = sr.report(sr.group(sr.scoord("POINT", [1, 1], sr.image(UID))))
    np.save(tmp_path / "a.npy", np.zeros((4, 4, 4), np.int16))
    with pytest.raises(ParameterError, match="volume file does not say"):
        located(content, tmp_path / "a.npy")


def test_a_place_without_names_takes_any_image(five_slices):
    assert read_target(five_slices / "IM2.dcm", Location(center=(1, 1))).center == (1, 1)


# Of the command


@pytest.fixture
def infer(run_command, monkeypatch):
    monkeypatch.setattr(Segmenter, "load", lambda *_args, **_kwargs: toy_segmenter())
    return lambda *arguments: run_command(infer_command.main, "medseg-infer", *arguments, "--samples", 2)


def test_the_command_takes_its_point_from_an_sr(five_slices, infer, tmp_path):
    (tmp_path / "sr.dcm").write_bytes(several())
    audit = tmp_path / "audit.jsonl"
    code, _, err = infer(
        five_slices,
        "--point-from",
        tmp_path / "sr.dcm",
        "--finding",
        "1.2.20",
        "--out",
        tmp_path / "out",
        "--audit",
        audit,
    )
    assert code == 0, err
    record = json.loads((tmp_path / "out" / "result.json").read_text())
    assert "SOPInstanceUID" not in json.dumps(record)
    line = audit.read_text()
    assert '"point_from_sha256"' in line
    assert UID not in line
    assert "1.2.20" not in line + json.dumps(record)
    code, _, _ = infer(five_slices / "IM2.dcm", "--center", "20,5", "--out", tmp_path / "same")
    assert code == 0
    assert (tmp_path / "same" / "confidence.npy").read_bytes() == (tmp_path / "out" / "confidence.npy").read_bytes()


def test_the_command_carries_the_tracking_uid(five_slices, infer, tmp_path):
    pytest.importorskip("highdicom")
    (tmp_path / "sr.dcm").write_bytes(several())
    arguments = (five_slices, "--point-from", tmp_path / "sr.dcm", "--finding", 2, "--sr", "--html")
    assert infer(*arguments, "--out", tmp_path / "out")[0] == 0
    report = pydicom.dcmread(tmp_path / "out" / "dicom" / "measurements.dcm")
    assert "1.2.20" in str(report)
    readable = [path.read_text() for path in (tmp_path / "out").glob("re*.*")]  # result.json, report.html
    assert len(readable) == 2
    assert not any("1.2.20" in text for text in readable)


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        (["--point-from", "SR"], "3 findings"),
        (["--point-from", "SR", "--finding", "9"], "no such finding"),
        (["--point-from", "SR", "--finding", "3"], "does not say where"),
        (["--point-from", "SR", "--center", "1,2"], "exclude each other"),
        (["--point-from", "SR", "--center-mm", "1,2,3"], "exclude each other"),
        (["--point-from", "SR", "--frame", "1"], "exclude each other"),
        (["--finding", "1"], "--point-from SR"),
        (["--point-from", "IMAGE"], "--point-from: .*no Structured Report"),
        (["--point-from", "nowhere.dcm"], "--point-from: .*cannot be read"),
    ],
)
def test_refusals_of_the_command(arguments, problem, five_slices, infer, tmp_path):
    (tmp_path / "sr.dcm").write_bytes(several())
    named = {"SR": tmp_path / "sr.dcm", "IMAGE": five_slices / "IM0.dcm"}
    code, out, err = infer(five_slices, *(named.get(each, each) for each in arguments), "--out", tmp_path / "out")
    assert (code, out) == (1, "")
    assert not (tmp_path / "out").exists()
    assert len(err.splitlines()) == 1
    assert re.search(problem, err), err


# Mutated


def test_mutated_reports_give_our_errors_alone(mutations):
    rng = np.random.default_rng(0)
    whole = sr.report(
        sr.group(sr.scoord("ELLIPSE", [0, 10, 20, 10, 10, 5, 10, 15], sr.image(UID, [1]))),
        sr.group(sr.scoord3d("POINT", [1, 2, 3], "1.2")),
    )
    seen = set()
    for _ in range(max(mutations // 4, 200)):
        content = bytearray(whole)
        for _ in range(rng.integers(1, 7)):
            at, size = int(rng.integers(132, len(content))), int(rng.integers(1, 100))
            match rng.integers(4):
                case 0:
                    content[at] = rng.integers(256)
                case 1:
                    del content[at : at + size // 10]
                case 2:
                    content[at:at] = content[at : at + size]
                case 3:
                    content[at : at + 2] = bytes(rng.choice([b"AB", b"\xff\xff", b"SQ", b"IS", b"\xfe\xff"]))
        try:
            seen.update(type(finding.point) for finding in read_findings(bytes(content)))
        except MedsegError:
            seen.add(MedsegError)
    assert seen == {ImagePoint, PatientPoint, MedsegError, type(None)}


@pytest.mark.parametrize("depth", [40, 3000])
def test_a_report_that_nests_deeply(depth):
    head = sr.as_dataset(sr.report())
    del head.ContentSequence
    buffer = io.BytesIO()
    head.save_as(buffer, enforce_file_format=True)
    start = b"\x40\x00\x30\xa7SQ\0\0\xff\xff\xff\xff\xfe\xff\x00\xe0\xff\xff\xff\xff"
    end = b"\xfe\xff\x0d\xe0\0\0\0\0\xfe\xff\xdd\xe0\0\0\0\0"
    with pytest.raises(ImageError):
        read_findings(buffer.getvalue() + start * depth + end * depth)
