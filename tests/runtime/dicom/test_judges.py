"""Independent judges of the DICOM objects that we write: dciodvfy, dcmqi, SimpleITK, highdicom and Orthanc."""

import io
import json
import shutil
import socket
import subprocess
import sysconfig
import time
import urllib.error
import urllib.request
import warnings
from pathlib import Path

import numpy as np
import pydicom
import pytest


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


NAMES = (
    "CT, big endian rescale", "CT, JPEG 2000", "CT, tiny", "MR", "MR, JPEG-LS", "MR, RLE", "MR, overlays",
    "enhanced CT, frame 1", "enhanced CT, frame 2", "US, RGB", "US, palette", "US, JPEG 2000", "US multi-frame, frame 7",
    "CR 1", "CR 2", "CR, large", "SC, RGB", "SC, NM", "SC, deflated",
)  # fmt: skip


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
    broken = pydicom.dcmread(io.BytesIO(written("MR").objects["segmentation.dcm"]))
    del broken.SegmentSequence
    broken.save_as(tmp_path / "broken.dcm")
    assert dciodvfy_errors(needs("dciodvfy", "dicom3tools"), tmp_path / "broken.dcm")


def test_highdicom_reads_equal_masks(source, written):
    highdicom = pytest.importorskip("highdicom")
    made = written(source)
    seg = highdicom.seg.segread(io.BytesIO(made.objects["segmentation.dcm"]))
    frames = seg.get_stored_frames()
    expected = [made.result.consensus, *made.result.masks]
    assert seg.number_of_segments == len(expected)
    for number, mask in enumerate(expected, start=1):
        np.testing.assert_array_equal(frames[number - 1], mask, err_msg=f"segment {number}")
        assert seg.get_segment_description(number).algorithm_type.value == "SEMIAUTOMATIC"
    confidence = highdicom.seg.segread(io.BytesIO(made.objects["confidence.dcm"]))
    shares = confidence.get_stored_frames()[0] / confidence.MaximumFractionalValue
    np.testing.assert_allclose(shares, made.result.confidence, atol=1e-7)


WITH_GEOMETRY = tuple(name for name in NAMES if name.startswith(("CT", "MR", "enhanced")))


@pytest.mark.parametrize("name", WITH_GEOMETRY)
def test_dcmqi_reads_equal_masks_and_geometry(name, written, tmp_path):
    itk = pytest.importorskip("SimpleITK")
    pytest.importorskip("dcmqi")
    made = written(name)
    (tmp_path / "seg.dcm").write_bytes(made.objects["segmentation.dcm"])
    tool = Path(sysconfig.get_path("scripts")) / "segimage2itkimage"
    arguments = ["--inputDICOM", "seg.dcm", "--outputDirectory", ".", "--outputType", "nrrd", "--prefix", "s"]
    done = subprocess.run([tool, *arguments], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    for number, mask in enumerate([made.result.consensus, *made.result.masks], start=1):
        volume = itk.ReadImage(str(tmp_path / f"s-{number}.nrrd"))
        np.testing.assert_array_equal(itk.GetArrayFromImage(volume)[0] > 0, mask)
        has_geometry(volume, made.image.dicom.plane)


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
    """An Orthanc of our own on the loopback, and its two addresses: (URL, DICOM port)."""
    program = shutil.which("Orthanc") or shutil.which("Orthanc", path="/usr/sbin")
    if program is None:
        pytest.skip("NOT JUDGED: Orthanc is absent; as root: apt-get install orthanc orthanc-dicomweb")
    folder = tmp_path_factory.mktemp("orthanc")
    web, dicom = free_port(), free_port()
    plugin = Path("/usr/share/orthanc/plugins/libOrthancDicomWeb.so")
    configuration = {
        "Name": "test", "StorageDirectory": str(folder / "db"), "IndexDirectory": str(folder / "db"),
        "HttpPort": web, "DicomPort": dicom, "HttpBindAddresses": ["127.0.0.1"], "RemoteAccessAllowed": False,
        "AuthenticationEnabled": False, "DicomAlwaysAllowStore": True, "OverwriteInstances": False,
        "Plugins": [str(plugin)] if plugin.exists() else [], "DicomWeb": {"Enable": True},
    }  # fmt: skip
    (folder / "orthanc.json").write_text(json.dumps(configuration))
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen([program, folder / "orthanc.json"], stdout=log, stderr=log, cwd=folder)
        try:
            url = f"http://127.0.0.1:{web}"
            while process.poll() is None:
                try:
                    get(f"{url}/system")
                    break
                except (urllib.error.URLError, ConnectionError):
                    time.sleep(0.1)
            else:
                pytest.fail(f"Orthanc ended: {(folder / 'log').read_text(errors='replace')[-500:]}")
            yield url, dicom
        finally:
            process.terminate()
            process.wait(20)


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def get(url):
    with urllib.request.urlopen(url) as answer:  # noqa: S310 - our own server
        return answer.read()


def test_orthanc_takes_every_object_and_gives_it_back_byte_identical(orthanc, written):
    url, _ = orthanc
    objects = [(name, kind, content) for name in NAMES for kind, content in written(name).objects.items()]
    assert len(objects) >= 34
    for name, kind, content in objects:
        request = urllib.request.Request(f"{url}/instances", data=content, method="POST")  # noqa: S310
        answer = json.loads(get(request))
        assert answer["Status"] == "Success", (name, kind)
        assert get(f"{url}/instances/{answer['ID']}/file") == content, (name, kind)
    assert json.loads(get(f"{url}/statistics"))["CountInstances"] == len(objects)


def test_orthanc_takes_them_over_the_network_too(orthanc, write, sources):
    pynetdicom = pytest.importorskip("pynetdicom")
    url, port = orthanc
    objects = [
        pydicom.dcmread(io.BytesIO(content))
        for content in write(sources("CT_small.dcm"), samples=3, seed=5).objects.values()
    ]
    entity = pynetdicom.AE(ae_title="MEDSEG")
    for dataset in objects:
        entity.add_requested_context(dataset.SOPClassUID, dataset.file_meta.TransferSyntaxUID)
    association = entity.associate("127.0.0.1", port, ae_title="ORTHANC")
    assert association.is_established
    try:
        assert [association.send_c_store(dataset).Status for dataset in objects] == [0x0000] * 3
    finally:
        association.release()
    for dataset in objects:
        request = urllib.request.Request(  # noqa: S310
            f"{url}/tools/lookup", data=str(dataset.SOPInstanceUID).encode(), method="POST"
        )
        (found,) = json.loads(get(request))
        assert pydicom.dcmread(io.BytesIO(get(f"{url}/instances/{found['ID']}/file"))) == dataset
