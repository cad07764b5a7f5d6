"""The node as a DICOM service: C-ECHO and C-STORE. An object is on the disk before it is acknowledged.

0x0000   it is kept, or was made by the node itself
0xA700   out of resources: the disk is full, there are too many jobs, or the object is larger than is allowed
0xA900   the data set is not of the class or the instance that the request names
0xC000   it cannot be understood: not DICOM, cut short, or without a valid UID
0x0110   the node failed
"""

from __future__ import annotations

import logging
import secrets
import time
from collections.abc import Callable
from socketserver import BaseServer
from threading import Thread
from typing import Any

from pynetdicom import AE, evt
from pynetdicom.events import Event
from pynetdicom.sop_class import Verification  # type: ignore[attr-defined]  # made when it is imported

from medseg_runtime.errors import ImageError, OutputError, escaped
from medseg_service.errors import ConfigurationError, QueueFullError
from medseg_service.node.config import Dicom
from medseg_service.node.failure import place_of
from medseg_service.node.intake import Intake
from medseg_service.node.job import Caller, Job
from medseg_service.node.metrics import Metrics
from medseg_service.node.object_store import parse_object
from medseg_service.node.sop_classes import SOP_CLASSES, TRANSFER_SYNTAXES
from medseg_service.node.transport import MAX_PDU, AssociationHandler, Limits, PeerServer, is_too_large
from medseg_service.tls import server_context

SUCCESS, OUT_OF_RESOURCES, DOES_NOT_MATCH, CANNOT_UNDERSTAND, FAILED = 0x0000, 0xA700, 0xA900, 0xC000, 0x0110
log = logging.getLogger(__name__)


class DicomServer:
    """The listening application entity."""

    def __init__(self, config: Dicom, intake: Intake, metrics: Metrics, accepted: Callable[[Job], None]) -> None:
        """Bind the port. accepted: is called for each new job.

        Raises:
            ConfigurationError: the address or a TLS file cannot be used.
        """
        self._config = config
        self._intake = intake
        self._metrics = metrics
        self._accepted = accepted
        entity = AE(ae_title=config.ae_title)
        entity.require_called_aet = True
        entity.require_calling_aet = list(config.calling_ae_titles)
        entity.maximum_associations = config.associations
        entity.maximum_pdu_size = MAX_PDU
        entity.acse_timeout = entity.dimse_timeout = entity.network_timeout = config.timeout_s
        entity.add_supported_context(Verification)
        for sop_class in SOP_CLASSES:
            entity.add_supported_context(sop_class, list(TRANSFER_SYNTAXES))
        handlers: list[Any] = [
            (evt.EVT_C_STORE, self._store),
            (evt.EVT_ACCEPTED, lambda _: metrics.associations.labels("accepted").inc()),
            (evt.EVT_REJECTED, self._rejected),
        ]
        try:
            server: Any = entity.make_server(  # of the class that is given
                (config.host, config.port),
                ssl_context=None if config.tls is None else server_context(config.tls),
                evt_handlers=handlers,
                server_class=PeerServer,
                request_handler=AssociationHandler,
            )
        except OSError as error:
            raise ConfigurationError(
                f"cannot listen on {config.host}:{config.port}: {error.strerror}", "Choose another dicom.port."
            ) from error
        self._server: Any = server
        server.admit(
            Limits(
                networks=config.networks(),
                timeout_s=config.timeout_s,
                associations=config.associations,
                object_bytes=config.object_bytes,
            ),
            self._refused,
        )
        self._thread = Thread(target=self._server.serve_forever, args=(0.2,), name="medseg-dicom", daemon=True)

    @property
    def port(self) -> int:
        """The port that it listens on."""
        return int(self._server.server_address[1])

    def start(self) -> None:
        """Serve in a thread."""
        self._thread.start()

    def stop(self, patience_s: float) -> None:
        """Take no more associations, wait for those there are, and abort what is left."""
        BaseServer.shutdown(self._server)
        self._server.server_close()
        deadline = time.monotonic() + patience_s
        while (left := self._server.active_associations) and time.monotonic() < deadline:
            time.sleep(0.05)
        for association in left:
            association.abort()

    def _refused(self, address: str, reason: str) -> None:
        self._metrics.associations.labels("refused").inc()
        log.warning("refused a connection of %s: %s", escaped(address), reason)

    def _rejected(self, event: Event) -> None:
        self._metrics.associations.labels("rejected").inc()
        log.warning("rejected an association of %s", _peer(event))

    def _store(self, event: Event) -> int:
        start = time.perf_counter()
        try:
            status = self._status(event)
        except Exception as error:  # noqa: BLE001 - the peer gets an answer, whatever it is
            log.error("C-STORE failed: %s", place_of(error))
            status = FAILED
        self._metrics.received.labels(f"0x{status:04X}").inc()
        self._metrics.stage_seconds.labels("store").observe(time.perf_counter() - start)
        return status

    def _status(self, event: Event) -> int:
        if is_too_large(event):
            log.warning("refused an object of %s, which is larger than dicom.object_bytes", _peer(event))
            return OUT_OF_RESOURCES
        try:
            received = parse_object(event.encoded_dataset())
            request: Any = event.request
            if (received.sop_class, received.instance) != (request.AffectedSOPClassUID, request.AffectedSOPInstanceUID):
                return DOES_NOT_MATCH
            jobs = self._intake.accept(received, caller_of(event))
        except ImageError as error:
            log.warning("refused an object of %s: %s", _peer(event), error)
            return CANNOT_UNDERSTAND
        except (OutputError, QueueFullError) as error:
            log.warning("refused an object of %s: %s", _peer(event), error)
            return OUT_OF_RESOURCES
        self._metrics.received_bytes.inc(len(received.content))
        for job in jobs:
            self._accepted(job)
        return SUCCESS


def caller_of(event: Event) -> Caller:
    """Return who sent something. All objects of an association have one trace."""
    association = event.assoc
    trace_id = association.__dict__.setdefault("medseg_trace_id", secrets.token_hex(16))
    return Caller(
        ae_title=escaped(association.requestor.ae_title.strip()),
        address=association.requestor.address,
        trace_id=trace_id,
    )


def _peer(event: Event) -> str:
    requestor = event.assoc.requestor
    return f"{escaped(requestor.ae_title.strip())} at {requestor.address}"
