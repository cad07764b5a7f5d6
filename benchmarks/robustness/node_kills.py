"""Kill medseg-node at random times while jobs run: no job is lost, none gives two results, and the archive holds each object once.

python -m benchmarks.robustness.node_kills --kills 200
"""

from __future__ import annotations

import argparse
import copy
import hashlib
import json
import random
import sys
import tempfile
import time
from collections import Counter, defaultdict
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from threading import Event, Thread
from typing import Any

import httpx
import pydicom
from pydicom.data import get_testdata_file
from pydicom.uid import generate_uid
from pynetdicom import AE

from benchmarks.robustness.node_page import FAULTS
from benchmarks.robustness.node_process import RunningNode, running_node
from tests.support.orthanc import Orthanc, running

OPEN = 24
"""Jobs that are open at any time."""
LONGEST_S = 10.0
"""From the moment that the node listens to its kill: on two busy cores its worker needs 3 s to load the model, and 1 s a job."""
TOML = """
state = "state"
audit = "audit.jsonl"
[dicom]
port = 0
calling_ae_titles = ["KILLER"]
[http]
port = 0
[model]
samples = 4
[destination.dicomweb]
url = "{url}"
[limits]
free_bytes = 0
"""


def main() -> None:
    """Print one line of counts; exit 1 if a job was lost, or gave two results, or an object is not in the archive once."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=200)
    parser.add_argument("--minutes", type=float, default=1e9, help="Kill no more after so long.")
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as name, running(Path(name)) as archive:
        found = kill_often(Path(name), archive, given.kills, given.minutes, random.Random(given.seed))  # noqa: S311 - no secret
    sys.stdout.write(f"{json.dumps(found)}\n")
    sys.exit(any(found[fault] for fault in FAULTS) or not found["jobs"])


def kill_often(folder: Path, archive: Orthanc, kills: int, minutes: float, chance: random.Random) -> Counter[str]:
    """Run, kill and start again; then let the node finish, and count."""
    start, count = time.perf_counter(), 0
    with running_node(folder, TOML.format(url=archive.dicomweb)) as node:
        feeder = Feeder(node)
        feeder.thread.start()
        while count < kills and time.perf_counter() - start < 60 * minutes:
            time.sleep(chance.uniform(0.0, LONGEST_S))
            node.kill()
            count += 1
            sys.stderr.write(f"\r{count} kills")
            node.start()
        feeder.stopping.set()
        feeder.thread.join()
        jobs = {job: _awaited(node, job) for job in feeder.acknowledged}
        node.stop()
    found = _judge(folder, archive, jobs, feeder)
    found["kills"] = count
    found["seconds"] = round(time.perf_counter() - start)
    return found


@dataclass(slots=True)
class Feeder:
    """Sends images by C-STORE and asks for jobs by HTTP, each until it is acknowledged, so that there are always enough."""

    node: RunningNode
    acknowledged: list[str] = field(default_factory=list)
    """Jobs."""
    stored: dict[str, str] = field(default_factory=dict)
    """File in the node's state folder -> SHA-256 of its data set, once C-STORE was answered with 0x0000."""
    unanswered: int = 0
    stopping: Event = field(default_factory=Event)
    thread: Thread = field(init=False)

    def __post_init__(self) -> None:
        self.thread = Thread(target=self._feed, daemon=True)

    def _feed(self) -> None:
        source = pydicom.dcmread(str(get_testdata_file("CT_small.dcm", download=False)))
        while not self.stopping.is_set():
            if self._open_jobs() >= OPEN:
                self.stopping.wait(0.3)
                continue
            image = _variant(source, len(self.acknowledged))
            while not (self._store(image) and self._ask(image)):
                self.unanswered += 1
                time.sleep(0.1)

    def _open_jobs(self) -> int:
        with suppress(httpx.HTTPError):
            text = httpx.get(f"{self.node.url}/metrics", timeout=5).text
            return round(float(text.split("\nmedseg_node_queue_depth ")[1].split()[0]))
        return OPEN

    def _store(self, image: pydicom.Dataset) -> bool:
        entity = AE(ae_title="KILLER")
        entity.add_requested_context(image.SOPClassUID, image.file_meta.TransferSyntaxUID)
        entity.acse_timeout = entity.dimse_timeout = entity.network_timeout = 10
        association = entity.associate("127.0.0.1", self.node.dicom_port, ae_title="MEDSEG")
        if not association.is_established:
            return False
        with suppress(RuntimeError):
            if association.send_c_store(image).get("Status") == 0:
                path = f"state/objects/{image.StudyInstanceUID}/{image.SeriesInstanceUID}/{image.SOPInstanceUID}.dcm"
                self.stored[path] = _hash(image)
                association.release()
                return True
        association.abort()
        return False

    def _ask(self, image: pydicom.Dataset) -> bool:
        body = {
            "study": image.StudyInstanceUID,
            "series": image.SeriesInstanceUID,
            "instance": image.SOPInstanceUID,
            "point_px": [64, 64],
        }
        with suppress(httpx.HTTPError):
            answer = httpx.post(f"{self.node.url}/jobs", json=body, timeout=10)
            if answer.is_success:
                self.acknowledged.append(answer.json()["id"])
                return True
        return False


