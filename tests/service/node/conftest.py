"""What the suites of the node share: images, a store of its own, and a DICOM peer."""

import copy
import os
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace

import pydicom
import pytest
from pydicom.data import get_testdata_file
from pydicom.uid import generate_uid
from pynetdicom import AE

from medseg_service.node.config import Dicom
from medseg_service.node.database import Database
from medseg_service.node.intake import Intake
from medseg_service.node.job import Caller, Order
from medseg_service.node.job_store import JobStore
from medseg_service.node.metrics import Metrics
from medseg_service.node.object_store import ObjectStore
from medseg_service.node.scp import DicomServer
from tests.support.dicom_file import encoded


@pytest.fixture(autouse=True)
def _private():
    """The node's own umask."""
    before = os.umask(0o077)
    yield
    os.umask(before)


@pytest.fixture(scope="session")
def ct_path():
    return Path(get_testdata_file("CT_small.dcm", download=False))


@pytest.fixture
def image(ct_path):
    """image(number=None, **values) -> a CT slice; with a number, of a study of its own."""
    source = pydicom.dcmread(ct_path)

    def make(number=None, **values):
        made = copy.deepcopy(source)
        if number is not None:
            for keyword in ("StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID"):
                setattr(made, keyword, generate_uid(entropy_srcs=[keyword, str(number)]))
        for keyword, value in values.items():
            setattr(made, keyword, value)
        made.file_meta.MediaStorageSOPInstanceUID = made.SOPInstanceUID
        return made

    return make


@pytest.fixture
def database(tmp_path):
    opened = Database(tmp_path / "node.sqlite")
    yield opened
    opened.close()


@pytest.fixture
def jobs(database):
    return JobStore(database, limit=5)


@pytest.fixture
def objects(database, tmp_path):
    return ObjectStore(database, tmp_path / "objects", free_bytes=0)


@pytest.fixture
def metrics(jobs):
    return Metrics(jobs.counts)


@pytest.fixture
def caller():
    return Caller(ae_title="PACS", address="127.0.0.1", trace_id="0" * 32)


@pytest.fixture
def order():
    """order(number=0) -> a point in an image."""
    return lambda number=0: Order(
        origin="rest", study="1.2", series="1.3", instance=f"1.4.{number}", center=(64.0, 60.0)
    )


@pytest.fixture
def serve(database, objects, metrics):
    """serve(rules=, limit=, free_bytes=, **config) -> a running server, and what it accepted."""
    running = []

    def start(*, rules=(), limit=5, free_bytes=0, **config):
        accepted = []
        store = JobStore(database, limit=limit)
        kept = ObjectStore(database, objects.folder, free_bytes=free_bytes)
        config = {"calling_ae_titles": ("PACS",), "port": 0, "timeout_s": 20.0} | config
        server = DicomServer(Dicom(**config), Intake(kept, store, rules), metrics, accepted.append)
        server.start()
        running.append(server)
        return SimpleNamespace(port=server.port, accepted=accepted, objects=kept, jobs=store, server=server)

    yield start
    for server in running:
        server.stop(0.0)


@pytest.fixture
def peer():
    """peer(port, calling=, called=, tls=) -> an association with the contexts of our images and reports."""
    from medseg_service.node.sop_classes import SOP_CLASSES

    @contextmanager
    def connect(port, *, calling="PACS", called="MEDSEG", tls=None):
        entity = AE(ae_title=calling)
        entity.acse_timeout = entity.dimse_timeout = entity.network_timeout = 60
        entity.add_requested_context("1.2.840.10008.1.1")
        for sop_class in SOP_CLASSES:
            entity.add_requested_context(sop_class, "1.2.840.10008.1.2.1")
        association = entity.associate("127.0.0.1", port, ae_title=called, tls_args=tls)
        yield association
        association.release()

    return connect


@pytest.fixture
def as_file():
    return encoded
