"""Reports of measurements, judged by dciodvfy, dcmqi, dcmtk and highdicom, and read back."""

import io
import json
import subprocess
import sysconfig
import warnings
from dataclasses import replace
from pathlib import Path

import numpy as np
import pydicom
import pytest

from medseg_runtime import OutputError, ParameterError, Segmenter
from medseg_runtime.commands import infer as infer_command
from medseg_runtime.figures.overlay import render_overlay
from medseg_runtime.readers.dicom.pointing_sr import read_findings
from medseg_runtime.readers.dicom.series import read_series
from medseg_runtime.readers.image import read_image
from medseg_runtime.result.measure import measure
from medseg_runtime.testing import toy_manifest, toy_segmenter
from medseg_runtime.writers.dicom import read_back, seg
from medseg_runtime.writers.dicom.codes import ARTIFICIAL_INTELLIGENCE
from medseg_runtime.writers.dicom.measurement_codes import (
    CERTAINTY,
    COMMENT,
    DEVICE,
    IMAGING_PROCEDURE,
    OWN_SCHEME,
    QUANTITIES,
    STATISTICS,
    UNITS,
)
from medseg_runtime.writers.dicom.measurement_group import values_of
from tests.runtime.dicom.source_names import NAMES

REPORT = "measurements.dcm"


@pytest.fixture(autouse=True)
def _other_peoples_warnings():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def objects_of(results, measurements=None, **more):
    measurements = measure(results) if measurements is None else measurements
    overlay = render_overlay(results[0].source.pixels, results[0])
    return seg.dicom_objects(results, overlay, measurements=measurements, **more).files


def opened(content):
    return pydicom.dcmread(io.BytesIO(content))


def meaning(item):
    return str(item.ConceptNameCodeSequence[0].CodeMeaning)


def items(parent, name=None, kind=None):
    """Return the content items below one that have a name or a value type, at any depth."""
    found = []
    for child in parent.get("ContentSequence") or []:
        named = name is None or meaning(child) == name
        if named and (kind is None or child.ValueType == kind):
            found.append(child)
        found += items(child, name, kind)
    return found


def pytest_generate_tests(metafunc):
    if "source" in metafunc.fixturenames:
        metafunc.parametrize("source", NAMES)


@pytest.fixture(scope="module")
def reported(written):
    """reported(name) -> (source, objects with the report, measurements), made once."""
    made = {}

    def get(name):
        if name not in made:
            source = written(name)
            measurements = measure([source.result])
            made[name] = source, objects_of([source.result], measurements), measurements
        return made[name]

    return get


def errors_of(program, path):
    done = subprocess.run([program, path], capture_output=True, text=True, check=False, errors="replace")
    return {line for line in (done.stdout + done.stderr).splitlines() if line.startswith("Error")}


def test_every_source_is_judged(written):
    assert set(NAMES) == set(written.names)


# Judges


def test_dciodvfy_finds_no_error_that_the_source_does_not_have(source, reported, needs, tmp_path):
    program = needs("dciodvfy", "dicom3tools")
    made, objects, _ = reported(source)
    (tmp_path / REPORT).write_bytes(objects[REPORT])
    assert errors_of(program, tmp_path / REPORT) - errors_of(program, made.path) == set()


def test_dciodvfy_does_find_errors(reported, needs, tmp_path):
    _, objects, _ = reported("MR")
    broken = opened(objects[REPORT])
    del broken.CompletionFlag
    broken.save_as(tmp_path / REPORT)
    assert errors_of(needs("dciodvfy", "dicom3tools"), tmp_path / REPORT)


def coded(term):
    return dict(zip(("CodeValue", "CodingSchemeDesignator", "CodeMeaning"), term, strict=True))


