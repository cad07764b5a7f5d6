"""An Orthanc of a test's own on the loopback: a PACS with DICOMweb."""

import json
import shutil
import socket
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

PLUGIN = Path("/usr/share/orthanc/plugins/libOrthancDicomWeb.so")


@dataclass(frozen=True, slots=True)
class Orthanc:
    """A running server: its address, and the port of its DICOM listener (AE title ORTHANC)."""

    url: str
    dicom_port: int

    @property
    def dicomweb(self) -> str:
        return f"{self.url}/dicom-web"

    def get(self, path: str) -> bytes:
        return _answer(f"{self.url}{path}")

    def post(self, path: str, content: bytes) -> bytes:
        return _answer(urllib.request.Request(f"{self.url}{path}", data=content, method="POST"))  # noqa: S310

    def store(self, content: bytes) -> str:
        """Store a DICOM file, and return its identifier in Orthanc's own interface."""
        answer = json.loads(self.post("/instances", content))
        assert answer["Status"] == "Success", answer
        return answer["ID"]

    def file(self, sop_instance_uid: str) -> bytes:
        """Return the file that is stored under a SOP Instance UID."""
        (found,) = json.loads(self.post("/tools/lookup", sop_instance_uid.encode()))
        return self.get(f"/instances/{found['ID']}/file")

    def count(self) -> int:
        return json.loads(self.get("/statistics"))["CountInstances"]


@contextmanager
def running(folder: Path, **settings: object) -> Iterator[Orthanc]:
    """Start Orthanc, and stop it at the end.

    folder: for what it stores. settings: further keys of its configuration, such as DicomModalities.
    """
    program = shutil.which("Orthanc") or shutil.which("Orthanc", path="/usr/sbin")
    if program is None:
        pytest.skip("NOT JUDGED: Orthanc is absent; as root: apt-get install orthanc orthanc-dicomweb")
    orthanc = Orthanc(f"http://127.0.0.1:{free_port()}", free_port())
    configuration = {
        "Name": "test", "StorageDirectory": str(folder / "db"), "IndexDirectory": str(folder / "db"),
        "HttpPort": int(orthanc.url.rpartition(":")[2]), "HttpBindAddresses": ["127.0.0.1"], "DicomPort": orthanc.dicom_port,
        "RemoteAccessAllowed": False, "AuthenticationEnabled": False, "DicomAlwaysAllowStore": True,
        "OverwriteInstances": False, "Plugins": [str(PLUGIN)] if PLUGIN.exists() else [], "DicomWeb": {"Enable": True},
    } | settings  # fmt: skip
    (folder / "orthanc.json").write_text(json.dumps(configuration))
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen([program, folder / "orthanc.json"], stdout=log, stderr=log, cwd=folder)
        try:
            _wait_for(process, orthanc, folder / "log")
            yield orthanc
        finally:
            process.terminate()
            process.wait(20)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def _wait_for(process: subprocess.Popen, orthanc: Orthanc, log: Path) -> None:
    while process.poll() is None:
        try:
            orthanc.get("/system")
        except (urllib.error.URLError, ConnectionError):
            time.sleep(0.1)
        else:
            return
    pytest.fail(f"Orthanc ended: {log.read_text(errors='replace')[-500:]}")


def _answer(request: str | urllib.request.Request) -> bytes:
    with urllib.request.urlopen(request) as answer:  # noqa: S310 - our own server
        return answer.read()