def _variant(source: pydicom.Dataset, number: int) -> pydicom.Dataset:
    """Return an image of a series of its own."""
    image = copy.deepcopy(source)
    image.SeriesInstanceUID = generate_uid(entropy_srcs=["series", str(number)])
    image.SOPInstanceUID = image.file_meta.MediaStorageSOPInstanceUID = generate_uid(
        entropy_srcs=["image", str(number)]
    )
    return image


def _hash(image: pydicom.Dataset) -> str:
    return hashlib.sha256(image.PixelData + str(image.SOPInstanceUID).encode()).hexdigest()


def _awaited(node: RunningNode, job: str) -> dict[str, Any] | None:
    """Return a job once it has ended; None if the node does not know it."""
    while True:
        answer = httpx.get(f"{node.url}/jobs/{job}", timeout=30)
        if answer.status_code == httpx.codes.NOT_FOUND:
            return None
        found: dict[str, Any] = answer.raise_for_status().json()
        if found["state"] in ("done", "dead"):
            return found
        time.sleep(0.5)


def _judge(folder: Path, archive: Orthanc, jobs: dict[str, dict[str, Any] | None], feeder: Feeder) -> Counter[str]:
    """Compare jobs, audit file, state folder and archive."""
    found = Counter[str](dict.fromkeys(FAULTS, 0))
    ended = [job for job in jobs.values() if job is not None]
    found["jobs"] = len(jobs)
    found["jobs lost"] = len(jobs) - len(ended)
    found["jobs dead"] = sum(job["state"] == "dead" for job in ended)
    published = defaultdict(list)
    for line in (folder / "audit.jsonl").read_text().splitlines():
        record = json.loads(line)
        if record["event"] == "publishing":
            published[record["run_id"]].append(record["outputs"])
    found["jobs sent more than once"] = sum(len(outputs) > 1 for outputs in published.values())
    found["jobs with two results"] = sum(any(each != outputs[0] for each in outputs) for outputs in published.values())
    found["requests without an answer"] = feeder.unanswered
    found["objects acknowledged"] = len(feeder.stored)
    for name, sha256 in feeder.stored.items():
        path = folder / name
        found["objects lost after an answer"] += not path.exists() or _hash(pydicom.dcmread(path)) != sha256
    _judge_archive(archive, ended, found)
    return found


def _judge_archive(archive: Orthanc, ended: list[dict[str, Any]], found: Counter[str]) -> None:
    """Compare what the archive holds with what the jobs say that they made."""
    made = Counter(sha256 for job in ended for sha256 in (job["outputs"] or {}).values())
    keys = json.loads(archive.get("/instances"))
    held = Counter(hashlib.sha256(archive.get(f"/instances/{key}/file")).hexdigest() for key in keys)
    found["objects in the archive"] = held.total()
    found["objects missing in the archive"] = (made - held).total()
    found["objects that nobody made"] = (held - made).total()
    found["objects that differ in the archive"] = sum(count > 1 for count in held.values())


if __name__ == "__main__":
    main()
