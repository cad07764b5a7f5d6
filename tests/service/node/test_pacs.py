"""The files of examples/pacs, as the tutorial uses them: Orthanc forwards, the node segments, Orthanc keeps, OHIF shows."""

import json
import re
import shutil
import time
from contextlib import contextmanager
from pathlib import Path

import httpx
import numpy as np
import pydicom
import pytest
from PIL import Image

from benchmarks.robustness.node_process import running_node
from medseg_runtime.readers.image import read_image
from medseg_service.node.check import check_config
from medseg_service.node.config import NodeConfig
from medseg_service.node.rest import order_of
from medseg_service.toml_file import read_toml
from tests.runtime.dicom.structured_reports import by_highdicom
from tests.support import ohif, orthanc

ROOT = Path(__file__).parents[3]
EXAMPLE = ROOT / "examples" / "pacs"
PATIENCE_S = 150
quiet = pytest.mark.filterwarnings("ignore::UserWarning", "ignore::DeprecationWarning")


def test_the_configuration_can_be_used():
    assert check_config(read_toml(EXAMPLE / "node.toml", NodeConfig))


def test_compose_names_what_is_there():
    yaml = pytest.importorskip("yaml")
    services = yaml.safe_load((EXAMPLE / "compose.yml").read_text())["services"]
    assert set(services) == {"orthanc", "node", "viewer"}
    mounted = [volume.split(":")[0] for each in services.values() for volume in each["volumes"]]
    files = {name for name in mounted if name.startswith("./")}
    assert {EXAMPLE / name for name in files} == set(EXAMPLE.iterdir()) - {EXAMPLE / "compose.yml"}
    assert all(port.startswith("127.0.0.1:") for port in services["orthanc"]["ports"])
    assert {services[name]["network_mode"] for name in ("node", "viewer")} == {"service:orthanc"}
    build = services["node"]["build"]
    dockerfile = (ROOT / "Dockerfile").read_text()
    assert f"AS {build['target']}\n" in dockerfile
    assert (ROOT / "locks" / f"{build['args']['LOCK']}.txt").exists()
    assert services["node"]["volumes"][1].split(":")[1] in dockerfile
    assert f"@ohif/app@{ohif.VERSION}" in services["viewer"]["build"]["dockerfile_inline"]


def test_the_viewer_asks_where_the_archive_answers():
    viewer = json.loads((EXAMPLE / "ohif.js").read_text().removeprefix("window.config = "))
    (source,) = viewer["dataSources"]
    assert source["sourceName"] == viewer["defaultDataSourceName"]
    roots = {source["configuration"][name] for name in ("qidoRoot", "wadoRoot", "wadoUriRoot")}
    (root,) = roots
    assert f"location {root}/ {{" in (EXAMPLE / "viewer.conf").read_text()


@pytest.fixture
def pacs(tmp_path):
    """Orthanc and the node with the files of the example, on free ports: (Orthanc, node)."""
    pytest.importorskip("onnxruntime")

    @contextmanager
    def run():
        port = orthanc.free_port()
        settings = json.loads((EXAMPLE / "orthanc.json").read_text())
        settings = {key: value for key, value in settings.items() if not key.endswith(("Port", "Directory"))}
        settings["DicomModalities"]["medseg"][2] = port
        shutil.copy(EXAMPLE / "forward.lua", tmp_path)
        with orthanc.running(tmp_path, **settings) as archive:
            text = (EXAMPLE / "node.toml").read_text()
            text = text.replace("http://127.0.0.1:8042", archive.url).replace("11112", str(port))
            with running_node(tmp_path, text.replace("8180", "0")) as node:
                yield archive, node

    return run


def segmented(archive, image, as_file):
    """Store an image and a report that points at its middle, and return the objects that come of it, by their class."""
    archive.store(as_file(image))
    archive.store(by_highdicom(image, x=64, y=64))
    deadline = time.monotonic() + PATIENCE_S
    while not (made := made_by_us(archive)):
        assert time.monotonic() < deadline
        time.sleep(0.2)
    return made


def made_by_us(archive):
    query = json.dumps({"Level": "Instance", "Expand": True, "Query": {"Manufacturer": "MedSegLatDiff"}})
    found = json.loads(archive.post("/tools/find", query.encode()))
    return [each["MainDicomTags"]["SOPInstanceUID"] for each in found]


@quiet
@pytest.mark.slow
def test_what_arrives_in_the_archive_is_segmented_and_comes_back_once(pacs, image, as_file):
    with pacs() as (archive, node):
        segmented(archive, image(), as_file)
        while 'medseg_node_jobs{state="done"} 1.0' not in httpx.get(f"{node.url}/metrics").text:
            time.sleep(0.2)
        made = [pydicom.dcmread(pydicom.filebase.DicomBytesIO(archive.file(uid))) for uid in made_by_us(archive)]
        assert {each.Modality for each in made} == {"SEG", "SR", "OT"}
        assert {each.StudyInstanceUID for each in made} == {image().StudyInstanceUID}
        time.sleep(2)  # nothing goes round in circles
        text = httpx.get(f"{node.url}/metrics").text
        assert re.search(r'medseg_node_objects_total\{status="0x0000"\} 2\.0', text), text
        assert archive.count() == 2 + len(made)


def nodule(image):
    """Put the synthetic nodule of the README into a slice; its grey is that of -1000 to 100 HU."""
    grey = np.asarray(Image.open(ROOT / "examples" / "nodule-phantom.png").convert("L"), np.float64)
    hu = np.rint(grey / 255 * 1100 - 1000)
    image.PixelData = (hu - image.RescaleIntercept).astype("<i2").tobytes()
    return image


@quiet
@pytest.mark.ohif
@pytest.mark.timeout(900)
def test_the_viewer_draws_the_consensus_where_it_is(pacs, image, as_file, tmp_path):
    from tests.support.viewer import opened

    source = nodule(image())
    with pacs() as (archive, node), ohif.served(archive.dicomweb) as url:
        segmented(archive, source, as_file)
        while 'medseg_node_jobs{state="done"} 1.0' not in httpx.get(f"{node.url}/metrics").text:
            time.sleep(0.2)
        result = next((tmp_path / "node-state" / "results").glob("*"))
        mask = np.load(result / "confidence.npy") >= 0.5
        assert mask.any()
        with opened(url, str(source.StudyInstanceUID)) as viewer:
            assert not viewer.drawn().any()
            series = viewer.series()
            viewer.load(next(name for name in series if name.startswith("Consensus")))
            plane = read_image(as_file(source)).plane
            drawn, expected = viewer.drawn(), viewer.expected(mask, plane)
            viewer.page.screenshot(path=tmp_path / "viewer.png")
    assert (drawn & expected).sum() / (drawn | expected).sum() > 0.8


def test_the_tutorial_names_the_job_that_it_makes():
    text = (ROOT / "docs" / "tutorials" / "pacs.md").read_text()
    body = re.search(r"--data '(\{.*?\})'", text, re.DOTALL)[1]
    assert order_of(body.encode(), needs_point=True).id == re.search(r"/jobs/([0-9a-f]{32})", text)[1]
