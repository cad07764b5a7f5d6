"""C-ECHO and C-STORE, by pynetdicom and by dcmtk."""

import shutil
import ssl
import subprocess

import pytest

from medseg_service.tls import ServerTls
from tests.runtime.dicom.structured_reports import as_dataset, by_highdicom

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning")
CT = "1.2.840.10008.5.1.4.1.1.2"


def stored(objects):
    return sorted(objects.folder.rglob("*.dcm"))


def test_an_echo_is_answered(serve, peer):
    with peer(serve().port) as association:
        assert association.send_c_echo().Status == 0x0000


def test_an_image_is_on_the_disk_when_it_is_acknowledged(serve, peer, image):
    node, source = serve(), image()
    with peer(node.port) as association:
        assert association.send_c_store(source).Status == 0x0000
        (path,) = stored(node.objects)  # before the association ends
        assert path.name == f"{source.SOPInstanceUID}.dcm"
    assert node.accepted == []


def test_a_report_that_points_is_a_job_once(serve, peer, image):
    node, report = serve(), as_dataset(by_highdicom(image(), x=60, y=40))
    with peer(node.port) as association:
        for _ in range(2):
            assert association.send_c_store(report).Status == 0x0000
    (job,) = node.accepted
    assert job.order.center == (60.0, 40.0)
    assert (job.caller.ae_title, job.caller.address) == ("PACS", "127.0.0.1")


@pytest.mark.parametrize(("calling", "called"), [("OTHER", "MEDSEG"), ("PACS", "ELSE"), ("pacs", "MEDSEG")])
def test_other_titles_are_rejected(serve, peer, calling, called):
    with peer(serve().port, calling=calling, called=called) as association:
        assert association.is_rejected


def test_other_addresses_get_no_association(serve, peer, metrics):
    with peer(serve(peers=("10.0.0.0/8",)).port) as association:
        assert not association.is_established
        assert not association.is_rejected  # not so much as an answer
    assert b'medseg_node_associations_total{outcome="refused"} 1.0' in metrics.text()


def test_a_full_disk_is_a700(serve, peer, image):
    node = serve(free_bytes=1 << 60)
    with peer(node.port) as association:
        assert association.send_c_store(image()).Status == 0xA700
    assert stored(node.objects) == []


def test_a_full_queue_is_a700_and_images_still_come(serve, peer, image):
    node = serve(limit=1)
    with peer(node.port) as association:
        reports = [as_dataset(by_highdicom(image(), x=x, y=40)) for x in (1, 2)]
        reports[1].SOPInstanceUID = "1.2.3.102"
        assert [association.send_c_store(report).Status for report in reports] == [0x0000, 0xA700]
        assert association.send_c_store(image()).Status == 0x0000
    assert len(stored(node.objects)) == 2
    assert len(node.accepted) == 1


def test_what_the_node_made_itself_is_acknowledged_and_dropped(serve, peer, image):
    node = serve()
    with peer(node.port) as association:
        assert association.send_c_store(image(Manufacturer="MedSegLatDiff")).Status == 0x0000
    assert stored(node.objects) == []


def test_bad_objects_are_refused_one_by_one(serve, peer, image):
    node = serve()
    with peer(node.port) as association:
        assert association.send_c_store(image(SeriesInstanceUID="../x")).Status == 0xC000
        lacking = image()
        del lacking.StudyInstanceUID
        assert association.send_c_store(lacking).Status == 0xC000
        assert association.send_c_store(image(SOPClassUID=CT, Modality="CT")).Status == 0x0000
    assert len(stored(node.objects)) == 1


def test_an_object_of_another_class_than_the_request_says_is_a900(serve, peer, image, monkeypatch):
    from pynetdicom import association as library

    encode = library.encode
    other = image()
    other.SOPInstanceUID = "1.2.3.4"
    monkeypatch.setattr(library, "encode", lambda _, *how: encode(other, *how))  # a peer that lies
    with peer(serve().port) as association:
        assert association.send_c_store(image()).Status == 0xA900


def test_a_rule_makes_one_job_of_a_series(serve, peer, image):
    from medseg_service.node.config import Rule

    node = serve(rules=(Rule(modality="CT", description="^ct.*head"),))
    with peer(node.port) as association:
        for number in range(2):
            made = image(SOPInstanceUID=f"1.2.3.{number}", SeriesDescription="CT of the Head")
            assert association.send_c_store(made).Status == 0x0000
        assert association.send_c_store(image(1, SeriesDescription="thorax")).Status == 0x0000
    (job,) = node.accepted
    assert (job.order.origin, job.order.series) == ("rule", image().SeriesInstanceUID)


def test_an_association_under_way_is_answered_before_the_end(serve, peer, image):
    from threading import Thread

    node = serve()
    with peer(node.port) as association:
        assert association.send_c_store(image(1)).Status == 0x0000
        stopping = Thread(target=node.server.stop, args=(20.0,))
        stopping.start()
        assert association.send_c_store(image(2)).Status == 0x0000
    stopping.join(20)
    assert not stopping.is_alive()
    with peer(node.port) as late:
        assert not late.is_established


def test_tls_is_verified_and_mutual(serve, peer, image, certificates):
    (own, own_key), (client, client_key) = certificates("server"), certificates("client")
    node = serve(tls=ServerTls(certificate=own, key=own_key, client_ca=client))
    context = ssl.create_default_context(cafile=own)
    with peer(node.port) as association:  # plain
        assert not association.is_established
    context.load_cert_chain(client, client_key)
    with peer(node.port, tls=(context, "localhost")) as association:
        assert association.send_c_store(image()).Status == 0x0000


@pytest.mark.parametrize("program", ["echoscu", "storescu", "dcmsend"])
def test_dcmtk(serve, program, ct_path):
    found = shutil.which(program) or pytest.skip(f"NOT JUDGED: {program} is absent; as root: apt-get install dcmtk")
    node = serve()
    files = [] if program == "echoscu" else [ct_path]
    command = [found, "-aet", "PACS", "-aec", "MEDSEG", "127.0.0.1", str(node.port), *files]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert len(stored(node.objects)) == len(files)
