"""Independent judges of the DICOM objects that we write: dciodvfy, dcmqi, SimpleITK, highdicom and Orthanc."""

import io
import json
import subprocess
import sysconfig
import warnings
from pathlib import Path

import numpy as np
import pydicom
import pytest

from medseg_runtime.writers.dicom.colors import sample_color
from tests.runtime.dicom.source_names import NAMES
from tests.support.orthanc import running


@pytest.fixture(autouse=True)
def _other_peoples_warnings():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def dciodvfy_errors(program, path):
    done = subprocess.run([program, path], capture_output=True, text=True, check=False, errors="replace")
    return {line for line in (done.stdout + done.stderr).splitlines() if line.startswith("Error")}


def pytest_generate_tests(metafunc):
    if "source" in metafunc.fixturenames:
        metafunc.parametrize("source", NAMES)


def test_every_source_is_judged(written):
    assert set(NAMES) == set(written.names)
    assert len(NAMES) >= 12


def test_dciodvfy_finds_no_error_that_the_source_does_not_have(source, written, needs, tmp_path):
    program = needs("dciodvfy", "dicom3tools")
    made = written(source)
    excused = dciodvfy_errors(program, made.path)
    for name, content in made.objects.items():
        path = tmp_path / name
        path.write_bytes(content)
        assert dciodvfy_errors(program, path) - excused == set(), name


def test_dciodvfy_does_find_errors(written, needs, tmp_path):
    broken = pydicom.dcmread(io.BytesIO(written("MR").objects["consensus.dcm"]))
    del broken.SegmentSequence
    broken.save_as(tmp_path / "broken.dcm")
    assert dciodvfy_errors(needs("dciodvfy", "dicom3tools"), tmp_path / "broken.dcm")


def binary_masks(made):
    return {
        "consensus.dcm": made.result.consensus[None],
        "representatives.dcm": made.result.masks[made.chosen.samples],
    }


def test_highdicom_reads_equal_masks(source, written):
    highdicom = pytest.importorskip("highdicom")
    made = written(source)
    for name, expected in binary_masks(made).items():
        seg = highdicom.seg.segread(io.BytesIO(made.objects[name]))
        frames = seg.get_stored_frames()
        assert seg.number_of_segments == len(expected)
        for number, mask in enumerate(expected, start=1):
            np.testing.assert_array_equal(frames[number - 1], mask, err_msg=f"{name}, segment {number}")
            assert seg.get_segment_description(number).algorithm_type.value == "SEMIAUTOMATIC"
    confidence = highdicom.seg.segread(io.BytesIO(made.objects["confidence.dcm"]))
    shares = confidence.get_stored_frames()[0] / confidence.MaximumFractionalValue
    np.testing.assert_allclose(shares, made.result.confidence, atol=1e-7)


WITH_GEOMETRY = tuple(name for name in NAMES if name.startswith(("CT", "MR", "enhanced")))


