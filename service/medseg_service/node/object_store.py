"""Received DICOM objects on disk: objects/STUDY/SERIES/INSTANCE.dcm, each whole, flushed and recorded before it is acknowledged."""

from __future__ import annotations

import hashlib
import io
import os
import re
import secrets
import shutil
import sqlite3
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from threading import Lock

import pydicom
from pydicom.dataelem import RawDataElement

from medseg_runtime.errors import ImageError, OutputError
from medseg_runtime.files.sweep import remove_folder
from medseg_runtime.readers.dicom.guard import reading
from medseg_runtime.readers.dicom.parse import parse
from medseg_service.node.database import Database

HEADER = (
    "SOPClassUID", "SOPInstanceUID", "StudyInstanceUID", "SeriesInstanceUID", "Modality", "SeriesDescription",
    "BodyPartExamined", "Manufacturer",
)  # fmt: skip
MODE = 0o600
UNDEFINED = 0xFFFFFFFF
"""Length of an element that ends with a delimiter (PS3.5, 7.1.1)."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ReceivedObject:
    """A DICOM object and what its header says of it."""

    content: bytes
    """A whole file (PS3.10)."""
    sop_class: str
    instance: str
    study: str
    series: str
    modality: str
    description: str
    body_part: str
    manufacturer: str


def parse_object(content: bytes) -> ReceivedObject:
    """Read the header of an object.

    Raises:
        ImageError: it is not DICOM, is cut short, or lacks a valid UID.
    """
    with reading():
        header = parse(io.BytesIO(content))
        _check_whole(header)
        values = {keyword: str(header.get(keyword) or "") for keyword in HEADER}
    for keyword in HEADER[:4]:
        if not is_uid(values[keyword]):
            raise ImageError(f"{keyword} is absent or not valid", "Export it again from its archive.")
    return ReceivedObject(
        content=content,
        sop_class=values["SOPClassUID"],
        instance=values["SOPInstanceUID"],
        study=values["StudyInstanceUID"],
        series=values["SeriesInstanceUID"],
        modality=values["Modality"],
        description=values["SeriesDescription"],
        body_part=values["BodyPartExamined"],
        manufacturer=values["Manufacturer"],
    )


def _check_whole(header: pydicom.Dataset) -> None:
    """Refuse an object whose last element is shorter than it says; pydicom takes what is there."""
    for element in header.elements():
        if isinstance(element, RawDataElement) and element.length not in (UNDEFINED, len(element.value or b"")):
            raise ImageError("the DICOM object is cut short", "Send it again.")


def is_uid(text: str) -> bool:
    """Tell whether a text is a UID (PS3.5, 9.1), and so a safe file name."""
    return len(text) <= 64 and re.fullmatch(r"[0-9]+(\.[0-9]+)*", text) is not None


class ObjectStore:
    """The objects of a node."""

    def __init__(self, database: Database, folder: Path, *, free_bytes: int) -> None:
        """Take a database and a folder. free_bytes: that must be left on its disk."""
        self._database = database
        self._lock = Lock()
        self._free_bytes = free_bytes
        self.folder = folder
        self._incoming = folder.with_name("incoming")
        remove_folder(self._incoming)  # what a killed node left
        for each in (folder, self._incoming):
            each.mkdir(mode=0o700, parents=True, exist_ok=True)

    def check_space(self, size: int = 0) -> None:
        """Refuse what the disk has no room for.

        Raises:
            OutputError: there would be too little free space.
        """
        if shutil.disk_usage(self.folder).free - size < self._free_bytes:
            raise OutputError("the disk is almost full", "Free some space, or lower limits.free_bytes.")

    def save(self, received: ReceivedObject, also: Callable[[sqlite3.Connection], None] = lambda _: None) -> None:
        """Put an object on the disk, and record it. An object under the same UID is replaced.

        also: what else belongs into the transaction.

        Raises:
            OutputError: the disk is full or fails; then the object is not recorded.
        """
        path = self.path(received.study, received.series, received.instance)
        self.check_space(len(received.content))
        with self._lock:
            try:
                self._write(path, received.content)
            except OSError as error:
                raise OutputError(f"an object cannot be written: {error.strerror}", "Free some space.") from error
            with self._database.transaction() as connection:
                connection.execute(
                    "INSERT OR REPLACE INTO objects VALUES (?, ?, ?, ?, ?)",
                    (
                        received.study, received.series, received.instance,
                        hashlib.sha256(received.content).hexdigest(), time.time(),
                    ),
                )  # fmt: skip
                also(connection)

    def _write(self, path: Path, content: bytes) -> None:
        """Write a file whole, and wait until the disk has it and its name."""
        temporary = self._incoming / secrets.token_hex(8)
        try:
            with os.fdopen(os.open(temporary, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC, MODE), "wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            temporary.replace(path)
        finally:
            temporary.unlink(missing_ok=True)
        for folder in (path.parent, path.parent.parent, self.folder):  # the first two may be new
            _sync(folder)

    def path(self, study: str, series: str, instance: str = "") -> Path:
        """Return where an object is, or without an instance the folder of its series."""
        assert all(map(is_uid, (study, series)))
        folder = self.folder / study / series
        return folder / f"{instance}.dcm" if instance else folder

    def instances(self, study: str, series: str) -> dict[str, float]:
        """Return the instances of a series that are here, and when each came."""
        with self._database.transaction() as connection:
            rows = connection.execute(
                "SELECT instance, received FROM objects WHERE study = ? AND series = ?", (study, series)
            ).fetchall()
        return dict(rows)

    def state_of(self, study: str, series: str, instance: str | None) -> dict[str, str]:
        """Return the instances of a series that are here, or one of them, with their SHA-256."""
        with self._database.transaction() as connection:
            rows = connection.execute(
                "SELECT instance, sha256 FROM objects WHERE study = ? AND series = ? AND ? IN (instance, '')",
                (study, series, instance or ""),
            ).fetchall()
        return dict(rows)

    def series_of(self, study: str, instance: str) -> str | None:
        """Return the series that an instance came in, if it is here.

        Raises:
            ImageError: it is in several.
        """
        with self._database.transaction() as connection:
            rows = connection.execute(
                "SELECT series FROM objects WHERE study = ? AND instance = ?", (study, instance)
            ).fetchall()
        if len(rows) > 1:
            raise ImageError(
                f"{len(rows)} series of the study hold an image of that SOP Instance UID",
                "Send an SR whose evidence names the series.",
            )
        return str(rows[0][0]) if rows else None

    def remove_unused(self, before: float) -> int:
        """Remove the series of which nothing has come since a moment, and that no job names. Return how many."""
        with self._lock:
            with self._database.transaction() as connection:
                rows = connection.execute(
                    "SELECT study, series FROM objects GROUP BY study, series HAVING MAX(received) < ? AND NOT EXISTS "
                    "(SELECT 1 FROM jobs WHERE jobs.study = objects.study AND jobs.series = objects.series)",
                    (before,),
                ).fetchall()
            for study, series in rows:
                remove_folder(self.path(study, series))
                with self._database.transaction() as connection:
                    connection.execute("DELETE FROM objects WHERE study = ? AND series = ?", (study, series))
                with suppress(OSError):  # another series is left in it
                    (self.folder / study).rmdir()
        return len(rows)


def _sync(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
