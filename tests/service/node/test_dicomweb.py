"""The DICOMweb client and C-STORE out, with an Orthanc."""

import httpx
import pytest

from medseg_service.errors import RemoteError
from medseg_service.node.config import Archive, Destination, DicomWeb
from medseg_service.node.delivery import deliver
from medseg_service.node.dicomweb import DicomWebClient, _parts
from tests.support import orthanc


@pytest.fixture(scope="module")
def archive(tmp_path_factory):
    with orthanc.running(tmp_path_factory.mktemp("orthanc")) as server:
        yield server


@pytest.fixture
def client(archive):
    with DicomWebClient(DicomWeb(url=archive.dicomweb)) as made:
        yield made


def test_what_is_stored_is_listed_and_comes_back_byte_identical(archive, client, image, as_file):
    source = image(1)
    content = as_file(source)
    for _ in range(2):  # again, which changes nothing
        client.store(source.StudyInstanceUID, {source.SOPInstanceUID: content})
    place = source.StudyInstanceUID, source.SeriesInstanceUID
    assert client.instances(*place) == [source.SOPInstanceUID]
    assert client.series_of(source.StudyInstanceUID, source.SOPInstanceUID) == source.SeriesInstanceUID
    assert client.fetch(*place, source.SOPInstanceUID) == content == archive.file(source.SOPInstanceUID)


def test_what_is_not_there_is_empty(client):
    assert client.instances("1.2.3", "1.2.4") == []
    assert client.series_of("1.2.3", "1.2.5") is None
    with pytest.raises(RemoteError, match="sent 0 objects"):
        client.fetch("1.2.3", "1.2.4", "1.2.5")


def test_what_the_server_does_not_take_is_an_error(client, image, as_file):
    source = image(2)
    with pytest.raises(RemoteError, match=r"answered POST with 4"):
        client.store(source.StudyInstanceUID, {source.SOPInstanceUID: b"no DICOM"})
    with pytest.raises(RemoteError, match="stored 0 of 1 objects"):  # it names another one as stored
        client.store(source.StudyInstanceUID, {"1.2.3": as_file(source)})


@pytest.mark.parametrize(
    ("path", "problem"),
    [("/nothing", "did not answer in DICOM JSON|answered POST with"), (":1/dicom-web", "cannot be reached")],
)
def test_another_server_or_none_is_an_error(archive, image, as_file, path, problem):
    url = "http://127.0.0.1:1/dicom-web" if path.startswith(":") else f"{archive.url}{path}"
    source = image(3)
    with DicomWebClient(DicomWeb(url=url, timeout_s=5)) as client, pytest.raises(RemoteError, match=problem):
        client.store(source.StudyInstanceUID, {source.SOPInstanceUID: as_file(source)})


def test_parts_hold_what_looks_like_their_ends():
    inner = b"\r\n--other--\r\n\r\n--"
    body = b"preamble\r\n--x\r\nContent-Type: application/dicom\r\n\r\n" + inner + b"\r\n--x--\r\n"
    answer = httpx.Response(200, headers={"Content-Type": 'multipart/related; boundary="x"'}, content=body)
    assert list(_parts(answer)) == [inner]


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # pynetdicom leaves a socket open
def test_c_store_out(archive, image, as_file):
    source = image(4)
    files = {"dicom/a.dcm": as_file(source)}
    out = Archive(ae_title="ORTHANC", host="127.0.0.1", port=archive.dicom_port)
    assert deliver(Destination(dicom=out), "MEDSEG", files) == len(files["dicom/a.dcm"])
    assert archive.file(source.SOPInstanceUID)
    wrong = Archive(ae_title="ORTHANC", host="127.0.0.1", port=1, timeout_s=5)
    with pytest.raises(RemoteError, match="cannot be reached"):
        deliver(Destination(dicom=wrong), "MEDSEG", files)


@pytest.mark.parametrize(
    ("status", "reason", "held"), [(409, 0x0111, True), (202, 0x0111, True), (409, 0xA700, False), (202, 0x0110, False)]
)
def test_a_duplicate_has_arrived_and_another_failure_has_not(status, reason, held):
    failed = {"00081155": {"vr": "UI", "Value": ["1.2.3"]}, "00081197": {"vr": "US", "Value": [reason]}}
    answer = httpx.Response(status, json={"00081198": {"vr": "SQ", "Value": [failed]}})
    with DicomWebClient(DicomWeb(url="http://127.0.0.1:1")) as client:
        client._client = httpx.Client(base_url="http://x", transport=httpx.MockTransport(lambda _: answer))
        if held:
            client.store("1.2", {"1.2.3": b""})
        else:
            with pytest.raises(RemoteError, match="stored 0 of 1"):
                client.store("1.2", {"1.2.3": b""})


@pytest.mark.parametrize("status", [401, 403, 500, 503])
def test_a_refusal_is_an_error(status):
    with DicomWebClient(DicomWeb(url="http://127.0.0.1:1")) as client:
        client._client = httpx.Client(
            base_url="http://x", transport=httpx.MockTransport(lambda _: httpx.Response(status))
        )
        with pytest.raises(RemoteError, match=str(status)):
            client.store("1.2", {"1.2.3": b""})
