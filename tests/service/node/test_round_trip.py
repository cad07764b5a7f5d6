"""A whole node between a sender and an Orthanc: each object arrives once, whatever happens to the node."""

import copy
import hashlib
import json
import os
import shutil
import signal
import time
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest

from benchmarks.robustness.node_process import running_node
from medseg_runtime.model.bundle import SHIPPED
from tests.runtime.canary import marked_ct, marks_in
from tests.runtime.dicom.structured_reports import as_dataset, by_highdicom
from tests.support import orthanc

pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore::UserWarning"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
]
TOML = """
state = "state"
audit = "audit.jsonl"
[dicom]
port = 0
calling_ae_titles = ["PACS"]
[http]
port = 0
[model]
samples = 4
{bundle}
slices = {slices}
[destination.dicomweb]
url = "{url}"
{more}
[limits]
free_bytes = 0
idle_s = 0.5
backoff_s = 0.2
job_s = {job_s}
"""
PATIENCE_S = 120


@pytest.fixture
def archive(tmp_path):
    with orthanc.running(tmp_path) as server:
        yield server


@pytest.fixture
def node(tmp_path, archive):
    """node(slices=, more=, job_s=) -> a running node that sends to the archive."""
    pytest.importorskip("onnxruntime")

    @contextmanager
    def run(*, slices=1, more="", job_s=100.0, bundle=None):
        text = TOML.format(
            url=archive.dicomweb, slices=slices, more=more, job_s=job_s, bundle=f'bundle = "{bundle}"' if bundle else ""
        )
        with running_node(tmp_path, text) as running:
            yield running

    return run


def send(peer, node, *datasets):
    with peer(node.dicom_port) as association:
        assert [association.send_c_store(dataset).Status for dataset in datasets] == [0] * len(datasets)


def ask(node, image, x=64.0, y=64.0):
    body = {"study": image.StudyInstanceUID, "series": image.SeriesInstanceUID, "instance": image.SOPInstanceUID}
    return httpx.post(f"{node.url}/jobs", json=body | {"point_px": [x, y]}, timeout=60).json()["id"]


def shown(node, job):
    return httpx.get(f"{node.url}/jobs/{job}", timeout=60).json()


def awaited(node, job, *states):
    deadline = time.monotonic() + PATIENCE_S
    while (found := shown(node, job))["state"] not in (states or ("done", "dead")):
        assert time.monotonic() < deadline, found
        time.sleep(0.05)
    return found


def held(archive):
    """The objects of an archive, by their hash."""
    keys = json.loads(archive.get("/instances"))
    return sorted(hashlib.sha256(archive.get(f"/instances/{key}/file")).hexdigest() for key in keys)


def measurements_in(archive):
    """The one report of measurements in an archive."""
    series = json.loads(archive.get("/series?expand"))
    (report,) = (each for each in series if each["MainDicomTags"]["Modality"] == "SR")
    return archive.get(f"/instances/{report['Instances'][0]}/file")


def only_job(tmp_path):
    (line,) = (line for line in audit(tmp_path) if line["event"] == "accepted")
    return line["run_id"]


def audit(tmp_path):
    path = tmp_path / "audit.jsonl"
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def test_an_image_and_a_report_that_points_become_objects_in_the_archive_once(node, archive, peer, image, tmp_path):
    report = as_dataset(by_highdicom(image(), x=64, y=64))
    with node() as running:
        send(peer, running, report, image())  # the report may come first
        job = only_job(tmp_path)
        outputs = awaited(running, job)["outputs"]
        assert held(archive) == sorted(outputs.values())
        assert b"1.2.3.77" in measurements_in(archive)  # the tracking UID of the finding
        send(peer, running, report)
        assert awaited(running, job, "received", "queued", "running", "sending")["outputs"] is None
        assert awaited(running, job)["outputs"] == outputs
        assert held(archive) == sorted(outputs.values())
        log = running.log.read_text()
    assert "CompressedSamples" not in log  # the patient's name
    assert [line["event"] for line in audit(tmp_path)] == ["accepted", "publishing", "ended"] * 2
    assert "CompressedSamples" not in (tmp_path / "audit.jsonl").read_text()
    private = [path for path in (tmp_path / "state").rglob("*") if path.stat().st_mode & 0o077]
    assert private == []


def test_images_are_fetched_and_a_series_is_segmented_around_the_point(node, archive, peer, image, as_file, tmp_path):
    slices = [
        image(
            SOPInstanceUID=f"1.2.3.{z}",
            ImagePositionPatient=[-158.1, -179.0, -75.7 + 5 * z],
            InstanceNumber=z,
        )
        for z in range(5)
    ]
    for each in slices:
        archive.store(as_file(each))
    report = as_dataset(by_highdicom(slices[2], x=64, y=64))
    with node(slices=3, more=f'[source]\nurl = "{archive.dicomweb}"') as running:
        send(peer, running, report)
        done = awaited(running, only_job(tmp_path))
    assert done["state"] == "done", done
    result = json.loads(next((tmp_path / "state" / "results").rglob("result.json")).read_text())
    assert len(result["input"]["slices_sha256"]) == 3
    assert archive.count() == 5 + len(done["outputs"])


