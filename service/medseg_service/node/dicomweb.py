"""A client of DICOMweb (PS3.18): list and fetch the instances of a series, and store results."""

from __future__ import annotations

import io
import secrets
from collections.abc import Iterator, Mapping
from email.message import Message
from types import TracebackType
from typing import Any, Self

import httpx
import pydicom

from medseg_runtime.readers.dicom.guard import silenced
from medseg_service.errors import RemoteError
from medseg_service.http_client import http_client
from medseg_service.node.config import DicomWeb

DICOM = "application/dicom"
DICOM_JSON = "application/dicom+json"
AS_STORED = f'multipart/related; type="{DICOM}"; transfer-syntax=*'
INSTANCE_UID, SERIES_UID = "00080018", "0020000E"
STORED, FAILED, REFERENCED, REASON = "00081199", "00081198", "00081155", "00081197"
DUPLICATE = 0x0111
"""Duplicate SOP Instance (PS3.7, C.5.7): ours is there already, for its UID stands for its content."""


class DicomWebClient:
    """One server. Every failure is a RemoteError, which says nothing of the data."""

    def __init__(self, config: DicomWeb) -> None:
        """Prepare the client; nothing is sent.

        Raises:
            ConfigurationError: the token or a TLS file cannot be used.
        """
        self._client = http_client(config.url, token_file=config.token_file, tls=config.tls, timeout_s=config.timeout_s)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close its connections."""
        self._client.close()

    def instances(self, study: str, series: str) -> list[str]:
        """Return the SOP Instance UIDs of a series (QIDO-RS, 10.6); none where the server does not know it."""
        answer = self._send("GET", f"studies/{study}/series/{series}/instances", headers={"Accept": DICOM_JSON})
        return _values(answer, INSTANCE_UID)

    def series_of(self, study: str, instance: str) -> str | None:
        """Return the series of an instance (QIDO-RS), if the server knows it."""
        answer = self._send(
            "GET", f"studies/{study}/instances?SOPInstanceUID={instance}", headers={"Accept": DICOM_JSON}
        )
        return next(iter(_values(answer, SERIES_UID)), None)

    def fetch(self, study: str, series: str, instance: str) -> bytes:
        """Return an instance as a file, as it is stored (WADO-RS, 10.4)."""
        answer = self._send(
            "GET", f"studies/{study}/series/{series}/instances/{instance}", headers={"Accept": AS_STORED}
        )
        parts = list(_parts(answer))
        if len(parts) != 1:
            raise RemoteError(
                f"the DICOMweb server sent {len(parts)} objects for one instance", "See what its log says of it."
            )
        return parts[0]

    def store(self, study: str, objects: Mapping[str, bytes]) -> None:
        """Store objects of one study (STOW-RS, 10.5), and check that the server names each as stored, or as known.

        objects: SOP Instance UID -> file.

        Raises:
            RemoteError: the server has not stored all of them.
        """
        boundary = secrets.token_hex(16)
        body = b"".join(
            b"--%b\r\nContent-Type: application/dicom\r\n\r\n%b\r\n" % (boundary.encode(), content)
            for content in objects.values()
        )
        answer = self._send(
            "POST",
            f"studies/{study}",
            headers={
                "Content-Type": f'multipart/related; type="{DICOM}"; boundary={boundary}',
                "Accept": DICOM_JSON,
            },
            content=body + b"--%b--\r\n" % boundary.encode(),
        )
        stored = _held(answer)
        if lacking := objects.keys() - stored:
            raise RemoteError(
                f"the DICOMweb server stored {len(objects) - len(lacking)} of {len(objects)} objects",
                "See what its log says of the others.",
            )

    def _send(self, method: str, path: str, **options: Any) -> httpx.Response:
        try:
            answer = self._client.request(method, path, **options)
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            raise RemoteError(
                f"the DICOMweb server cannot be reached ({type(error).__name__})", "Check its url, and that it runs."
            ) from None
        if answer.status_code == httpx.codes.NOT_FOUND and method == "GET":
            return httpx.Response(httpx.codes.NO_CONTENT)
        refused_as_known = method == "POST" and answer.status_code == httpx.codes.CONFLICT
        if not (answer.is_success or refused_as_known):
            raise RemoteError(
                f"the DICOMweb server answered {method} with {answer.status_code}", "See what its log says."
            )
        return answer


def _held(answer: httpx.Response) -> set[str]:
    """Return the instances that a Store Instances Response Module names as stored, or as stored before (PS3.18, I.2)."""
    content = _json(answer, dict)
    stored, failed = (content.get(tag, {}).get("Value") or [] for tag in (STORED, FAILED))
    known = [item for item in failed if item.get(REASON, {}).get("Value") == [DUPLICATE]]
    return {str(item[REFERENCED]["Value"][0]) for item in (*stored, *known) if REFERENCED in item}


def _values(answer: httpx.Response, tag: str) -> list[str]:
    if answer.status_code == httpx.codes.NO_CONTENT:
        return []
    return [str(item[tag]["Value"][0]) for item in _json(answer, list) if item.get(tag, {}).get("Value")]


def _json(answer: httpx.Response, kind: type[Any]) -> Any:
    try:
        content = answer.json()
    except ValueError:
        content = None
    if not isinstance(content, kind):
        raise RemoteError(
            "the DICOMweb server did not answer in DICOM JSON", "Check its url: it may be another service."
        )
    return content


def _parts(answer: httpx.Response) -> Iterator[bytes]:
    """Yield the bodies of a multipart answer (RFC 2046, 5.1)."""
    if answer.status_code == httpx.codes.NO_CONTENT:
        return
    header = Message()
    header["Content-Type"] = answer.headers.get("Content-Type", "")
    boundary = header.get_param("boundary")
    if not isinstance(boundary, str):
        raise RemoteError("the DICOMweb server did not answer in parts", "Check its url: it may be another service.")
    for part in (b"\r\n" + answer.content).split(b"\r\n--" + boundary.encode())[1:]:
        if part.startswith(b"--"):
            return
        yield part.partition(b"\r\n\r\n")[2]


def identity_of(content: bytes) -> tuple[str, str]:
    """Return Study and SOP Instance UID of an object of ours."""
    with silenced():
        header = pydicom.dcmread(io.BytesIO(content), stop_before_pixels=True)
    return str(header.StudyInstanceUID), str(header.SOPInstanceUID)
