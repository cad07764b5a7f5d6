"""What a hostile or careless peer does below DICOM's messages."""

import contextlib
import resource
import socket
import struct
import time
from pathlib import Path

import pytest
from pydicom.uid import generate_uid
from pynetdicom.pdu_primitives import P_DATA

from medseg_service.node import transport

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning")


def closed(connection, *, within=10.0):
    """Whether the node ends a connection."""
    connection.settimeout(within)
    try:
        while connection.recv(4096):
            pass
    except ConnectionError:
        pass
    except TimeoutError:
        return False
    return True


def connected(port):
    return contextlib.closing(socket.create_connection(("127.0.0.1", port)))


def test_an_object_that_is_too_large_is_a700_and_the_next_one_is_kept(serve, peer, image):
    node = serve(object_bytes=100_000)
    large = image(number=1, PixelData=b"\0" * 3_000_000)
    with peer(node.port) as association:
        assert association.send_c_store(large).Status == 0xA700
        assert association.send_c_store(image()).Status == 0x0000
    assert len(list(node.objects.folder.rglob("*.dcm"))) == 1


def test_a_pdu_of_four_gigabytes_is_not_waited_for(serve, peer):
    node = serve()
    with connected(node.port) as connection:
        connection.sendall(struct.pack(">BBL", 1, 0, 0xFFFFFFFF) + bytes(100))
        assert closed(connection)
    with peer(node.port) as association:
        assert association.send_c_echo().Status == 0x0000


@pytest.mark.parametrize(
    "sent",
    [b"", b"\x01\x00", struct.pack(">BBL", 1, 0, 200) + bytes(50), b"GET / HTTP/1.1\r\n\r\n"],
    ids=["nothing", "half a header", "half a PDU", "another protocol"],
)
def test_a_peer_that_stops_in_the_middle_is_not_waited_for(serve, sent):
    node = serve(timeout_s=1.0)
    with connected(node.port) as connection:
        connection.sendall(sent)
        assert closed(connection)


def test_a_pdu_that_comes_byte_by_byte_is_not_waited_for(serve):
    node = serve(timeout_s=1.0)
    with connected(node.port) as connection:
        connection.sendall(struct.pack(">BBL", 1, 0, 60_000))
        deadline = time.monotonic() + 20
        with contextlib.suppress(ConnectionError):
            while time.monotonic() < deadline:
                connection.sendall(b"\0")
                time.sleep(0.1)
        assert time.monotonic() < deadline


def test_many_connections_are_closed_and_those_of_peers_come_through(serve, peer):
    node = serve(associations=4)
    with contextlib.ExitStack() as stack:
        idle = [stack.enter_context(connected(node.port)) for _ in range(60)]
        assert all(closed(connection) for connection in idle[30:])
    while node.server._server.active_associations:
        time.sleep(0.05)
    with peer(node.port) as association:
        assert association.send_c_echo().Status == 0x0000


def test_a_command_without_an_end_is_not_collected(serve, peer):
    with peer(serve().port) as association:
        for _ in range(40):
            data = P_DATA()
            data.presentation_data_value_list = [[1, b"\x01" + bytes(16_000)]]
            association.dul.send_pdu(data)
        deadline = time.monotonic() + 10
        while association.is_established and time.monotonic() < deadline:
            time.sleep(0.05)
        assert association.is_aborted


@pytest.mark.slow
def test_many_objects_leave_no_memory_and_no_descriptor_behind(serve, peer, image):
    node = serve()
    source = image()

    def send(count):
        with peer(node.port) as association:
            for _ in range(count):
                source.SOPInstanceUID = source.file_meta.MediaStorageSOPInstanceUID = generate_uid()
                assert association.send_c_store(source).Status == 0x0000
        return resident(), descriptors()

    send(100)
    first, open_before = send(100)
    last, open_after = send(300)
    assert last - first < 30 << 20
    assert open_after <= open_before + 2


def resident():
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()


def descriptors():
    return len(list(Path("/proc/self/fd").iterdir()))


def test_addresses_for_both_families_are_compared_as_the_older_one():
    assert str(transport._unmapped("::ffff:10.1.2.3")) == "10.1.2.3"
    assert str(transport._unmapped("fe80::1%eth0")) == "fe80::1"