def test_a_killed_node_goes_on_where_it_was(node, archive, peer, image, tmp_path):
    images = [image(number) for number in range(4)]
    with node() as running:
        send(peer, running, *images)
        jobs = [ask(running, each) for each in images]
        awaited(running, jobs[0], "running", "sending", "done")
        for _ in range(3):
            running.kill()
            running.start()
            time.sleep(0.5)
        done = [awaited(running, job) for job in jobs]
    assert [each["state"] for each in done] == ["done"] * 4
    assert held(archive) == sorted(sha256 for each in done for sha256 in each["outputs"].values())
    published = {}
    for line in audit(tmp_path):
        if line["event"] == "publishing":
            assert published.setdefault(line["run_id"], line["outputs"]) == line["outputs"]


def test_sigterm_finishes_the_job_under_way(node, archive, peer, image, tmp_path):
    with node() as running:
        send(peer, running, image())
        job = ask(running, image())
        awaited(running, job, "running", "sending", "done")
        running.stop()
        assert "stopping" in running.log.read_text()
        running.start()
        assert awaited(running, job)["state"] == "done"
    assert archive.count() == len(shown_outputs(tmp_path))


def shown_outputs(tmp_path):
    return next(line["outputs"] for line in audit(tmp_path) if line["event"] == "ended")


def worker_of(node):
    children = Path(f"/proc/{node.pid}/task/{node.pid}/children").read_text().split()
    tasks = Path(f"/proc/{node.pid}/task").iterdir()
    children += [child for task in tasks for child in (task / "children").read_text().split()]
    return int(children[0])


def test_a_job_that_kills_its_worker_goes_to_the_dead_letters_and_others_go_on(node, archive, peer, image, tmp_path):
    with node() as running:
        poison, other = image(1), image(2)
        send(peer, running, poison, other)
        bad, good = ask(running, poison), None
        for _ in range(2):
            awaited(running, bad, "running")
            os.kill(worker_of(running), signal.SIGKILL)
            good = good or ask(running, other)
            time.sleep(0.3)
        assert awaited(running, bad)["state"] == "dead"
        done = awaited(running, good)
        assert done["state"] == "done"
        metrics = httpx.get(f"{running.url}/metrics").text
    letter = json.loads((tmp_path / "state" / "dead" / bad / "reason.json").read_text())
    assert "ended by SIGKILL" in letter["problem"]
    assert "medseg_node_worker_deaths_total 2.0" in metrics
    assert archive.count() == len(done["outputs"])


def test_an_archive_that_is_away_is_tried_again(peer, image, tmp_path):
    with orthanc.running(tmp_path) as late:
        pass  # its port is free now
    text = TOML.format(url=late.dicomweb, slices=1, more="", job_s=100, bundle="")
    folder = tmp_path / "node"
    folder.mkdir()
    with running_node(folder, text) as running:
        send(peer, running, image())
        job = ask(running, image())
        while not (shown(running, job)["attempts"] and shown(running, job)["state"] == "sending"):
            time.sleep(0.1)
        assert shown(running, job)["reason"]["error"] == "RemoteError"


@pytest.fixture
def whole_image_bundle(tmp_path):
    """The included model, said to see whole images: its masks mean nothing."""
    bundle = shutil.copytree(SHIPPED, tmp_path / "bundle")
    manifest = json.loads((bundle / "bundle.json").read_text())
    manifest["input"] |= {"geometry": "resize", "context": 0}
    (bundle / "bundle.json").write_text(json.dumps(manifest))
    return bundle


def test_a_rule_segments_a_series_once_it_is_complete_and_again_with_a_late_slice(
    node, archive, peer, image, tmp_path, whole_image_bundle
):
    def at(z):
        place = [-158.1, -179.0, -75.7 + 5 * z]
        return image(SOPInstanceUID=f"1.2.3.{z}", ImagePositionPatient=place, InstanceNumber=z, SliceLocation=z)

    def slices():
        result = json.loads(next((tmp_path / "state" / "results").rglob("result.json")).read_text())
        return len(result["input"]["slices_sha256"])

    with node(bundle=whole_image_bundle, more='[[rules]]\nmodality = "CT"') as running:
        send(peer, running, *map(at, range(3)))
        job = only_job(tmp_path)
        assert awaited(running, job)["state"] == "done"
        assert slices() == 3
        send(peer, running, at(3))
        awaited(running, job, "received", "queued", "running", "sending")
        assert awaited(running, job)["state"] == "done"
        assert slices() == 4
        outputs = shown(running, job)["outputs"]
    assert set(outputs.values()) <= set(held(archive))


def test_nothing_of_a_header_is_in_log_audit_metrics_and_answers(node, peer, tmp_path):
    marked = marked_ct()[0]
    marked.file_meta.MediaStorageSOPInstanceUID = marked.SOPInstanceUID
    other = copy.deepcopy(marked)
    other.SOPInstanceUID = other.file_meta.MediaStorageSOPInstanceUID = "1.2.3"
    other.Rows = 3  # and so its pixels are not those of an image
    with node() as running:
        send(peer, running, marked, other)
        jobs = [ask(running, each) for each in (marked, other)]
        states = [awaited(running, job)["state"] for job in jobs]
        answers = [json.dumps(shown(running, job)) for job in jobs]
        metrics = httpx.get(f"{running.url}/metrics", timeout=60).text
        log = running.log.read_text()
    assert states == ["done", "dead"]
    texts = {
        "log": log,
        "audit.jsonl": (tmp_path / "audit.jsonl").read_text(),
        "metrics": metrics,
        "a.json": answers[0],
        "d.json": answers[1],
    }
    assert {name: found for name, text in texts.items() if (found := marks_in(name, text.encode()))} == {}
