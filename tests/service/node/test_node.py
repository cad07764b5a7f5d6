"""What the node does with jobs whose images or reports are not what they should be."""

import os

import pytest

from medseg_runtime.errors import ParameterError
from medseg_service.node.config import NodeConfig
from medseg_service.node.job import Order, State
from medseg_service.node.node import Node
from medseg_service.node.object_store import parse_object
from medseg_service.toml_file import read_toml
from tests.runtime.dicom.structured_reports import group, report, scoord

TOML = """
state = "state"
[dicom]
port = 0
calling_ae_titles = ["PACS"]
[http]
port = 0
[destination.dicomweb]
url = "http://127.0.0.1:1/dicom-web"
[limits]
free_bytes = 0
idle_s = 0.0
"""


@pytest.fixture
def node(tmp_path):
    """A node that is not started, so that its stages do what a test asks for."""
    path = tmp_path / "node.toml"
    path.write_text(TOML)
    made = Node(path, read_toml(path, NodeConfig))
    yield made
    made.dicom._server.server_close()
    made.http.bound.close()
    made._database.close()
    os.close(made._lock)


class Worker:
    """Stands for a worker: something arrives while it works."""

    def __init__(self, arrives):
        self.arrives = arrives

    def segment(self, *_):
        self.arrives()
        return {"outputs": {"dicom/1.dcm": "0"}, "empty": 0, "images": 1, "agreement": []}


@pytest.mark.parametrize(
    ("arrives", "state"), [("nothing", "sending"), ("another", "received"), ("next slice", "sending")]
)
def test_a_mask_is_of_the_image_that_is_here_when_it_is_sent(node, image, as_file, caller, arrives, state):
    source = image()
    node.objects.save(parse_object(as_file(source)))
    order = Order(
        origin="rest", study=source.StudyInstanceUID, series=source.SeriesInstanceUID, instance=source.SOPInstanceUID, center=(9.0, 9.0)
    )  # fmt: skip
    node.jobs.submit(order, caller)
    changes = {"another": {"PixelData": bytes(len(source.PixelData))}, "next slice": {"SOPInstanceUID": "1.2.3.4"}}

    def arrive():
        if arrives != "nothing":
            node.objects.save(parse_object(as_file(image(**changes[arrives]))))

    node._segment(Worker(arrive), node.jobs.next(State.RECEIVED, move_to=State.RUNNING))
    assert node.jobs.get(order.id).state == state


def test_a_finding_that_does_not_say_where_is_a_dead_job_with_a_letter(node, caller, tmp_path):
    content = report(
        group(scoord("POINT", [1, 2])),
        StudyInstanceUID="1.2.3", SeriesInstanceUID="1.2.4", SOPInstanceUID="1.2.5",
    )  # fmt: skip
    (job,) = node.intake.accept(parse_object(content), caller)
    gather = node._stages[0]
    with pytest.raises(ParameterError):
        gather.work(job)
    gather.attempt(job)
    found = node.jobs.get(job.id)
    assert found.state is State.DEAD
    assert "does not say where: it refers to no images" in found.reason["problem"]
    assert "SCOORD" in found.reason["remedy"]
    assert (tmp_path / "state" / "dead" / job.id / "reason.json").exists()
