"""The limits that pynetdicom does not have: who may connect, how many, how slowly, and how much of it is kept in memory.

another address, or too many connections    the connection is closed
a PDU longer than MAX_PDU, or too slow       the connection is closed
an object larger than is allowed             its data are dropped as they come, and the request is answered
"""

from __future__ import annotations

import ipaddress
import logging
import socket
import time
from collections.abc import Callable
from dataclasses import dataclass
from io import BytesIO
from typing import Any, TypeAlias

from pynetdicom.association import Association
from pynetdicom.dimse import DIMSEServiceProvider
from pynetdicom.events import Event
from pynetdicom.transport import AssociationSocket, RequestHandler, ThreadedAssociationServer

MAX_PDU = 1 << 17
"""Bytes that a peer may put into one P-DATA-TF PDU. A request for an association may be twice as long."""
CHUNK = 1 << 16
Networks: TypeAlias = list[ipaddress.IPv4Network | ipaddress.IPv6Network]
log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True, slots=True)
class Limits:
    """What a peer may do."""

    networks: Networks
    timeout_s: float
    """For a TLS handshake, and for one PDU."""
    associations: int
    """As many connections again may wait to be rejected as associations."""
    object_bytes: int


class PeerServer(ThreadedAssociationServer):
    """Takes connections of some addresses alone. TLS handshakes do not hold up the others."""

    daemon_threads = True
    request_queue_size = 64

    def admit(self, limits: Limits, refused: Callable[[str, str], None]) -> None:
        """Set the limits, and what is called with an address and a reason for each connection that is closed at once."""
        self.limits, self._report = limits, refused

    def get_request(self) -> tuple[socket.socket, Any]:
        assert self.socket is not None
        connection, address = self.socket.accept()
        if self.ssl_context is not None:
            connection = self.ssl_context.wrap_socket(connection, server_side=True, do_handshake_on_connect=False)
        return connection, address

    def verify_request(self, request: Any, client_address: Any) -> bool:
        del request
        address = _unmapped(client_address[0])
        if not any(address in network for network in self.limits.networks):
            self._report(str(address), "it is not among dicom.peers")
            return False
        if len(self.active_associations) >= 2 * self.limits.associations:
            self._report(str(address), "there are too many")
            return False
        return True

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        if self.ssl_context is not None:
            try:
                request.settimeout(self.limits.timeout_s)
                request.do_handshake()
            except OSError as error:  # ssl.SSLError is one
                log.warning("a TLS handshake failed: %s", getattr(error, "reason", None) or type(error).__name__)
                self.shutdown_request(request)
                return
        super().process_request_thread(request, client_address)


class AssociationHandler(RequestHandler):
    """Makes associations with limits."""

    server: PeerServer

    def _create_association(self) -> Association:
        made = super()._create_association()
        assert made.dul.socket is not None
        made.dul.socket = _LimitedSocket(made.dul.socket, self.server.limits.timeout_s)
        made.dimse = _LimitedProvider(made, self.server.limits.object_bytes)
        return made


class _LimitedSocket(AssociationSocket):
    """Reads no PDU that is too long, and waits for none for ever."""

    def __init__(self, made: AssociationSocket, timeout_s: float) -> None:
        """Take over a socket. Its own constructor would announce the connection a second time."""
        self.__dict__.update(vars(made))
        self._timeout_s = timeout_s

    def recv(self, nr_bytes: int) -> bytearray:
        if nr_bytes > 2 * MAX_PDU:
            raise OSError("the PDU is too long")
        assert self.socket is not None
        content = bytearray()
        deadline = time.monotonic() + self._timeout_s
        while len(content) < nr_bytes:
            left = deadline - time.monotonic()
            if left <= 0:
                raise TimeoutError
            self.socket.settimeout(left)
            part = self.socket.recv(min(CHUNK, nr_bytes - len(content)))
            if not part:
                break
            content += part
        self.socket.settimeout(self._timeout_s)  # for what is sent
        return content


class _LimitedProvider(DIMSEServiceProvider):
    """Drops the data set of a message that is too large as it comes."""

    def __init__(self, association: Association, object_bytes: int) -> None:
        super().__init__(association)
        self._object_bytes = object_bytes
        self.too_large: set[int | None] = set()
        """Message IDs of requests without their data."""

    def receive_primitive(self, primitive: Any) -> None:
        message: Any = self.message
        if message is not None:
            if message.encoded_command_set.tell() > MAX_PDU:
                self.dul.event_queue.put("Evt19")  # an invalid PDU: the association is aborted
                return
            fragments = primitive.presentation_data_value_list
            if message.data_set.tell() + sum(len(data) for _, data in fragments) > self._object_bytes:
                self.too_large.add(message.command_set.get("MessageID"))
                message.data_set = BytesIO()
                primitive.presentation_data_value_list = [[context, data[:1]] for context, data in fragments]
        super().receive_primitive(primitive)


def is_too_large(event: Event) -> bool:
    """Tell whether the data set of a request was dropped, and forget it."""
    provider: Any = event.assoc.dimse  # a _LimitedProvider
    too_large: set[int | None] = provider.too_large
    number = event.request.MessageID
    found = number in too_large
    too_large.discard(number)
    return found


def _unmapped(address: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address:
    """Return an address, an IPv4 one that came by a socket for both as IPv4."""
    parsed = ipaddress.ip_address(address.partition("%")[0])
    return (parsed.ipv4_mapped or parsed) if isinstance(parsed, ipaddress.IPv6Address) else parsed
