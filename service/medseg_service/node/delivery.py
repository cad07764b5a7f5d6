"""Results on their way out: by STOW-RS, or by C-STORE. What has arrived before changes nothing: its UIDs are the same."""

from __future__ import annotations

import io
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pydicom
from pynetdicom import AE

from medseg_runtime.readers.dicom.guard import silenced
from medseg_service.errors import RemoteError
from medseg_service.node.config import Archive, Destination
from medseg_service.node.dicomweb import DUPLICATE, DicomWebClient, identity_of
from medseg_service.node.sop_classes import EXPLICIT_LITTLE
from medseg_service.tls import client_context

WARNINGS = range(0xB000, 0xC000)
"""Statuses of an object that is stored, though not quite as it was sent (PS3.4, table B.2-1)."""
REFUSED = "See what its log says, and that it knows the node's AE title."


def deliver(destination: Destination, ae_title: str, files: Mapping[str, bytes]) -> int:
    """Send all files of a result, and return their size in bytes. ae_title: the node's own.

    Raises:
        RemoteError: not all of them arrived.
    """
    if destination.dicomweb is not None:
        with DicomWebClient(destination.dicomweb) as client:
            for study, objects in _by_study(files.values()).items():
                client.store(study, objects)
    if destination.dicom is not None:
        _send(destination.dicom, ae_title, files)
    return sum(map(len, files.values()))


def result_files(folder: Path) -> dict[str, bytes]:
    """Return the DICOM files of a job's result: path in its folder -> content."""
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in sorted(folder.rglob("dicom/*.dcm"))}


def _by_study(contents: Any) -> dict[str, dict[str, bytes]]:
    found: dict[str, dict[str, bytes]] = {}
    for content in contents:
        study, instance = identity_of(content)
        found.setdefault(study, {})[instance] = content
    return found


def _send(archive: Archive, ae_title: str, files: Mapping[str, bytes]) -> None:
    with silenced():
        datasets = [pydicom.dcmread(io.BytesIO(content)) for content in files.values()]
    entity = AE(ae_title=ae_title)
    entity.acse_timeout = entity.dimse_timeout = entity.network_timeout = archive.timeout_s
    entity.connection_timeout = archive.timeout_s
    for sop_class in sorted({str(dataset.SOPClassUID) for dataset in datasets}):
        entity.add_requested_context(sop_class, [EXPLICIT_LITTLE])
    tls = None if archive.tls is None else (client_context(archive.tls), archive.host)
    association = entity.associate(archive.host, archive.port, ae_title=archive.ae_title, tls_args=tls)
    if not association.is_established:
        refused = "rejected the association" if association.is_rejected else "cannot be reached"
        raise RemoteError(f"the archive {refused}", REFUSED)
    try:
        for dataset in datasets:
            try:
                status = association.send_c_store(dataset).get("Status")
            except ValueError as error:  # no presentation context
                raise RemoteError(f"the archive takes no {dataset.SOPClassUID.name}", REFUSED) from error
            except RuntimeError as error:  # the association has ended
                raise RemoteError("the archive ended the association", REFUSED) from error
            if status is None or not (status in (0, DUPLICATE) or status in WARNINGS):
                shown = "nothing" if status is None else f"0x{status:04X}"
                raise RemoteError(f"the archive answered a C-STORE with {shown}", REFUSED)
    finally:
        association.release()
