"""The worker as a process: what it answers, and how it ends."""

import pytest

from medseg_runtime.errors import BackendError
from medseg_service.node.job import Order
from medseg_service.node.object_store import parse_object
from medseg_service.node.worker_process import JobFailed, WorkerDied, WorkerProcess

TOML = """
state = "state"
[dicom]
calling_ae_titles = ["PACS"]
[destination.dicomweb]
url = "http://127.0.0.1:1/dicom-web"
[model]
samples = 2
{more}
"""


@pytest.fixture
def worker(tmp_path):
    """worker(more="") -> a worker with this configuration of its model."""
    pytest.importorskip("onnxruntime")
    made = []

    def make(more=""):
        (tmp_path / "node.toml").write_text(TOML.format(more=more))
        made.append(WorkerProcess(tmp_path / "node.toml"))
        return made[-1]

    yield make
    for each in made:
        each.stop()


@pytest.fixture
def kept(objects, image, as_file):
    """An image in the store, and an order that points into it."""
    received = parse_object(as_file(image()))
    objects.save(received)
    place = {"study": received.study, "series": received.series, "instance": received.instance}
    return objects.path(received.study, received.series), Order(origin="rest", center=(64.0, 64.0), **place)


def test_a_job_gives_the_same_objects_again_and_after_an_error(worker, kept, tmp_path):
    series, order = kept
    made = worker()
    first = made.segment(order, series, tmp_path / "out", 100)
    assert made.ready
    with pytest.raises(JobFailed, match="file cannot be read") as caught:
        made.segment(order, tmp_path / "nowhere", tmp_path / "other", 100)
    assert caught.value.permanent
    again = made.segment(order, series, tmp_path / "out", 100)
    assert again["outputs"] == first["outputs"]
    assert (first["images"], len(first["agreement"])) == (1, 1)
    assert sorted(first["outputs"]) == sorted(f"dicom/{path.name}" for path in (tmp_path / "out" / "dicom").iterdir())


def test_a_job_that_takes_too_long_is_ended_and_the_next_one_is_done(worker, kept, tmp_path):
    series, order = kept
    made = worker()
    made.start()
    with pytest.raises(WorkerDied, match="it took more than"):
        made.segment(order, series, tmp_path / "out", 1e-3)
    assert not made.ready
    assert made.segment(order, series, tmp_path / "out", 100)["images"] == 1


def test_a_worker_ends_when_the_node_is_gone(worker):
    made = worker()
    made.start()
    made._process.stdin.close()  # as the system does for a node that is killed
    assert made._process.wait(20) == 0


def test_a_model_that_cannot_be_loaded_is_named(worker):
    with pytest.raises(BackendError, match="bundle"):
        worker('bundle = "none"').start()


def test_a_stopped_worker_does_not_start_again(worker):
    made = worker()
    made.stop()
    with pytest.raises(WorkerDied, match="stopped"):
        made.start()