def test_dcmqi_reads_equal_values(source, reported, tmp_path):
    pytest.importorskip("dcmqi")
    _, objects, measurements = reported(source)
    (tmp_path / REPORT).write_bytes(objects[REPORT])
    tool = Path(sysconfig.get_path("scripts")) / "tid1500reader"
    arguments = ["--inputDICOM", REPORT, "--outputMetadata", "m.json"]
    done = subprocess.run([tool, *arguments], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    read = json.loads((tmp_path / "m.json").read_text())
    (group,) = read["Measurements"]
    numbers = [
        number for number, label in labels_of(objects, group["segmentationSOPInstanceUID"]) if "consensus" in label
    ]
    assert [group["ReferencedSegment"]] == numbers
    expected = [
        {"value": pytest.approx(value.value, rel=1e-12), "quantity": coded(value.quantity), "units": coded(value.unit)}
        | ({} if value.derivation is None else {"derivationModifier": coded(value.derivation)})
        for value in values_of(measurements[0])
    ]
    assert [each | {"value": float(each["value"])} for each in group["measurementItems"]] == expected


def labels_of(objects, uid):
    """Return number and label of each segment of the SEG with a UID."""
    (found,) = (each for each in map(opened, objects.values()) if each.SOPInstanceUID == uid)
    return [(int(segment.SegmentNumber), str(segment.SegmentLabel)) for segment in found.SegmentSequence]


def test_dcmtk_reads_them(source, reported, needs, tmp_path):
    _, objects, _ = reported(source)
    (tmp_path / REPORT).write_bytes(objects[REPORT])
    done = subprocess.run(
        [needs("dsrdump", "dcmtk"), REPORT], cwd=tmp_path, capture_output=True, text=True, check=False, errors="replace"
    )
    assert done.returncode == 0
    assert "Imaging Measurement Report" in done.stdout
    assert "UNVERIFIED" in done.stdout


def test_highdicom_reads_the_measurements_themselves(source, reported):
    """Every figure of the report is that of the distribution, to the sixth decimal."""
    highdicom = pytest.importorskip("highdicom")
    _, objects, (measurements,) = reported(source)
    report = highdicom.sr.srread(io.BytesIO(objects[REPORT]))
    (group,) = report.content.get_volumetric_roi_measurement_groups()
    found = {
        (each.name.value, None if each.derivation is None else each.derivation.value): (each.value, each.unit.value)
        for each in group.get_measurements()
    }
    assert found.pop(("111012", None)) == (100 * measurements.presence, "%")
    assert found.pop(("samples", None)) == (len(measurements.area), "1")
    for name, (quantity, _, _) in QUANTITIES.items():
        distribution = getattr(measurements, name)
        if distribution is None:
            continue
        values = distribution.present.values
        figures = {
            "373098007": values.mean(), "386136009": values.std(ddof=1), "373099004": np.median(values),
            "371888009": np.percentile(values, 5), "371889001": np.percentile(values, 95),
            "255605001": values.min(), "56851009": values.max(),
        }  # fmt: skip
        unit = UNITS[distribution.unit][0]
        for derivation, figure in figures.items():
            assert found.pop((quantity, derivation)) == (pytest.approx(figure, abs=1e-6), unit)
    assert not found


# What a report says


def test_it_refers_to_the_consensus_and_to_the_source(source, reported):
    made, objects, _ = reported(source)
    report = opened(objects[REPORT])
    (segment,) = items(report, "Referenced Segment")
    (reference,) = segment.ReferencedSOPSequence
    labels = dict(labels_of(objects, reference.ReferencedSOPInstanceUID))
    assert labels[reference.ReferencedSegmentNumber].startswith("nodule")
    assert "consensus" in labels[reference.ReferencedSegmentNumber]
    (image,) = items(report, "Source Image for Segmentation")
    (reference,) = image.ReferencedSOPSequence
    header = made.image.dicom.header
    assert (reference.ReferencedSOPClassUID, reference.ReferencedSOPInstanceUID) == (
        header.SOPClassUID,
        header.SOPInstanceUID,
    )
    assert reference.get("ReferencedFrameNumber") == (made.image.dicom.frame if made.image.dicom.frames > 1 else None)
    assert report.StudyInstanceUID == header.StudyInstanceUID
    assert report.PatientID == header.PatientID


def test_its_series_is_its_own(reported):
    _, objects, _ = reported("MR")
    report = opened(objects[REPORT])
    others = [opened(content) for name, content in objects.items() if name != REPORT]
    assert report.SeriesInstanceUID not in {each.SeriesInstanceUID for each in others}
    assert report.SeriesNumber not in {each.SeriesNumber for each in others}
    assert report.Modality == "SR"


def test_who_says_it_and_how_far_it_is_verified(reported):
    report = opened(reported("MR")[1][REPORT])
    flags = report.CompletionFlag, report.VerificationFlag, report.PreliminaryFlag
    assert flags == ("COMPLETE", "UNVERIFIED", "PRELIMINARY")
    assert "not a medical device" in items(report)[-1].TextValue
    (observer,) = items(report, "Observer Type")
    assert observer.ConceptCodeSequence[0].CodeMeaning == "Device"
    parameters = {item.TextValue.split(" ")[0] for item in items(report, "Algorithm Parameters")}
    assert {"bundle_sha256", "seed", "samples", "sampler", "steps", "threshold"} <= parameters


def test_without_a_spacing_lengths_are_in_pixels(reported):
    _, objects, (measurements,) = reported("US, RGB")
    assert measurements.area.unit == "px"
    units = {
        item.MeasuredValueSequence[0].MeasurementUnitsCodeSequence[0].CodeValue
        for item in items(opened(objects[REPORT]), kind="NUM")
    }
    assert units == {"%", "1", "{pixels}"}


def test_the_codes_are_those_of_the_standard():
    from pydicom.sr.codedict import codes

    known = {
        QUANTITIES["area"]: codes.SCT.Area,
        QUANTITIES["long_axis"]: codes.cid7470.LongAxis,
        QUANTITIES["short_axis"]: codes.cid7470.ShortAxis,
        QUANTITIES["volume"]: codes.cid7469.Volume,
        STATISTICS[0][0]: codes.cid7464.Mean,
        STATISTICS[1][0]: codes.cid7464.StandardDeviation,
        STATISTICS[2][0]: codes.cid7464.Median,
        STATISTICS[3][0]: codes.cid7465._5thPercentileValueOfPopulation,
        STATISTICS[4][0]: codes.cid7465._95thPercentileValueOfPopulation,
        STATISTICS[5][0]: codes.cid7464.Minimum,
        STATISTICS[6][0]: codes.cid7464.Maximum,
        CERTAINTY: codes.cid6048.CertaintyOfFinding,
        UNITS["mm"]: codes.UCUM.Millimeter,
        UNITS["mm2"]: codes.cid7461.SquareMillimeter,
        UNITS["mm3"]: codes.cid7462.CubicMillimeter,
        ARTIFICIAL_INTELLIGENCE: codes.cid7162.ArtificialIntelligence,
        IMAGING_PROCEDURE: codes.cid100.ImagingProcedure,
        DEVICE: codes.DCM.Device,
        COMMENT: codes.DCM.Comment,
    }
    for (value, scheme, text), code in known.items():
        assert (value, scheme, text) == (code.value, code.scheme_designator, code.meaning)
    own = [term for term in QUANTITIES.values() if term[1] == OWN_SCHEME]
    assert [term[0] for term in own] == ["mean-diameter", "sphere-diameter"]


@pytest.fixture
def sized(sources):
    """sized(*sizes, classes=) -> a result whose sample k is a square of so many pixels on a side; 0 for an empty one."""

    def make(*sizes):
        result = toy_segmenter()(read_image(sources("CT_small.dcm")), samples=len(sizes), center=(64, 64))
        masks = np.zeros_like(result.masks)
        for k, size in enumerate(sizes):
            masks[k, 45 : 45 + size, 50 : 50 + size] = True
        return replace(
            result,
            kept_masks=masks,
            consensus=masks.mean(axis=0) >= 0.5,
            confidence=masks.mean(axis=0, dtype=np.float32),
        )

    return make


def figures_of(content):
    """Return {quantity: {derivation: value}} by meaning."""
    found = {}
    for item in items(opened(content), kind="NUM"):
        derivation = [child.ConceptCodeSequence[0].CodeMeaning for child in item.get("ContentSequence", [])]
        of_quantity = found.setdefault(meaning(item), {})
        of_quantity[derivation[0] if derivation else ""] = float(item.MeasuredValueSequence[0].NumericValue)
    return found


def test_figures_are_of_samples_that_are_not_empty(sized):
    found = objects_of([sized(0, 10, 20, 10)])[REPORT]
    figures = figures_of(found)
    pixel = 0.661468**2
    assert figures["Certainty of Finding"][""] == 75
    assert figures["Number of samples"][""] == 4
    assert figures["Area"]["Minimum"] == pytest.approx(100 * pixel, rel=1e-6)
    assert figures["Area"]["Mean"] == pytest.approx(200 * pixel, rel=1e-6)
    assert figures["Area"]["Maximum"] == pytest.approx(400 * pixel, rel=1e-6)
    assert "Statistics over 3 of 4 samples" in items(opened(found), "Comment")[0].TextValue


def test_where_no_sample_marks_anything_there_are_no_statistics(sized, needs, tmp_path):
    content = objects_of([sized(0, 0)])[REPORT]
    assert figures_of(content) == {"Certainty of Finding": {"": 0}, "Number of samples": {"": 2}}
    (tmp_path / REPORT).write_bytes(content)
    assert errors_of(needs("dciodvfy", "dicom3tools"), tmp_path / REPORT) == set()


def test_a_single_sample_has_no_standard_deviation(sized):
    assert "Standard Deviation" not in figures_of(objects_of([sized(10)])[REPORT])["Area"]


def test_a_report_of_a_series_has_the_volume(five_slices, needs, tmp_path):
    segmenter = toy_segmenter()
    results = [segmenter(image, samples=3, center=(64, 64)) for image in read_series(five_slices).around(2, 5)]
    measurements = measure(results)
    content = objects_of(results, measurements)[REPORT]
    figures = figures_of(content)
    volume = measurements[0].volume.present
    assert figures["Volume"]["Median"] == pytest.approx(np.median(volume.values), abs=1e-6)
    assert set(figures) >= {meaning for _, _, meaning in QUANTITIES.values()}
    assert len(items(opened(content), "Source Image for Segmentation")) == 5
    assert "the slice where they are largest" in items(opened(content), "Comment")[0].TextValue
    (tmp_path / REPORT).write_bytes(content)
    assert errors_of(needs("dciodvfy", "dicom3tools"), tmp_path / REPORT) == set()


def test_each_class_has_a_group(sources):
    manifest = toy_manifest(classes=("cyst", "stone"))
    result = toy_segmenter(manifest)(read_image(sources("CT_small.dcm")), samples=3, center=(64, 64))
    objects = objects_of([result])
    groups = items(opened(objects[REPORT]), "Measurement Group")
    assert len(groups) == 2
    for name, group in zip(("cyst", "stone"), groups, strict=True):
        assert items(group, "Tracking Identifier")[0].TextValue.endswith(name)
        (reference,) = items(group, "Referenced Segment")[0].ReferencedSOPSequence
        label = dict(labels_of(objects, reference.ReferencedSOPInstanceUID))[reference.ReferencedSegmentNumber]
        assert label.startswith(name)
        assert "consensus" in label
    assert len({items(group, "Tracking Unique Identifier")[0].UID for group in groups}) == 2


def tracked(content):
    """Return identifier and UID of each group of a report."""
    groups = items(opened(content), "Measurement Group")
    return [
        (items(each, "Tracking Identifier")[0].TextValue, items(each, "Tracking Unique Identifier")[0].UID)
        for each in groups
    ]


@pytest.mark.parametrize("classes", [("nodule",), ("cyst", "stone")], ids=len)
def test_the_segments_of_the_consensus_are_tracked_as_the_groups_are(classes, sources, tmp_path, needs):
    result = toy_segmenter(toy_manifest(classes=classes))(
        read_image(sources("CT_small.dcm")), samples=3, center=(64, 64)
    )
    for pointed in (None, "1.2.3.77"):
        objects = objects_of([result], tracking_uid=pointed)
        segments = opened(objects["consensus.dcm"]).SegmentSequence
        assert tracked(objects[REPORT]) == [(each.TrackingID, each.TrackingUID) for each in segments]
        assert "TrackingUID" not in opened(objects["representatives.dcm"]).SegmentSequence[0]
        for name in ("consensus.dcm", REPORT):
            (tmp_path / name).write_bytes(objects[name])
            assert errors_of(needs("dciodvfy", "dicom3tools"), tmp_path / name) == set()


def test_the_finding_that_was_pointed_at_is_the_finding_of_the_report(sized):
    own, pointed = objects_of([sized(9, 10)]), objects_of([sized(9, 10)], tracking_uid="1.2.3.77")
    assert [uid for _, uid in tracked(pointed[REPORT])] == ["1.2.3.77"]
    for name in ("consensus.dcm", REPORT):  # other content under one UID would be lost in an archive
        for keyword in ("SOPInstanceUID", "SeriesInstanceUID"):
            assert opened(own[name])[keyword].value != opened(pointed[name])[keyword].value
    same = set(own) - {"consensus.dcm", REPORT}
    assert {name: own[name] for name in same} == {name: pointed[name] for name in same}


def test_classes_of_one_finding_are_tracked_over_its_studies(sources):
    segmenter = toy_segmenter(toy_manifest(classes=("cyst", "stone")))

    def uids(**request):
        result = segmenter(read_image(sources("CT_small.dcm")), samples=3, center=(64, 64), **request)
        return [uid for _, uid in tracked(objects_of([result], tracking_uid="1.2.3.77")[REPORT])]

    assert uids() == uids(seed=1)
    assert len({*uids(), "1.2.3.77"}) == 3


@pytest.mark.parametrize(("sizes", "said"), [((9, 0, 0), True), ((0, 0), True), ((9, 10, 0), False)])
def test_an_empty_consensus_is_said(sizes, said, sized):
    (text, _) = (each.TextValue for each in items(opened(objects_of([sized(*sizes)])[REPORT]), "Comment"))
    assert ("The consensus is empty." in text) == said


def test_equal_input_gives_equal_bytes_and_other_input_other_uids(sources):
    segmenter = toy_segmenter()

    def report(**request):
        return objects_of([segmenter(read_image(sources("CT_small.dcm")), samples=3, center=(64, 64), **request)])[
            REPORT
        ]

    assert report() == report()
    one, other = opened(report()), opened(report(seed=1))
    for each in ("SOPInstanceUID", "SeriesInstanceUID"):
        assert one[each].value != other[each].value
    uids = [items(each, "Tracking Unique Identifier")[0].UID for each in (one, other)]
    assert uids[0] != uids[1]


def test_a_report_that_does_not_read_back_is_refused(sized, monkeypatch):
    real = pydicom.dcmread

    def changed(content):
        dataset = real(content)
        for item in items(dataset, "Area")[:1]:
            item.MeasuredValueSequence[0].NumericValue = "1.5"
        return dataset

    result = sized(10, 20)
    monkeypatch.setattr(read_back.pydicom, "dcmread", changed)
    with pytest.raises(OutputError, match="did not read back"):
        objects_of([result])


def test_our_report_does_not_point(reported):
    """It names a segment, not a location: another run cannot take its point from it."""
    with pytest.raises(ValueError, match="no coordinates"):
        read_findings(reported("MR")[1][REPORT])


# Where it is asked for


@pytest.fixture
def infer(run_command, monkeypatch):
    monkeypatch.setattr(Segmenter, "load", lambda *_args, **_kwargs: toy_segmenter())
    return lambda *arguments: run_command(infer_command.main, "medseg-infer", *arguments, "--samples", 3)


def test_the_command_writes_it_beside_the_seg(five_slices, infer, tmp_path):
    code, _, err = infer(five_slices, "--center", "64,64,2", "--slices", 3, "--sr", "--out", tmp_path / "out")
    assert code == 0, err
    folder = tmp_path / "out" / "dicom"
    report = pydicom.dcmread(folder / REPORT)
    (segment,) = items(report, "Referenced Segment")
    written = {str(pydicom.dcmread(path).SOPInstanceUID) for path in folder.iterdir()}
    assert segment.ReferencedSOPSequence[0].ReferencedSOPInstanceUID in written
    assert f"dicom/{REPORT}" in json.loads((tmp_path / "out" / "result.json").read_text())["outputs"]


def test_without_the_option_there_is_none(five_slices, infer, tmp_path):
    assert infer(five_slices, "--center", "64,64,2", "--dicom-seg", "--out", tmp_path / "out")[0] == 0
    assert not (tmp_path / "out" / "dicom" / REPORT).exists()


def test_a_result_saves_it(sized, tmp_path):
    sized(10, 20).save(tmp_path / "out", sr=True)
    assert (tmp_path / "out" / "dicom" / REPORT).exists()


def test_a_picture_has_none(tmp_path):
    result = toy_segmenter()(np.zeros((64, 64), np.uint8), samples=2, center=(9, 9))
    with pytest.raises(ParameterError, match="--sr out"):
        result.save(tmp_path / "out", sr=True)
    assert not (tmp_path / "out").exists()
