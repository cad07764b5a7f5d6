"""The files of a study: those of a folder and of its sub-folders, or those of a zip. A zip is never unpacked to disk.

Linked folders are not followed, so that a walk ends and stays inside.
"""

from __future__ import annotations

import os
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import IO

from medseg_runtime.errors import ImageError
from medseg_runtime.files.names import printable
from medseg_runtime.files.read import MAX_FILE_BYTES, is_folder, read_bytes
from medseg_runtime.files.zip_file import ENCRYPTED, METHODS, BoundedZip, ListTooLong
from medseg_runtime.readers.file_kind import is_zip

UNPACK = "Unpack it, and give the folder."
SERIES_ALONE = "Zip the slices of one series alone."
MAX_ZIP_BYTES = 16 << 30
"""Largest sum of the sizes of a zip's files: what reading all of them unpacks, file by file."""
MAX_ZIP_FILES = 100_000
"""More than any study has. Each is looked at."""


@dataclass(frozen=True, slots=True)
class StudyFile:
    """A file in a folder, or in a zip."""

    path: Path
    """The file, or the zip that holds it."""
    member: str = ""
    """Name in the zip."""
    size: int = 0
    """In bytes, unpacked; 0 if it was not asked for."""

    @property
    def name(self) -> str:
        """Its name without folders, safe to print."""
        return printable(PurePosixPath(self.member).name or self.path.name)

    @property
    def hidden(self) -> bool:
        """Whether the name begins with a dot."""
        return self.name.startswith(".")

    def read(self) -> bytes:
        """Return the content.

        Raises:
            ImageError: it cannot be read.
        """
        if not self.member:
            return read_bytes(self.path, ImageError, UNPACK)
        with (
            _opened_zip(self.path) as archive,
            _opened_member(archive, archive.getinfo(self.member)) as opened,
        ):
            return opened.read()


def study_files(path: Path) -> Iterator[tuple[StudyFile, IO[bytes] | None]]:
    """Yield the regular files of a folder and its sub-folders, or of a zip, each opened to be read, sorted by their names.

    A linked or hidden folder, a pipe or a device comes with None, and its files do not come.

    Raises:
        ImageError: a folder or file cannot be read, or the zip is damaged, encrypted or too large.
    """
    if is_folder(path):
        for file in sorted(_walk(path)):
            if not file.is_file():
                _check_there(file)
                yield StudyFile(file), None
                continue
            try:
                with file.open("rb") as opened:
                    yield StudyFile(file, size=os.fstat(opened.fileno()).st_size), opened
            except OSError as error:
                raise ImageError(
                    f"{printable(file.name)} cannot be read: {error.strerror}", "Give a folder that you may read."
                ) from error
        return
    if not is_zip(path):
        raise ImageError("this is neither a folder nor a zip", "Give a folder or a zip with the slices of a series.")
    with _opened_zip(path) as archive:
        for entry in sorted(archive.infolist(), key=lambda entry: entry.filename):
            if not entry.is_dir():
                with _opened_member(archive, entry) as opened:
                    yield StudyFile(path, entry.filename, entry.file_size), opened


def _walk(folder: Path) -> Iterator[Path]:
    def stop(error: OSError) -> None:
        raise ImageError(f"the folder cannot be read: {error.strerror}", "Give a folder that you may read.") from error

    for parent, folders, names in os.walk(folder, onerror=stop):
        paths = [Path(parent, name) for name in folders]
        yield from (path for path in paths if path.is_symlink() or path.name.startswith("."))
        folders[:] = [name for name in folders if not name.startswith(".")]
        yield from (Path(parent, name) for name in names)


def _check_there(path: Path) -> None:
    if not path.exists():
        raise ImageError(
            f"{printable(path.name)} is a link to a file that is not there",
            "Fetch the file, or remove the link if it is no slice.",
        )


@contextmanager
def _opened_zip(path: Path) -> Iterator[zipfile.ZipFile]:
    """Open a zip, checked by its directory."""
    try:
        with BoundedZip(path) as archive:
            entries = archive.infolist()
            if len(entries) > MAX_ZIP_FILES:
                raise ImageError(f"the zip holds {len(entries):,} files, more than {MAX_ZIP_FILES:,}", SERIES_ALONE)
            if any(entry.flag_bits & ENCRYPTED for entry in entries):
                raise ImageError("the zip is encrypted", "Unpack it with its password, and give the folder.")
            if not all(entry.filename for entry in entries):
                raise ImageError("the zip holds a file without a name", UNPACK)
            if len({entry.filename for entry in entries}) != len(entries):
                raise ImageError("the zip holds two files of one name", UNPACK)
            if sum(entry.file_size for entry in entries) > MAX_ZIP_BYTES:
                raise ImageError(f"the zip holds more than {MAX_ZIP_BYTES >> 30} GiB", UNPACK)
            yield archive
    except ListTooLong as error:
        raise ImageError(f"the zip holds too many files: {error}", SERIES_ALONE) from error
    except (zipfile.BadZipFile, OSError, ValueError) as error:
        if isinstance(error, ImageError):
            raise
        raise ImageError("the zip is damaged or cut short", "Copy it again.") from error


@contextmanager
def _opened_member(archive: zipfile.ZipFile, entry: zipfile.ZipInfo) -> Iterator[IO[bytes]]:
    """Open a file in a zip. What is read of it is unpacked, and compared with its checksum at its end."""
    name = printable(PurePosixPath(entry.filename).name)
    if entry.file_size > MAX_FILE_BYTES:
        raise ImageError(f"{name} in the zip has more than {MAX_FILE_BYTES >> 30} GiB", UNPACK)
    if entry.compress_type not in METHODS:
        raise ImageError(f"{name} is compressed in a way that cannot be read here", UNPACK)
    try:
        with archive.open(entry) as opened:
            yield opened
    except ImageError:
        raise
    except MemoryError as error:
        raise ImageError(f"{name} in the zip does not fit into memory", UNPACK) from error
    except Exception as error:  # BadZipFile, zlib.error, EOFError and more
        raise ImageError(f"{name} in the zip is damaged", "Copy the zip again.") from error