def run_dcmqi(content, folder, *options):
    """Let dcmqi write each segment as a volume, {number}.nrrd, and what it says of the segments, which is returned."""
    pytest.importorskip("dcmqi")
    (folder / "seg.dcm").write_bytes(content)
    tool = Path(sysconfig.get_path("scripts")) / "segimage2itkimage"
    arguments = ["--inputDICOM", "seg.dcm", "--outputDirectory", ".", "--outputType", "nrrd", *options]
    done = subprocess.run([tool, *arguments], cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return json.loads((folder / "meta.json").read_text())


@pytest.mark.parametrize("kind", ["consensus.dcm", "representatives.dcm"])
@pytest.mark.parametrize("name", WITH_GEOMETRY)
def test_dcmqi_reads_equal_masks_and_geometry(name, kind, written, tmp_path):
    itk = pytest.importorskip("SimpleITK")
    made = written(name)
    run_dcmqi(made.objects[kind], tmp_path)
    for number, mask in enumerate(binary_masks(made)[kind], start=1):
        volume = itk.ReadImage(str(tmp_path / f"{number}.nrrd"))
        np.testing.assert_array_equal(itk.GetArrayFromImage(volume)[0] > 0, mask)
        has_geometry(volume, made.image.dicom.plane)


def test_slicer_finds_what_it_shows(written, tmp_path):
    """Its DICOMSegmentationPlugin runs dcmqi with mergeSegments, and takes these keys of each segment without asking if they are there."""
    made = written("CT, big endian rescale")
    groups = run_dcmqi(made.objects["representatives.dcm"], tmp_path, "--mergeSegments")["segmentAttributes"]
    assert len(groups) == len(list(tmp_path.glob("*.nrrd")))
    segments = [segment for group in groups for segment in group]
    assert len(segments) == len(made.chosen)
    for segment in segments:
        assert {
            "labelID", "SegmentLabel", "SegmentDescription", "recommendedDisplayRGBValue", "SegmentAlgorithmType",
            "SegmentAlgorithmName", "SegmentedPropertyCategoryCodeSequence", "SegmentedPropertyTypeCodeSequence",
        } <= set(segment)  # fmt: skip
    assert len({segment["SegmentLabel"] for segment in segments}) == len(segments)
    assert all(segment["SegmentDescription"].startswith("Sample ") for segment in segments)
    colors = {tuple(segment["recommendedDisplayRGBValue"]) for segment in segments}
    expected = [sample_color(number) for number in range(len(segments))]
    np.testing.assert_allclose(sorted(colors), sorted(expected), atol=3)  # by way of CIELab


@pytest.mark.parametrize("name", WITH_GEOMETRY)
def test_simpleitk_reads_equal_confidence_and_geometry(name, written, tmp_path):
    itk = pytest.importorskip("SimpleITK")
    made = written(name)
    (tmp_path / "confidence.dcm").write_bytes(made.objects["confidence.dcm"])
    volume = itk.ReadImage(str(tmp_path / "confidence.dcm"))
    np.testing.assert_allclose(itk.GetArrayFromImage(volume)[0] / 252, made.result.confidence, atol=1e-7)
    has_geometry(volume, made.image.dicom.plane)


def has_geometry(volume, plane):
    np.testing.assert_allclose(volume.GetOrigin(), plane.position, atol=1e-3)
    np.testing.assert_allclose(volume.GetSpacing()[:2], plane.spacing_mm[::-1], atol=1e-5)
    direction = np.reshape(volume.GetDirection(), (3, 3))
    np.testing.assert_allclose(direction[:, 0], plane.along_row, atol=1e-4)
    np.testing.assert_allclose(direction[:, 1], plane.along_column, atol=1e-4)


@pytest.fixture(scope="module")
def orthanc(tmp_path_factory):
    with running(tmp_path_factory.mktemp("orthanc")) as server:
        yield server


def test_orthanc_takes_every_object_and_gives_it_back_byte_identical(orthanc, written):
    objects = [(name, kind, content) for name in NAMES for kind, content in written(name).objects.items()]
    assert len(objects) == 4 * len(NAMES)
    for name, kind, content in objects:
        assert orthanc.get(f"/instances/{orthanc.store(content)}/file") == content, (name, kind)
    assert orthanc.count() == len(objects)


def test_orthanc_takes_them_over_the_network_too(orthanc, write, sources):
    pynetdicom = pytest.importorskip("pynetdicom")
    objects = [
        pydicom.dcmread(io.BytesIO(content))
        for content in write(sources("CT_small.dcm"), samples=3, seed=5).objects.values()
    ]
    entity = pynetdicom.AE(ae_title="MEDSEG")
    for dataset in objects:
        entity.add_requested_context(dataset.SOPClassUID, dataset.file_meta.TransferSyntaxUID)
    association = entity.associate("127.0.0.1", orthanc.dicom_port, ae_title="ORTHANC")
    assert association.is_established
    try:
        assert [association.send_c_store(dataset).Status for dataset in objects] == [0x0000] * len(objects)
    finally:
        association.release()
    for dataset in objects:
        assert pydicom.dcmread(io.BytesIO(orthanc.file(dataset.SOPInstanceUID))) == dataset
