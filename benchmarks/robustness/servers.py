"""An archive and a node of our own, on the loopback, for as long as a block runs."""

from __future__ import annotations

import json
import re
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx

PLUGIN = Path("/usr/share/orthanc/plugins/libOrthancDicomWeb.so")
START_S = 60.0
NODE = "from medseg_service.node.cli import main; main()"


def free_port() -> int:
    """Return a port that nothing listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@dataclass(frozen=True, kw_only=True, slots=True)
class Orthanc:
    """A running Orthanc."""

    url: str
    dicom_port: int
    log: Path

    @property
    def dicomweb(self) -> str:
        """The URL of its DICOMweb service."""
        return f"{self.url}/dicom-web"

    def get(self, path: str) -> Any:
        """Return what its REST API answers."""
        return httpx.get(f"{self.url}{path}", timeout=60).raise_for_status().json()

    def instances(self) -> dict[str, bytes]:
        """Return every instance that it holds: SOP Instance UID -> file."""
        found = {}
        for key in self.get("/instances"):
            uid = self.get(f"/instances/{key}/simplified-tags")["SOPInstanceUID"]
            assert uid not in found, "an archive that holds an instance twice"
            found[uid] = httpx.get(f"{self.url}/instances/{key}/file", timeout=60).content
        return found


def orthanc_program() -> str | None:
    """Return the Orthanc of the system, if it is installed with its DICOMweb plugin."""
    found = shutil.which("Orthanc") or shutil.which("Orthanc", path="/usr/sbin")
    return found if PLUGIN.exists() else None


@contextmanager
def running_orthanc(folder: Path, **settings: Any) -> Iterator[Orthanc]:
    """Run an Orthanc with an empty database in a folder. settings: of its configuration, besides the usual ones."""
    program = orthanc_program()
    assert program is not None, "apt-get install orthanc orthanc-dicomweb"
    web, dicom = free_port(), free_port()
    configuration = {
        "StorageDirectory": str(folder / "orthanc-db"), "IndexDirectory": str(folder / "orthanc-db"),
        "HttpPort": web, "DicomPort": dicom, "HttpBindAddresses": ["127.0.0.1"], "RemoteAccessAllowed": False,
        "AuthenticationEnabled": False, "DicomAlwaysAllowStore": True, "OverwriteInstances": False,
        "Plugins": [str(PLUGIN)], "DicomWeb": {"Enable": True}, "Name": "test",
    } | settings  # fmt: skip
    (folder / "orthanc.json").write_text(json.dumps(configuration))
    log = folder / "orthanc.log"
    with log.open("wb") as output:
        process = subprocess.Popen([program, folder / "orthanc.json"], stdout=output, stderr=output, cwd=folder)
        try:
            url = f"http://127.0.0.1:{web}"
            _await_http(f"{url}/system", process, log)
            yield Orthanc(url=url, dicom_port=dicom, log=log)
        finally:
            process.terminate()
            process.wait(20)


@dataclass(kw_only=True, slots=True)
class RunningNode:
    """A node as a process, with the ports that it took."""

    config: Path
    log: Path
    process: subprocess.Popen[bytes] = field(init=False)
    dicom_port: int = 0
    url: str = ""

    def start(self) -> None:
        """Start it, and wait until it listens."""
        with self.log.open("ab") as output:
            begin = output.tell()
            self.process = subprocess.Popen([sys.executable, "-c", NODE, "--config", self.config], stderr=output)
        deadline = time.monotonic() + START_S
        while time.monotonic() < deadline and self.process.poll() is None:
            said = self.log.read_bytes()[begin:].decode(errors="replace")
            if found := re.search(r"DICOM on \S+ port (\d+) .*\n.*HTTP on (\S+)\n", said):
                self.dicom_port, self.url = int(found[1]), found[2]
                return
            time.sleep(0.02)
        self.kill()
        raise RuntimeError(f"the node did not start: {self.log.read_text(errors='replace')[-800:]}")

    def kill(self) -> None:
        """End it with SIGKILL."""
        self.process.kill()
        self.process.wait()

    def stop(self) -> int:
        """End it with SIGTERM, and return its exit status."""
        self.process.terminate()
        return self.process.wait(120)

    def is_ready(self) -> bool:
        """Tell whether it has loaded the model."""
        return httpx.get(f"{self.url}/health/ready").status_code == httpx.codes.OK


@contextmanager
def running_node(folder: Path, toml: str) -> Iterator[RunningNode]:
    """Run a node with a configuration, which is written into a folder; killed at the end of the block if it still runs."""
    (folder / "node.toml").write_text(toml)
    node = RunningNode(config=folder / "node.toml", log=folder / "node.log")
    node.start()
    try:
        yield node
    finally:
        if node.process.poll() is None:
            node.kill()


def _await_http(url: str, process: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + START_S
    while time.monotonic() < deadline and process.poll() is None:
        try:
            httpx.get(url)
        except httpx.TransportError:
            time.sleep(0.1)
        else:
            return
    raise RuntimeError(f"it did not start: {log.read_text(errors='replace')[-500:]}")
